# SPDX-License-Identifier: MIT
"""Areas as debuggers have them: in the standard format, of a core by Linux or of a live thread.

Their layout is what the file or the processor tells, else the catalogue's CPUs are held against
the mask at byte 464 and the length; nothing is guessed. The tables of the catalogue are beside
this module where it runs. Python 3.6 runs it, inside debuggers.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn, Tuple

from xsaveschema.artefacts.elf_notes import (
    DELVE,
    FREEBSD,
    GDB,
    LAYOUT_NOTE,
    LINUX,
    NT_GDB_TDESC,
    NT_X86_XSAVE_LAYOUT,
    NT_X86_XSTATE,
    CoreNotes,
)
from xsaveschema.cpuid.instruction import execute_cpuid, runs_here
from xsaveschema.reading import (
    ALWAYS,
    COMPACTED,
    EXTENDED_OFFSET,
    HEADER_OFFSET,
    INTEL,
    MXCSR_END,
    MXCSR_OFFSET,
    PREDICATES,
    SSE,
    X87,
    Loaded,
    Place,
    Placed,
    Plan,
    RegisterFile,
    Top,
    enabled_mask,
    initial_instead,
    x87_of_intel,
)
from xsaveschema.words import hex_mask

MAX_AREA = 16 << 20
"""Bytes, as the package has it."""
_SAME_EVERYWHERE = 7
"""Up to AVX, all processors lay an area out alike."""
_XSAVE_LEAF = 0xD

Extent = Tuple[int, int, int]
"""A component's number, size and standard offset."""


class RefusedError(ValueError):
    """Why there is no answer."""


# What the tables hold.


class Bits(NamedTuple):
    """A named range of bits within a field."""

    name: str
    low: int
    width: int


class Leaf(NamedTuple):
    """A field element in memory, its offset as its component counts it."""

    path: str
    offset: int
    size: int
    raw: bool
    bits: "tuple[Bits, ...]"


class Component(NamedTuple):
    """A state component; ``predicate`` names the rule without which its initial state is loaded."""

    number: int
    name: str
    size: int
    initial: bytes
    leaves: "tuple[Leaf, ...]"
    predicate: str


class Piece(NamedTuple):
    """A part of a register, as the catalogue names it: ``size`` 0 is the whole field."""

    component: str
    field: str
    start: int
    size: int


class Spot(NamedTuple):
    """Where a piece stands: ``size`` bytes at ``offset`` of a component, as its fields count it."""

    number: int
    offset: int
    size: int
    initial: int


class Register(NamedTuple):
    """A register; ``top`` has the spots of FSW and of the eight slots, and TOP's lowest bit."""

    name: str
    index: int  # type: ignore[assignment]  # a field, not tuple's method
    pieces: "tuple[Piece, ...]"
    spots: "tuple[Spot, ...]"
    top: "tuple[Spot, int, tuple[Spot, ...]] | None"
    shape: "tuple[Piece, Piece] | None"
    shaped_by: "tuple[Spot, ...]"


class Cpus(NamedTuple):
    """CPU models that lay everything out alike, the one that people expect in front."""

    names: "tuple[str, ...]"
    aliases: "tuple[str, ...]"
    vendor: str
    mxcsr_mask: int
    rows: "tuple[Extent, ...]"


class Tables(NamedTuple):
    """The catalogue: components by number, registers in order, CPUs by what people expect."""

    components: "Mapping[int, Component]"
    registers: "tuple[Register, ...]"
    cpus: "tuple[Cpus, ...]"


# Layouts


class Slot(Placed):
    """A component's place in an area."""

    def __init__(self, component: Component, offset: int):
        self.component = component
        self.offset = offset


