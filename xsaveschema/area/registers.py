# SPDX-License-Identifier: MIT
"""Whole registers on an area: a ZMM register is spread over up to three components.

``registers.yaml`` says how registers are composed. Here that becomes places in one layout, once,
and reads and writes follow the places.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from operator import itemgetter
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from xsaveschema import values
from xsaveschema.area.fields import encode
from xsaveschema.area.loaded import loaded
from xsaveschema.errors import (
    MissingStateError,
    NoPlaceError,
    UnknownComponentError,
    ValueRangeError,
    XsaveError,
    hex_mask,
    meant,
)
from xsaveschema.kept import kept
from xsaveschema.layout import Layout
from xsaveschema.model import CpuModel, Piece, Register, locate
from xsaveschema.reading import Place as Place
from xsaveschema.reading import Plan as Plan
from xsaveschema.reading import RegisterFile, Top
from xsaveschema.reading import widest as widest_of
from xsaveschema.spans import ALWAYS, Slot

if TYPE_CHECKING:
    from xsaveschema.area import XsaveArea

_X87: Final = 10  # bytes of ST(i)
_number: Final = int.from_bytes


class Registers(RegisterFile, MutableMapping[str, Any]):
    """Whole registers of an area by name: integers, and bytes for tiles.

    Iterates the registers that have a place in the area. Writing a zmm register writes all its
    pieces; ymm and xmm leave the upper parts alone. Every register takes bytes, too: as many as it
    has, lowest first. A register cannot be deleted: ``initialise`` puts a component into its
    initial state. :meth:`lanes` and :meth:`tile` read numbers of a type, :meth:`set_lanes` and
    :meth:`set_tile` write them.
    """

    __slots__ = ()

    def __init__(self, area: XsaveArea):
        super().__init__(area, register_plans(area.layout))

    def __setitem__(self, name: str, value: int | bytes) -> None:
        plan = self.plan(name)
        tile = plan.shape is not None
        size = math.prod(self._shape(plan)) if tile else plan.size
        raw = tile or isinstance(value, bytes | bytearray | memoryview)
        self.put(name, encode(value, size, name, raw))

    def __delitem__(self, name: str) -> None:
        raise TypeError("a register cannot be deleted; initialise() its component")

    def __repr__(self) -> str:
        return f"<Registers of {self._area!r}: {len(self)}>"

    def read(self, names: Iterable[str] | None = None) -> dict[str, Any]:
        """Several registers at once (default: all that have a place), by name."""
        if names is not None:
            return {name: self[name] for name in names}
        area = self._area
        whole = _whole(area.layout, area.xstate_bv & area.layout.mask)
        number, joined = _number, b"".join
        parts: tuple[Any, ...] = whole.fixed
        for take in whole.takes:
            parts += take(area.buffer)
        found = whole.template.copy()
        for name, pick in whole.stored:
            found[name] = number(pick(parts), "little")
        for name, several in whole.composed:
            found[name] = number(joined(several(parts)), "little")
        top = self._top(whole.top) if whole.top else 0
        for name, index, picks in whole.physical:
            found[name] = number(picks[(index - top) & 7](parts), "little")
        for name in whole.others:
            found[name] = self[name]
        return found

    def lanes(self, name: str, type: str) -> tuple[Any, ...]:
        """The register in lanes of a type (``values.TYPES``), lowest first: floats or integers.

        Of a tile, the lanes of all its rows. A NaN keeps its payload. XsaveError for a type that
        nobody knows or that does not divide the register, and for ST(i), which has no lanes:
        :func:`xsaveschema.values.float80` writes its number. A register without a place raises
        what reading it does.
        """
        with _named(name):
            return values.decode(self._bytes(name), self._lane_type(name, type))

    def set_lanes(self, name: str, type: str, lanes: Iterable[Any] | str) -> None:
        """Write all lanes of a register: numbers, or texts as ``decode --as`` shows them.

        A floating-point lane gets the nearest number, ties to even. ValueRangeError for the wrong
        count and for what a lane cannot hold; other errors are those of :meth:`lanes`.
        """
        with _named(name):
            size = len(self._bytes(name))
            lane = values.lane_size(self._lane_type(name, type), size)
            self[name] = values.encode(lanes, type, size, lane)

    def tile(self, name: str, type: str) -> tuple[tuple[Any, ...], ...]:
        """A tile as a matrix: rows of lanes of a type, in the shape that TILECFG gives it.

        XsaveError for a register that is no tile, else the errors of :meth:`lanes`.
        """
        _, per_row = self.shape(name)
        with _named(name):
            return values.matrix(self[name], per_row, type)

    def set_tile(self, name: str, type: str, rows: Iterable[Iterable[Any]]) -> None:
        """Write a tile's rows, as many and as wide as TILECFG says."""
        count, per_row = self.shape(name)
        with _named(name):
            self[name] = values.encode_matrix(rows, per_row, count, type)

    def _lane_type(self, name: str, type: str) -> str:
        """The type if it divides the register or a tile's row; of hex, what it stands for."""
        size = self.size(name)
        if self._plans[name].shape is not None:
            size = self.shape(name)[1]
        elif size == _X87:
            number = values.float80(self[name])
            said = f"{name} is one 80-bit floating-point number, {number}: it has no lanes"
            raise ValueRangeError(said, name)
        lane = values.lane_size(type, size)
        return f"u{8 * lane}" if type == "hex" else type

    def _bytes(self, name: str) -> bytes:
        found: int | bytes = self[name]
        return found if isinstance(found, bytes) else found.to_bytes(self.size(name), "little")

    def _absent(self, name: str) -> NoReturn:
        layout = self._area.layout
        register = layout.model.registers.get(name)
        if register is None:
            raise unknown(layout.model, name)
        needed = dict.fromkeys(p.component for p in (*register.pieces, *(register.shape or ())))
        absent = [component for component in needed if component not in layout]
        if missing := [component for component in self._area.missing if component in absent]:
            raise MissingStateError(missing, name, layout.mask)
        raise NoPlaceError(
            f"{name} has no place in this area: {', '.join(absent)} not in the {layout.format} "
            f"layout's mask {hex_mask(layout.mask)}",
            name,
            layout.mask,
        )

    def shape(self, name: str) -> tuple[int, int]:
        """Rows and bytes a row of a tile, as its bytes are read and written here.

        NoPlaceError as for reading it; XsaveError for a register that is no tile.
        """
        if self.plan(name).shape is None:
            raise XsaveError(f"{name} is no tile: it has no rows")
        return super().shape(name)

    def widest(self) -> tuple[str, ...]:
        """The registers that no wider one shows."""
        return widest(self._area.layout)

    def _loaded(self, slot: Slot) -> bytes:
        return loaded(self._area, slot).image


