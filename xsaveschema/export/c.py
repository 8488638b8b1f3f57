# SPDX-License-Identifier: MIT
"""A header for C and C++: tables, types, conversion and checks, without allocation or a library.

The code is the template's; here are the facts that it is filled with, and the structs' members.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from textwrap import wrap
from typing import Final, NamedTuple

from xsaveschema.catalog import default_catalog
from xsaveschema.errors import XsaveError
from xsaveschema.export.exporter import apart, banner, comment, identifier, template
from xsaveschema.layout import Layout
from xsaveschema.members import Member, members_of
from xsaveschema.model import (
    EXTENDED_OFFSET,
    FEATURES,
    HEADER_OFFSET,
    HEADER_SIZE,
    LEGACY,
    MAX_EXTENT,
    MXCSR_INITIAL,
    MXCSR_OFFSET,
    SOFTWARE_OFFSET,
    XCR0_OFFSET,
    CpuModel,
    Field,
    Leaf,
    StateComponent,
    leaves,
)
from xsaveschema.restore_rules import RULES
from xsaveschema.traces import FP_XSTATE_MAGIC1, FP_XSTATE_MAGIC2, FSAVE_SIZE, KVM_XSAVE_SIZE

_COLUMNS: Final = 100
_INDENT: Final = " " * 4
_BOUND: Final = "\xa0"
"""A space in a comment at which no line ends."""
_WIDEST: Final = 8
"""Bytes of the largest number that C has, and what it is aligned to."""
_ERRORS: Final = {
    "argument": "A pointer is null.",
    "mask": "The mask has components that the CPU lacks, or that have no place in this format.",
    "short": "The area is shorter than its header says, or than 576 bytes.",
    "header": "The area's XSTATE_BV and XCOMP_BV are none that this CPU writes.",
    "loss": "Live state has no place in the result, and drop does not permit to lose it.",
    "room": "The buffer for the result is too short.",
    "overlap": "The area and the buffer for the result overlap.",
    "no-place": "The component has no place in an area with this XCOMP_BV.",
    "leaf": "CPUID leaf 0xD says what no processor has.",
}
_OTHERS: Final = frozenset(("other-layout", "supervisor", "illegal-value"))
"""Rules that the header does not judge: values of components, and areas of other CPUs."""
_FIRST_FAULT: Final = 32
_KEYWORDS: Final = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t
char32_t class compl concept const consteval constexpr constinit const_cast continue co_await
co_return co_yield decltype default delete do double dynamic_cast else enum explicit export extern
false float for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr
operator or or_eq private protected public register reinterpret_cast requires restrict return
short signed sizeof static static_assert static_cast struct switch template this thread_local
throw true try typedef typeid typename typeof union unsigned using virtual void volatile wchar_t
while xor xor_eq i386 linux unix
"""
"""What C, C++ or the compilers' GNU dialects take for themselves."""
_OWN: Final = """
check component cpuid error error_name field_runs fields get32 get64 header initial initial_value
initial_values leaf leaf_finish leaf_from_cpuid legacy offset put32 put64 relayout row size strerror
target to_compacted to_standard
"""
"""What the header itself calls so, behind ``xsave_``."""
_WORDS: Final = frozenset(_KEYWORDS.split())


class _C:
    target = "c"
    title = "a C11 and C++17 header: tables, types, conversion, checks"
    suffix = ".h"

    def render(self, cpus: Sequence[CpuModel]) -> dict[str, str]:
        """xsave.h. XsaveError where two CPUs mean different things by a component's number."""
        components = _components(cpus)
        names = _Names()
        structs = [*_legacy(components, names), _header()]
        structs += _component_structs(cpus, components, names)
        types = {(c.number, s.component_size): s for c, s in _by_component(components, structs)}
        cpu_names = {model.label: names.take(identifier(model.label)) for model in cpus}
        for model in cpus:
            structs += _area_structs(model, cpu_names[model.label], types, names)
        text = template(
            "xsave.h.j2",
            banner=banner(cpus),
            components=components,
            offsets={
                "mxcsr": MXCSR_OFFSET,
                "xmm": LEGACY["sse"][0],
                "reserved": SOFTWARE_OFFSET,
                "software": XCR0_OFFSET,
                "header": HEADER_OFFSET,
                "extended": EXTENDED_OFFSET,
            },
            mxcsr_initial=MXCSR_INITIAL,
            fcw_initial=int.from_bytes(cpus[0].components["x87"].initial[:2], "little"),
            errors=list(_errors()),
            faults=list(_faults()),
            structs=structs,
            features=FEATURES,
            legacy=[size for _, size in LEGACY.values()],
            max_extent=MAX_EXTENT,
            cpus=[_cpu(model, cpu_names[model.label]) for model in cpus],
            known_user=default_catalog().user_components,
            initial=[row for component in components for row in _initial(component)],
            fields=[row for component in components for row in _runs(component)],
            initial_user=sum(
                c.bit for c in components if not c.supervisor and not c.legacy and any(c.initial)
            ),
            magic1=FP_XSTATE_MAGIC1,
            magic2=FP_XSTATE_MAGIC2,
            fsave_size=FSAVE_SIZE,
            kvm_xsave=KVM_XSAVE_SIZE,
        )
        return {"xsave.h": text}


