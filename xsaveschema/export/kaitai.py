# SPDX-License-Identifier: MIT
"""Kaitai Struct: a description of a CPU's areas in each format, with their meaning.

What is not in use is absent, whatever bytes stand there: such a component has its initial value.
"""

from __future__ import annotations

import json
import keyword
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from xsaveschema.export.exporter import (
    LICENSE,
    apart,
    banner,
    comment,
    identifier,
    pascal,
    template,
)
from xsaveschema.layout import Layout
from xsaveschema.members import Member, members_of
from xsaveschema.model import CpuModel, Field, Format, StateComponent
from xsaveschema.spans import ALWAYS, Slot

_FORMATS: Final[tuple[Format, ...]] = ("standard", "compacted")
_NUMBERS: Final = (1, 2, 4, 8)
"""Sizes in bytes that Kaitai has integers of."""
_WORDS: Final = frozenset(keyword.kwlist) | {
    *("auto", "case", "catch", "char", "const", "default", "delete", "do", "double", "enum"),
    *("export", "extends", "final", "float", "function", "goto", "inline", "int", "interface"),
    *("let", "long", "namespace", "new", "operator", "package", "private", "protected", "public"),
    *("register", "short", "signed", "static", "struct", "super", "switch", "template", "this"),
    *("throw", "type", "typedef", "typename", "union", "unsigned", "using", "var", "virtual"),
    *("void", "volatile"),
    *("true", "false", "null"),
}
"""What languages that Kaitai compiles to will not have as a member's name."""
_WIDEST: Final = 32
"""The most bits that every language reads as a number of their own."""
_LAST: Final = 63
"""The bit of XCOMP_BV that says compacted."""


@dataclass(frozen=True)
class _Attribute:
    """A member of a type. ``type`` is a number's or a type's name, "" for bytes."""

    id: str
    type: str
    size: int | None
    count: int | None
    doc: str


@dataclass(frozen=True)
class _Type:
    id: str
    seq: tuple[_Attribute, ...]
    types: tuple[_Type, ...]


@dataclass(frozen=True)
class _Part:
    """A component, or MXCSR: ``bit`` is the flag that it is alive by, "" for always."""

    id: str
    pos: int
    size: int
    bit: str
    type: str
    doc: str


@dataclass(frozen=True)
class _Step:
    """A component in the walk of the compacted format: behind the one before, None for none."""

    id: str
    size: int
    align64: bool
    before: str | None


@dataclass(frozen=True)
class _Flag:
    """``width`` bits of a mask, and an expression that must hold of them, "" for none."""

    id: str
    width: int
    must: str = ""


class _Kaitai:
    target = "kaitai"
    title = "Kaitai Struct descriptions, one a CPU and format"
    suffix = ".ksy"

    def render(self, cpus: Sequence[CpuModel]) -> dict[str, str]:
        """``CPU_standard.ksy`` and ``CPU_compacted.ksy`` for each CPU."""
        return {
            f"{_name(model)}_{format}.ksy": _description(model, format)
            for model in cpus
            for format in _FORMATS
        }


EXPORTER: Final = _Kaitai()


def _description(model: CpuModel, format: Format) -> str:
    components = [c for c in model.by_number.values() if _stands(c, format)]
    extended = [c for c in components if not c.legacy]
    parts = [part for c in components for part in _parts(_alone(model, c, format), c.number)]
    names = [part.id for part in parts]
    own = ["header", "software", "len_area"]
    walk = (f"{prefix}_{_id(c.name)}" for c in extended for prefix in ("ofs", "end"))
    _apart([*own, *names, *walk])
    # What is a type becomes a class: Python has some of its own that cannot be others.
    types = ["header", "xstate_bv", "xcomp_bv", "true", "false", "none"]
    _apart([*types, *(c.name for c in components)])
    return template(
        "area.ksy.j2",
        banner=banner([model]),
        license=LICENSE,
        id=f"{_name(model)}_{format}",
        title=_quoted(f"XSAVE area of {comment(model.title)}, {format} format"),
        format=format,
        parts=parts,
        steps=[*_steps(extended)] if format == "compacted" else [],
        in_use=_in_use(components, format),
        placed=_placed_by(components) if format == "compacted" else [],
        types=[_type(c) for c in components],
        quoted=_quoted,
    )


def _name(model: CpuModel) -> str:
    name = identifier(model.label)
    return name if name[0].isalpha() else f"cpu{name}"


def _quoted(text: str) -> str:
    """A string of YAML: what JSON escapes, YAML does, too."""
    return json.dumps(text, ensure_ascii=False)


def _stands(component: StateComponent, format: Format) -> bool:
    return format == "compacted" or component.offset is not None