class Layout:
    """Where the components sit, and the model of which that much is known.

    ``source`` says how, ``vendor`` whose CPU it is as far as anybody knows.
    """

    def __init__(
        self, tables: Tables, rows: "Iterable[Extent]", source: str, vendor: str, notes: "list[str]"
    ):
        self._names = {number: each.name for number, each in tables.components.items()}
        self.source = source
        self.vendor = vendor
        self.notes = notes
        placed = [(0, 160, 0), (1, 256, 160), *rows]
        slots = [Slot(_component(tables, number, size), at) for number, size, at in placed]
        self.slots = sorted(slots, key=lambda slot: (slot.offset, slot.number))
        self._by_key: dict[Any, Slot] = {slot.name: slot for slot in slots}
        self._by_key.update((slot.number, slot) for slot in slots)
        self.xcr0 = sum(slot.bit for slot in slots)
        self.size = max([EXTENDED_OFFSET, *(slot.end for slot in slots)])
        self.plans = dict(self._plans(tables.registers))

    def __iter__(self) -> "Iterator[Slot]":
        return iter(self.slots)

    def __getitem__(self, key: "str | int") -> Slot:
        return self._by_key[key]

    def name_of(self, number: int) -> str:
        """The name of component ``number``."""
        return self._names.get(number, f"component{number}")

    def names_of(self, mask: int) -> "list[str]":
        """The names of the components in ``mask``, lowest number first."""
        return [self.name_of(number) for number in range(63) if mask >> number & 1]

    def _plans(self, registers: "Iterable[Register]") -> "Iterator[tuple[str, Plan]]":
        for register in registers:
            spots = [*register.spots, *register.shaped_by]
            if not all(map(self._holds, spots)):
                continue
            places = []
            size = 0
            for spot in register.spots:
                places.append(self._place(spot, 8 * size))
                size += spot.size
            top = None
            if register.top:
                word, low, slots = register.top
                top = Top(self._place(word), low, tuple(map(self._place, slots)))
            shape: Any = tuple(map(self._place, register.shaped_by)) or None
            yield register.name, Plan(register, tuple(places), size, top, shape)

    def _holds(self, spot: Spot) -> bool:
        """Whether this CPU has the field, whole, in which a spot lies."""
        slot = self._by_key.get(spot.number)
        return slot is not None and any(
            leaf.offset <= spot.offset and spot.offset + spot.size <= leaf.offset + leaf.size
            for leaf in slot.component.leaves
        )

    def _place(self, spot: Spot, shift: int = 0) -> Place:
        slot = self[spot.number]
        start = slot.origin + spot.offset
        alive = ALWAYS if MXCSR_OFFSET <= start < MXCSR_END else slot.bit
        return Place(alive, start, start + spot.size, shift, spot.initial, slot)


def _component(tables: Tables, number: int, size: int) -> Component:
    """A component of this CPU's size; one that nobody knows has no fields."""
    known = tables.components.get(number)
    if known is None:
        return Component(number, f"component{number}", size, bytes(size), (), "")
    if number < 2:
        return known
    leaves = tuple(leaf for leaf in known.leaves if leaf.offset + leaf.size <= size)
    initial = known.initial[:size].ljust(size, b"\0")
    return known._replace(size=size, leaves=leaves, initial=initial)


class Told(NamedTuple):
    """Rows that something tells for sure, and what does."""

    rows: "list[Extent]"
    source: str


def layout_of(area: bytes, tables: Tables, told: "Told | None", model: str = "") -> Layout:
    """The layout of an area. RefusedError where nothing says it for sure, or not of this area."""
    if len(area) < EXTENDED_OFFSET:
        raise RefusedError(f"the area ends at {len(area)}, within the XSAVE header")
    xstate_bv, xcomp_bv = _word(area, HEADER_OFFSET), _word(area, HEADER_OFFSET + 8)
    if xcomp_bv:
        what = "compacted" if xcomp_bv & COMPACTED else "no known"
        raise RefusedError(f"XCOMP_BV is {hex_mask(xcomp_bv)}: {what} format, as no kernel gives")
    if model and not any(_called(cpus, model) for cpus in tables.cpus):
        raise RefusedError(f"there is no model {model!r}: xsaveschema models has those that are")
    mask = enabled_mask(area, xstate_bv)
    if told is not None:
        layout = _as_told(area, tables, told, mask, model)
    elif model:
        layout = _as_named(area, tables, mask, model)
    else:
        layout = _as_known(area, tables, mask)
    live = xstate_bv & ~layout.xcr0
    if live:
        names = ", ".join(layout.names_of(live)) or "bit 63"
        raise RefusedError(
            f"XSTATE_BV {hex_mask(xstate_bv)} has {names}, which have no place by {layout.source}"
        )
    for slot in layout:
        if slot.end > len(area):
            raise RefusedError(f"the area ends at {len(area)}, but {slot.name} at {slot.end}")
    return layout


def _as_told(area: bytes, tables: Tables, told: Told, mask: int, model: str) -> Layout:
    """By a table that is sure, limited to the mask that the kernel left in the area."""
    rows, notes = told.rows, []
    described = X87 | SSE | _mask_of(rows)
    if mask and not mask & ~described:
        rows = _under(rows, mask)
    elif mask:
        notes.append(
            f"the XCR0 mask at byte 464 is {hex_mask(mask)}, but {told.source} describes "
            f"{hex_mask(described)}"
        )
    alike = [cpus for cpus in tables.cpus if _has(cpus, rows)]
    if model and not any(_called(cpus, model) for cpus in alike):
        raise RefusedError(f"{told.source} is not {model}'s layout")
    layout = Layout(tables, rows, told.source, _vendor(_of_area(alike, area)), notes)
    if layout.size != len(area):
        layout.notes.append(
            f"the area has {len(area)} bytes, but {told.source} describes {layout.size}"
        )
    return layout


