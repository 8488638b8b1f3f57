"""Schema files of every bad kind: each fault has its place, and nothing but a fault comes out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutants import GOOD, judge, original

from xsaveschema.language.document import Document, KeyPath, dotted, mark_of

TRAPS = ("017", "1_000", "12:30:45", "no", "On", "1.5", "0b11", "+1", "2024-01-01", "0x1_0", ".inf")
NO_YES = ("no", "On")
"""The traps that mean false and true."""
WRONG: tuple[str, ...] = (
    "",
    "~",
    "[]",
    "{}",
    "[1]",
    "{a: 1}",
    "-1",
    "true",
    "9999999999",
    "word",
    '"quoted"',
)
WRONG += ("*alias", "&anchor 5", "!!str 5", "<<", "? [a]", "'", '"', "[", "}", "- 1", "a: b", "@")


def values(data: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Every value below ``data`` with its place."""
    yield path, data
    if isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from values(value, (*path, key))


def written(document: Document, place: KeyPath, text: str, *, key: bool = False) -> bytes:
    """The file with other text where a key or a value stands on its line."""
    mark = mark_of((document.keys if key else document.marks)[place])
    lines = list(document.lines)
    line = lines[mark.line - 1]
    lines[mark.line - 1] = line[: mark.column - 1] + text + line[mark.column - 1 + mark.width :]
    return "\n".join(lines).encode()


def spelled(document: Document, place: KeyPath) -> str:
    mark = mark_of(document.marks[place])
    return document.lines[mark.line - 1][mark.column - 1 :][: mark.width]


def as_flow(data: Any, change: KeyPath, how: str) -> bytes:
    """The document in flow style, with one entry dropped or written twice."""

    def emit(value: Any, path: KeyPath) -> str:
        if not isinstance(value, dict | list):
            return json.dumps(value)
        items = []
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            place = (*path, key)
            head = f"{json.dumps(key)}: " if isinstance(value, dict) else ""
            times = 1 if place != change else 0 if how == "drop" else 2
            items += [head + emit(inner, place)] * times
        inside = ",\n ".join(items)
        return f"{{{inside}}}" if isinstance(value, dict) else f"[{inside}]"

    return emit(data, ()).encode()


@pytest.mark.parametrize("name", GOOD)
def test_the_files_to_mutate_are_good(name: str, tmp_path: Path) -> None:
    raw, document = original(name)
    assert judge(tmp_path / Path(name).name, raw) == []
    assert judge(tmp_path / Path(name).name, as_flow(document.data, (), "")) == []


@pytest.mark.parametrize("name", GOOD)
def test_values_are_never_coerced(name: str, tmp_path: Path) -> None:
    """A number in quotes and each YAML 1.1 trap are faults, wherever they stand for a number."""
    _, document = original(name)
    numbers = [(place, value) for place, value in values(document.data) if isinstance(value, int)]
    for count, (place, value) in enumerate(numbers):
        text = spelled(document, place)
        for other in (f'"{text}"', f"'{text}'", TRAPS[count % len(TRAPS)], TRAPS[-1 - count % 11]):
            if isinstance(value, bool) and other in NO_YES:  # judged by what it means
                other = NO_YES[value]
            faults = judge(tmp_path / Path(name).name, written(document, place, other))
            assert [f.path for f in faults][:1] == [dotted(place)], other
            assert len(faults) == 1, [str(fault) for fault in faults]