def _alone(model: CpuModel, component: StateComponent, format: Format) -> Layout:
    """A layout with this component, x87 and SSE: others of the silicon may share its bytes."""
    mask = component.bit | 3
    if format == "standard":
        return model.standard_layout(mask)
    return model.compacted_layout(mask)


# --- components ---------------------------------------------------------------------------------


def _parts(layout: Layout, number: int) -> Iterator[_Part]:
    slot = layout[number]
    name = _id(slot.name)
    yield _Part(name, slot.offset, slot.size, name, name, _about(slot.component))
    for span in layout.spans_of(number):
        if span.offset < slot.offset and span.field:  # stands amid another component's bytes
            titles = {field.name: field.title for field in slot.component.fields}
            path = span.field.path
            bit = "" if span.alive == ALWAYS else name
            yield _Part(path, span.offset, span.size, bit, f"u{span.size}", comment(titles[path]))


def _about(component: StateComponent) -> str:
    titles = [field.title for field in _fields(component) if field.title]
    return comment(", ".join(titles[:3]) + (", …" if len(titles) > 3 else ""))


def _steps(components: Iterable[StateComponent]) -> Iterator[_Step]:
    before = None
    for component in components:
        name = _id(component.name)
        yield _Step(name, component.size, component.align64, before)
        before = name


def _in_use(components: Sequence[StateComponent], format: Format) -> list[_Flag]:
    """The flags of XSTATE_BV. Of components that share bytes one is in use at most."""
    flags: list[_Flag] = []
    seen: list[Slot] = []
    for component in components:
        slot = Slot(component, component.offset or 0)
        clash = [_id(o.name) for o in seen if o.offset < slot.end and slot.offset < o.end]
        shares = format == "standard" and clash
        must = f"not (_ and ({' or '.join(clash)}))" if shares else ""
        flags.append(_Flag(_id(component.name), 1, must))
        seen.append(slot)
    return _whole(components, flags, _Flag("reserved_63", 1, "not _"))


def _placed_by(components: Sequence[StateComponent]) -> list[_Flag]:
    """The flags of XCOMP_BV: whatever is in use has a place."""
    names = [_id(component.name) for component in components]
    flags = [_Flag(name, 1, f"_ or not _parent.xstate_bv.{name}") for name in names]
    return _whole(components, flags, _Flag("compacted", 1, "_"))


def _whole(components: Sequence[StateComponent], flags: list[_Flag], last: _Flag) -> list[_Flag]:
    """The flags of components with the bits between them, which are of none, and bit 63."""
    found: list[_Flag] = []
    end = 0
    for number, flag in [*zip((c.number for c in components), flags, strict=True), (_LAST, last)]:
        while end < number:
            width = min(number - end, _WIDEST)
            found.append(_Flag(f"reserved_{end}", width, "not _" if width == 1 else "_ == 0"))
            end += width
        found.append(flag)
        end = number + 1
    _apart(flag.id for flag in found)
    return found


# --- types --------------------------------------------------------------------------------------


def _type(component: StateComponent) -> _Type:
    return _made(_id(component.name), members_of(_fields(component), component.size))


def _fields(component: StateComponent) -> list[Field]:
    """The fields within the component's own bytes, by their offset there: not MXCSR."""
    start = component.reach - component.size
    return [
        replace(field, offset=field.offset - start)
        for field in component.fields
        if field.offset >= start
    ]


def _made(name: str, members: Iterable[Member]) -> _Type:
    seq, types = [], []
    for member in members:
        attribute, inner = _attribute(member)
        seq.append(attribute)
        types += inner
    _apart(attribute.id for attribute in seq)
    _apart(inner.id for inner in types)
    return _Type(name, tuple(seq), tuple(types))


def _attribute(member: Member) -> tuple[_Attribute, list[_Type]]:
    doc = comment(member.field.title) if member.field else ""
    element = _number(member)
    types: list[_Type] = []
    if member.members:
        element = f"{member.name}_group"
        types.append(_made(element, member.members))
    if member.rest:
        # What stands behind each element is a member of its own.
        value = _Attribute("value", element, None if element else member.size, None, "")
        rest = _Attribute("reserved", "", member.rest, None, "")
        slot = _Type(f"{member.name}_slot", (value, rest), tuple(types))
        return _Attribute(_id(member.name), slot.id, None, member.count, doc), [slot]
    size = None if element else member.size
    return _Attribute(_id(member.name), element, size, member.count, doc), types


def _apart(names: Iterable[str]) -> None:
    # a_1 and a1 are one in most of the languages that Kaitai compiles to, and the last one counts.
    apart(names, "Kaitai", pascal)


def _id(name: str) -> str:
    """A component's or a member's name as Kaitai's languages take it."""
    return f"{name}_" if name in _WORDS else name


def _number(member: Member) -> str:
    if member.field is None or member.field.type == "bytes" or member.size not in _NUMBERS:
        return ""
    return f"u{member.size}"
