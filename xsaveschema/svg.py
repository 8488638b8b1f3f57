# SPDX-License-Identifier: MIT
"""Layouts, areas, comparisons and differences as pictures: SVG, drawn to scale from the map alone.

Every rectangle that stands for bytes carries ``data-offset`` and ``data-size`` and says in its
title what they are. Text from files is escaped here, and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from xsaveschema.area.lines import text_of
from xsaveschema.diff import ByteDelta
from xsaveschema.errors import hex_mask, plain
from xsaveschema.layout import Layout, compacted, standard
from xsaveschema.model import HEADER_OFFSET, CpuModel
from xsaveschema.spans import ALWAYS, Span
from xsaveschema.text import byte_delta_text, comparison_lines, delta_text

if TYPE_CHECKING:
    from xsaveschema.area import XsaveArea
    from xsaveschema.compare import Comparison, ComponentComparison
    from xsaveschema.diff import Delta

PALETTE: Final = (
    *("#8ab4f8", "#81c995", "#fdd663", "#d7b99c", "#bcaaa4", "#ff9ecf", "#fcad70", "#c9a0fa"),
    *("#b0bec5", "#f28b82", "#9fa8da", "#7fd1c7", "#a9d18e", "#d0c46c", "#78d9ec", "#e6a4a4"),
    *("#b7c9a8", "#e3b341", "#ffb59e", "#a5b4fc", "#d4a5d9"),
)
"""A component's colour, by number: dark text is read on each, and each on white and on black.

There are so many that no two components of a model share one: LWP, 62, stands beside AVX, 2.
"""
FRAME: Final = {"header": "#9aa0a6", "software": "#cfd3d7", "reserved": "#dfe2e5"}
"""The colours of bytes that are no component's."""

ROW: Final = 1024
"""Bytes of a row."""
_SCALE: Final = 0.875  # of a byte, in pixels
_LEFT: Final = 52
_WIDTH: Final = _LEFT + int(ROW * _SCALE) + 12
_HEIGHT: Final = 26  # of a row
_STEP: Final = 32  # from row to row
_LINE: Final = 18  # from line to line of text
_LETTER: Final = 6.4  # the width of one, at most; wide enough for every sans-serif of 11 pixels
_COLUMNS: Final = 3  # of the legend
_SHOWN: Final = 24  # differences that are told
_LONGEST: Final = 130  # letters of a line
_BYTES: Final = 8  # of an initial value that is told

_STYLE: Final = (
    ".xs-map{max-width:100%;height:auto;background:#fff;color:#202124;border-radius:6px}"
    ".xs-map text{fill:currentColor}.xs-map .in{fill:#202124;"
    "stroke:#fff;stroke-opacity:.55;stroke-width:2.5px;paint-order:stroke}"
    "@media (prefers-color-scheme:dark){.xs-map{background:#1b1d21;color:#e8eaed}}"
)
_RUN: Final = re.compile(r"(\w+)\[(\d+):(\d+)\]")


class Rectangle(NamedTuple):
    """Bytes [offset, end) of one row that are one thing."""

    span: Span
    offset: int
    end: int


def rectangles(spans: Iterable[Span], row: int = ROW) -> Iterator[Rectangle]:
    """The map cut at the ends of rows of ``row`` bytes: every byte once, in memory order."""
    for span in spans:
        at = span.offset
        while at < span.end:
            end = min(span.end, at - at % row + row)
            yield Rectangle(span, at, end)
            at = end


def says(span: Span) -> str:
    """What a span's bytes are, when they mean anything, and what they are initially."""
    if span.kind == "field":
        what = span.path
    elif span.kind == "header":
        what = span.path or "header, reserved"
    elif span.component is not None:
        what = f"{span.path}, reserved"
    else:
        what = {"software": "left to software", "padding": "padding before a multiple of 64"}.get(
            span.kind, span.kind
        )
    size = f"{span.size} byte{'s' * (span.size > 1)}"
    said = f"{span.offset}..{span.end - 1}: {what}, {size}"
    if span.component is None:
        return said
    alive = "always alive"
    if span.alive != ALWAYS:
        alive = f"alive with XSTATE_BV[{span.alive.bit_length() - 1}]"
    initial = int.from_bytes(span.initial, "little")
    if span.kind == "field" and (not initial or span.size <= _BYTES):
        alive += f"; initially {initial:#x}"
    return f"{said}; {alive}"


