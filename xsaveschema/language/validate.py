# SPDX-License-Identifier: MIT
"""A document's data as its type, or every reason why it is none.

msgspec reads the data by the types and stops at the first fault. Then jsonschema, imported only
here, lists all of them by the schema exported from the same types. What is faulty is left out and
the rest typed all the same, so that the rules that look at several values at once are checked in
the same run; ``Document.gaps`` says what they cannot know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from xsaveschema.errors import hex_mask, meant, near
from xsaveschema.language.document import Document, KeyPath, quoted
from xsaveschema.language.grammar import KINDS, json_schema

T = TypeVar("T", bound=Struct)

# What stands in for a missing or faulty key without which there is no document.
_STAND_INS: Final[dict[str, dict[str, Any]]] = {
    "model": {"model": "nameless", "title": "untitled"},
    "component": {"component": "nameless", "number": 62, "title": "untitled"},
    "registers": {"registers": []},
}
_KINDS: Final = {
    "integer": "an integer",
    "string": "text",
    "object": "a mapping",
    "array": "a list",
    "boolean": "true or false",
    "null": "null",
}
_LIMITS: Final = {
    "minimum": "is less than {}",
    "maximum": "is more than {}",
    "minItems": "is empty; it needs {} or more",
    "minLength": "is shorter than {} characters",
    "maxLength": "is longer than {} characters",
}


def kind_of(document: Document) -> str | None:
    """Which kind a document is, by its keys; None (and a fault) where it is none."""
    hint = "start a CPU model's file with model: NAME"
    if isinstance(document.data, dict):
        for kind in KINDS:
            if kind in document.data:
                return kind
        found = [kind for key in document.data for kind in near(key, KINDS)]
        hint = f"did you mean {found[0]}:?" if found else hint
    if not document.faults:
        message = "says neither model:, component: nor registers:"
        document.fault("kind", (), message, hint)
    return None


def typed(document: Document, kind: str) -> Any | None:
    """The document as the type of its kind; its faults, if any, are recorded in it.

    With faults, the parts that have none: see ``document.gaps``. None where nothing is left.
    """
    try:
        if not document.faults:
            return msgspec.convert(document.data, KINDS[kind])
    except msgspec.ValidationError:
        pass
    if not isinstance(document.data, dict):
        if not document.faults:
            document.fault("type", (), f"expected a mapping, found {_kind(document.data)}")
        return None
    _explain(document, kind)
    document.gaps = {_unit(kind, place) for place in document.gaps | document.spoiled}
    data = _without(document, document.data, ())
    for key, stand_in in _STAND_INS[kind].items():
        if key not in data:
            data[key] = stand_in
            document.gaps.add((key,))
    try:
        return msgspec.convert(data, KINDS[kind])
    except msgspec.ValidationError as error:
        if not document.faults:  # the two validators disagree: better vague than silent
            document.fault("type", (), str(error))
        return None


def _unit(kind: str, place: KeyPath) -> KeyPath:
    """The part of a document that cannot be judged where the value at ``place`` is faulty."""
    if kind == "model":
        return place[: 2 if place[:1] in (("components",), ("signatures",)) else 1]
    if kind == "registers":
        return place[:2]
    end = 0
    while place[end : end + 1] == ("fields",) and len(place) > end + 1:
        end += 2
    if place[end : end + 1] == ("bits",) and len(place) > end + 1:
        return place[: end + 2]  # a faulty bit does not touch the field
    return place[: max(end, 1)]


def _without(document: Document, data: Any, path: KeyPath) -> Any:
    """The data without the gaps."""
    if isinstance(data, dict):
        return {
            key: _without(document, value, (*path, key))
            for key, value in data.items()
            if (*path, key) not in document.gaps
        }
    if isinstance(data, list):
        kept = [i for i in range(len(data)) if (*path, i) not in document.gaps]
        document.kept[path] = kept
        return [_without(document, data[i], (*path, i)) for i in kept]
    return data


def _explain(document: Document, kind: str) -> None:
    # Slow to import, and only a refused file needs it.
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(json_schema(kind))
    for error in validator.iter_errors(document.data):
        for leaf in _leaves(error):
            place: KeyPath = tuple(leaf.absolute_path)
            if place in document.guessed:
                document.gaps.add(place)  # text was meant
            elif not _spoiled(document, place):
                _fault(document, leaf, place)


def _spoiled(document: Document, place: KeyPath) -> bool:
    """Whether reading the file has already found fault with the value there."""
    spoiled = document.spoiled
    return bool(spoiled) and any(place[:end] in spoiled for end in range(len(place) + 1))


def _leaves(error: Any) -> Iterator[Any]:
    """Of a failed anyOf, the faults of the branch that fits the value's type; else the error."""
    if error.validator != "anyOf":
        yield error
        return
    branches: dict[int, list[Any]] = {}
    for inner in error.context:
        branches.setdefault(inner.schema_path[0], []).append(inner)
    fitting = [
        group
        for group in branches.values()
        if not any(inner.validator == "type" and not inner.path for inner in group)
    ]
    if len(fitting) != 1:
        yield error
        return
    for inner in fitting[0]:
        yield from _leaves(inner)