@contextmanager
def _named(name: str) -> Iterator[None]:
    """What ``values`` refuses, told of a register."""
    try:
        yield
    except ValueError as error:
        raise ValueRangeError(f"{name}: {error}", name) from None


class _Whole(NamedTuple):
    """How to read every register of a layout in one go, for one set of components in use.

    ``template`` has all of them, at their initial values. ``takes`` give the parts that stand in
    memory, behind the ``fixed`` ones; from the parts, ``stored`` registers pick one and
    ``composed`` ones several, ``physical`` ones one of eight, by TOP. ``others`` depend on TILECFG.
    """

    template: dict[str, Any]
    fixed: tuple[bytes, ...]
    takes: tuple[Callable[[memoryview], tuple[bytes, ...]], ...]
    stored: tuple[tuple[str, Callable[[tuple[bytes, ...]], bytes]], ...]
    composed: tuple[tuple[str, Callable[[tuple[bytes, ...]], tuple[bytes, ...]]], ...]
    physical: tuple[tuple[str, int, tuple[Callable[[tuple[bytes, ...]], bytes], ...]], ...]
    top: Top | None
    others: tuple[str, ...]


@kept(4096)
def _whole(layout: Layout, live: int) -> _Whole:
    template: dict[str, Any] = {}
    parts: dict[str, list[tuple[int, int] | bytes]] = {}
    slots: dict[str, list[tuple[int, int]]] = {}
    others = []
    plans = register_plans(layout)
    for name, plan in plans.items():
        template[name] = sum(place.initial << place.shift for place in plan.places)
        if plan.top is not None:
            if live & plan.places[0].bit:
                slots[name] = [(place.start, place.end) for place in plan.top.slots]
            continue
        if plan.shape is not None:
            others.append(name)
            continue
        own: list[tuple[int, int] | bytes] = []
        for place in plan.places:
            initial = place.initial.to_bytes(place.end - place.start, "little")
            stored = live & place.bit or place.bit == ALWAYS
            own.append((place.start, place.end) if stored else initial)
        while own and isinstance(own[-1], bytes) and not any(own[-1]):
            own.pop()  # zeros above change no number
        if any(isinstance(part, tuple) for part in own):
            parts[name] = own
    everything = [part for own in parts.values() for part in own]
    fixed = [part for part in dict.fromkeys(everything) if isinstance(part, bytes)]
    wanted = {part for part in everything if isinstance(part, tuple)}
    passes = _passes(wanted.union(*slots.values()))
    order: list[tuple[int, int] | bytes] = [*fixed, *(part for runs in passes for part in runs)]
    index: dict[Any, int] = {part: number for number, part in enumerate(order)}
    picks = {name: itemgetter(*(index[part] for part in own)) for name, own in parts.items()}
    return _Whole(
        template,
        tuple(fixed),
        tuple(_take(runs) for runs in passes),
        tuple((name, pick) for name, pick in picks.items() if len(parts[name]) == 1),
        tuple((name, pick) for name, pick in picks.items() if len(parts[name]) > 1),
        tuple(
            (name, plans[name].register.index, tuple(itemgetter(index[run]) for run in runs))
            for name, runs in slots.items()
        ),
        next((plans[name].top for name in slots), None),
        tuple(others),
    )