EXPORTER: Final = _C()


class _Error(NamedTuple):
    name: str
    code: int
    says: str


def _errors() -> Iterator[_Error]:
    for count, (name, says) in enumerate(_ERRORS.items(), 1):
        yield _Error(name, -count, _string(says))


def _faults() -> Iterator[_Error]:
    rules = (name for name in RULES if name not in _OTHERS)
    for count, name in enumerate(rules, _FIRST_FAULT):
        yield _Error(name, -count, _string(RULES[name].says))


def _string(text: str) -> str:
    """A literal, in lines that are not too long."""
    plain = comment(text).replace("\\", "\\\\").replace('"', '\\"')
    width = _COLUMNS - 4 * len(_INDENT) - 3
    lines = wrap(plain, width, drop_whitespace=False, break_long_words=False)
    return f"\n{_INDENT * 3}".join(f'"{line}"' for line in lines)


def _components(cpus: Sequence[CpuModel]) -> list[StateComponent]:
    """Every component that there is, in order of number; as these CPUs have it, where they do.

    A leaf that is read from CPUID may have any of them. XsaveError where two CPUs differ.
    """
    found: dict[int, tuple[CpuModel, StateComponent]] = {}
    for model in cpus:
        for each in model.components.values():
            other, known = found.setdefault(each.number, (model, each))
            said = each.name, each.supervisor, each.fields
            if said != (known.name, known.supervisor, known.fields):
                raise XsaveError(
                    f"component {each.number} is {known.name} on {other.label} and {each.name} on "
                    f"{model.label}, and not the same: export them apart"
                )
    for model in default_catalog().models():
        for each in model.components.values():
            found.setdefault(each.number, (model, each))
    apart((identifier(each.name) for _, each in found.values()), "C")
    return [found[number][1] for number in sorted(found)]


# --- structs -------------------------------------------------------------------------------------


