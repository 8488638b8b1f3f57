# SPDX-License-Identifier: MIT
"""Where each state component sits in an area, for a CPU model, a format and a mask.

The rules are the SDM's (volume 1, 13.4.3): in the standard format a user component sits at the
offset that CPUID gives; in the compacted format components follow one another by number from byte
576, each moved up to a multiple of 64 first where its align64 flag says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from xsaveschema.errors import (
    MaskError,
    NoPlaceError,
    UnknownComponentError,
    WrongTypeError,
    described,
    hex_mask,
    meant,
)
from xsaveschema.kept import Keeper, kept
from xsaveschema.model import (
    COMPACTED,
    EXTENDED_OFFSET,
    X87,
    CpuModel,
    Format,
    StateComponent,
    bits_of,
)
from xsaveschema.spans import ALWAYS, Slot, Span, spans_of


class Layout(Keeper):
    """The slots of an area, in memory order.

    ``format`` is "standard" or "compacted", ``mask`` the state components that have a place (bit
    63 clear), ``size`` the area's length in bytes. Iterates :class:`Slot` in memory order; indexes
    by component name or number.
    """

    __slots__ = ("_by_key", "format", "mask", "model", "size", "slots")

    def __init__(self, model: CpuModel, format: Format, mask: int, slots: Iterable[Slot]):
        self.model = model
        self.format: Format = format
        self.mask = mask
        self.slots = tuple(sorted(slots, key=lambda slot: (slot.offset, slot.number)))
        self.size = max([EXTENDED_OFFSET, *(slot.end for slot in self.slots)])
        self._by_key: dict[str | int, Slot] = {slot.name: slot for slot in self.slots}
        self._by_key |= {slot.number: slot for slot in self.slots}

    @cached_property
    def _spans(self) -> tuple[Span, ...]:
        return spans_of(self.model, self.xcomp_bv, self.slots)

    @cached_property
    def _of(self) -> dict[int, tuple[Span, ...]]:
        found: dict[int, list[Span]] = {}
        for span in self._spans:
            if span.component is not None:
                found.setdefault(span.component.number, []).append(span)
        return {number: tuple(spans) for number, spans in found.items()}

    @cached_property
    def _starts(self) -> dict[int, Span]:
        return {span.offset: span for span in self._spans}

    def spans(self) -> tuple[Span, ...]:
        """Every byte of the area once, in memory order, up to ``size``: what it is; see spans.py.

        MaskError where components share bytes.
        """
        return self._spans

    def spans_of(self, number: int) -> tuple[Span, ...]:
        """The spans of a component, MXCSR and MXCSR_MASK with SSE's; none where it has no place."""
        return self._of.get(number, ())

    def span_at(self, offset: int) -> Span | None:
        """The span that begins at this byte; None where none does."""
        return self._starts.get(offset)

    def initial_runs(self, number: int) -> Iterator[tuple[int, bytes]]:
        """Where a component stands, and what while it is initial, in as few runs as may be.

        As XSAVE writes it in the standard format; in the compacted one nothing looks at it: zeros.
        """
        start, image = 0, b""
        for span in self.spans_of(number):
            if span.alive == ALWAYS:
                continue
            if image and span.offset != start + len(image):
                yield start, image
                image = b""
            start = start if image else span.offset
            image += span.initial if self.format == "standard" else bytes(span.size)
        if image:
            yield start, image

    def offset(self, path: str) -> int:
        """Where a field stands (``sse.mxcsr``, ``bndregs.bnd[0].lower``), in bytes from the start.

        UnknownComponentError for a path that no field here has.
        """
        named = [span for span in self.spans() if span.path and span.kind in ("field", "header")]
        for span in named:
            if span.path == path:
                return span.offset
        hint = meant(str(path), [span.path for span in named])
        raise UnknownComponentError(f"{self!r} has no field {path!r}; {hint}".rstrip("; "), path)

    def __getitem__(self, key: str | int) -> Slot:
        slot = self._by_key.get(key)
        if slot is None:
            component = self.model.component(key)
            raise NoPlaceError(
                f"{component.name} has no place in this area: the {self.format} layout's mask is "
                f"{hex_mask(self.mask)} ({', '.join(self.model.names_of(self.mask))})",
                component.name,
                self.mask,
            )
        return slot

    def __iter__(self) -> Iterator[Slot]:
        return iter(self.slots)

    def __len__(self) -> int:
        return len(self.slots)

    def __contains__(self, key: object) -> bool:
        return key in self._by_key

    def __eq__(self, other: object) -> bool:
        """Whether both place the same components of the same silicon, whatever it has enabled."""
        if self is other:
            return True
        if not isinstance(other, Layout):
            return NotImplemented
        return (
            (self.format, self.mask) == (other.format, other.mask)
            and self.model.vendor == other.model.vendor
            and self.model.digest == other.model.digest
        )

    def __hash__(self) -> int:
        return hash((self.format, self.mask, self.model.name))

    def __repr__(self) -> str:
        return f"<Layout {self.model.name} {self.format} {hex_mask(self.mask)}: {self.size} bytes>"

    def __str__(self) -> str:
        from xsaveschema.text import layout_text

        return layout_text(self)

    def _repr_html_(self) -> str:
        from xsaveschema.svg import layout_svg

        return layout_svg(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return (standard if self.format == "standard" else compacted), (self.model, self.mask)

    @property
    def xcomp_bv(self) -> int:
        """The XCOMP_BV that says this layout: 0 in the standard format."""
        return self.mask | COMPACTED if self.format == "compacted" else 0

    def by_number(self) -> list[Slot]:
        """The slots in order of component number (memory order differs where APX or LWP sit)."""
        return sorted(self.slots, key=lambda slot: slot.number)

    @property
    def gaps(self) -> tuple[tuple[int, int], ...]:
        """The (offset, size) of every run of extended bytes that belongs to no component."""
        own = [span for span in self._spans if span.offset >= EXTENDED_OFFSET]
        return tuple((span.offset, span.size) for span in own if span.component is None)


def require_layout(layout: object) -> None:
    """Raise WrongTypeError for what is no layout."""
    if not isinstance(layout, Layout):
        said = "as model.standard_layout() gives one"
        raise WrongTypeError(f"layout: pass a Layout, {said}, not {described(layout)}")


def check_mask(mask: int, what: str, width: int = 64) -> None:
    """Raise MaskError unless this is an integer of ``width`` bits; ``what`` says of what."""
    if not isinstance(mask, int):
        raise MaskError(f"{what}: a mask is an integer, not {mask!r}", 0)
    if mask < 0 or mask >> width:
        raise MaskError(f"{what} {mask:#x}: a mask has {width} bits", mask)


def check_user_mask(model: CpuModel, mask: int) -> None:
    """Raise MaskError unless this is a set of the silicon's user components that has a layout."""
    check_mask(mask, f"XCR0 on {model.label}")
    where = f"XCR0 {hex_mask(mask)} on {model.label}"
    if alien := mask & ~model.user_mask:
        why = "are unknown"
        if not alien & ~model.supervisor_mask:
            why = "are supervisor components, which IA32_XSS enables"
        raise MaskError(f"{where}: bits {hex_mask(alien)} ({names(model, alien)}) {why}", mask)
    if clash := overlap(standard(model, mask).slots):
        raise MaskError(f"{where}: {clash}", mask)


def has_layout(model: CpuModel, mask: int) -> bool:
    """Whether this is a set of the silicon's user components that share no bytes."""
    return not mask & ~model.user_mask and not overlap(standard(model, mask).slots)


def check_xcr0(model: CpuModel, xcr0: int) -> None:
    """Raise MaskError, naming the components, unless the processor would take this XCR0."""
    check_user_mask(model, xcr0)
    where = f"XCR0 {hex_mask(xcr0)} on {model.label}"
    if not xcr0 & X87:
        raise MaskError(f"{where}: bit 0 (x87) must be set", xcr0)
    for there, missing in _incomplete(model, xcr0):
        raise MaskError(f"{where}: {' and '.join(there)} without {' and '.join(missing)}", xcr0)


def _incomplete(model: CpuModel, xcr0: int) -> Iterator[tuple[list[str], list[str]]]:
    """Enabled components that XCR0 does not enable without others: they, and the others."""
    enabled = {model.by_number[number].name for number in bits_of(xcr0)}
    users = [model.by_number[number] for number in bits_of(model.user_mask)]
    # A group stands in one of its files and binds them all, so it counts there disabled, too.
    for component in users:
        group = (component.name, *component.rules.together)
        there = [name for name in group if name in enabled]
        if there and len(there) < len(group):
            yield there, [name for name in group if name not in enabled]
    for component in users:
        missing = [name for name in component.rules.needs if name not in enabled]
        if component.name in enabled and missing:
            yield [component.name], missing


def legal_part(model: CpuModel, xcr0: int) -> int:
    """The greatest part of a set of user components that has what each of them needs beside it."""
    while incomplete := [*_incomplete(model, xcr0)]:
        lacking = {name for there, _ in incomplete for name in there}
        xcr0 &= ~sum(model.components[name].bit for name in lacking)
    return xcr0


def legal_whole(model: CpuModel, xcr0: int) -> int:
    """The least set of user components that has these, and what each of them needs beside it."""
    while True:
        lacking = {name for _, missing in _incomplete(model, xcr0) for name in missing}
        more = sum(model.components[name].bit for name in lacking if name in model.components)
        if not more:
            return xcr0
        xcr0 |= more


def takes_xcr0(model: CpuModel, xcr0: int) -> bool:
    """Whether the processor would take this XCR0."""
    try:
        check_xcr0(model, xcr0)
    except MaskError:
        return False
    return True


def places(slots: Iterable[Slot]) -> tuple[tuple[int, int, int], ...]:
    """What two layouts must have in common to be the same: numbers, offsets and sizes."""
    return tuple((slot.number, slot.offset, slot.size) for slot in slots)


def lays_out(model: CpuModel, layout: Layout) -> bool:
    """Whether a model has the components of a layout, and puts them where they are there."""
    standard_format = layout.format == "standard"
    known = model.user_mask if standard_format else model.user_mask | model.supervisor_mask
    make = standard if standard_format else compacted
    return not layout.mask & ~known and places(make(model, layout.mask)) == places(layout)


def overlap(slots: Iterable[Slot]) -> str | None:
    """Describe the first two slots that share bytes, both sides in hexadecimal ranges, or None."""
    last: Slot | None = None
    for slot in slots:
        if last and slot.offset < last.end:
            both = (f"{each.name} [{each.offset:#x}..{each.end:#x})" for each in (last, slot))
            return f"{' and '.join(both)} overlap"
        last = slot if last is None or slot.end > last.end else last
    return None


def shared(slots: Sequence[Slot]) -> int:
    """The components, as a mask, that have bytes in common with another one."""
    return sum(
        slot.component.bit
        for slot in slots
        if any(slot.offset < o.end and o.offset < slot.end for o in slots if o is not slot)
    )


@kept(4096)
def standard(model: CpuModel, mask: int) -> Layout:
    """The standard-format layout of any set of user components, legal as an XCR0 or not."""
    components = _components(model, mask, "XCR0")
    if hidden := [c.name for c in components if c.offset is None]:
        raise MaskError(
            f"mask {hex_mask(mask)}: {' and '.join(hidden)} cannot stand in the standard format, "
            "which has no place for supervisor components",
            mask,
        )
    return Layout(model, "standard", mask, [Slot(c, c.offset or 0) for c in components])


@kept(4096)
def compacted(model: CpuModel, mask: int) -> Layout:
    """The compacted-format layout of any set of components (XCOMP_BV without bit 63)."""
    slots = []
    end = EXTENDED_OFFSET
    for component in _components(model, mask, "XCOMP_BV"):
        if component.legacy:
            slots.append(Slot(component, component.offset or 0))
            continue
        if component.align64:
            end = (end + 63) & ~63
        slots.append(Slot(component, end))
        end += component.size
    return Layout(model, "compacted", mask, slots)


@kept(4096)
def fitted(layout: Layout, length: int) -> Layout:
    """The part of a standard layout that a buffer of ``length`` bytes has room for."""
    slots = [slot for slot in layout.slots if slot.end <= length]
    if len(slots) == len(layout.slots):
        return layout
    return Layout(layout.model, layout.format, sum(s.component.bit for s in slots), slots)


def _components(model: CpuModel, mask: int, what: str) -> list[StateComponent]:
    check_mask(mask, what)
    if unknown := mask & ~(model.user_mask | model.supervisor_mask):
        raise MaskError(
            f"{what} {hex_mask(mask)}: {model.label} knows nothing of {names(model, unknown)} "
            f"(bits {hex_mask(unknown)})",
            mask,
        )
    return [model.by_number[number] for number in bits_of(mask)]


def names(model: CpuModel, mask: int, most: int = 64) -> str:
    """The bits of a mask by name; the mask itself where they are more than ``most``."""
    if mask.bit_count() > most:
        return hex_mask(mask)
    return ", ".join(model.name_of(number) for number in bits_of(mask))


@kept(512)
def under(model: CpuModel, xcr0: int, xss: int | None = None) -> CpuModel:
    """The model as areas show it that a system wrote under these masks, legal as an XCR0 or not.

    What somebody *sets* is :meth:`CpuModel.limited`'s to judge; a signal frame's xfeatures may
    have TILECFG without TILEDATA (HW AMX). MaskError for what has no layout.
    """
    check_user_mask(model, xcr0)
    xss = model.xss if xss is None else xss
    if (xcr0, xss) == (model.xcr0, model.xss):
        return model
    return replace(model, xcr0=xcr0, xss=xss)


@kept(512)
def limited(model: CpuModel, xcr0: int, xss: int) -> CpuModel:
    """See :meth:`CpuModel.limited`."""
    if (xcr0, xss) == (model.xcr0, model.xss):
        return model
    check_xcr0(model, xcr0)
    if alien := xss & ~model.supervisor_mask:
        raise MaskError(
            f"IA32_XSS {hex_mask(xss)}: {model.label} has no supervisor component "
            f"{', '.join(model.names_of(alien))}",
            xss,
        )
    return under(model, xcr0, xss)