def layout_svg(layout: Layout) -> str:
    """A layout: rows of 1024 bytes to scale, and where each component is."""
    picture = _Picture(_layout_name(layout))
    picture.heading(_named(layout.model), _facts(layout))
    picture.map(layout)
    picture.legend([_legend(layout, number) for number in _numbers(layout)])
    return picture.text()


def area_svg(area: XsaveArea) -> str:
    """An area: its layout, in which what is not in use is pale."""
    layout, in_use = area.layout, area.xstate_bv & area.layout.mask
    picture = _Picture(f"An area of {_layout_name(layout)}")
    facts = f"{_facts(layout)}, XSTATE_BV {hex_mask(area.xstate_bv)}"
    picture.heading(_named(area.model), facts)
    picture.map(layout, in_use)
    entries = [
        _legend(layout, number, "" if in_use >> number & 1 else "initial")
        for number in _numbers(layout)
    ]
    picture.legend(entries)
    if area.missing:
        picture.lines([f"live, not in this file: {', '.join(area.missing)}"])
    return picture.text()


def comparison_svg(found: Comparison) -> str:
    """Both models' areas one above the other, and where each component goes."""
    picture = _Picture(found.verdict)
    verdict, *lines = text_of(comparison_lines(found)).splitlines()
    picture.heading(verdict, "")
    a, b = found.a, found.b
    rows = {row.number: row for row in found.components}
    for format, pair in {
        "standard": (standard(a, a.xcr0), standard(b, b.xcr0)),
        "compacted": (compacted(a, a.xcr0 | a.xss), compacted(b, b.xcr0 | b.xss)),
    }.items():
        picture.lines([f"{format} format, all that is enabled"])
        picture.strips(pair, rows)
    numbers = [row.number for row in found.components]
    picture.legend([(number, rows[number].name, rows[number].state) for number in numbers])
    table = next(at for at, line in enumerate(lines) if line.split()[:1] == ["#"])
    picture.lines(lines[:table] + lines[table + 1 + len(numbers) :])  # the legend has it
    return picture.text()


def diff_svg(deltas: Sequence[Delta | ByteDelta], a: XsaveArea, b: XsaveArea) -> str:
    """Two areas' layouts, the bytes that differ marked, and the differences; one where alike."""
    count = len(deltas)
    verdict = "nothing differs" if not count else f"{count} difference{'s' * (count > 1)}"
    picture = _Picture(verdict)
    picture.heading(verdict, "")
    alike = a.layout == b.layout
    for name, area in (("A and B" if alike else "A", a), ("B", b))[: 1 if alike else 2]:
        picture.lines([f"{name}: {_named(area.model)}, {_facts(area.layout)}"])
        in_use = area.xstate_bv & area.layout.mask
        marks = [place for delta in deltas for place in _places(delta, area.layout)]
        picture.map(area.layout, in_use, marks)
    told = [
        byte_delta_text(delta) if isinstance(delta, ByteDelta) else delta_text(delta)
        for delta in deltas[:_SHOWN]
    ]
    picture.lines(told + [f"and {count - _SHOWN} more"] * (count > _SHOWN))
    return picture.text()


def _places(delta: Delta | ByteDelta, layout: Layout) -> Iterator[tuple[int, int]]:
    """The [start, end) of the bytes that a difference is about; none where they have no place."""
    if isinstance(delta, ByteDelta):
        yield delta.offset, min(delta.end, layout.size)
    elif run := _RUN.fullmatch(delta.path):
        name, start, end = run[1], int(run[2]), int(run[3])
        base = HEADER_OFFSET if name == "header" else 0
        if name in layout:
            base = layout[name].origin
        elif name not in ("header", "legacy"):
            return
        yield base + start, base + end
    else:
        spans = [span for span in layout.spans() if span.path == delta.path]
        if not spans and delta.path in layout:
            spans = [*layout.spans_of(layout[delta.path].number)]
        yield from ((span.offset, span.end) for span in spans)


