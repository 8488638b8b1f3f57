# SPDX-License-Identifier: MIT
"""How layouts, areas and differences look as text: for ``str()`` and the command line alike.

A line is in parts, each with a style as rich calls it; this module does not need rich.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from xsaveschema.area import XsaveArea
from xsaveschema.area.lines import (
    MISSING,
    Line,
    area_facts,
    component_lines,
    fact_lines,
    folded,
    text_of,
    value_lines,
)
from xsaveschema.area.loaded import as_restored
from xsaveschema.area.registers import register_plans, widest
from xsaveschema.errors import hex_mask, plain
from xsaveschema.layout import Layout, places
from xsaveschema.model import SSE, CpuModel, StateComponent
from xsaveschema.spans import Span
from xsaveschema.values import grouped

if TYPE_CHECKING:
    from xsaveschema.baseline import Baseline, Place
    from xsaveschema.compare import Comparison, ComponentComparison
    from xsaveschema.diff import BitDelta, ByteDelta, Delta
    from xsaveschema.permission import Permission
    from xsaveschema.sigstack import SigStack

_WIDTH: Final = 80  # cells of a line, where there is no terminal
_NUMBERS: Final = ("#", "offset", "hex", "size")  # columns that are set right


# Lines, whatever they say.


def columns(
    table: Iterable[Sequence[str]], indent: int = 2, right: Container[str] = _NUMBERS
) -> Iterator[Line]:
    """Rows below their headings, a part for each cell; ``right`` are headings of set-right ones."""
    rows = [[plain(cell) for cell in row] for row in table]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for at, row in enumerate(rows):
        cells = [
            f"{cell:{'>' if heading in right else '<'}{width}}"
            for cell, heading, width in zip(row, rows[0], widths, strict=True)
        ]
        while cells and not cells[-1].strip():
            cells.pop()
        spaces = [indent] + [2] * len(cells)
        parts = [" " * before + cell for before, cell in zip(spaces, cells, strict=False)]
        parts[-1:] = [part.rstrip() for part in parts[-1:]]
        yield [(part, "" if at else "bold") for part in parts]


# Layouts

GAP: Final = "unused"
HEADER: Final = "header"
SOFTWARE: Final = "software"

_KEYS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefghijklmnopqrstuvwxyz"
_COLOURS: Final = ("blue", "green", "magenta", "cyan", "yellow", "red")


class Block(NamedTuple):
    """A stretch of an area: a state component, or what stands between them.

    ``key`` is the letter that stands for it in the picture, "" for what belongs to no component.
    """

    name: str
    offset: int
    size: int
    key: str
    style: str


def blocks(layout: Layout) -> list[Block]:
    """The area from byte 0 to its end, in memory order, nothing left out."""
    order = {slot.name: index for index, slot in enumerate(layout)}
    found = []
    for name, group in groupby(layout.spans(), lambda span: _drawn(layout, span)):
        spans = list(group)
        key, style = "", "dim"
        if name in order:
            key = _KEYS[order[name] % len(_KEYS)]
            style = f"black on {_COLOURS[order[name] % len(_COLOURS)]}"
        start = spans[0].offset
        found.append(Block(name, start, spans[-1].end - start, key, style))
    return found


def _drawn(layout: Layout, span: Span) -> str:
    """What a span is drawn as: MXCSR as the x87 state around it, reserved bytes as software's."""
    if span.kind == "header":
        return HEADER
    if span.component is None:
        return GAP if span.kind in ("gap", "padding") else SOFTWARE
    if span.component.bit == SSE and span.offset < (span.component.offset or 0):
        return "x87" if "x87" in layout else GAP
    return span.component.name


def layout_text(layout: Layout) -> str:
    """A layout as a table of its components and what stands between them."""
    return text_of([*layout_title(layout, _named(layout.model)), [], *layout_lines(layout)])


def layout_title(layout: Layout, name: str, width: int = _WIDTH) -> Iterator[Line]:
    """Whose layout it is, its format, size and mask."""
    mask = f"XCR0 {hex_mask(layout.mask)}"
    if layout.format == "compacted":
        mask = f"XCOMP_BV {hex_mask(layout.xcomp_bv)}"
    yield from folded([(plain(name), "bold")], width)
    yield [(f"{layout.format} format, {layout.size} bytes, {mask}", "")]