def _as_named(area: bytes, tables: Tables, mask: int, model: str) -> Layout:
    """By the CPU that somebody names, limited to the mask, or else to what the area can hold."""
    cpus = next(each for each in tables.cpus if _called(each, model))
    if not mask:
        rows = [row for row in cpus.rows if row[1] + row[2] <= len(area)]
        return Layout(tables, rows, f"model {model}", cpus.vendor, [])
    rows = _under(cpus.rows, mask)
    layout = Layout(tables, rows, f"model {model}", cpus.vendor, [])
    lacking = mask & ~layout.xcr0
    if lacking:
        names = ", ".join(layout.names_of(lacking))
        raise RefusedError(f"the XCR0 mask at byte 464 is {hex_mask(mask)}: {model} has no {names}")
    if layout.size != len(area):
        what = f"the area has {len(area)} bytes; {model} takes {layout.size}"
        layout.notes.append(f"{what} for the mask {hex_mask(mask)} at byte 464")
    return layout


def _as_known(area: bytes, tables: Tables, mask: int) -> Layout:
    """By the CPUs that the mask and the length allow, if these agree."""
    if not mask:
        raise RefusedError("nothing in the area says how it is laid out: name the CPU (--model)")
    what = f"{len(area)} bytes under XCR0 mask {hex_mask(mask)} at byte 464"
    fits = []
    for each in tables.cpus:
        rows = _under(each.rows, mask)
        if X87 | SSE | _mask_of(rows) == mask and _end(rows) == len(area):
            fits.append((each, rows))
    if not fits:
        raise RefusedError(f"{what} fit no CPU of the catalogue: name the one (--model)")
    same = _of_area([each for each, _ in fits], area)
    layouts = {tuple(rows) for each, rows in fits if each in same}
    if len(layouts) > 1:
        groups = "; ".join(", ".join(each.names) for each in same)
        raise RefusedError(f"{what} fit CPUs that differ: {groups}; name the one (--model)")
    source = "identified by XCR0 mask at byte 464 and size"
    return Layout(tables, layouts.pop(), source, _vendor(same), [])


def _under(rows: "Iterable[Extent]", mask: int) -> "list[Extent]":
    return [row for row in rows if mask >> row[0] & 1]


def _mask_of(rows: "Iterable[Extent]") -> int:
    return sum(1 << number for number, _, _ in rows)


def _end(rows: "Iterable[Extent]") -> int:
    return max([EXTENDED_OFFSET, *(offset + size for _, size, offset in rows)])


def _has(cpus: Cpus, rows: "Iterable[Extent]") -> bool:
    return not set(rows) - set(cpus.rows)


def _of_area(cpus: "list[Cpus]", area: bytes) -> "list[Cpus]":
    """Those with the MXCSR_MASK of the area, which tells AMD from Intel, if any has it."""
    mask = int.from_bytes(area[MXCSR_OFFSET + 4 : MXCSR_END], "little")
    return [each for each in cpus if each.mxcsr_mask == mask] or cpus


def _vendor(cpus: "list[Cpus]") -> str:
    return cpus[0].vendor if cpus else ""


def _called(cpus: Cpus, model: str) -> bool:
    return model in cpus.names or model in cpus.aliases


def _word(area: bytes, at: int) -> int:
    return int.from_bytes(area[at : at + 8], "little")


# Areas


class Registers(RegisterFile):
    """The registers of an area that a debugger has."""

    def _absent(self, name: str) -> NoReturn:
        layout = self._area.layout
        raise RefusedError(f"{name} has no place in this area: XCR0 {hex_mask(layout.xcr0)}")

    def _loaded(self, slot: Any) -> bytes:
        return loaded(self._area, slot).image


