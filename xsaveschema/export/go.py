# SPDX-License-Identifier: MIT
"""Go: a package that finds the layout of an area and reads its registers.

The states of CPUs, where a core's note puts them and how registers are put together are tables;
the code beside them is the same whatever the models are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import xsaveschema
from xsaveschema.errors import XsaveError
from xsaveschema.export.exporter import apart, banner, comment, distinct, pascal, template
from xsaveschema.model import CpuModel, Piece, Register, StateComponent, locate
from xsaveschema.spans import ALWAYS

_OWN: Final = (
    *("AmbiguityError", "CPU", "CPUs", "CPUOf", "Candidates", "Compacted", "Component"),
    *("Layout", "LayoutOf", "Place", "Registers", "State"),
)
"""The package's own names, which no component may have."""
_PREDICATES: Final = ("", "tilecfg")
"""Of components that shape others: whose legality the template has as code."""


@dataclass(frozen=True)
class _Piece:
    """Bytes of a component: of register ``first + i`` they are ``i * stride`` further on.

    ``always``: they count in the standard format whatever XSTATE_BV says.
    """

    component: int
    offset: int
    stride: int
    size: int
    initial: int
    always: bool


@dataclass(frozen=True)
class _Family:
    """Registers of one name and consecutive numbers; ``count`` 0: one, without a number."""

    name: str
    first: int
    count: int
    pieces: tuple[_Piece, ...]
    top: tuple[int, int, int] | None = None  # component, offset, low bit
    shape: tuple[_Piece, _Piece] | None = None


class _Go:
    target = "go"
    title = "a Go package: layouts, and the registers of an area"
    suffix = ".go"

    def render(self, cpus: Sequence[CpuModel]) -> dict[str, str]:
        """``xsave.go``."""
        components = _components(cpus)
        names = {number: pascal(component.name) for number, component in components.items()}
        apart([*names.values(), *_OWN], "Go")
        first: dict[tuple[tuple[int, int, int, bool], ...], CpuModel] = {}
        for model in cpus:
            first.setdefault(_states(model), model)
        # zen-2 and zen2, say, would be one name.
        told = distinct(f"statesOf{pascal(model.label)}" for model in first.values())
        silicon = dict(zip(first, told, strict=True))
        return {
            "xsave.go": template(
                "xsave.go.j2",
                banner=banner(cpus),
                version=xsaveschema.__version__,
                components=[
                    {"number": number, "name": component.name, "about": _about(component)}
                    for number, component in components.items()
                ],
                names=names,
                silicon={name: states for states, name in silicon.items()},
                cpus=[
                    {
                        "name": quoted(model.label),
                        "title": quoted(comment(model.title)),
                        "xcr0": model.xcr0,
                        "xss": model.xss,
                        "states": silicon[_states(model)],
                    }
                    for model in cpus
                ],
                families=_families(cpus),
                quoted=quoted,
            )
        }


EXPORTER: Final = _Go()


def quoted(text: str) -> str:
    """A string of Go: what JSON escapes, Go does, too."""
    return json.dumps(text, ensure_ascii=False)


def _components(cpus: Iterable[CpuModel]) -> dict[int, StateComponent]:
    """Every component by number; XsaveError where two CPUs mean two things by a number."""
    found: dict[int, StateComponent] = {}
    for model in cpus:
        for number, component in model.by_number.items():
            other = found.setdefault(number, component)
            if (other.name, other.fields) != (component.name, component.fields):
                raise XsaveError(
                    f"component {number} is {other.name} in one CPU and another {component.name} "
                    f"in {model.label}: one package cannot have both"
                )
    return dict(sorted(found.items()))


def _about(component: StateComponent) -> str:
    titles = [field.title for field in component.fields if field.title]
    more = ", …" if len(titles) > 3 else ""
    return comment(f"{component.name}: {', '.join(titles[:3])}{more}" if titles else component.name)


def _states(model: CpuModel) -> tuple[tuple[int, int, int, bool], ...]:
    return tuple(
        (c.number, c.size, -1 if c.offset is None else c.offset, c.align64)
        for c in model.by_number.values()
    )


# --- registers ----------------------------------------------------------------------------------