def _named(model: CpuModel) -> str:
    return f"{model.name}  {model.title}"


def layout_lines(layout: Layout, rule: str = "-") -> Iterator[Line]:
    """A row for each stretch of the area, in memory order, below a rule of ``rule``."""
    table = [["   ", "#", "component", "offset", "hex", "size", "scope", "flags"]]
    there = blocks(layout)
    for block in there:
        number = scope = flags = ""
        if block.key:
            component = layout[block.name].component
            number = str(component.number)
            scope = "supervisor" if component.supervisor else "user"
            marks = {"align64": component.align64, "xfd": component.xfd}
            flags = " ".join(name for name, marked in marks.items() if marked)
        place = str(block.offset), f"{block.offset:#x}", str(block.size)
        table.append([f" {block.key} ", number, block.name, *place, scope, flags])
    heading, *rows = columns(table, indent=0)
    yield heading
    yield [(rule * max(sum(len(text) for text, _ in row) for row in [heading, *rows]), "")]
    for block, (key, *cells) in zip(there, rows, strict=True):
        style = "" if block.key else "dim"
        yield [(key[0], block.style), *((text, style) for text, _ in cells)]


# Areas


def area_text(area: XsaveArea) -> str:
    """An area as ``decode`` shows it: header, components, registers and other fields."""
    title = folded([(_named(area.model), "bold")], _WIDTH)
    facts = fact_lines(area_facts(area), _WIDTH)
    values = value_lines(area, as_restored(area), _WIDTH)
    return text_of([*title, *facts, [], *component_lines(area), *values])


# Differences

_LONG: Final = 80  # bits; a wider value gets lines of its own
_SLICE: Final = 128  # bits of a line
_OLD: Final = "bold red"
_NEW: Final = "bold green"
_SHOWN: Final = 16  # bytes of a raw value in one line


def bit_delta_text(bits: BitDelta) -> str:
    """Bits that differ: ``rc 0 -> 3``."""
    a, b = (str(value) if value < 10 else f"{value:#x}" for value in (bits.a, bits.b))
    return f"{bits.name} {a} -> {b}"


def delta_text(delta: Delta) -> str:
    """A difference in one line: ``sse.mxcsr: 0x1f80 -> 0x3f80 (pe 0 -> 1)``."""
    a, b = delta.a, delta.b
    if delta.kind == "in-use":
        text = f"{_use(a)} -> {_use(b)}, with equal values"
    elif a is None or b is None:
        text = f"{_use(a)} | {_use(b)}"
    elif isinstance(a, int) and isinstance(b, int):
        text = f"{a:#x} -> {b:#x}"
    else:
        text = _bytes_text(_stored(a), _stored(b))
    if delta.bits:
        text += f" ({', '.join(map(bit_delta_text, delta.bits))})"
    return f"{delta.path}: {text}" + ("" if delta.kind == "state" else f" [{delta.kind}]")


def byte_delta_text(run: ByteDelta) -> str:
    """Bytes that differ, with what they belong to: ``590..592 avx.ymm_hi128[0]: 0000 -> 1111``."""
    owners = " | ".join(dict.fromkeys(owner or "nothing" for owner in (run.owner_a, run.owner_b)))
    note = "" if run.live else " [not loaded]"
    return f"{run.offset}..{run.end} {owners}: {_bytes_text(run.a, run.b)}{note}"


def _use(state: int | bytes | None) -> str:
    """A component's state on one side, as the kinds "unknown" and "in-use" have it."""
    if state is None:
        return MISSING
    return "in use" if state else "initial"


def _stored(value: int | bytes) -> bytes:
    """A value as it stands in memory, for a field that is raw on one side only."""
    if isinstance(value, bytes):
        return value
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "little")


def _bytes_text(a: bytes, b: bytes) -> str:
    """Two byte strings in one line: in full, or from where they differ."""
    total = max(len(a), len(b))
    if total <= _SHOWN:
        return f"{a.hex() or 'nothing'} -> {b.hex() or 'nothing'}"
    differing = [at for at in range(total) if a[at : at + 1] != b[at : at + 1]]
    first = differing[0]
    parts = [part[first : first + _SHOWN] for part in (a, b)]
    said = [part.hex() + "..." * (len(part) == _SHOWN) if part else "nothing" for part in parts]
    return f"{len(differing)} of {total} bytes differ, from byte {first}: {said[0]} -> {said[1]}"


