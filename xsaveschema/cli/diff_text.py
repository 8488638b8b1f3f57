"""Differences as text for people: whole registers first, with the digits that changed marked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from xsaveschema.area import XsaveArea
from xsaveschema.area.lines import Line
from xsaveschema.cli.output import in_colour
from xsaveschema.diff import Delta
from xsaveschema.model import Piece

_INDEX: Final = re.compile(r"\[(\d+)\]")
_LONG: Final = 80  # bits; a wider value gets lines of its own
_SLICE: Final = 128  # bits of a line
_GROUP: Final = 16  # digits, as decode has them
_OLD: Final = "bold red"
_NEW: Final = "bold green"


class _Part(NamedTuple):
    """What a field is of a whole register: ``low`` is its lowest bit there, ``width`` in bits."""

    register: str
    low: int
    width: int


def lines(deltas: Iterable[Delta], a: XsaveArea, b: XsaveArea) -> Iterator[Line]:
    """The differences of registers in order of their first one, then the others."""
    parts = {**_parts(b), **_parts(a)}
    registers: dict[str, list[tuple[_Part, Delta]]] = {}
    others = []
    for delta in deltas:
        part = parts.get(delta.path)
        numbers = isinstance(delta.a, int) and isinstance(delta.b, int)
        if part is None or not numbers or delta.kind != "state":
            others.append(delta)
        else:
            registers.setdefault(part.register, []).append((part, delta))
    marks = not in_colour()
    for name, found in registers.items():
        if len(found) == 1 and found[0][0].low == 0 and found[0][0].width <= _LONG:
            yield _short(name, found[0][1])
            continue
        yield [(name, "cyan")]
        for part, delta in sorted(found, key=lambda each: -each[0].low):
            yield from _slices(part, delta, marks)
    for delta in others:
        path, _, said = str(delta).partition(": ")
        yield [(path, "cyan"), (f": {said}", "")]


def _parts(area: XsaveArea) -> dict[str, _Part]:
    """Every field that is all or a part of a whole register, by path: of the widest that is there.

    Registers that are numbered relative to TOP, and those that are slices, share bytes with others.
    """
    found: dict[str, tuple[int, _Part]] = {}
    paths: dict[str, dict[tuple[str, int], tuple[str, int]]] = {}
    for register in area.model.registers.values():
        pieces = register.pieces
        if register.top or any(p.size or p.component not in area.layout for p in pieces):
            continue
        bits, own = 0, []
        for piece in pieces:
            path, size = _field(area, piece, register.index, paths)
            own.append((f"{piece.component}.{path}", _Part(register.name, bits, size * 8)))
            bits += size * 8
        for whole, part in own:
            if whole not in found or found[whole][0] < bits:
                found[whole] = bits, part
    return {path: part for path, (_, part) in found.items()}


def _field(
    area: XsaveArea,
    piece: Piece,
    index: int,
    paths: dict[str, dict[tuple[str, int], tuple[str, int]]],
) -> tuple[str, int]:
    """The path of the element that a piece is, and its size in bytes."""
    known = paths.get(piece.component)
    if known is None:
        known = paths[piece.component] = {}
        for leaf in area.layout[piece.component].component.leaves:
            at = _INDEX.search(leaf.path)
            known[_INDEX.sub("", leaf.path), int(at[1]) if at else 0] = leaf.path, leaf.size
    return known.get((piece.field, index), ("", 0))


def _short(name: str, delta: Delta) -> Line:
    """Both values in one line, and the bits that have names."""
    assert isinstance(delta.a, int) and isinstance(delta.b, int)  # noqa: S101, PT018 - see lines
    line: Line = [(name, "cyan"), (": ", "")]
    a, b = (f"{value:x}" for value in (delta.a, delta.b))
    size = max(len(a), len(b))
    a, b = a.rjust(size), b.rjust(size)  # aligned, so that digits are held against their like
    line += [("0x", ""), *_marked(a, b, _OLD), (" -> 0x", ""), *_marked(b, a, _NEW)]
    if delta.bits:
        line.append((f" ({', '.join(map(str, delta.bits))})", ""))
    return line


def _slices(part: _Part, delta: Delta, marks: bool) -> Iterator[Line]:
    """The slices of a wide value that differ, one above the other; ``marks``: carets below."""
    assert isinstance(delta.a, int) and isinstance(delta.b, int)  # noqa: S101, PT018 - see lines
    for low in reversed(range(0, part.width, _SLICE)):
        width = min(_SLICE, part.width - low)
        a, b = (_digits(value >> low, width) for value in (delta.a, delta.b))
        if a == b:
            continue
        at = part.low + low
        head = f"  [{at + width - 1}:{at}]".ljust(12)
        yield [(head, "dim"), ("   0x", ""), *_marked(a, b, _OLD)]
        yield [(" " * len(head), ""), ("-> 0x", ""), *_marked(b, a, _NEW)]
        carets = "".join("^" if x != y else " " for x, y in zip(a, b, strict=True))
        if marks and carets.count("^") <= len(carets) // 2:  # more point at nothing
            yield [(" " * (len(head) + 5) + carets.rstrip(), "")]


def _digits(value: int, width: int) -> str:
    text = f"{value & (1 << width) - 1:0{width // 4}x}"
    return "_".join(text[at : at + _GROUP] for at in range(0, len(text), _GROUP))


def _marked(text: str, other: str, style: str) -> Line:
    """The digits of a value, those styled that the other one has not."""
    found: Line = []
    for mine, its in zip(text, other, strict=True):
        if mine == " ":
            continue
        own = "" if mine == its else style
        if found and found[-1][1] == own:
            found[-1] = found[-1][0] + mine, own
        else:
            found.append((mine, own))
    return found
