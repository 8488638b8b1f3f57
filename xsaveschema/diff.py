# SPDX-License-Identifier: MIT
"""What differs between two areas: in meaning, or byte by byte.

``diff`` compares what a restore would load (SDM 13.8, 13.12): a component that is not in use has
its initial value whatever bytes stand there, in either format and in either CPU model's layout.
``byte_differences`` compares memory and says what each byte belongs to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, zip_longest
from typing import Final, Literal, NamedTuple

from xsaveschema.area import XsaveArea
from xsaveschema.area.loaded import as_loaded, stored
from xsaveschema.errors import UnknownComponentError, WrongTypeError, described, items
from xsaveschema.header import Buffer
from xsaveschema.legality import stale_elements
from xsaveschema.model import (
    COMPACTED,
    EXTENDED_OFFSET,
    HEADER_OFFSET,
    SOFTWARE_OFFSET,
    SSE,
    XCR0_OFFSET,
    BitRange,
    CpuModel,
    Leaf,
    StateComponent,
    bits_of,
)
from xsaveschema.spans import Span
from xsaveschema.values import bit_runs

Kind = Literal["state", "unknown", "in-use", "format", "mask", "reserved", "software"]

X87_POINTERS: Final = ("x87.fop", "x87.fip", "x87.fdp")
"""What AMD processors save as 0 unless an x87 exception is pending (HW): for ``ignore=``."""

_RESERVED: Final = HEADER_OFFSET + 16
_FRAME: Final = ("header", "legacy")
_INDEX: Final = re.compile(r"\[\d+\]")


class BitDelta(NamedTuple):
    """Bits of a field that differ: ``name`` is the range's, or ``bits 31:18`` where none is."""

    name: str
    a: int
    b: int

    def __str__(self) -> str:
        from xsaveschema.text import bit_delta_text

        return bit_delta_text(self)


@dataclass(frozen=True, slots=True, repr=False)
class Delta:
    """One difference between two areas.

    ``path`` is a field's (``sse.mxcsr``, ``x87.st[0]``), a run of bytes that no field names
    (``pt[72:80]``, counted as the component's field offsets are), or, for the kinds "unknown" and
    "in-use", the component itself. What belongs to no component has ``header`` or ``legacy`` in
    its place: ``header.xcomp_bv``, ``header[16:24]``, ``legacy[416:424]``. ``a`` and ``b`` are
    integers, bytes where the field is raw. ``bits`` tells which bits of the field differ, by name.

    ``kind`` is "state" for what a restore would load; "unknown" for a component that is missing on
    either side, where ``a`` or ``b`` is None: live, but not in the file (else 1: in use, 0: not);
    "in-use" for an XSTATE_BV bit that differs where the values are equal; "format" for XCOMP_BV;
    "mask" for MXCSR_MASK; "reserved" for reserved bytes; "software" for bytes 464..511.
    """

    component: str
    path: str
    a: int | bytes | None
    b: int | bytes | None
    bits: tuple[BitDelta, ...] = ()
    kind: Kind = "state"

    def __repr__(self) -> str:
        return f"<Delta {self}>"

    def __str__(self) -> str:
        from xsaveschema.text import delta_text

        return delta_text(self)


@dataclass(frozen=True, slots=True)
class ByteDelta:
    """A run of bytes that differ and belong to one thing on each side.

    ``offset`` is in bytes from the start of either buffer, ``a`` and ``b`` are the bytes (empty
    behind a buffer's end). ``owner_a`` and ``owner_b`` are what they belong to: a field's path
    (``sse.mxcsr``, ``header.xcomp_bv``), ``x87 reserved`` for bytes of a component that no field
    names, just the component where it has no fields, ``header reserved``, ``reserved``,
    ``software``, ``gap`` or ``trailing``. ``live`` says whether a restore of either area would
    read them.
    """

    offset: int
    a: bytes
    b: bytes
    owner_a: str
    owner_b: str
    live: bool

    @property
    def end(self) -> int:
        """The first byte behind the run."""
        return self.offset + max(len(self.a), len(self.b))

    def __str__(self) -> str:
        from xsaveschema.text import byte_delta_text

        return byte_delta_text(self)


class Differences(list[Delta]):
    """A list of differences that shows itself: as lines, and as a picture in a notebook.

    ``a`` and ``b`` are the areas that were compared. A list made from it is a plain list.
    """

    def __init__(self, deltas: Iterable[Delta], a: XsaveArea, b: XsaveArea):
        super().__init__(deltas)
        self.a, self.b = a, b

    def __reduce__(self) -> tuple[type[Differences], tuple[list[Delta], XsaveArea, XsaveArea]]:
        return Differences, ([*self], self.a, self.b)

    def __str__(self) -> str:
        from xsaveschema.area.lines import text_of
        from xsaveschema.text import delta_lines

        return text_of(delta_lines(self, self.a, self.b)) or "nothing differs"

    def _repr_html_(self) -> str:
        from xsaveschema.svg import diff_svg

        return diff_svg(self, self.a, self.b)


