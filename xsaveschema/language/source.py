# SPDX-License-Identifier: MIT
"""One YAML file, strictly read: plain data, and the place of every value in the text.

PyYAML's events are read here directly (from the C parser where it is built in): ``yaml.compose``
recurses in C, so that a file of brackets overflows the stack, and it resolves scalars, where YAML
1.1 turns ``017``, ``1_000``, ``12:30:45`` and ``no`` into numbers and booleans that nobody meant.
Those, duplicate keys, anchors, aliases and tags are faults, never coerced.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final, NoReturn

import yaml

from xsaveschema.errors import XsaveError, plain
from xsaveschema.io import read_regular
from xsaveschema.language.document import NOWHERE, Document, KeyPath, Mark, Span, mark_of

MAX_SIZE: Final = 256 * 1024
"""Bytes; a schema file of a real CPU has two to five thousand."""
MAX_DEPTH: Final = 32
"""Levels; the language needs nine."""
MAX_VALUES: Final = 5_000
"""Keys and values in a file; the longest file of a real component has two hundred."""

_TOO_DEEP: Final = f"is nested more than {MAX_DEPTH} levels deep"

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BREAK: Final = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_UNPRINTABLE: Final = re.compile(
    "[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufeff\ufffe\uffff]"
)
"""The characters that YAML does not have."""
_DECIMAL: Final = re.compile(r"-?(?:0|[1-9][0-9]*)\Z")
_HEXADECIMAL: Final = re.compile(r"0x[0-9A-Fa-f]+\Z")
_RANGE: Final = re.compile(r"[0-9]+:[0-9]+\Z")
_WORDS: Final = {"true": True, "false": False} | dict.fromkeys(("", "~", "null", "Null", "NULL"))
_TRUE: Final = ("yes", "on", "true")
_TAG: Final = "tag:yaml.org,2002:"

_SYNTAX_HINTS: Final = (
    ("cannot start any token", 'put text that starts with this character in quotes: "@home"'),
    ("mapping values are not allowed", 'put text that contains ": " in quotes'),
    ("could not find expected ':'", "a key needs a colon and a blank behind it"),
    ("expected ',' or", "close the list with ] and the mapping with }"),
    ("did not find expected", "see whether the line is indented like its neighbours"),
)


def read(path: Path, shown: str | None = None) -> Document:
    """Read a schema file. Its faults are in the result's ``faults``; data may be partial."""
    shown = plain(shown or str(path))
    try:
        raw = read_regular(path, MAX_SIZE + 1)
    except (OSError, XsaveError) as error:
        document = Document(shown)
        why = getattr(error, "strerror", None) or error
        document.fault("file", (), f"cannot be read: {why}")
        return document
    return parse(raw, shown)


def parse(raw: bytes, file: str) -> Document:
    """Parse the bytes of a schema file; see :func:`read`."""
    document = Document(file)
    text = _decode(document, raw)
    if text is None:
        return document
    loader = _LOADER(text)
    try:
        document.data = _Reader(document, loader).root()
    except _StopReading:
        pass
    except yaml.MarkedYAMLError as error:
        _syntax(document, error)
    # The scanner in Python lets these through for "\UFFFFFFFF" and the like.
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        document.fault("yaml", (), plain(str(error)))
    finally:
        loader.dispose()
    return document


def _decode(document: Document, raw: bytes) -> str | None:
    if len(raw) > MAX_SIZE:
        document.fault("file", (), f"is larger than {MAX_SIZE} bytes")
        return None
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        document.fault("file", (), "is UTF-16, not UTF-8", "save it as UTF-8")
        return None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        document.lines = _BREAK.split(raw.decode("utf-8", "replace"))
        lines = _BREAK.split(raw[: error.start].decode("utf-8", "replace"))
        mark = Mark(len(lines), len(lines[-1]) + 1, 1)
        document.fault_at(mark, "file", "is not UTF-8", "save it as UTF-8")
        return None
    document.lines = _BREAK.split(text)
    for number, line in enumerate(document.lines, 1):
        if match := _UNPRINTABLE.search(line):
            hint = "" if match[0] != "\0" else "save the file as UTF-8 text"
            mark = Mark(number, match.start() + 1, 1)
            document.fault_at(mark, "yaml-character", _no_text(match), hint)
        if len(document.faults) == 10:  # more would say no more: this is no text
            break
    return None if document.faults else text