class Area:
    """An area in the standard format, its bytes in a buffer of its own."""

    format = "standard"
    missing = faults = ()

    def __init__(self, data: bytes, layout: Layout):
        self.missing_by_number: dict[int, str] = {}
        self.buffer = bytearray(data)
        self.layout = self.model = layout
        self.registers = Registers(self, layout.plans)

    def __len__(self) -> int:
        return len(self.buffer)

    @property
    def xstate_bv(self) -> int:
        """XSTATE_BV as it stands in the buffer."""
        return _word(self.buffer, HEADER_OFFSET)

    @property
    def xcomp_bv(self) -> int:
        """XCOMP_BV."""
        return _word(self.buffer, HEADER_OFFSET + 8)

    def in_use(self, key: "str | int") -> bool:
        """Whether a component is in use."""
        return bool(self.xstate_bv & self.layout[key].bit)

    def read(self, slot: Slot, offset: int, size: int) -> bytes:
        """``size`` bytes of meaning at ``offset`` of a component (as its fields count it)."""
        start = slot.origin + offset
        if self.xstate_bv & slot.bit or MXCSR_OFFSET <= start < MXCSR_END:
            return bytes(self.buffer[start : start + size])
        return bytes(slot.component.initial[offset : offset + size])

    def write(self, slot: Slot, start: int, data: bytes) -> None:
        """Write a component's bytes from byte ``start`` of the area on; it is in use then."""
        if not self.xstate_bv & slot.bit:
            self._restore(slot, slot.component.initial)
            in_use = self.xstate_bv | slot.bit
            self.buffer[HEADER_OFFSET : HEADER_OFFSET + 8] = in_use.to_bytes(8, "little")
        self.buffer[start : start + len(data)] = data

    def _restore(self, slot: Slot, image: bytes) -> None:
        for start, end in slot.ranges:
            self.buffer[start:end] = image[start - slot.origin : end - slot.origin]

    def restored(self) -> "tuple[Area, dict[str, str]]":
        """A copy that holds what a restore loads, and why, for each component it changes."""
        copy, reasons = Area(self.buffer, self.layout), {}
        for slot in self.layout:
            image, reason = loaded(self, slot)
            if reason:
                copy._restore(slot, image)
                reasons[slot.name] = reason
        return copy, reasons


def loaded(area: Area, slot: Slot) -> Loaded:
    """A component as the area's own CPU loads it; initial where it is not in use."""
    component = slot.component
    if not area.xstate_bv & slot.bit:
        return Loaded(component.initial)
    image = bytearray(component.initial)
    for start, end in slot.ranges:
        image[start - slot.origin : end - slot.origin] = area.buffer[start:end]
    why = PREDICATES[component.predicate](bytes(image)) if component.predicate else ""
    if why:
        return initial_instead(component, why)
    if component.number == 0 and area.layout.vendor == INTEL:
        return x87_of_intel(bytes(image))
    return Loaded(bytes(image))


# Where they are from


def of_thread(data: Any, thread: int, tables: Tables, model: str = "") -> Area:
    """A thread's area in a core. ValueError where it has none, or its layout is not known."""
    core = CoreNotes(data)
    told, note, by_gdb = None, None, False
    found: list[Any] = []
    for number, each in core.by_thread(
        frozenset((NT_X86_XSTATE, NT_X86_XSAVE_LAYOUT, NT_GDB_TDESC))
    ):
        if each.type == NT_X86_XSTATE and each.owner in (LINUX, FREEBSD, DELVE):
            if number == thread:
                found.append(each)
        elif each.type == NT_X86_XSAVE_LAYOUT and each.owner == LINUX:
            if note and core.layout_body(note) != core.layout_body(each):
                raise core.fault(f"a second {LAYOUT_NOTE}, which differs", each.offset)
            note = each
        elif each.type == NT_GDB_TDESC and each.owner == GDB:
            by_gdb = True
    if len(found) != 1:
        what = "no NT_X86_XSTATE note" if not found else "several NT_X86_XSTATE notes"
        raise RefusedError(f"the core has {what} of thread {thread}: its state is not in this file")
    if found[0].size > MAX_AREA:
        raise core.fault(f"NT_X86_XSTATE of {found[0].size} bytes", found[0].offset)
    if note:
        told = Told(core.layout_rows(note, MAX_AREA)[0], LAYOUT_NOTE)
    area = bytes(core.body(found[0]))
    layout = layout_of(area, tables, told, model)
    if by_gdb and not told and layout.xcr0 & ~_SAME_EVERYWHERE:
        layout.notes.append(
            "GDB's gcore wrote this core, not the kernel: up to version 13 GDB writes, and reads, "
            "Intel's layout on every CPU; if an AMD CPU ran this, its state beyond AVX is not to "
            "be trusted"
        )
    return Area(area, layout)


def of_host(area: bytes, tables: Tables, model: str = "") -> Area:
    """The area of a thread that runs on this machine, by its CPUID leaf 0xD."""
    return Area(area, layout_of(area, tables, _host(), model))


def _host() -> "Told | None":
    """What CPUID says; None where it cannot be executed, which leaves what the area says."""
    if not runs_here():
        return None
    try:
        eax, _, _, edx = execute_cpuid(_XSAVE_LEAF, 0)
    except OSError:  # executable memory is forbidden
        return None
    rows = []
    for number in range(2, 63):
        if (edx << 32 | eax) >> number & 1:
            size, offset, _, _ = execute_cpuid(_XSAVE_LEAF, number)
            rows.append((number, size, offset))
    return Told(rows, "this machine's CPUID leaf 0xD")