def _layout_name(layout: Layout) -> str:
    return f"{layout.model.label}, {layout.format} format, {layout.size} bytes"


def _named(model: CpuModel) -> str:
    return f"{model.label}  {model.title}"


def _facts(layout: Layout) -> str:
    mask = f"XCR0 {hex_mask(layout.mask)}"
    if layout.format == "compacted":
        mask = f"XCOMP_BV {hex_mask(layout.xcomp_bv)}"
    return f"{layout.format} format, {layout.size} bytes, {mask}"


def _numbers(layout: Layout) -> list[int]:
    return [slot.number for slot in layout]


def _legend(layout: Layout, number: int, note: str = "") -> tuple[int, str, str]:
    slot = layout[number]
    return number, slot.name, f"{slot.offset}, {slot.size} bytes{', ' * bool(note)}{note}"


def colour(span: Span) -> str:
    """What a span is filled with; gaps and padding are patterns."""
    if span.component is not None:
        return PALETTE[span.component.number % len(PALETTE)]
    return FRAME.get(span.kind, f"url(#xs-{span.kind})")


class _Picture:
    """Elements from top to bottom; ``name`` is what a screen reader says."""

    def __init__(self, name: str):
        self._name = name
        self._parts: list[str] = []
        self._y = 10.0

    def text(self) -> str:
        """The whole picture, as HTML takes it in or a file has it."""
        name = escaped(self._name)
        size = f"{_WIDTH} {self._y + 8:g}"
        width, height = size.split()
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="xs-map" role="img" width="{width}" '
            f'height="{height}" viewBox="0 0 {size}" font-family="system-ui, sans-serif" '
            f'font-size="11" aria-label="{name}">'
        )
        hatch = '<path d="{}" stroke="#80868b" stroke-width=".8"/></pattern>'
        pattern = '<pattern id="xs-{}" width="6" height="6" patternUnits="userSpaceOnUse">'
        defs = (
            pattern.format("gap") + hatch.format("M0 6L6 0"),
            pattern.format("padding") + hatch.format("M0 0L6 6M0 6L6 0"),
        )
        style = f"<style>{_STYLE}</style><defs>{''.join(defs)}</defs>"
        return "\n".join([head, f"<title>{name}</title>{style}", *self._parts, "</svg>\n"])

    def heading(self, title: str, facts: str) -> None:
        self._y += 14
        self._say(12, self._y, title, 'font-size="15" font-weight="600"')
        self._y += 8
        if facts:
            self.lines([facts])

    def lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._y += _LINE
            short = line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."
            indent = len(line) - len(line.lstrip())
            self._say(12 + 5 * indent, self._y - 4, short.lstrip())
        self._y += 4

    def legend(self, entries: Sequence[tuple[int, str, str]]) -> None:
        """Components by number: a swatch, the name, and what there is to say."""
        self._y += 4
        lines = -(-len(entries) // _COLUMNS)
        for at, (number, name, said) in enumerate(entries):
            x = 12 + at // lines * ((_WIDTH - 24) // _COLUMNS)
            y = self._y + (at % lines + 1) * _LINE
            fill = PALETTE[number % len(PALETTE)]
            self._parts.append(
                f'<rect x="{x}" y="{y - 13:g}" width="12" height="12" rx="2" fill="{fill}"/>'
            )
            self._say(x + 18, y - 3, f"{number} {name}", 'font-weight="600"')
            self._say(x + 130, y - 3, said)
        self._y += lines * _LINE + 8

    def map(self, layout: Layout, in_use: int = -1, marks: Iterable[tuple[int, int]] = ()) -> None:
        """Rows of bytes, their first byte's number beside each; what ``in_use`` lacks is pale."""
        top = self._y + 6
        for row in range(-(-layout.size // ROW)):
            y = top + row * _STEP
            self._say(_LEFT - 8, y + 17, str(row * ROW), 'text-anchor="end"')
        self._bytes(layout, ROW, _SCALE, top, in_use)
        for start, end in marks:
            at = start
            while at < end:
                to = min(end, at - at % ROW + ROW)
                x, y = _LEFT + at % ROW * _SCALE, top + at // ROW * _STEP
                self._parts.append(
                    f'<rect class="mark" x="{x:g}" y="{y + _HEIGHT:g}" '
                    f'width="{(to - at) * _SCALE:g}" height="4" fill="#d93025"/>'
                )
                at = to
        self._y = top + -(-layout.size // ROW) * _STEP + 2

    def strips(
        self, pair: tuple[Layout, Layout], rows: dict[int, ComponentComparison], gap: int = 44
    ) -> None:
        """Two layouts, each a strip, to one scale, and ribbons between what is on both."""
        scale = ROW * _SCALE / max(layout.size for layout in pair)
        top = self._y + 6
        for layout, y, side in zip(pair, (top, top + _HEIGHT + gap), "AB", strict=True):
            self._say(_LEFT - 8, y + 17, side, 'text-anchor="end" font-weight="600"')
            self._bytes(layout, layout.size, scale, y)
        a, b = pair
        for slot in a:
            row = rows.get(slot.number)
            x, to = _LEFT + slot.offset * scale, _LEFT + slot.end * scale
            y, end = top + _HEIGHT, top + _HEIGHT + gap
            if slot.number in b and row is not None and row.state != "lost":
                its = b[slot.number]
                left, right = _LEFT + its.offset * scale, _LEFT + its.end * scale
                points = f"{x:g},{y:g} {to:g},{y:g} {right:g},{end:g} {left:g},{end:g}"
                fill = PALETTE[slot.number % len(PALETTE)]
                self._parts.append(f'<polygon points="{points}" fill="{fill}" fill-opacity=".35"/>')
            else:
                self._parts.append(
                    f'<rect class="lost" x="{x:g}" y="{y:g}" width="{max(to - x, 1):g}" '
                    f'height="6" fill="#d93025"/>'
                )
        self._y = top + 2 * _HEIGHT + gap + 8

    def _bytes(self, layout: Layout, row: int, scale: float, top: float, in_use: int = -1) -> None:
        """The rectangles of a layout, and the names of what is wide enough for one."""

        def place(offset: int) -> tuple[float, float]:
            return _LEFT + offset % row * scale, top + offset // row * _STEP

        drawn = [*rectangles(layout.spans(), row)]
        shade = 0
        for rectangle in drawn:
            span = rectangle.span
            shade = not shade if span.kind == "field" and rectangle.offset == span.offset else shade
            opacity = 0.4 if span.kind == "reserved" and span.component else 1 - 0.2 * shade
            opacity *= 1 if span.lives(in_use) else 0.3
            x, y = place(rectangle.offset)
            size = rectangle.end - rectangle.offset
            faint = f' fill-opacity="{opacity:g}"' if opacity < 1 and span.component else ""
            self._parts.append(
                f'<rect data-offset="{rectangle.offset}" data-size="{size}" '
                f'data-kind="{span.kind}" x="{x:g}" y="{y:g}" width="{size * scale:g}" '
                f'height="{_HEIGHT}" fill="{colour(span)}"{faint}>'
                f"<title>{escaped(says(span))}</title></rect>"
            )
        for name, group in groupby(drawn, lambda each: (each.offset // row, _block(each.span))):
            pieces = [*group]
            x, y = place(pieces[0].offset)
            width = (pieces[-1].end - pieces[0].offset) * scale
            if name[1] and len(name[1]) * _LETTER + 8 <= width:
                inside = 'class="in"' if pieces[0].span.kind not in ("gap", "padding") else ""
                style = f'{inside} text-anchor="middle" pointer-events="none"'
                self._say(x + width / 2, y + 17, name[1], style.strip())

    def _say(self, x: float, y: float, text: str, style: str = "") -> None:
        space = " " * bool(style)
        self._parts.append(f'<text x="{x:g}" y="{y:g}"{space}{style}>{escaped(text)}</text>')


def _block(span: Span) -> str:
    """What stands on a stretch of the picture: MXCSR as the x87 state around it."""
    if span.component is None:
        return "software" if span.kind == "reserved" and span.end <= HEADER_OFFSET else span.kind
    if span.component.number == 1 and span.offset < (span.component.offset or 0):
        return "x87"
    return span.component.name


def escaped(text: str) -> str:
    """Text of unknown origin as an element's, or an attribute's: no markup, nothing unprintable."""
    return escape(plain(text))
