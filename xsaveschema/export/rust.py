# SPDX-License-Identifier: MIT
"""A Rust crate: where state stands in areas, fields, conversions and checks, without allocation.

The rules of the format are the template's; what is data of CPUs and components is filled in here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from math import gcd
from textwrap import wrap
from typing import Any, Final, NamedTuple

import xsaveschema
from xsaveschema.catalog import default_catalog
from xsaveschema.errors import XsaveError
from xsaveschema.export.exporter import (
    LICENSE,
    apart,
    banner,
    comment,
    constant,
    distinct,
    identifier,
    pascal,
    template,
)
from xsaveschema.members import Member, members_of
from xsaveschema.model import (
    EXTENDED_OFFSET,
    FEATURES,
    HEADER_OFFSET,
    HEADER_SIZE,
    LEGACY_SIZE,
    SOFTWARE_OFFSET,
    XCR0_OFFSET,
    CpuModel,
    Field,
    Leaf,
    StateComponent,
)
from xsaveschema.restore_rules import RULES
from xsaveschema.rules import NO_LIMITS

_INTEGERS: Final = ("u8", "u16", "u32", "u64")
_WORDS: Final = """
as async await break const continue crate dyn else enum extern false fn for gen if impl in let loop
match mod move mut pub ref return self static struct super trait true try type union unsafe use
where while abstract become box do final macro override priv typeof unsized virtual yield
"""
_KEYWORDS: Final = frozenset(_WORDS.split())
_OWN_MASKS: Final = frozenset(("EMPTY", "ALL", "LEGACY", "COMPACTED"))
_OWN_FIELDS: Final = frozenset(("NUMBER",))
_OWN_TYPES: Final = frozenset(("Self", "Field", "FieldArray"))
_SDM: Final = "SDM 13.4"
_HEADER_RULES: Final = {
    "xstate-bv-unknown": "XSTATE_BV has bits that the CPU does not know.",
    "xcomp-bv-unknown": "XCOMP_BV has bits that the CPU does not know: no place is sure.",
    "xstate-bv-beyond-xcomp-bv": "XSTATE_BV has components that XCOMP_BV gives no place.",
    "xstate-bv-supervisor": "The standard format has no place for supervisor components.",
    "xstate-bv-overlap": "Two components in use share bytes.",
}
"""What header.py refuses beside the rules of restores."""


class _Rust:
    target = "rust"
    title = "a Rust crate (no_std): layouts, fields, conversions and checks"
    suffix = ".rs"

    def render(self, cpus: Sequence[CpuModel]) -> dict[str, str]:
        """Cargo.toml and src/lib.rs."""
        facts = {"banner": banner(cpus), "license": LICENSE}
        variants = [*_variants(cpus)]
        apart((_word(identifier(each.whole.name)) for each in variants), "Rust")
        return {
            "Cargo.toml": template(
                "rust_cargo.toml.j2", version=_version(xsaveschema.__version__), **facts
            ),
            "src/lib.rs": template(
                "rust_lib.rs.j2",
                user_known=hex(default_catalog().user_components),
                components=[_component(*each) for each in variants],
                legacy=_legacy(cpus),
                header=_header(),
                initial=[*_initial(variants)],
                limits=[*_limits(variants)],
                rules=[*_rules()],
                models=[_model(model) for model in cpus],
                **facts,
            ),
        }


EXPORTER: Final = _Rust()


class _Variants(NamedTuple):
    """A component of some CPUs, at the greatest and at the smallest size that it has there."""

    whole: StateComponent
    common: StateComponent


def _variants(cpus: Sequence[CpuModel]) -> Iterator[_Variants]:
    """The components of these CPUs, by number. XsaveError where two are described differently."""
    found: dict[int, list[StateComponent]] = {}
    for component in (each for model in cpus for each in model.components.values()):
        found.setdefault(component.number, []).append(component)
    for number, several in sorted(found.items()):
        first = several[0]
        for other in several:
            told = (first.name, first.fields, first.rules, first.supervisor)
            if told != (other.name, other.fields, other.rules, other.supervisor):
                raise XsaveError(
                    f"component {number} is described in two ways by these CPUs "
                    f"({first.name} and {other.name}): leave some out"
                )
        yield _Variants(
            max(several, key=lambda each: each.size), min(several, key=lambda each: each.size)
        )


def _version(text: str) -> str:
    """As Cargo takes it: three numbers."""
    numbers = re.findall(r"[0-9]+", text)[:3]
    return ".".join((*numbers, "0", "0")[:3])


def _word(name: str, taken: frozenset[str] = _KEYWORDS) -> str:
    """A name that is none of these."""
    return f"{name}_" if name in taken else name


def _component(whole: StateComponent, common: StateComponent) -> dict[str, Any]:
    fields = [*_fields(whole.fields, whole.reach)]
    for field, told in zip(fields, distinct(_names(fields), _OWN_FIELDS), strict=True):
        field["name"] = told  # a group's members are called as fields may be: a.b, a_b
    kinds = {str(field["type"]).split("<", 1)[0] for field in fields}
    structs = []
    if not whole.legacy:  # x87 and SSE stand within one another: they are the legacy region's
        members = members_of(common.fields, common.size)
        name = _word(pascal(whole.name), _OWN_TYPES)
        structs = _struct(name, members, common.size, 64, {*_OWN_TYPES})
    kind = "supervisor component" if whole.supervisor else "user component"
    return {
        "number": whole.number,
        "about": f"{comment(whole.name)}, a {kind}",
        "mask": _word(constant(whole.name), _OWN_MASKS),
        "module": _word(identifier(whole.name)),
        "fields": fields,
        "uses": "{" + ", ".join(sorted(kinds)) + "}" if len(kinds) > 1 else "".join(kinds),
        "larger": whole.size if whole.size > common.size else 0,
        "structs": structs,
    }


def _names(named: Iterable[dict[str, Any]]) -> list[str]:
    return [each["name"] for each in named]


def _fields(fields: Iterable[Field], reach: int) -> Iterator[dict[str, Any]]:
    for place in _places(fields, 0, ""):
        field, count = place.field, place.times
        if count is not None:
            count = min(count, (reach - place.offset - field.size) // place.stride + 1)
        elif place.offset + field.size > reach:
            continue
        if count is not None and count < 1:
            continue
        kind = _type(field)
        if count is None:
            told, value, end = f"Field<{kind}>", f"Field::at({place.offset})", place.offset
        else:
            told = f"FieldArray<{kind}, {count}>"
            value = f"FieldArray::at({place.offset}, {place.stride})"
            end = place.offset + (count - 1) * place.stride
        yield {
            "name": constant(place.name),
            "about": _about(field.title, place.name),
            "type": told,
            "value": value,
            "end": end + field.size,
            "place": f"offset: {place.offset}, size: {field.size}, "
            f"count: {1 if count is None else count}, stride: {place.stride}",
        }


class _Place(NamedTuple):
    """A field that holds a value; ``times`` None where it does not repeat."""

    field: Field
    name: str
    offset: int
    times: int | None
    stride: int


def _places(fields: Iterable[Field], base: int, prefix: str) -> Iterator[_Place]:
    for field in fields:
        name, offset = prefix + field.name, base + field.offset
        if not field.fields:
            yield _Place(field, name, offset, field.count, field.stride)
        elif field.count is None:
            yield from _places(field.fields, offset, f"{name}_")
        elif any(place.times is not None for place in _places(field.fields, 0, "")):
            # An array within an array: one of each element.
            for index in range(field.count):
                at = offset + index * field.stride
                yield from _places(field.fields, at, f"{name}_{index}_")
        else:
            for place in _places(field.fields, offset, f"{name}_"):
                yield place._replace(times=field.count, stride=field.stride)


def _type(field: Field) -> str:
    return field.type if field.type in _INTEGERS else f"[u8; {field.size}]"


def _about(title: str, name: str) -> str:
    """A title as documentation begins; brackets would be links in it, and angles tags."""
    text = re.sub(r"([\[\]<>`*])", r"\\\1", comment(title or name).rstrip("."))
    return text[0].upper() + text[1:] if text[1:2].islower() else text


def _struct(
    name: str, members: Sequence[Member], size: int, unit: int, taken: set[str]
) -> list[dict[str, Any]]:
    """A structure without padding, and before it those of its groups.

    ``unit`` divides the address of whatever holds it, as far as is known: an integer that it does
    not align, for which a compiler would put padding, is bytes. ``taken`` are the names of the
    component's other structures.
    """
    unit = gcd(unit, size)
    taken.add(name)
    inner: list[dict[str, Any]] = []
    told = []
    for member in members:
        field, count = member.field, member.count
        kind = f"[u8; {member.size + member.rest}]"
        if field is not None and member.members and not member.rest:
            (kind,) = distinct([f"{name}{pascal(member.name)}"], taken)
            within = gcd(unit, member.offset)
            inner += _struct(kind, member.members, member.size, within, taken)
        elif (
            field is not None
            and field.type in _INTEGERS
            and not member.rest
            and gcd(unit, member.offset) % field.size == 0
        ):
            kind = field.type
        about = _about(field.title if field else "reserved", member.name)
        kind = kind if count is None else f"[{kind}; {count}]"
        told.append({"name": identifier(member.name), "about": about, "type": kind})
    for each, called in zip(told, distinct(_names(told), _KEYWORDS), strict=True):
        each["name"] = called
    return [*inner, {"name": name, "size": size, "members": told}]


def _legacy(cpus: Sequence[CpuModel]) -> dict[str, Any]:
    x87, sse = cpus[0].by_number[0], cpus[0].by_number[1]
    software = Field(
        "software", "bytes", XCR0_OFFSET, HEADER_OFFSET - XCR0_OFFSET, title="software"
    )
    members = members_of((*x87.fields, *sse.fields, software), LEGACY_SIZE)
    assert members[-2].offset == SOFTWARE_OFFSET  # noqa: S101 - the frame is the same everywhere
    return _struct("LegacyRegion", members, LEGACY_SIZE, 64, set())[-1]


def _header() -> dict[str, Any]:
    names = ("xstate_bv", "xcomp_bv")
    fields = [Field(name, "u64", at * 8, 8, title=name.upper()) for at, name in enumerate(names)]
    assert HEADER_OFFSET + HEADER_SIZE == EXTENDED_OFFSET  # noqa: S101
    return _struct("Header", members_of(fields, HEADER_SIZE), HEADER_SIZE, 64, set())[-1]


def _initial(variants: Iterable[_Variants]) -> Iterator[tuple[int, int, str, str]]:
    for whole, _ in variants:
        for leaf in whole.leaves:
            if leaf.initial:
                image = ", ".join(map(hex, leaf.initial.to_bytes(leaf.size, "little")))
                yield whole.number, leaf.offset, f"&[{image}]", f"{whole.name}.{leaf.path}"


def _limits(variants: Iterable[_Variants]) -> Iterator[dict[str, str]]:
    """What a restore judges of values, component by component in the order of legality.py."""
    for whole, _ in variants:
        if whole.illegal != "fault":
            continue
        if whole.rules.predicate:
            raise XsaveError(f"rust cannot say the rule {whole.rules.predicate!r} of {whole.name}")
        for leaf in whole.leaves:
            if leaf.limits != NO_LIMITS:
                yield {"path": f"{whole.name}.{leaf.path}", "value": _limit(whole, leaf)}
        for start, end in whole.rules.reserved_bytes:
            place = f"component: {whole.number}, offset: {start}, size: {end - start}"
            path = f"{whole.name}, bytes {start}..{end - 1}"
            yield {"path": path, "value": f"Limit {{ {place}, reserved: !0, ..ANY }}"}


def _limit(component: StateComponent, leaf: Leaf) -> str:
    if leaf.size > 8:
        raise XsaveError(f"rust cannot say the rules of {component.name}.{leaf.path}")
    limits = leaf.limits
    told = [f"component: {component.number}, offset: {leaf.offset}, size: {leaf.size}"]
    if limits.reserved:
        told.append(f"reserved: {limits.reserved:#x}")
    if limits.canonical:
        told.append("canonical: true")
    if limits.at_most is not None:
        told.append(f"at_most: {limits.at_most}")
    if limits.multiple_of != 1:
        told.append(f"multiple_of: {limits.multiple_of}")
    if counted := _counted(component, leaf):
        told.append(f"counted: {counted}")
    return f"Limit {{ {', '.join(told)}, ..ANY }}"


def _counted(component: StateComponent, leaf: Leaf) -> str:
    for field in component.fields:
        index = re.match(rf"{re.escape(field.name)}\[([0-9]+)\]", leaf.path)
        if index and field.counted_by:
            by = next(by for by in component.fields if by.name == field.counted_by)
            return f"Some(({index[1]}, {by.offset}, {by.size}))"
    return ""


def _rules() -> Iterator[dict[str, Any]]:
    told = {name: (rule.says, rule.source) for name, rule in RULES.items()}
    told |= {name: (says, _SDM) for name, says in _HEADER_RULES.items()}
    for name, (says, source) in told.items():
        yield {
            "name": name,
            "variant": pascal(name),
            "says": wrap(_about(says, name) + ".", 90),
            "source": wrap(_about(source, name) + ".", 90),
        }


def _model(model: CpuModel) -> dict[str, Any]:
    compacted = model.compacted_layout()
    return {
        "name": model.label,
        "constant": _word(constant(model.label), frozenset(("ALL",))),
        "title": _about(model.title, model.name),
        "xcr0": hex(model.xcr0),
        "xss": hex(model.xss),
        "features": hex(sum(1 << at for at, n in enumerate(FEATURES) if n in model.instructions)),
        "mxcsr_mask": hex(model.mxcsr_mask),
        "rows": [_row(each) for each in model.components.values() if not each.legacy],
        "standard_size": model.standard_layout().size,
        "compacted_size": compacted.size,
        "offsets": [(slot.number, slot.offset) for slot in compacted.by_number()],
    }


def _row(component: StateComponent) -> tuple[int, int, int, int, str]:
    flags = component.supervisor + 2 * component.align64 + 4 * component.xfd
    return component.number, component.size, component.offset or 0, flags, comment(component.name)
