# SPDX-License-Identifier: MIT
"""XsaveArea: one buffer seen as XSAVE state, with meaning.

The view copies nothing and knows what the bytes mean: a component whose XSTATE_BV bit is clear is
in its initial state, whatever bytes stand there (SDM 13.4.2; XSAVEC and XSAVES leave stale ones).
``raw`` shows memory as it stands. State that is live, but that the file did not have, is
``missing``: it has no place, and nothing gives a value for it.

The header belongs to the buffer, not to the view: others may stand on the same bytes (a second
view, KVM), so XSTATE_BV is read when it is asked for, and a write changes no bit but its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from struct import Struct
from types import MappingProxyType
from typing import Any, Final

from xsaveschema.area.fields import Fields
from xsaveschema.area.registers import Registers
from xsaveschema.errors import (
    EvidenceError,
    Fault,
    HeaderError,
    MissingStateError,
    WrongTypeError,
    XsaveError,
    described,
    hex_mask,
)
from xsaveschema.evidence import contradictions
from xsaveschema.header import MASKS, Buffer, buffer_layout, lenient_layout, view_of
from xsaveschema.kept import kept
from xsaveschema.layout import Layout, standard, under
from xsaveschema.model import (
    COMPACTED,
    HEADER_OFFSET,
    MXCSR_OFFSET,
    XCR0_OFFSET,
    CpuModel,
    Format,
    require_model,
)
from xsaveschema.plan import require_format
from xsaveschema.spans import ALWAYS, MASK_PATH, MXCSR_PATH, Slot

_masks: Final = MASKS.unpack_from
_writer: Final = Struct(
    f"<{MXCSR_OFFSET + 4}xI{XCR0_OFFSET - MXCSR_OFFSET - 8}xQ{HEADER_OFFSET - XCR0_OFFSET - 8}xQQ"
).unpack_from
"""MXCSR_MASK, where a system leaves its mask, XSTATE_BV and XCOMP_BV."""
_CODES: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}
_NOTHING: Final[Mapping[int, str]] = MappingProxyType({})


class XsaveArea:
    """One XSAVE area: a buffer, the model that wrote it, and the layout its header tells.

    Made by :meth:`parse` from existing bytes or by :meth:`new` from nothing. ``area["pkru"]`` are
    a component's fields, ``area.registers["zmm17"]`` whole registers, ``area.raw["avx"]`` memory;
    ``bytes(area)`` is the buffer. A writable buffer is edited in place; a read-only one is copied
    at the first write.
    """

    __slots__ = (
        "_missing",
        "_taken",
        "_view",
        "assumed",
        "faults",
        "layout",
        "model",
        "xcomp_bv",
    )

    model: CpuModel
    layout: Layout
    xcomp_bv: int
    faults: tuple[Fault, ...]
    assumed: bool
    """Whether ``model`` was taken although the area's bytes speak against it."""
    _missing: Mapping[int, str]
    _taken: int
    """Components that are taken to be in use although XSTATE_BV lacks them, until a write."""
    _view: memoryview

    @classmethod
    def parse(
        cls,
        data: Buffer,
        model: CpuModel | None = None,
        strict: bool = True,
        *,
        assume: bool = False,
        assume_supervisor: bool = False,
    ) -> XsaveArea:
        """View a buffer as an area that ``model`` wrote; without a model, identify it first.

        What the bytes say of their writer outranks ``model``: EvidenceError where the two
        contradict one another (evidence.py), unless ``assume`` insists.

        ``assume_supervisor`` takes every supervisor component with a place as in use: a writer
        such as WHPX can leave their bits out of XSTATE_BV. The header changes at the first write.
        Lengths and masks are checked before anything is read. Raises TooShortError, HeaderError
        (both only where ``strict``; a lenient area carries them in ``faults``), and
        IdentificationError where no model, or several with different layouts, would fit.
        """
        view = view_of(data)
        mxcsr_mask, word, xstate_bv, xcomp_bv = _writer(view)
        against: tuple[str, ...] = ()
        if model is None:
            from xsaveschema.identify.match import identify

            model = identify(view).model
        else:
            if type(model) is not CpuModel:
                require_model(model)
            if word or mxcsr_mask & ~model.mxcsr_mask:
                against = contradictions(view, model)
                if against and not assume:
                    raise EvidenceError(model.name, against)
        area = cls.__new__(cls)
        area._view = view
        area.assumed = bool(against)
        area._missing = _NOTHING
        area.model = model
        area.xcomp_bv = xcomp_bv
        area._taken = 0
        if strict:
            area.layout = buffer_layout(model, xstate_bv, xcomp_bv, len(view))
            area.faults = ()
        else:
            area.layout, area.faults = lenient_layout(model, xstate_bv, xcomp_bv, len(view))
        if assume_supervisor:
            area._taken = area.layout.mask & model.supervisor_mask
        return area

    @classmethod
    def partial(
        cls,
        data: Buffer,
        model: CpuModel,
        missing: Mapping[int, str] = _NOTHING,
        *,
        assume: bool = False,
    ) -> XsaveArea:
        """An area of a file that has not all state in use: ``missing`` names the rest by number.

        ``data``, which is copied, is an area of what is there: neither mask of its header has the
        bits of missing components, and ``layout`` gives them no place; ``xstate_bv`` has their
        bits. Errors are those of :meth:`parse`, and XsaveError for a missing component that
        ``data`` has in use or a place for.
        """
        area = cls.parse(bytearray(view_of(data)), model, assume=assume)
        if not isinstance(missing, Mapping):
            raise WrongTypeError(f"missing: pass {{number: name}}, not {described(missing)}")
        for number, name in missing.items():
            if not (type(number) is int and 0 <= number <= 62 and isinstance(name, str)):
                said = f"{{{described(number)}: {described(name)}}}"
                raise WrongTypeError(f"missing: pass {{number: name}}, 0 to 62, not {said}")
        area._missing = MappingProxyType(dict(sorted(missing.items())))
        bits = sum(1 << number for number in missing)
        if bits & (area.xstate_bv | area.xcomp_bv):
            raise XsaveError(f"{', '.join(area.missing)}: missing, but in the header's masks")
        if bits:
            if area.format == "standard":
                area.layout = standard(model, area.layout.mask & ~bits)
            area._set_in_use(bits, True)
        return area

    @classmethod
    def new(
        cls,
        model: CpuModel,
        format: Format = "standard",
        *,
        xcr0: int | None = None,
        xcomp_bv: int | None = None,
    ) -> XsaveArea:
        """An area with every component in its initial state.

        The standard format takes ``xcr0``, the compacted one ``xcomp_bv`` (bit masks; default: the
        model's). MaskError where the model does not allow the mask.
        """
        require_model(model)
        require_format(format, xcr0, xcomp_bv)
        standard = format == "standard"
        layout = model.standard_layout(xcr0) if standard else model.compacted_layout(xcomp_bv)
        data = bytearray(layout.size)
        # In the compacted format nothing looks at what is initial, and it is zero.
        for span in layout.spans():
            if standard or span.kind == "header":
                data[span.offset : span.end] = span.initial
        if standard:
            at = layout.offset(MASK_PATH)
            data[at : at + 4] = model.mxcsr_mask.to_bytes(4, "little")
        return cls.parse(data, model if xcr0 is None else under(model, xcr0))

    @property
    def xstate_bv(self) -> int:
        """XSTATE_BV as it stands in the buffer now, whoever wrote it last (a bit mask).

        XsaveError where XCOMP_BV is no longer what the layout was chosen by.
        """
        xstate_bv, xcomp_bv = _masks(self._view, HEADER_OFFSET)
        if xcomp_bv != self.xcomp_bv:
            raise XsaveError(
                f"XCOMP_BV was {hex_mask(self.xcomp_bv)} when the area was parsed and is "
                f"{hex_mask(xcomp_bv)} now: whoever changed it moved the state; parse the buffer "
                "again"
            )
        return int(xstate_bv | self._taken)

    @property
    def format(self) -> Format:
        """ "standard" or "compacted", by XCOMP_BV bit 63."""
        return "compacted" if self.xcomp_bv & COMPACTED else "standard"

    @property
    def registers(self) -> Registers:
        """Whole registers by name (``zmm17``, ``mm3``, ``mxcsr``), to read and to write."""
        return Registers(self)

    @property
    def raw(self) -> Raw:
        """What stands in memory at each component's place, in use or not.

        MissingStateError where state is missing: memory is not all there then.
        """
        self._require_all("raw")
        return Raw(self)

    @property
    def missing(self) -> tuple[str, ...]:
        """The names of components that are in use, but whose bytes the file did not have.

        The lowest number comes first. Only readers of files that hold fields instead of an area
        leave any out; a buffer has all, or is too short.
        """
        return tuple(self._missing.values())

    @property
    def missing_by_number(self) -> Mapping[int, str]:
        """What ``missing`` names, by component number; the model need not know all of them."""
        return self._missing

    def in_use(self, key: str | int) -> bool:
        """Whether a component is in use: its XSTATE_BV bit is set, and it has a place.

        A missing component is in use without one.
        """
        if self._missing and self._missing_number(key) is not None:
            return True
        bit = self.model.component(key).bit
        return bool(self.xstate_bv & self.layout.mask & bit)

    def __getitem__(self, key: str | int) -> Fields:
        """The fields of a component.

        NoPlaceError where the layout does not hold it, MissingStateError where the file did not.
        """
        if self._missing and (number := self._missing_number(key)) is not None:
            name = self._missing[number]
            raise MissingStateError([name], name, self.layout.mask)
        slot = self.layout[key]
        return Fields(self, slot, slot.component.fields, 0, "")

    def __iter__(self) -> Iterator[str]:
        return (slot.name for slot in self.layout)

    def __len__(self) -> int:
        return len(self._view)

    def __bytes__(self) -> bytes:
        """The area as it would stand in memory. MissingStateError where not all state is there."""
        self._require_all("the area's bytes")
        return bytes(self._view)

    def __getstate__(self) -> dict[str, Any]:
        """Pickled and copied with bytes of its own."""
        own = {"_view": bytes(self._view), "_missing": dict(self._missing)}
        return {name: getattr(self, name) for name in self.__slots__} | own

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self._view = memoryview(bytearray(state["_view"]))
        self._missing = MappingProxyType(state["_missing"])

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same bytes, of the same CPU, and the same state is missing."""
        if not isinstance(other, XsaveArea):
            return NotImplemented
        return (
            self._view == other._view
            and self._missing == other._missing
            and self._taken == other._taken
            and self.model == other.model
        )

    __hash__ = None  # type: ignore[assignment]  # it can be written to

    def __str__(self) -> str:
        from xsaveschema.text import area_text

        return area_text(self)

    def _repr_html_(self) -> str:
        from xsaveschema.svg import area_svg

        return area_svg(self)

    def __repr__(self) -> str:
        names = ", ".join(self.model.names_of(self.xstate_bv & self.layout.mask)) or "nothing"
        if self._missing:
            names += f"; live, not in the file: {', '.join(self.missing)}"
        return (
            f"<XsaveArea {self.model.name} {self.format}, {len(self._view)} bytes; in use: {names}>"
        )

    @property
    def buffer(self) -> memoryview:
        """The bytes that the view stands on, not copied.

        Where state is missing they are no area that could be handed on: XSTATE_BV has its bits,
        but the bytes behind them are not there. ``bytes(area)`` refuses then.
        """
        return self._view

    def values(self) -> dict[str, int | bytes]:
        """Every stored field, flat, in memory order: ``{"header.xstate_bv": 7, "x87.fcw": …}``.

        Fields of up to 64 bits are integers, wider and raw ones the stored bytes (little-endian);
        initial components give initial values, and missing ones none.
        """
        unpack, names, template = _value_plan(self.layout, self.xstate_bv & self.layout.mask)
        found: dict[str, int | bytes] = dict(zip(names, unpack(self._view), strict=False))
        if template is not None:
            found = template | found
        for number in self._missing:  # MXCSR stands in every standard area
            for span in self.layout.spans_of(number):
                found.pop(span.path, None)
        return found

    def initialise(self, key: str | int) -> None:
        """Put a component into its initial state: its XSTATE_BV bit is cleared.

        Its bytes become initial too (zero in the compacted format), MXCSR included for sse. A
        missing component is no longer missing then; it still has no place.
        """
        number = self._missing_number(key)
        if number is None:
            number = self.layout[key].number
        view = self._writable()
        left = {n: name for n, name in self._missing.items() if n != number}
        self._missing = MappingProxyType(left)
        self._set_in_use(1 << number, False)
        blank = self.format == "compacted"
        for span in self.layout.spans_of(number):
            if span.alive != ALWAYS or span.path == MXCSR_PATH:
                view[span.offset : span.end] = bytes(span.size) if blank else span.initial

    # What Fields and Registers stand on.

    def read(self, slot: Slot, offset: int, size: int) -> bytes | memoryview:
        """``size`` bytes of meaning at ``offset`` of a component (as its fields count it)."""
        start = slot.origin + offset
        span = self.layout.span_at(start)
        if span.lives(self.xstate_bv) if span else self.xstate_bv & slot.component.bit:
            return self._view[start : start + size]
        return slot.component.initial[offset : offset + size]

    def write(self, slot: Slot, start: int, data: bytes) -> None:
        """Write a component's bytes from byte ``start`` of the area on.

        The first write to an initial component fills it first.
        """
        view = self._writable()
        if not self.xstate_bv & slot.component.bit:
            self._wake(slot, view)
        view[start : start + len(data)] = data

    def _missing_number(self, key: str | int) -> int | None:
        """The number of a missing component by name or number; None for any other."""
        return next((n for n, name in self._missing.items() if key in (n, name)), None)

    def _require_all(self, what: str) -> None:
        if self._missing:
            raise MissingStateError(self.missing, what, self.layout.mask)

    def _wake(self, slot: Slot, view: memoryview) -> None:
        for span in self.layout.spans_of(slot.number):
            if span.alive != ALWAYS:
                view[span.offset : span.end] = span.initial
            if span.path == MASK_PATH and span.alive != ALWAYS:
                mask = self.model.mxcsr_mask.to_bytes(span.size, "little")
                view[span.offset : span.end] = mask  # as XSAVEC writes it with SSE
        self._set_in_use(slot.component.bit, True)

    def _set_in_use(self, bits: int, live: bool) -> None:
        """Set or clear bits of XSTATE_BV, and write down what was taken to be in use."""
        xstate_bv = self.xstate_bv | bits if live else self.xstate_bv & ~bits
        self._taken = 0
        self._view[HEADER_OFFSET : HEADER_OFFSET + 8] = xstate_bv.to_bytes(8, "little")

    def _writable(self) -> memoryview:
        if self.faults:
            raise HeaderError(self.faults)
        if self._view.readonly:
            self._view = memoryview(bytearray(self._view))
        if self._taken:
            self._set_in_use(0, True)
        return self._view


class Raw(Mapping[str, bytes]):
    """Memory by component name, and ``"legacy"`` and ``"header"`` for the parts that all share."""

    __slots__ = ("_area",)

    def __init__(self, area: XsaveArea):
        self._area = area

    def __getitem__(self, key: str | int) -> bytes:
        view = self._area.buffer
        if key == "legacy":
            return bytes(view[:HEADER_OFFSET])
        if key == "header":
            return bytes(view[HEADER_OFFSET : HEADER_OFFSET + 64])
        slot = self._area.layout[key]
        return bytes(view[slot.offset : slot.end])

    def __iter__(self) -> Iterator[str]:
        yield "legacy"
        yield "header"
        for slot in self._area.layout:
            yield slot.name

    def __len__(self) -> int:
        return 2 + len(self._area.layout)


_Unpack = Callable[[memoryview], tuple[Any, ...]]


@kept(4096)
def _value_plan(
    layout: Layout, live: int
) -> tuple[_Unpack, tuple[str, ...], dict[str, int | bytes] | None]:
    """How to read every field: one unpack for what stands in memory, a template for the rest."""
    stored: list[str] = []
    codes, end = ["<"], 0
    template: dict[str, int | bytes] = {}
    for span in layout.spans():
        if not span.named:
            continue
        raw = span.field is not None and span.field.raw
        code = f"{span.size}s" if raw else _CODES.get(span.size, f"{span.size}s")
        wide = code.endswith("s")
        template[span.path] = span.initial if wide else int.from_bytes(span.initial, "little")
        if span.lives(live):
            codes.append(f"{span.offset - end}x{code}")
            end = span.end
            stored.append(span.path)
    unpack = Struct("".join(codes)).unpack_from
    return unpack, tuple(stored), None if len(stored) == len(template) else template
