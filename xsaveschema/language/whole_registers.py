"""The registers document becomes whole registers: pieces of components' fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Protocol

from msgspec import UNSET

from xsaveschema.errors import SchemaError, meant
from xsaveschema.language.document import Document, KeyPath, quoted
from xsaveschema.language.grammar import RegisterDoc, RegistersDoc
from xsaveschema.model import Field, Piece, Register, locate

_PIECE: Final = re.compile(
    r"(?P<component>[a-z][a-z0-9_]*)\.(?P<field>[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*)"
    r"(?:\[(?P<high>[0-9]{1,3}):(?P<low>[0-9]{1,3})\])?\Z"
)
_STACK: Final = 8
"""MM registers are the eight slots of the x87 stack."""


class Components(Protocol):
    """What checking the pieces of registers needs of the catalogue."""

    def component_names(self) -> Mapping[str, int | None]:
        """Every component that has a file."""

    def component_fields(self, name: str) -> tuple[Field, ...]:
        """The fields of a component that has a file; SchemaError if the file has faults."""


def build_registers(document: Document, doc: RegistersDoc) -> dict[str, Register]:
    """Whole registers by name (``zmm17``); faults go into ``document``."""
    found: dict[str, Register] = {}
    lines: dict[str, int] = {}
    for index, entry in document.numbered(("registers",), doc.registers):
        here: KeyPath = ("registers", index)
        pieces = [
            _piece(document, text, (*here, "pieces", i)) for i, text in enumerate(entry.pieces)
        ]
        top = None if entry.top is UNSET else _piece(document, entry.top, (*here, "top"), top=True)
        shape = None
        if entry.shape is not UNSET:
            rows = _piece(document, entry.shape.rows, (*here, "shape", "rows"))
            colsb = _piece(document, entry.shape.colsb, (*here, "shape", "colsb"))
            shape = (rows, colsb) if rows and colsb else None
        whole = tuple(piece for piece in pieces if piece)
        if top and (len(whole) != 1 or entry.count is UNSET or entry.count > _STACK):
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


def check_registers(components: Components, document: Document, doc: RegistersDoc) -> None:
    """Record a fault for every piece that names no field, or none that repeats as often."""
    for index, entry in document.numbered(("registers",), doc.registers):
        here: KeyPath = ("registers", index)
        last = -1 if entry.count is UNSET else entry.count - 1
        texts = [(text, (*here, "pieces", i)) for i, text in enumerate(entry.pieces)]
        if entry.shape is not UNSET:
            texts.append((entry.shape.rows, (*here, "shape", "rows")))
            texts.append((entry.shape.colsb, (*here, "shape", "colsb")))
        if entry.top is not UNSET:
            last = _STACK - 1
            _check_top(components, document, entry.top, (*here, "top"))
        for text, place in texts:
            _check_piece(components, document, text, place, last)


def _check_piece(
    components: Components, document: Document, text: str, place: KeyPath, last: int
) -> None:
    match = _PIECE.match(text)
    fields = _fields(components, document, text, place)
    if match is None or fields is None:
        return
    path = match["field"]
    found = locate(fields, path, max(last, 0))
    if found is None:
        first = locate(fields, path, 0)
        if first is None:
            message = f"{match['component']} has no field {path}"
            known = (f"{match['component']}.{each}" for each in _paths(fields))
            hint = meant(f"{match['component']}.{path}", known, 1)
        else:
            message, hint = f"{path} repeats fewer than {last + 1} times", "see count:"
        document.fault("register-field", place, message, hint)
    elif last > 0 and not _repeats(fields, path):
        message = f"{path} does not repeat, so {last + 1} registers would share it"
        document.fault("register-field", place, message)
    elif match["high"] and int(match["high"]) >= 8 * found[1]:
        message = f"bit {match['high']} lies outside {path}, which has {8 * found[1]} bits"
        document.fault("register-field", place, message)


def _check_top(components: Components, document: Document, text: str, place: KeyPath) -> None:
    fields = _fields(components, document, text, place)
    match = _PIECE.match(text)
    if match is None or match["high"] or fields is None:
        return
    name, _, bits = match["field"].partition(".")
    for field in fields:
        if field.name == name and any(bits == found.name for found in field.bits):
            return
    message = f"{match['component']} has no bits {match['field']}"
    document.fault("register-field", place, message, "write component.field.bits")


def _fields(
    components: Components, document: Document, text: str, place: KeyPath
) -> tuple[Field, ...] | None:
    match = _PIECE.match(text)
    if match is None:
        return None
    name = match["component"]
    if name not in components.component_names():
        hint = meant(name, components.component_names(), 1)
        document.fault("register-field", place, f"no component file defines {name}", hint)
        return None
    try:
        return components.component_fields(name)
    except SchemaError:
        return None  # reported where it stands


def _paths(fields: tuple[Field, ...], prefix: str = "") -> list[str]:
    found = []
    for field in fields:
        found.append(prefix + field.name)
        found += _paths(field.fields, f"{prefix}{field.name}.")
    return found


def _repeats(fields: tuple[Field, ...], path: str) -> bool:
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
