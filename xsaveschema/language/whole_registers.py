# SPDX-License-Identifier: MIT
"""The registers document becomes whole registers: pieces of components' fields."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from msgspec import UNSET

from xsaveschema.errors import SchemaError, meant
from xsaveschema.language.document import Document, KeyPath, quoted
from xsaveschema.language.grammar import RegisterDoc, RegistersDoc, given
from xsaveschema.model import Field, Piece, Register, locate

if TYPE_CHECKING:
    from xsaveschema.language.library import Library

_PIECE: Final = re.compile(
    r"(?P<component>[a-z][a-z0-9_]*)\.(?P<field>[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*)"
    r"(?:\[(?P<high>[0-9]{1,3}):(?P<low>[0-9]{1,3})\])?\Z"
)
_STACK: Final = 8
"""MM registers are the eight slots of the x87 stack."""
_Fields = tuple[Field, ...]


def build_registers(document: Document, doc: RegistersDoc) -> dict[str, Register]:
    """Whole registers by name (``zmm17``); faults go into ``document``."""
    found: dict[str, Register] = {}
    lines: dict[str, int] = {}
    for index, entry in document.numbered(("registers",), doc.registers):
        here: KeyPath = ("registers", index)
        made = [_piece(document, text, place) for place, text in _texts(entry, here)]
        top = _piece(document, entry.top, (*here, "top"), top=True) if entry.top else None
        count = len(entry.pieces)
        whole = tuple(piece for piece in made[:count] if piece)
        rows, colsb = made[count:] or (None, None)
        shape = (rows, colsb) if rows and colsb else None
        if top and (len(whole) != 1 or given(entry.count, _STACK + 1) > _STACK):
            message = f"only 1 to {_STACK} registers of one piece turn with TOP"
            document.fault("register-piece", (*here, "top"), message)
        for number, name in enumerate(register_names(entry)):
            if name in found:
                message = f"{name} is defined twice, first at line {lines[name]}"
                document.fault("register-name", (*here, "name"), message)
                break
            found[name] = Register(name, number, whole, top, shape)
            lines[name] = document.line((*here, "name"))
    return found


def check_registers(library: Library, document: Document, doc: RegistersDoc) -> None:
    """Record a fault for every piece that names no field, or none that repeats as often."""
    for index, entry in document.numbered(("registers",), doc.registers):
        here: KeyPath = ("registers", index)
        last = given(entry.count, 0) - 1
        if entry.top:
            last = _STACK - 1
            if found := _fields_of(library, document, entry.top, (*here, "top")):
                _check_top(document, *found, (*here, "top"))
        for place, text in _texts(entry, here):
            if found := _fields_of(library, document, text, place):
                _check_piece(document, *found, place, last)


def _texts(entry: RegisterDoc, here: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """The pieces of an entry as they are written, those of its shape last, and their places."""
    for i, text in enumerate(entry.pieces):
        yield (*here, "pieces", i), text
    if entry.shape is not UNSET:
        yield (*here, "shape", "rows"), entry.shape.rows
        yield (*here, "shape", "colsb"), entry.shape.colsb


def _check_piece(
    document: Document, piece: re.Match[str], fields: _Fields, place: KeyPath, last: int
) -> None:
    component, path = piece["component"], piece["field"]
    found = locate(fields, path, max(last, 0))
    hint = ""
    if found is None and locate(fields, path, 0) is None:
        message = f"{component} has no field {path}"
        known = (f"{component}.{each}" for each in _paths(fields))
        hint = meant(f"{component}.{path}", known, 1)
    elif found is None:
        message, hint = f"{path} repeats fewer than {last + 1} times", "see count:"
    elif last > 0 and not _repeats(fields, path):
        message = f"{path} does not repeat, so {last + 1} registers would share it"
    elif piece["high"] and int(piece["high"]) >= 8 * found[1]:
        message = f"bit {piece['high']} lies outside {path}, which has {8 * found[1]} bits"
    else:
        return
    document.fault("register-field", place, message, hint)


def _check_top(document: Document, piece: re.Match[str], fields: _Fields, place: KeyPath) -> None:
    name, _, bits = piece["field"].partition(".")
    there = [found.name for field in fields if field.name == name for found in field.bits]
    if bits not in there and not piece["high"]:
        message = f"{piece['component']} has no bits {piece['field']}"
        document.fault("register-field", place, message, "write component.field.bits")


def _fields_of(
    library: Library, document: Document, text: str, place: KeyPath
) -> tuple[re.Match[str], _Fields] | None:
    """What a piece says, and its component's fields; None with a fault, here or there."""
    piece = _PIECE.match(text)
    if piece is None:
        return None
    name = piece["component"]
    if name not in library.components:
        hint = meant(name, library.components, 1)
        document.fault("register-field", place, f"no component file defines {name}", hint)
        return None
    try:
        return piece, library.component_fields(name)
    except SchemaError:
        return None  # reported where it stands


def _paths(fields: _Fields, prefix: str = "") -> list[str]:
    found = []
    for field in fields:
        found.append(prefix + field.name)
        found += _paths(field.fields, f"{prefix}{field.name}.")
    return found


def _repeats(fields: _Fields, path: str) -> bool:
    for name in path.split("."):
        field = next(field for field in fields if field.name == name)
        if field.count is not None:
            return True
        fields = field.fields
    return False


def register_names(entry: RegisterDoc) -> list[str]:
    """The names of the registers that an entry defines, in order of their elements."""
    if entry.count is UNSET:
        return [entry.name]
    return [f"{entry.name}{entry.first + i}" for i in range(entry.count)]


def _piece(document: Document, text: str, place: KeyPath, *, top: bool = False) -> Piece | None:
    match = _PIECE.match(text)
    if match is None or (top and match["high"]):
        document.fault(
            "register-piece",
            place,
            f"{quoted(text)} is no piece of a register",
            "write component.field.bits"
            if top
            else "write component.field, or component.field[high:low] for a slice of bits",
        )
        return None
    start, size = 0, 0
    if match["high"]:
        high, low = int(match["high"]), int(match["low"])
        if high < low or low % 8 or high % 8 != 7:
            message = f"[{high}:{low}] is not a slice of whole bytes"
            document.fault("register-piece", place, message, "as in [127:0]: 16 bytes from bit 0")
            return None
        start, size = low // 8, (high - low + 1) // 8
    return Piece(match["component"], match["field"], start, size)