def _fault(document: Document, error: Any, path: KeyPath) -> None:
    what, value = error.validator, error.instance
    if what == "additionalProperties":
        _unknown_keys(document, path, value, sorted(error.schema.get("properties", {})))
        return
    if what == "uniqueItems":
        return  # a rule of its own, which says which item: "repeated"
    if what == "required":
        # jsonschema gives an error for each missing key, but names them all in each.
        known = error.schema["properties"]
        likely = {name for key in value if key not in known for name in near(key, known)}
        for name in error.validator_value:
            if path in document.lossy or name in likely:
                document.gaps.add((*path, name))
            elif name not in value and (*path, name) not in document.gaps:
                document.gaps.add((*path, name))
                document.fault("missing-key", path, f"{name} is missing", f"add {name}:")
        return
    if "propertyNames" in error.absolute_schema_path:
        place = (*path, value)
        if place not in document.spoiled | document.gaps:
            hint = error.schema.get("description", "")
            document.fault("name", place, f"{quoted(value)} is no name", hint, key=True)
        document.gaps.add(place)
        return
    document.gaps.add(path)
    if what in ("type", "anyOf"):
        wanted = _wanted(error)
        message = f"expected {' or '.join(wanted)}, found {_kind(value)}"
        document.fault("type", path, message, _type_hint(value, wanted))
    elif what == "pattern":
        hint = error.schema.get("description", "")
        document.fault("name", path, f"{quoted(value)} is not well formed", hint)
    elif what == "enum":
        choices = [str(choice) for choice in error.validator_value]
        message = f"{_kind(value)} is none of {', '.join(choices)}"
        hint = meant(value, choices, 1) if isinstance(value, str) and len(value) > 3 else ""
        document.fault("choice", path, message, hint)
    elif what in _LIMITS:
        limit = error.validator_value
        wide = isinstance(value, int) and limit > 0xFFFF
        said = _LIMITS[what].format(hex_mask(limit) if wide else limit)
        shown = "" if value == [] else f"{hex_mask(value) if wide else quoted(value)} "
        document.fault("range", path, shown + said)


def _unknown_keys(document: Document, path: KeyPath, value: Any, known: list[str]) -> None:
    for name in value:
        place = (*path, name)
        if name in known:
            continue
        document.gaps.add(place)
        if place not in document.spoiled:
            hint = meant(name, known, 1) or f"known here: {', '.join(known)}"
            document.fault("unknown-key", place, "is no key here", hint, key=True)


def _wanted(error: Any) -> list[str]:
    if error.validator == "type":
        return [_KINDS[error.validator_value]]
    kinds = [_KINDS[choice.get("type", "object")] for choice in error.validator_value]
    return list(dict.fromkeys(kinds))


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"{value}".lower()
    if isinstance(value, int):
        return f"the integer {quoted(value)}"
    if isinstance(value, str):
        return f"the text {quoted(value)}"
    return "a list" if isinstance(value, list) else "a mapping"


def _type_hint(value: Any, wanted: list[str]) -> str:
    if isinstance(value, str) and "an integer" in wanted:
        if re.fullmatch(r"0|[1-9][0-9]{0,20}|0x[0-9A-Fa-f]{1,20}", value):
            return f"write {value} without quotes"
        return "write integers as 123 or 0x7B"
    if isinstance(value, str) and value in ("true", "false") and "true or false" in wanted:
        return f"write {value} without quotes"
    if isinstance(value, int) and wanted == ["text"]:
        return "put text in quotes"
    return ""