def diff(
    a: XsaveArea | Buffer,
    b: XsaveArea | Buffer,
    model_a: CpuModel | None = None,
    model_b: CpuModel | None = None,
    *,
    ignore: Iterable[str] = (),
    everything: bool = False,
) -> Differences:
    """What differs in meaning between two areas; an empty list: both restore the same values.

    Buffers are areas that ``model_a`` and ``model_b`` wrote (default for b: a's model; without
    any, the model is identified); an XsaveArea brings its own model. Formats and models may
    differ. A component in use is compared by value, any other counts as its initial value, and so
    does a field that the other side's layout lacks. MXCSR is what a restore would load: bytes
    24..27 of a standard area whatever XSTATE_BV says, in a compacted one only if XSTATE_BV[1] is
    set (SDM 13.8). An illegal TILECFG is the initial one, and x87 state of two Intel CPUs is what
    they hold of it: see :mod:`xsaveschema.area.loaded`. LBR entries from IA32_LBR_DEPTH on, which
    XSAVES does not write, are reserved bytes. Bytes behind an area, gaps and the places of initial
    components mean nothing. Of a component that is missing from an area nobody knows whether it
    differs: that is told always.

    ``ignore`` names components or fields to leave out: ``x87`` all of it, ``x87.st`` every
    element, ``x87.st[0]`` one; see also ``X87_POINTERS``. ``everything`` adds what no restore
    loads: the kinds "in-use", "format", "mask", "reserved" and "software" of :class:`Delta`.

    The list is in order of component number, then of memory; what belongs to no component comes
    last. Raises HeaderError and TooShortError for buffers that say nothing sure,
    IdentificationError, and UnknownComponentError for a name in ``ignore`` that neither model
    knows.
    """
    first, second = _parsed(a, b, model_a, model_b)
    ignored = _ignored(ignore, first, second)
    found: list[Delta] = []
    live = [area.xstate_bv & area.layout.mask for area in (first, second)]
    missing = {**_unseen(second), **_unseen(first)}
    # MXCSR may differ in standard areas that both say SSE is initial.
    for number in bits_of(live[0] | live[1] | SSE | sum(1 << number for number in missing)):
        if number in missing:
            if not _matches(missing[number], ignored):
                found.append(_unknown(first, second, number, missing[number]))
            continue
        deltas = [d for d in _component(first, second, number) if not _matches(d.path, ignored)]
        used_a, used_b = (mask >> number & 1 for mask in live)
        if used_a != used_b and not any(delta.kind == "state" for delta in deltas):
            name = _name(first, second, number)
            if not _matches(name, ignored):
                deltas.append(Delta(name, name, used_a, used_b, kind="in-use"))
        found += deltas
    found += [delta for delta in _frame(first, second) if not _matches(delta.path, ignored)]
    shown = found if everything else [d for d in found if d.kind in ("state", "unknown")]
    return Differences(shown, first, second)


def byte_differences(
    a: XsaveArea | Buffer,
    b: XsaveArea | Buffer,
    model_a: CpuModel | None = None,
    model_b: CpuModel | None = None,
) -> list[ByteDelta]:
    """Every run of bytes that differ between two areas, in memory order, with their owners.

    Bytes are compared at the same offset whatever stands there: where the layouts differ, a run
    has two owners. The arguments are those of :func:`diff`, and so are the errors.
    """
    first, second = _parsed(a, b, model_a, model_b)
    data_a, data_b = bytes(first), bytes(second)
    size = max(len(data_a), len(data_b))
    owners_a, owners_b = _owners(first, size), _owners(second, size)
    differing = (x != y for x, y in zip_longest(data_a, data_b))
    kinds = zip(differing, owners_a, owners_b, strict=True)
    found = []
    end = 0
    for (differs, (owner_a, live_a), (owner_b, live_b)), group in groupby(kinds):
        start, end = end, end + len(list(group))
        if differs:
            run_a, run_b = data_a[start:end], data_b[start:end]
            found.append(ByteDelta(start, run_a, run_b, owner_a, owner_b, live_a or live_b))
    return found


def _parsed(
    a: XsaveArea | Buffer,
    b: XsaveArea | Buffer,
    model_a: CpuModel | None,
    model_b: CpuModel | None,
) -> tuple[XsaveArea, XsaveArea]:
    first = a if isinstance(a, XsaveArea) else XsaveArea.parse(a, model_a)
    if isinstance(b, XsaveArea):
        return first, b
    return first, XsaveArea.parse(b, first.model if model_b is None else model_b)