@pytest.mark.parametrize("name", GOOD)
def test_every_other_value_is_legal_or_reported(name: str, tmp_path: Path) -> None:
    _, document = original(name)
    places = [place for place, v in values(document.data) if not isinstance(v, dict | list)]
    places = places[:: len(places) // 40 + 1]
    for count, place in enumerate(places):
        value = next(v for p, v in values(document.data) if p == place)
        others = [WRONG[(count + i * 5) % len(WRONG)] for i in range(4)]
        if isinstance(value, int) and not isinstance(value, bool):
            others += [str(value + 1), str(value - 1), str(value * 2 + 64)]
        for other in others:
            judge(tmp_path / Path(name).name, written(document, place, other))


@pytest.mark.parametrize("name", GOOD)
def test_a_key_dropped_renamed_or_written_twice(name: str, tmp_path: Path) -> None:
    _, document = original(name)
    path = tmp_path / Path(name).name
    places = [place for place, _ in values(document.data) if place]
    places = places[:: len(places) // 60 + 1]
    for place in places:
        judge(path, as_flow(document.data, place, "drop"))
        twice = judge(path, as_flow(document.data, place, "twice"))
        if isinstance(place[-1], str):
            assert [fault.rule for fault in twice] == ["duplicate-key"]
            judge(path, written(document, place, f"{place[-1]}x", key=True))
            renamed = judge(path, written(document, place, "No", key=True))
            assert renamed[0].rule in {"yaml-key", "kind"}


def test_a_size_that_is_off_by_one_is_always_reported(tmp_path: Path) -> None:
    for name in GOOD[:3]:
        _, document = original(name)
        components, sizes = document.data["components"], document.data["sizes"]
        places: list[KeyPath] = [("sizes", key) for key in sizes]
        places += [
            ("components", key, "size")
            for key, entry in components.items()
            if entry.get("optional") != "absent"
        ]
        for place in places:
            value = int(spelled(document, place), 0)
            for other in (value - 1, value + 1):
                faults = judge(tmp_path / Path(name).name, written(document, place, str(other)))
                assert faults, (name, place, other)
                assert {f.rule for f in faults} <= {
                    "sizes-standard",
                    "sizes-compacted",
                    "component-overlap",
                    "component-size",
                }


@pytest.mark.parametrize("name", GOOD[::2])
@settings(max_examples=100)
@given(data=st.data())
def test_random_bytes_in_a_good_file(
    name: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    raw = bytearray(original(name)[0])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw)))
        end = at + data.draw(st.integers(0, 12))
        kind = data.draw(st.sampled_from(["any", "yaml", "copy", "cut"]))
        if kind == "any":
            raw[at:end] = data.draw(st.binary(max_size=6))
        elif kind == "yaml":
            raw[at:end] = data.draw(st.text("[]{}:,-?&*!|>'\"%@# \n\t\r0x~<", max_size=6)).encode()
        elif kind == "copy":
            raw[at:at] = raw[end : end + 200]
        else:
            del raw[at : at + data.draw(st.integers(0, 300))]
    judge(tmp_path_factory.getbasetemp() / Path(name).name, bytes(raw))


WORDS = st.sampled_from(
    re.findall(
        r"\S+",
        """
        model component registers title extends vendor signatures instructions components sizes
        confirmed confirmed_by source mxcsr_mask avx pkru pt size offset supervisor align64 optional
        number fields name type at count stride initial bits pieces first top shape standard
        compacted family models steppings u8 u64 bytes x87 present zen4 tiledata
        """,
    )
)
SCALARS = st.one_of(
    st.none(), st.booleans(), WORDS, st.integers(-1, 4096), st.text(max_size=8), st.just(1 << 70)
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150)
@given(kind=st.sampled_from(["model", "component", "registers"]), rest=ANYTHING, data=st.data())
def test_random_documents(
    tmp_path_factory: pytest.TempPathFactory, kind: str, rest: Any, data: st.DataObject
) -> None:
    document: dict[str, Any] = rest if isinstance(rest, dict) else {"title": rest}
    key = {"model": "components", "component": "fields", "registers": "registers"}[kind]
    document |= {kind: data.draw(WORDS | ANYTHING), key: data.draw(ANYTHING)}
    if kind == "model":
        entry = st.fixed_dictionaries(
            {}, optional=dict.fromkeys(("size", "offset", "xfd"), SCALARS)
        )
        document[key] = data.draw(st.dictionaries(WORDS, entry, max_size=4))
    else:
        item = st.dictionaries(WORDS, ANYTHING, max_size=4)
        document[key] = data.draw(st.lists(item, max_size=3) | ANYTHING)
    text = json.dumps(document)
    judge(tmp_path_factory.getbasetemp() / "random.yaml", text.encode())