class _Part(NamedTuple):
    """What a field is of a whole register: ``low`` is its lowest bit there, ``width`` in bits."""

    register: str
    low: int
    width: int


def delta_lines(
    deltas: Iterable[Delta], a: XsaveArea, b: XsaveArea, marks: bool = True
) -> Iterator[Line]:
    """Differences by whole registers, in order of their first one, then the others.

    Digits that changed are styled; ``marks``: and have carets below.
    """
    parts = {**_parts(b.layout), **_parts(a.layout)}
    registers: dict[str, list[tuple[_Part, int, int, Delta]]] = {}
    others = []
    for delta in deltas:
        part, old, new = parts.get(delta.path), delta.a, delta.b
        if part and isinstance(old, int) and isinstance(new, int) and delta.kind == "state":
            registers.setdefault(part.register, []).append((part, old, new, delta))
        else:
            others.append(delta)
    for name, found in registers.items():
        part, old, new, delta = found[0]
        if len(found) == 1 and part.low == 0 and part.width <= _LONG:
            size = len(f"{max(old, new):x}")
            x, y = f"{old:{size}x}", f"{new:{size}x}"  # digits are held against their like
            bits = f" ({', '.join(map(bit_delta_text, delta.bits))})" if delta.bits else ""
            both = [("0x", ""), *_marked(x, y, _OLD), (" -> 0x", ""), *_marked(y, x, _NEW)]
            yield [(name, "cyan"), (": ", ""), *both, *([(bits, "")] if bits else [])]
            continue
        yield [(name, "cyan")]
        for part, old, new, _ in sorted(found, key=lambda each: -each[0].low):
            yield from _slices(part, old, new, marks)
    for delta in others:
        yield [(delta.path, "cyan"), (delta_text(delta).removeprefix(delta.path), "")]


def _parts(layout: Layout) -> dict[str, _Part]:
    """Every field that is all or a part of a whole register, by path: of the widest that is there.

    Registers that are numbered relative to TOP share bytes with others.
    """
    found = {}
    for name in widest(layout):
        plan = register_plans(layout)[name]
        for place in plan.places if plan.top is None else ():
            span = layout.span_at(place.start)
            if span is not None and span.end == place.end:
                found[span.path] = _Part(name, place.shift, 8 * span.size)
    return found


def _slices(part: _Part, old: int, new: int, marks: bool) -> Iterator[Line]:
    """The slices of a wide value that differ, one above the other; ``marks``: carets below."""
    for low in reversed(range(0, part.width, _SLICE)):
        width = min(_SLICE, part.width - low)
        a, b = (
            grouped(f"{value >> low & (1 << width) - 1:0{width // 4}x}") for value in (old, new)
        )
        if a == b:
            continue
        at = part.low + low
        head = f"  [{at + width - 1}:{at}]".ljust(12)
        yield [(head, "dim"), ("   0x", ""), *_marked(a, b, _OLD)]
        yield [(" " * len(head), ""), ("-> 0x", ""), *_marked(b, a, _NEW)]
        carets = "".join("^" if x != y else " " for x, y in zip(a, b, strict=True))
        if marks and carets.count("^") <= len(carets) // 2:  # more point at nothing
            yield [(" " * (len(head) + 5) + carets.rstrip(), "")]


def _marked(text: str, other: str, style: str) -> Line:
    """The digits of a value, those styled that the other one has not."""
    pairs = [(mine, mine != its) for mine, its in zip(text, other, strict=True) if mine != " "]
    return [
        ("".join(mine for mine, _ in group), style if differs else "")
        for differs, group in groupby(pairs, itemgetter(1))
    ]


# Comparisons

_STATES: Final = {"lost": "red", "resized": "yellow", "moved": "yellow", "new": "dim"}