def _ignored(ignore: Iterable[str], *areas: XsaveArea) -> tuple[str, ...]:
    """The names to ignore; UnknownComponentError for one that could never match."""
    said = "ignore: pass names of components or fields"
    names = [ignore] if isinstance(ignore, str) else items(ignore, said)
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise WrongTypeError(f"{said}, not {described(wrong[0])}")
    models = [area.model for area in areas]
    for name in names:
        head = re.split(r"[.\[]", name, maxsplit=1)[0]
        components = [m.components[head] for m in models if head in m.components]
        missing = any(name in area.missing for area in areas)
        if missing or head in _FRAME or (name == head and components):
            continue
        paths = {f"{head}.{leaf.path}" for c in components for leaf in c.leaves}
        if not any(_matches(path, (name,)) for path in paths):
            there = ", ".join(dict.fromkeys(n for m in models for n in m.components))
            if components:
                there = ", ".join(dict.fromkeys(_INDEX.sub("", path) for path in sorted(paths)))
            raise UnknownComponentError(f"ignore: there is no {name!r}; {there}", name)
    return tuple(names)


def _matches(path: str, names: tuple[str, ...]) -> bool:
    return any(path == name or path.startswith((name + ".", name + "[")) for name in names)


def _unknown(first: XsaveArea, second: XsaveArea, number: int, name: str) -> Delta:
    """The delta of a component whose state one area does not have, or neither."""
    a, b = (
        None if number in _unseen(area) else area.xstate_bv >> number & 1
        for area in (first, second)
    )
    return Delta(name, name, a, b, kind="unknown")


def _unseen(area: XsaveArea) -> dict[int, str]:
    """Live components without bytes: missing, or cut off and without a place in a lenient area."""
    bits = bits_of(area.xstate_bv & ~area.layout.mask & ~COMPACTED)
    return {number: area.model.name_of(number) for number in bits} | dict(area.missing_by_number)


def _name(first: XsaveArea, second: XsaveArea, number: int) -> str:
    known = first if number in first.model.by_number else second
    return known.model.name_of(number)


@dataclass(frozen=True, slots=True)
class _Side:
    """A component of one area, as bytes that its leaves' offsets index.

    ``image`` is what a restore loads, ``stored`` what stands in memory where it is in use.
    ``counts`` says that it is in use and loaded as such, so that its counts of elements say which.
    """

    component: StateComponent
    image: bytes
    stored: bytes
    leaves: dict[str, Leaf]
    counts: bool

    def value(self, path: str, other: _Side) -> int | bytes:
        """A field's value; where this side has no such field, the initial one of the other's."""
        if leaf := self.leaves.get(path):
            data = self.image[leaf.offset : leaf.offset + leaf.size]
            return data if leaf.raw else int.from_bytes(data, "little")
        leaf = other.leaves[path]
        return leaf.initial.to_bytes(leaf.size, "little") if leaf.raw else leaf.initial

    def unnamed(self) -> bytes:
        """What is stored, with every field zero; what is loaded where nothing is known of it."""
        image = bytearray(self.stored if self.leaves else self.image)
        for leaf in self.leaves.values():
            image[leaf.offset : leaf.offset + leaf.size] = bytes(leaf.size)
        return bytes(image)


def _component(first: XsaveArea, second: XsaveArea, number: int) -> Iterator[Delta]:
    """Field by field, then the bytes that no field names."""
    own_a, own_b = (area.model.by_number.get(number) for area in (first, second))
    own_a, own_b = own_a or own_b, own_b or own_a
    assert own_a is not None and own_b is not None  # noqa: S101, PT018 - one has it in use
    vendors = {first.model.vendor, second.model.vendor}
    vendor = vendors.pop() if len(vendors) == 1 else ""
    # An opaque component is read by the fields that the other model gives it.
    a = _side(first, own_a, own_a if own_a.fields else own_b, vendor)
    b = _side(second, own_b, own_b if own_b.fields else own_a, vendor)
    name = own_a.name
    # Of equal bytes one side may load others, where its file has other rules.
    same = a.stored == b.stored and a.image == b.image
    if same and a.component.fields == b.component.fields:
        return
    stale = _stale(a, b)
    leaves = sorted({**b.leaves, **a.leaves}.values(), key=lambda leaf: leaf.offset)
    for leaf in leaves:
        path = leaf.path
        value_a, value_b = a.value(path, b), b.value(path, a)
        if value_a == value_b:
            continue
        kind: Kind = "state"
        if number == 1 and path == "mxcsr_mask":
            kind = "mask"
        elif path.startswith(stale):
            kind = "reserved"
        changed = _bit_deltas(leaf.bits, value_a, value_b)
        yield Delta(name, f"{name}.{path}", value_a, value_b, changed, kind)
    kind = "reserved" if leaves else "state"
    yield from _runs(name, 0, a.unnamed(), b.unnamed(), kind)


