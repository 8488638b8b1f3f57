# SPDX-License-Identifier: MIT
"""A schema file as it was read: its data, where each value stands, and the faults found so far."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from msgspec import Struct, field

from xsaveschema.errors import SchemaFault

_PLAIN: Final = re.compile(r"[A-Za-z0-9_?-]{1,64}\Z")
_LINE_SHOWN: Final = 160

KeyPath = tuple[str | int, ...]
"""Where a value stands in a document: keys and indexes from the root."""

T = TypeVar("T")


class Mark(NamedTuple):
    """A place in the text: line and column from 1, and the width in characters."""

    line: int
    column: int
    width: int


NOWHERE: Final = Mark(0, 0, 0)
"""The file as a whole."""


class Position(Protocol):
    """A place in the text as the parser has it: line and column from 0."""

    line: int
    column: int


Span = tuple[Position, Position]
"""Where a value or a key begins, and where it ends; it becomes a mark if a fault is found there."""


def mark_of(span: Span) -> Mark:
    """The mark of a span; of one over several lines, of its first character."""
    start, end = span
    width = end.column - start.column if end.line == start.line else 1
    return Mark(start.line + 1, start.column + 1, max(1, width))


class Document(Struct):
    """A file's data with the place of every key and value; ``faults`` found so far.

    ``spoiled`` are the places whose value a fault of reading has lost: no other rule finds fault
    with them; ``guessed`` those where it is known what was meant, so that the rest can be judged;
    ``lossy`` the mappings that have lost a key. ``gaps`` are the parts that had to be
    left out of the typed document, ``kept`` the indexes of what is left of a list (see
    :mod:`xsaveschema.language.validate`).
    """

    file: str
    data: Any = None
    marks: dict[KeyPath, Span] = field(default_factory=dict)
    keys: dict[KeyPath, Span] = field(default_factory=dict)
    lines: Sequence[str] = ()
    faults: list[SchemaFault] = field(default_factory=list)
    spoiled: set[KeyPath] = field(default_factory=set)
    guessed: set[KeyPath] = field(default_factory=set)
    lossy: set[KeyPath] = field(default_factory=set)
    gaps: set[KeyPath] = field(default_factory=set)
    kept: dict[KeyPath, list[int]] = field(default_factory=dict)

    def fault(
        self, rule: str, path: KeyPath, message: str, hint: str = "", *, key: bool = False
    ) -> None:
        """Record a fault at the value (or the key) of ``path``, or its nearest parent."""
        self.faults.append(self.found(rule, path, message, hint, key=key))

    def found(
        self, rule: str, path: KeyPath, message: str, hint: str = "", *, key: bool = False
    ) -> SchemaFault:
        """The same without recording it."""
        at, mark = self._nearest(path, key=key)
        return self._at(mark, rule, at, message, hint)

    def fault_at(
        self, mark: Mark, rule: str, message: str, hint: str = "", path: KeyPath = ()
    ) -> None:
        """Record a fault at a mark of the text."""
        self.faults.append(self._at(mark, rule, path, message, hint))

    def _at(self, mark: Mark, rule: str, path: KeyPath, message: str, hint: str) -> SchemaFault:
        """A fault at a mark. A line too long to show is cut, or left out where the mark is cut."""
        text = self.lines[mark.line - 1].rstrip() if 0 < mark.line <= len(self.lines) else ""
        # One column a character, for the caret.
        text = "".join(c if c.isprintable() else "?" for c in text.replace("\t", " "))
        if len(text) > _LINE_SHOWN:
            text = text[:_LINE_SHOWN] + "…" if mark.column <= _LINE_SHOWN else ""
        width = min(mark.width, max(1, len(text) - mark.column + 1))
        place = self.file, mark.line, mark.column
        return SchemaFault(*place, rule, dotted(path), message, hint, text, width)

    def where(self, path: KeyPath) -> str:
        """``file:line:col`` of a value, to name the other side of a clash."""
        mark = self._nearest(path, key=True)[1]
        return f"{self.file}:{mark.line}:{mark.column}" if mark.line else self.file

    def line(self, path: KeyPath) -> int:
        """The line of a value, counted from 1; 0 where the document has no place for it."""
        return self._nearest(path, key=True)[1].line

    def numbered(self, path: KeyPath, items: Sequence[T]) -> Iterator[tuple[int, T]]:
        """The items of a typed list with their indexes in the file, where some were left out."""
        return zip(self.kept.get(path, range(len(items))), items, strict=True)

    def _nearest(self, path: KeyPath, *, key: bool) -> tuple[KeyPath, Mark]:
        at = path
        while True:
            span = (self.keys.get(at) if key else None) or self.marks.get(at)
            if span is not None:
                return at, mark_of(span)
            if not at:
                return at, NOWHERE
            at = at[:-1]


def dotted(path: KeyPath) -> str:
    """Write a place as people read it: ``components.avx.size``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _PLAIN.match(part) else quoted(part))
    return text


def quoted(value: object) -> str:
    """A value as Python writes it, cut to a length that a message bears."""
    text = repr(value)
    return text if len(text) <= 60 else text[:56] + "…" + text[0]