def comparison_lines(found: Comparison) -> Iterator[Line]:
    """A verdict, a row for each component, what there is to say of layouts and instructions."""
    a, b = found.a.label, found.b.label
    yield [(found.verdict, "bold green" if found.restorable else "bold red")]
    yield from _doubts(found)
    table = [["#", "component", "state", a, b, ""]]
    table += [
        [
            str(row.number),
            row.name,
            _state_text(row, found),
            _place_text(row.a, row.enabled_a),
            _place_text(row.b, row.enabled_b),
            "; ".join(_remarks(row, found)),
        ]
        for row in found.components
    ]
    heading, *rows = columns(table)
    yield heading
    for row, line in zip(found.components, rows, strict=True):
        style = _STATES.get(row.state, "")
        if row.name in found.possible:
            style = "yellow"
        elif row.name in found.lost:
            style = "red"
        yield [(text, style) for text, _ in line]
    for name, (on_a, on_b) in found.layouts.items():
        said = "identical" if places(on_a) == places(on_b) else "different"
        sizes = f"{on_a.size} bytes on {a}, {on_b.size} on {b}"
        yield [(f"{name} layout of {hex_mask(on_a.mask)}: {said}, {sizes}", "")]
    if found.missing_instructions:
        yield [(f"{b} lacks {', '.join(found.missing_instructions)}", "")]
    if found.mxcsr_refused and not found.areas:  # of areas it is known: a fault
        bits = f"{', '.join(found.mxcsr_refused_bits)} ({hex_mask(found.mxcsr_refused)})"
        yield [(f"MXCSR: {b} refuses {bits} with #GP", "")]
    yield from _needs(found)


def comparisons_lines(words: Sequence[str], found: Sequence[Comparison]) -> Iterator[Line]:
    """A row for each CPU, by its word, that one guest was compared with; by itself each says more.

    A dump's model is named like others of its layout, which are no other host's names.
    """
    good = sum(each.restorable for each in found)
    title = f"{found[0].a.label} -> {len(found)} CPUs: "
    if good == len(found):
        title += "nothing is lost"
    else:
        title += f"nothing is lost on {good}" if good else "something is lost on each"
    yield [(title, "bold green" if good == len(found) else "bold red")]
    pairs = zip(words, found, strict=True)
    told = [(each, row) for word, each in pairs for row in _rows_of(word, each)]
    heading, *rows = columns([["CPU", "areas", "result"], *(row for _, row in told)])
    yield heading
    for (each, _), line in zip(told, rows, strict=True):
        style = "green" if each.restorable and not each.possible else "yellow"
        yield [(text, style if each.restorable else "red") for text, _ in line]


def _rows_of(word: str, found: Comparison) -> Iterator[list[str]]:
    """CPU, whether areas may stay as they are, and what is lost: a line for each kind of loss."""
    same = found.as_it_is
    if same is None:
        same = found.standard_identical and found.compacted_identical
    stay = ("same" if same else "convert") if found.restorable else "-"
    said = []
    for names, what in ((found.lost, "lost"), (found.missing, "not in this file")):
        if names:
            said.append(f"{what}: {_some(names, 3)}")
    if found.refused:
        said.append(f"refused: {_some(found.refused, 2)}")
    if found.possible:
        said.append(f"lost if enabled: {_some(found.possible, 3)}")
    first, *more = said or ["nothing is lost"]
    yield [word, stay, first]
    yield from (["", "", text] for text in more)


def _state_text(row: ComponentComparison, found: Comparison) -> str:
    """What becomes of a component: what is only possible is not called so firmly."""
    if row.name in found.possible:
        return "lost if enabled"
    return "lost" if row.name in found.lost else row.state


def _doubts(found: Comparison) -> Iterator[Line]:
    """What the verdict does not count, and by which areas it stands."""
    if found.possible:
        names, them = ", ".join(found.possible), "them" if len(found.possible) > 1 else "it"
        yield [(f"lost too if the guest has enabled {them} in IA32_XSS: {names}", "yellow")]
    failing = [each for each in found.areas if not each.restorable]
    if failing and len(found.areas) > 1:
        labels = _some(tuple(each.label for each in failing))
        yield [(f"in {len(failing)} of {len(found.areas)} areas: {labels}", "")]
    for message, count in Counter(f.message for each in failing for f in each.faults).most_common(
        4
    ):
        more = f" (in {count} areas)" if count > 1 else ""
        yield [(f"{found.b.label} refuses: {message}{more}", "")]


def _needs(found: Comparison) -> Iterator[Line]:
    """What the hosts and their software must do besides."""
    a, b = found.a.label, found.b.label
    if found.areas and found.restorable:
        said = "as it stands" if found.as_it_is else f"once converted (convert --cpu {b})"
        areas = "the area" if len(found.areas) == 1 else "every area"
        yield [(f"{b} restores {areas} {said}", "")]
    before, after = found.buffers or (0, 0)
    if after > before:
        yield [(f"XSAVE of all of XCR0 writes {before} bytes on {a}, {after} on {b}:", "")]
        yield [(f"  a process, not a VM, that sized its buffers on {a} overruns them there", "")]
    if asked := found.permission:
        yield from permission_lines(asked)