def _no_text(match: re.Match[str]) -> str:
    return f"U+{ord(match[0]):04X} is no character of text"


def _syntax(document: Document, error: yaml.MarkedYAMLError) -> None:
    problem = error.problem or error.context or "is not YAML"
    place = error.problem_mark or error.context_mark
    mark = Mark(place.line + 1, place.column + 1, 1) if place else NOWHERE
    if "nesting depth" in problem:  # libyaml 0.2.6 reads ahead, and stops at a limit of its own
        document.fault_at(mark, "yaml-depth", _TOO_DEEP)
        return
    hint = next((hint for part, hint in _SYNTAX_HINTS if part in problem), "")
    if 0 < mark.line <= len(document.lines):
        line = document.lines[mark.line - 1]
        if "\t" in line[: mark.column] and not line[: mark.column].strip():
            hint = "indent with blanks, not with tabs"
    context = error.context_mark
    if error.problem and error.context and context and context.line + 1 < mark.line:
        problem += f", {error.context} from line {context.line + 1}"
    document.fault_at(mark, "yaml", plain(problem), hint)


class _StopReading(Exception):  # noqa: N818 - no error: the fault is recorded
    """There is a fault after which nothing sensible can be read."""


class _Reader:
    """Turns the parser's events into plain data and remembers where each stood."""

    def __init__(self, document: Document, loader: Any):
        self.document = document
        self.next = loader.get_event
        self.values = 0

    def root(self) -> Any:
        self.next()  # the start of the stream
        event = self.next()
        if isinstance(event, yaml.StreamEndEvent):
            self.stop("yaml-empty", None, "is empty", "a model file starts with model: NAME")
        event = self.next()
        data = self.value(event, ())
        if data is None and not self.document.faults:
            self.stop("yaml-empty", None, "is empty", "a model file starts with model: NAME")
        self.next()  # the end of the document
        event = self.next()
        if not isinstance(event, yaml.StreamEndEvent):
            message = "a second document starts here"
            self.stop("yaml-documents", event, message, "one file holds one model or component")
        return data

    def stop(self, rule: str, event: Any, message: str, hint: str = "") -> NoReturn:
        mark = NOWHERE if event is None else mark_of(_span(event))
        self.document.fault_at(mark, rule, message, hint)
        raise _StopReading

    def count(self, event: Any) -> None:
        self.values += 1
        if self.values > MAX_VALUES:
            self.stop("file", event, f"has more than {MAX_VALUES} keys and values")

    def value(self, event: Any, path: KeyPath) -> Any:
        document = self.document
        document.marks[path] = event.start_mark, event.end_mark
        self.count(event)
        if isinstance(event, yaml.AliasEvent):
            self.spoil("yaml-alias", path, f"an alias, *{event.anchor}", _ALIAS_HINT)
            return None
        if event.anchor is not None:
            document.fault("yaml-alias", path, f"an anchor, &{event.anchor}", _ALIAS_HINT)
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event, path)
        if event.tag is not None:
            document.fault("yaml-tag", path, f"a tag, {_tag(event.tag)}", "leave it out")
        if len(path) >= MAX_DEPTH:
            self.stop("yaml-depth", event, _TOO_DEEP)
        result: Any
        if isinstance(event, yaml.SequenceStartEvent):
            result = []
            while not isinstance(inner := self.next(), yaml.SequenceEndEvent):
                result.append(self.value(inner, (*path, len(result))))
        else:
            result = {}
            while not isinstance(inner := self.next(), yaml.MappingEndEvent):
                self.entry(inner, path, result)
        if event.flow_style:
            document.marks[path] = event.start_mark, inner.end_mark
        return result

    def entry(self, event: Any, path: KeyPath, result: dict[str, Any]) -> None:
        """One key with its value, into ``result``."""
        document = self.document
        if not isinstance(event, yaml.ScalarEvent):
            self.lost_key(event, (*path, "?"), "a key must be a plain name")
            return
        self.count(event)
        name: str = event.value
        place = (*path, name)
        kind = "str" if event.style or event.tag is not None else _resolve(name)
        if kind == "merge":
            self.lost_key(event, place, "a merge key", _ALIAS_HINT)
            return
        if name in result:
            first = mark_of(document.keys[place])
            message = f"the key stands twice, first at line {first.line}"
            mark = mark_of(_span(event))
            document.fault_at(mark, "duplicate-key", message, "remove one", place)
            document.gaps.add(place)
            self.skip(self.next())
            return
        document.keys[place] = _span(event)
        if event.anchor is not None or event.tag is not None:
            document.fault("yaml-key", place, "a key with an anchor or a tag", "", key=True)
        if kind != "str":
            what = f"YAML 1.1 takes the key {_cut(name)} for {_TAKEN.get(kind, kind)}"
            document.fault("yaml-key", place, what, f'put it in quotes: "{_cut(name)}"', key=True)
            document.spoiled.add(place)
        elif _UNPRINTABLE.search(name) or "\n" in name:
            document.fault("yaml-character", place, "control characters in a key", key=True)
            document.spoiled.add(place)
        result[name] = self.value(self.next(), place)

    def lost_key(self, event: Any, place: KeyPath, message: str, hint: str = "") -> None:
        self.document.keys[place] = _span(event)
        self.document.fault("yaml-key", place, message, hint, key=True)
        self.document.gaps.add(place)
        self.document.lossy.add(place[:-1])
        self.skip(event)
        self.skip(self.next())

    def skip(self, event: Any) -> None:
        """Read over a value."""
        depth = 0
        while True:
            self.count(event)
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if not depth:
                return
            if depth > MAX_DEPTH:
                self.stop("yaml-depth", event, _TOO_DEEP)
            event = self.next()

    def scalar(self, event: Any, path: KeyPath) -> Any:
        text: str = event.value
        if event.tag is not None:
            self.spoil("yaml-tag", path, f"a tag, {_tag(event.tag)}", "leave it out")
            return None
        if event.style:  # a plain scalar's is None or "", by loader
            if match := _UNPRINTABLE.search(text):
                self.spoil("yaml-character", path, _no_text(match))
                return None
            return text
        kind = _resolve(text)
        if kind == "str":
            return text
        if _DECIMAL.match(text):
            return self.integer(text, 10, path)
        if _HEXADECIMAL.match(text):
            return self.integer(text, 16, path)
        if text in _WORDS:
            return _WORDS[text]
        what = f"YAML 1.1 takes {_cut(text)} for {_TAKEN.get(kind, kind)}"
        if kind == "bool":
            self.document.fault("yaml-scalar", path, what, _scalar_hint(kind, text))
            self.document.guessed.add(path)
            return text.lower() in _TRUE
        self.spoil("yaml-scalar", path, what, _scalar_hint(kind, _cut(text)))
        return None

    def integer(self, text: str, base: int, path: KeyPath) -> int | None:
        if len(text) > 160:  # longer than any 512-bit value, and quadratic to convert
            self.spoil("range", path, "is a number of more than 512 bits")
            return None
        return int(text, base)

    def spoil(self, rule: str, path: KeyPath, message: str, hint: str = "") -> None:
        self.document.fault(rule, path, message, hint)
        self.document.spoiled.add(path)


_RESOLVER: Final[Any] = yaml.resolver.Resolver()


def _resolve(text: str) -> str:
    """What YAML 1.1 takes a plain scalar for: str, int, float, bool, null, timestamp, …"""
    tag: str = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))
    return tag.removeprefix(_TAG)


_ALIAS_HINT: Final = "write the value out; models inherit by extends:"
_TAKEN: Final = {
    "bool": "true or false",
    "float": "a floating-point number",
    "int": "an integer",
    "null": "nothing",
    "timestamp": "a date",
}


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:56] + "…"


def _tag(tag: str) -> str:
    return "!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else plain(_cut(tag))


def _scalar_hint(kind: str, text: str) -> str:
    if kind == "int" and _RANGE.match(text):
        return f'quote a bit range: "{text}"'
    if kind == "bool":
        return f'write true or false; quote text: "{text}"'
    if kind in {"int", "float"}:
        return f'write integers as 123 or 0x7B; quote text: "{text}"'
    return f'quote text: "{text}"'


def _span(event: Any) -> Span:
    return event.start_mark, event.end_mark