def _side(area: XsaveArea, own: StateComponent, described: StateComponent, vendor: str) -> _Side:
    """``own`` is the component as the area's model has it, ``described`` the one with fields.

    ``vendor`` is that of the CPU which loads both sides; empty where there is no such CPU.
    """
    in_use = area.xstate_bv & area.layout.mask & own.bit
    initial = described.initial[: own.reach].ljust(own.reach, b"\0")
    memory = stored(area, own.number, initial)
    leaves = {leaf.path: leaf for leaf in described.leaves if leaf.offset + leaf.size <= own.reach}
    if not in_use:
        return _Side(described, memory, memory, leaves, counts=False)
    means = as_loaded(own, memory, vendor)
    return _Side(described, means.image, memory, leaves, counts=not means.reason)


def _stale(a: _Side, b: _Side) -> tuple[str, ...]:
    """Path prefixes of the elements that neither side counts.

    A side that is initial counts none: a restore to the initial state leaves LBR's DEPTH as it is.
    """
    sides = [set(stale_elements(s.component, s.image)) for s in (a, b) if s.counts]
    return tuple(set.intersection(*sides)) if sides else ()


def _bit_deltas(
    ranges: tuple[BitRange, ...], a: int | bytes, b: int | bytes
) -> tuple[BitDelta, ...]:
    if not ranges or isinstance(a, bytes) or isinstance(b, bytes):
        return ()
    found = []
    left = a ^ b
    for part in ranges:
        if (a ^ b) & part.mask:
            found.append((part.low, part.name, part.mask))
            left &= ~part.mask
    for low, high in bit_runs(left):
        name = f"bit {low}" if low == high else f"bits {high}:{low}"
        found.append((low, name, (1 << high + 1) - (1 << low)))
    return tuple(
        BitDelta(name, (a & mask) >> low, (b & mask) >> low) for low, name, mask in sorted(found)
    )


def _frame(first: XsaveArea, second: XsaveArea) -> Iterator[Delta]:
    """What belongs to no component: bytes 416..511, XCOMP_BV, the header's reserved bytes."""

    def runs(name: str, base: int, start: int, end: int, kind: Kind) -> Iterator[Delta]:
        a, b = (bytes(area.buffer[start:end]) for area in (first, second))
        return _runs(name, start - base, a, b, kind)

    yield from runs("legacy", 0, SOFTWARE_OFFSET, XCR0_OFFSET, "reserved")
    yield from runs("legacy", 0, XCR0_OFFSET, HEADER_OFFSET, "software")
    if first.xcomp_bv != second.xcomp_bv:
        path = "header.xcomp_bv"
        yield Delta("header", path, first.xcomp_bv, second.xcomp_bv, kind="format")
    yield from runs("header", HEADER_OFFSET, _RESERVED, EXTENDED_OFFSET, "reserved")


def _runs(name: str, base: int, a: bytes, b: bytes, kind: Kind) -> Iterator[Delta]:
    """The runs in which two byte strings differ; the shorter one goes on with zeros."""
    size = max(len(a), len(b))
    a, b = a.ljust(size, b"\0"), b.ljust(size, b"\0")
    differing = sum(1 << index for index in range(size) if a[index] != b[index])
    for first, last in bit_runs(differing):
        path = f"{name}[{base + first}:{base + last + 1}]"
        yield Delta(name, path, a[first : last + 1], b[first : last + 1], kind=kind)


def _owners(area: XsaveArea, size: int) -> list[tuple[str, bool]]:
    """For each of ``size`` bytes: what it belongs to, and whether a restore would read it."""
    owned = [owner for span in area.layout.spans() for owner in [_owner(area, span)] * span.size]
    length = len(area)
    del owned[length:]  # of a lenient area that is cut off
    owned += [("trailing", False)] * (length - len(owned))
    return owned + [("", False)] * (size - length)


def _owner(area: XsaveArea, span: Span) -> tuple[str, bool]:
    """What a span is called, and whether a restore would read it."""
    if span.kind == "header":
        return span.path or "header reserved", bool(span.path)
    if span.component is None:
        return {"padding": "gap"}.get(span.kind, span.kind), False
    name = f"{span.path} reserved" if span.kind == "reserved" else span.path
    return name, span.lives(area.xstate_bv) and span.path != "sse.mxcsr_mask"