def permission_lines(asked: Permission) -> Iterator[Line]:
    """What Linux must be asked for, and how buffers grow by it."""
    names, numbers = ", ".join(asked.names), ", ".join(map(str, asked.numbers))
    yield [(f"Linux on {asked.model.label} gives {names} to who asks by arch_prctl:", "")]
    for who, option, what, sizes in (
        ("a VM", "ARCH_REQ_XCOMP_GUEST_PERM", "KVM_GET_XSAVE2", asked.kvm),
        ("a task", "ARCH_REQ_XCOMP_PERM", "signal frame", asked.frame),
    ):
        said = f"  {who:6}  {option} {numbers}".ljust(40)
        yield [(f"{said}{what}: {sizes.before} -> {sizes.after} bytes", "")]


def _place_text(component: StateComponent | None, enabled: bool) -> str:
    if component is None:
        return "-"
    if not enabled:
        return "not enabled"
    place = "supervisor" if component.offset is None else f"at {component.offset}"
    return f"{component.size} {place}"


def _remarks(row: ComponentComparison, found: Comparison) -> list[str]:
    said = []
    if row.moved_fields:
        said.append(f"moves {_some(row.moved_fields)}")
    if row.lost_fields:
        said.append(f"loses {_some(row.lost_fields)}")
    if row.state == "resized" and row.unplaced:
        what = "" if row.lossy else ", no field among them"
        said.append(f"{row.unplaced} bytes have no place{what}")
    # What is in use is there.
    sides = ((row.b, found.b),) if found.areas else ((row.a, found.a), (row.b, found.b))
    for component, model in sides:
        if component is not None and component.optional and not model.host:  # the host is known
            verb = "lack" if component.optional == "present" else "have"
            said.append(f"some {model.name} parts {verb} it")
    return list(dict.fromkeys(said))


def _some(paths: tuple[str, ...], most: int = 4) -> str:
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(paths[:most]) + more


# Baselines

_LEAST: Final = 2  # CPUs of a line that are named, where others are counted


def baseline_lines(found: Baseline, width: int = _WIDTH) -> Iterator[Line]:
    """What all CPUs can take, what each loses by it and why, and what to switch off."""
    model = found.model
    count = f"{len(found.cpus)} CPU{'s' * (len(found.cpus) != 1)}"
    users, supervisors = (" ".join(model.names_of(m)) or "-" for m in (found.xcr0, found.xss))
    yield [(f"What {count} can take, with one layout", "bold")]
    facts = {
        "XCR0": f"{hex_mask(found.xcr0)} ({users})",
        "IA32_XSS": f"{hex_mask(found.xss)} ({supervisors})" if found.xss else "0",
        "standard": f"{found.standard_size} bytes",
        "compacted": f"{found.compacted_size} bytes",
        "signals": f"AT_MINSIGSTKSZ {found.frame_size} bytes (Linux)",
        "leaf 0xD.1": " ".join(found.instructions) or "none of xsaveopt, xsavec, ...",
        "MXCSR_MASK": hex_mask(model.mxcsr_mask),
    }
    if "xsavec" not in model.instructions:
        lack = tuple(cpu for cpu, each in found.cpus.items() if "xsavec" not in each.instructions)
        facts["compacted"] += f", but no xsavec on {_some(lack)}"
    if found.xfd:
        facts["XFD"] = " ".join(found.xfd)
    yield from fact_lines(facts, width)
    groups: dict[tuple[str, ...], list[str]] = {}
    for cpu, names in found.lost.items():
        groups.setdefault(names, []).append(cpu)
    yield []
    yield [("What each loses by it", "bold")]
    for names, cpus in sorted(groups.items(), key=lambda group: len(group[0])):
        told = f"  {_some(tuple(cpus))}: {', '.join(names) or 'nothing'}"
        yield from folded([(told, "")], width)
    gone = [name for name in found.places if any(name in names for names in found.lost.values())]
    if gone:
        yield []
        yield [("Why", "bold")]
    for name in gone:
        yield from folded([(f"  {name:<11}", "yellow"), (_why(found, name), "")], width)