def _families(cpus: Iterable[CpuModel]) -> list[_Family]:
    """The registers that any of the CPUs has, those of one kind as one row."""
    single: dict[str, _Family] = {}
    for model in cpus:
        for name, register in model.registers.items():
            if family := _single(model, name, register):
                other = single.setdefault(name, family)
                if other != family:
                    raise XsaveError(f"{name} is another register in {model.label}")
    families: list[_Family] = []
    for family in single.values():
        joined = _joined(families[-1], family) if families else None
        if joined:
            families[-1] = joined
        else:
            families.append(family)
    return [_as_one(family) for family in families]


def _single(model: CpuModel, name: str, register: Register) -> _Family | None:
    pieces = [_piece(model, piece, register.index) for piece in register.pieces]
    found = tuple(piece for piece in pieces if piece)
    if len(found) < len(pieces):
        return None
    top = shape = None
    if register.top:
        path, _, bits = register.top.field.rpartition(".")
        word = _piece(model, Piece(register.top.component, path), 0)
        low = _low_bit(model, register.top.component, path, bits)
        if word is None or low is None:
            return None
        top = (word.component, word.offset, low)
    if register.shape:
        rows, colsb = (_piece(model, piece, register.index) for piece in register.shape)
        if rows is None or colsb is None:
            return None
        _judged(model, register.shape[0].component)
        shape = (rows, colsb)
    number = re.search(r"\d+$", name)
    stem, first = (name[: number.start()], int(number[0])) if number else (name, 0)
    return _Family(stem, first, 1 if number else 0, found, top, shape)


def _judged(model: CpuModel, name: str) -> None:
    predicate = model.components[name].rules.predicate
    if predicate not in _PREDICATES:
        raise XsaveError(f"{name} of {model.label}: what is legal there ({predicate}) is not in Go")


def _piece(model: CpuModel, piece: Piece, index: int) -> _Piece | None:
    """Where a piece stands in its component, as the map of an area with the component has it."""
    component = model.components.get(piece.component)
    found = locate(component.fields, piece.field, index) if component else None
    if component is None or found is None or found[0] + found[1] > component.reach:
        return None
    make = model.compacted_layout if component.supervisor else model.standard_layout
    layout = make(component.bit | 3)
    slot = layout[component.number]
    span = layout.span_at(slot.origin + found[0])
    if span is None or span.field is None:
        return None
    size = piece.size or found[1]
    initial = int.from_bytes(span.initial[piece.start : piece.start + size], "little")
    if initial >> 64:
        raise XsaveError(f"{piece.component}.{piece.field}: an initial value of more than 64 bits")
    offset = span.offset + piece.start - slot.offset
    return _Piece(component.number, offset, 0, size, initial, span.alive == ALWAYS)


def _low_bit(model: CpuModel, component: str, path: str, bits: str) -> int | None:
    for found in model.components[component].fields:
        if found.name == path:
            return next((b.low for b in found.bits if b.name == bits), None)
    return None


def _joined(family: _Family, one: _Family) -> _Family | None:
    """The family with one more register; None where it does not continue it."""
    same = (family.name, family.first + family.count, family.top) == (one.name, one.first, one.top)
    own, more = _parts(family), _parts(one)
    if not (same and family.count and one.count and len(own) == len(more)):
        return None
    parts = []
    for a, b in zip(own, more, strict=True):
        stride = a.stride if family.count > 1 else b.offset - a.offset
        if replace(a, offset=a.offset + family.count * stride, stride=0) != b:
            return None
        parts.append(replace(a, stride=stride))
    return _with(replace(family, count=family.count + 1), parts)


def _parts(family: _Family) -> list[_Piece]:
    return [*family.pieces, *(family.shape or ())]


def _with(family: _Family, parts: list[_Piece]) -> _Family:
    count = len(family.pieces)
    shape = (parts[count], parts[count + 1]) if family.shape else None
    return replace(family, pieces=tuple(parts[:count]), shape=shape)


def _as_one(family: _Family) -> _Family:
    """A register that stands alone is called by its whole name: ia32_pm_ctl1."""
    if family.count != 1:
        return family
    return replace(family, name=f"{family.name}{family.first}", first=0, count=0)