class _Names:
    """Names behind ``xsave_``, each given out once."""

    def __init__(self) -> None:
        self._taken = set(_OWN.split())

    def take(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return f"xsave_{name}"


class _CMember(NamedTuple):
    """A member's declaration, its comment above it where it is too long to stand behind it."""

    name: str
    offset: int
    declaration: str
    comments: tuple[str, ...]


@dataclass
class _CStruct:
    """``alignment`` is the compiler's, in bytes; ``component_size`` tells sizes of one apart."""

    name: str
    title: str
    size: int
    members: list[_CMember] = field(default_factory=list)
    alignment: int = 1
    component: int | None = None
    component_size: int = 0

    def add(self, name: str, offset: int, type: str, array: str = "", about: str = "") -> None:
        """A member; its name is changed where C takes it or another one has it."""
        name = identifier(name)
        while name in _WORDS or any(member.name == name for member in self.members):
            name += "_"
        declaration = f"{type} {name}{array};"
        comments: tuple[str, ...] = ()
        if about:
            behind = f"{declaration} /* {about.replace(_BOUND, ' ')} */"
            if len(_INDENT) + len(behind) <= _COLUMNS:
                declaration = behind
            else:
                comments = _comment_lines(about)
        self.members.append(_CMember(name, offset, declaration, comments))

    @property
    def comments(self) -> tuple[str, ...]:
        """The title as lines of a comment."""
        return _comment_lines(self.title)

    def align(self, alignment: int) -> None:
        self.alignment = max(self.alignment, alignment)


def _comment_lines(text: str) -> tuple[str, ...]:
    lines = [line.replace(_BOUND, " ") for line in wrap(text, _COLUMNS - len(_INDENT) - 6)]
    ends = [f"{'/*' if not at else ' *'} {line}" for at, line in enumerate(lines)]
    return (*ends[:-1], f"{ends[-1]} */")


def _legacy(components: Sequence[StateComponent], names: _Names) -> list[_CStruct]:
    """x87 and SSE stand amid one another: one struct, as FXSAVE has it, with software's bytes."""
    made = _CStruct("xsave_legacy", "the legacy region: x87 and SSE", HEADER_OFFSET)
    fields = [each for component in components if component.legacy for each in component.fields]
    found = _fill(made, members_of(fields, SOFTWARE_OFFSET), _WIDEST, names)
    reserved, software = XCR0_OFFSET - SOFTWARE_OFFSET, HEADER_OFFSET - XCR0_OFFSET
    _bytes(made, f"reserved_{SOFTWARE_OFFSET}", SOFTWARE_OFFSET, reserved)
    about = "left to software: Linux has its mask here, or the words of a signal frame"
    _bytes(made, "software", XCR0_OFFSET, software, about)
    return [*found, made]


def _header() -> _CStruct:
    made = _CStruct("xsave_header", "the XSAVE header, at byte 512", HEADER_SIZE)
    made.align(_WIDEST)
    made.add("xstate_bv", 0, "uint64_t", about="the components in use")
    made.add("xcomp_bv", 8, "uint64_t", about="bit 63: compacted; the others: what has a place")
    _bytes(made, "reserved_16", 16, HEADER_SIZE - 16)
    return made


def _component_structs(
    cpus: Sequence[CpuModel], components: Sequence[StateComponent], names: _Names
) -> Iterator[_CStruct]:
    """One for each size that a component has; the size that most CPUs have needs no telling."""
    for component in components:
        if component.legacy:
            continue
        sizes = _sizes(component, cpus)
        usual = max(sizes, key=lambda size: (sizes[size], -size))
        for size in sorted(sizes):
            if not any(_has(model, component.number, size) for model in cpus):
                continue
            name = identifier(component.name)
            name = names.take(name if size == usual else f"{name}_{size}")
            title = f"component {component.number}, {comment(component.name)}, of {size} bytes"
            made = _CStruct(name, title, size, component=component.number, component_size=size)
            members = members_of(component.fields, size)
            yield from _fill(made, members, _divisor(size), names)
            yield made


def _by_component(
    components: Sequence[StateComponent], structs: Iterable[_CStruct]
) -> Iterator[tuple[StateComponent, _CStruct]]:
    known = {component.number: component for component in components}
    for struct in structs:
        if struct.component is not None:
            yield known[struct.component], struct


def _sizes(component: StateComponent, cpus: Sequence[CpuModel]) -> dict[int, int]:
    """How many CPU models have which size of it, of those that are shipped and those asked for.

    So that a struct's name does not depend on what it is exported with.
    """
    found: dict[int, int] = {}
    models = {model.label: model for model in (*default_catalog().models(), *cpus)}
    for model in models.values():
        other = model.by_number.get(component.number)
        if other is not None and other.fields == component.fields:
            found[other.size] = found.get(other.size, 0) + 1
    return found


def _has(model: CpuModel, number: int, size: int) -> bool:
    return number in model.by_number and model.by_number[number].size == size


def _divisor(size: int) -> int:
    """The most that what repeats every ``size`` bytes can be aligned to."""
    return min(_WIDEST, size & -size) if size else _WIDEST


def _fill(struct: _CStruct, members: Iterable[Member], most: int, names: _Names) -> list[_CStruct]:
    """Add the members of a component or a group; the structs that groups among them need.

    Numbers that a compiler would move to another place are bytes; ``most`` is what the struct may
    be aligned to.
    """
    found: list[_CStruct] = []
    for member in members:
        array = "" if member.count is None else f"[{member.count}]"
        about = _about(member.field)
        stride = member.size + member.rest
        within = min(most, _divisor(member.offset), _divisor(stride if array else member.size))
        if member.field is None:
            _bytes(struct, member.name, member.offset, member.size)
        elif member.members or (member.rest and array):
            name = names.take(f"{struct.name.removeprefix('xsave_')}_{identifier(member.name)}")
            what = comment(f"{struct.name}.{member.name}")
            inner = _CStruct(name, f"an element of {what}" if array else what, stride)
            parts = member.members
            if not parts:
                parts = (Member("value", 0, member.size, field=member.field),)
            if member.rest:
                parts = (*parts, Member(f"reserved_{member.size}", member.size, member.rest))
            found += [*_fill(inner, parts, within, names), inner]
            struct.align(inner.alignment)
            title = comment(member.field.title)
            struct.add(member.name, member.offset, f"struct {inner.name}", array, title)
        elif member.field.type != "bytes" and member.size in (1, 2, 4, 8) and member.size <= within:
            struct.align(member.size)
            struct.add(member.name, member.offset, f"uint{8 * member.size}_t", array, about)
        else:
            array += f"[{member.size}]"
            struct.add(member.name, member.offset, "uint8_t", array, about)
    return found


def _bytes(struct: _CStruct, name: str, offset: int, size: int, about: str = "") -> None:
    struct.add(name, offset, "uint8_t", f"[{size}]", about)


def _about(field: Field | None) -> str:
    """A field's title and its named bits."""
    if field is None:
        return ""
    bits = ", ".join(
        f"{each.name}{_BOUND}{each.low}"
        if each.width == 1
        else f"{each.name}{_BOUND}{each.low + each.width - 1}:{each.low}"
        for each in field.bits
    )
    return ": ".join(filter(None, (comment(field.title), bits)))


def _area_structs(
    model: CpuModel, name: str, types: dict[tuple[int, int], _CStruct], names: _Names
) -> Iterator[_CStruct]:
    """Whole areas, as XSAVE writes them and as XSAVES does, where C can lay them out so."""
    for layout in (model.standard_layout(), model.compacted_layout()):
        if layout.size % _WIDEST:
            continue  # C would append padding
        title = f"{comment(model.title)}: an area in the {layout.format} format, "
        of = f"XCOMP_BV {layout.xcomp_bv:#x}" if layout.xcomp_bv else f"XCR0 {layout.mask:#x}"
        title += of
        made = _CStruct(
            names.take(f"{name.removeprefix('xsave_')}_{layout.format}"), title, layout.size
        )
        made.align(_WIDEST)
        made.add("legacy", 0, "struct xsave_legacy")
        made.add("header", HEADER_OFFSET, "struct xsave_header")
        _places(made, layout, types)
        yield made


def _places(made: _CStruct, layout: Layout, types: dict[tuple[int, int], _CStruct]) -> None:
    end = EXTENDED_OFFSET
    for slot in layout:
        if slot.component.legacy:
            continue
        if slot.offset > end:
            _bytes(made, f"gap_{end}", end, slot.offset - end)
        type = types[slot.number, slot.size]
        if slot.offset % type.alignment:
            _bytes(made, slot.name, slot.offset, slot.size)
        else:
            made.add(slot.name, slot.offset, f"struct {type.name}")
        end = slot.end


# --- tables --------------------------------------------------------------------------------------


class _Cpu(NamedTuple):
    name: str
    title: str
    xcr0: int
    xss: int
    mxcsr_mask: int
    features: int
    rows: list[str]
    user: int
    supervisor: int
    xfd: int
    shared: int


def _cpu(model: CpuModel, name: str) -> _Cpu:
    components = model.components.values()
    extended = [c for c in components if not c.supervisor and not c.legacy]
    return _Cpu(
        name=name,
        title=comment(model.title),
        xcr0=model.xcr0,
        xss=model.xss,
        mxcsr_mask=model.mxcsr_mask,
        features=sum(1 << bit for bit, name in enumerate(FEATURES) if name in model.instructions),
        rows=list(_rows(model)),
        user=model.user_mask,
        supervisor=model.supervisor_mask,
        xfd=sum(c.bit for c in components if c.xfd),
        shared=sum(c.bit for c in extended if any(_share(c, o) for o in extended if o is not c)),
    )


def _share(one: StateComponent, other: StateComponent) -> bool:
    a, b = one.offset or 0, other.offset or 0
    return a < b + other.size and b < a + one.size


def _rows(model: CpuModel) -> Iterator[str]:
    """A row for each number up to the last component, those that there are not in one line."""
    absent = 0
    for number in range(max(model.by_number) + 1):
        component = model.by_number.get(number)
        if component is None:
            absent += 1
            continue
        if absent:
            yield from wrap(", ".join(["{0, 0, 0}"] * absent) + ",", _COLUMNS - 2 * len(_INDENT))
            absent = 0
        flags = component.supervisor | component.align64 << 1 | component.xfd << 2
        row = f"{{{component.size}, {component.offset or 0}, {flags}}},"
        yield f"{row} /* {number} {comment(component.name)} */"


class _Initial(NamedTuple):
    component: int
    size: int
    offset: int
    value: int
    name: str


def _initial(component: StateComponent) -> Iterator[_Initial]:
    for leaf in leaves(component.fields):
        # A C number has eight bytes.
        for at in range(0, leaf.size, _WIDEST):
            size = min(_WIDEST, leaf.size - at)
            value = leaf.initial >> 8 * at & (1 << 8 * size) - 1
            if value:
                name = f"{component.name}.{leaf.path}"
                yield _Initial(component.number, size, leaf.offset + at, value, comment(name))


@dataclass
class _Run:
    component: int
    offset: int
    size: int
    count: int
    name: str


def _runs(component: StateComponent) -> Iterator[_Run]:
    """Elements of one size that follow one another, whatever the size of the component is."""
    if component.legacy:
        return  # the same on every CPU
    run: _Run | None = None
    found: list[Leaf] = sorted(leaves(component.fields), key=lambda leaf: leaf.offset)
    for leaf in found:
        if run and run.size == leaf.size and run.offset + run.size * run.count == leaf.offset:
            run.count += 1
            continue
        if run:
            yield run
        name = f"{component.name}.{leaf.path}"
        run = _Run(component.number, leaf.offset, leaf.size, 1, comment(name))
    if run:
        yield run