def _passes(runs: set[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Runs of bytes sorted into passes without overlap: XMM16 is a part of ZMM16's bytes."""
    passes: list[list[tuple[int, int]]] = []
    for start, end in sorted(runs):
        for found in passes:
            if found[-1][1] <= start:
                found.append((start, end))
                break
        else:
            passes.append([(start, end)])
    return passes


def _take(runs: list[tuple[int, int]]) -> Callable[[memoryview], tuple[bytes, ...]]:
    """One unpack of these runs."""
    codes, at = ["<"], 0
    for start, end in runs:
        codes.append(f"{start - at}x{end - start}s")
        at = end
    return Struct("".join(codes)).unpack_from


def unknown(model: CpuModel, name: str) -> UnknownComponentError:
    """The error for a register that no area of a model can have."""
    hint = meant(str(name), model.registers)
    said = f"{model.label} has no register {name!r}; {hint}".rstrip("; ")
    return UnknownComponentError(said, str(name))


@kept(512)
def widest(layout: Layout) -> tuple[str, ...]:
    """The registers of a layout that no wider one shows: not XMM3 where there is YMM3."""
    return widest_of(register_plans(layout))


@kept(1)
def register_plans(layout: Layout) -> Mapping[str, Plan]:
    """The registers that have a place in a layout, by name."""
    plans = ((name, _plan(layout, register)) for name, register in layout.model.registers.items())
    return {name: plan for name, plan in plans if plan}


def _plan(layout: Layout, register: Register) -> Plan | None:
    """None where a piece, or what TOP or the shape stands in, has no place."""
    places: list[Place] = []
    size = 0
    for piece in register.pieces:
        place = _place(layout, piece, register.index, 8 * size)
        if place is None:
            return None
        places.append(place)
        size += place.end - place.start
    top = shape = None
    if register.top is not None:
        field, _, bits = register.top.field.rpartition(".")
        word = _place(layout, Piece(register.top.component, field), 0)
        slots = [_place(layout, register.pieces[0], index) for index in range(8)]
        span = layout.span_at(word.start) if word else None
        lows = [b.low for b in span.field.bits if b.name == bits] if span and span.field else []
        if word is None or not lows or None in slots:
            return None
        top = Top(word, lows[0], tuple(slot for slot in slots if slot))
    if register.shape is not None:
        rows, colsb = (_place(layout, piece, register.index) for piece in register.shape)
        if rows is None or colsb is None:
            return None
        shape = (rows, colsb)
    return Plan(register, tuple(places), size, top, shape)


def pieces(layout: Layout, register: Register, whole: Plan) -> Iterator[Place]:
    """Those of a register's pieces that have a place in a layout where not all have.

    ``whole`` is the register where it has all.
    """
    for piece, place in zip(register.pieces, whole.places, strict=True):
        if found := _place(layout, piece, register.index, place.shift):
            yield found


def _place(layout: Layout, piece: Piece, index: int, shift: int = 0) -> Place | None:
    """None for what is not in the layout, or beyond what this CPU has of the component."""
    if piece.component not in layout:
        return None
    slot = layout[piece.component]
    found = locate(slot.component.fields, piece.field, index)
    span = None if found is None else layout.span_at(slot.origin + found[0])
    if found is None or span is None or span.field is None:
        return None
    start = span.offset + piece.start
    size = piece.size or found[1]
    initial = int.from_bytes(span.initial[piece.start : piece.start + size], "little")
    return Place(span.alive, start, start + size, shift, initial, slot)