def _why(found: Baseline, name: str) -> str:
    """Why a component is not in a baseline."""
    rows = found.places[name]
    having = {cpu for place in rows for cpu in place.cpus}
    said = []
    if len(having) < len(found.cpus):
        lack = tuple(cpu for cpu in found.cpus if cpu not in having)
        said.append(f"not on {_some(lack, _LEAST)}")
    if len(rows) > 1:
        spots = (f"{_spot(place)} on {_some(place.cpus, _LEAST)}" for place in rows)
        said.append("; ".join(spots))
    if said:
        return "; ".join(said)
    if rows[0].offset is None:
        lack = tuple(cpu for cpu, m in found.cpus.items() if "xsaves" not in m.instructions)
        return f"no xsaves on {_some(lack, _LEAST)}"
    return "XCR0 does not take it without others of these"


def _spot(place: Place) -> str:
    where = "supervisor" if place.offset is None else f"at {place.offset}"
    return f"{place.size} bytes {where}" + (", align64" if place.align64 else "")


def places_lines(found: Baseline, width: int = _WIDTH) -> Iterator[Line]:
    """Each component that a CPU has enabled: where, and on which CPUs."""
    one = sum(len(rows) == 1 for rows in found.places.values())
    several = len(found.places) - one
    count = f"{len(found.cpus)} CPU{'s' * (len(found.cpus) != 1)}"
    said = f"{one} components at one place on all that have them, {several} at several"
    yield [(f"{count}: {said}", "bold")]
    for name, rows in found.places.items():
        yield [(f"{name}", "green" if len(rows) == 1 else "yellow")]
        for place in rows:
            whole = len(place.cpus) == len(found.cpus)
            cpus = "all" if whole else f"{len(place.cpus)}: {' '.join(place.cpus)}"
            yield from folded([(f"  {_spot(place):<32}", ""), (cpus, "")], width)


# Signal frames


def sigstack_lines(found: SigStack, width: int = _WIDTH) -> Iterator[Line]:
    """What signals take of a stack: the bounds, a column for each kind of frame, what it is of."""
    model, frames = found.model, found.frames
    yield [(f"{model.label}: signal stacks under Linux, in bytes", "bold")]
    rows = [
        ("AT_MINSIGSTKSZ", found.minsigstksz, "what Linux 5.14 and later calls enough for a frame"),
        ("_SC_SIGSTKSZ", found.sigstksz, "sysconf of glibc 2.34 and later: a usual signal stack"),
    ]
    for name, size in found.constants.items():
        short, left = found.short(size), size - found.frame_size
        said = f"too small by {short}" if short else f"leaves {left} for handlers"
        rows.append((name, size, f"the constant of signal.h: {said}"))
    for row, line in zip(rows, columns((n, str(s), t) for n, s, t in rows), strict=True):
        yield [(text, "red" if "too small" in row[2] else "") for text, _ in line]
    yield []
    yield [("frames, from the top of the stack down, at most:", "")]
    kinds = [f"({index})" for index, _ in enumerate(frames, 1)]
    names = list(dict.fromkeys(part.name for frame in reversed(frames) for part in frame.parts))
    sizes = [{part.name: str(part.size) for part in frame.parts} for frame in frames]
    table = [["", *kinds], *([name, *(each.get(name, "-") for each in sizes)] for name in names)]
    yield from columns([*table, ["in all", *(str(frame.size) for frame in frames)]], right=kinds)
    for kind, frame in zip(kinds, frames, strict=True):
        used = found.dynamic & frame.layout.mask
        more = f" once {', '.join(model.names_of(used))} was used" if used else ""
        yield from folded([(f"  {kind} ", "dim"), (f"{frame.label}{more}", "")], width)
    yield []
    sums = [(f"xstate {f.xstate_size}", f.components) for f in found.frames_64]
    parts = {part.name: part.size for part in found.minsigstksz_parts}
    for whole, pieces in [*sums, (f"AT_MINSIGSTKSZ {found.minsigstksz}", parts)]:
        said = " + ".join(f"{size} {name}" for name, size in pieces.items() if size)
        yield from folded([(f"{whole} = {said}", "")], width)
    for text in found.notes:
        yield from folded([("note: ", "yellow"), (text, "")], width)
