"""JSON in artefacts: what it says, and what is refused before it takes memory."""

from __future__ import annotations

from typing import Any

import pytest

from xsaveschema.artefacts import json_text
from xsaveschema.artefacts.reader import ArtefactError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(b"[]," * (1 << 18), "262144 objects and lists", id="lists"),
        pytest.param(b"{}," * (1 << 18), "262144 objects and lists", id="objects"),
        pytest.param(b'"",' * ((1 << 20) + 1), "1048576 strings", id="strings"),
    ],
)
def test_json_that_would_not_be_small_in_memory(text: bytes, message: str) -> None:
    data = b'{"region":[1],"x":[' + text + b"0]}"
    for form in (data, data.decode()):
        with pytest.raises(ArtefactError, match=message):
            json_text.parse(form)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(b"{", "at byte 0x64: no JSON", id="cut"),
        pytest.param(b"[1, 2, ]", "at byte 0x64: no JSON", id="comma"),
        pytest.param(b'["a\xff"]', "not UTF-8", id="utf8"),
        pytest.param(b"[" * 100_000, "nested too deeply", id="deep"),
        pytest.param(b"9" * 5000, "no JSON that could be read", id="digits"),
    ],
)
def test_what_is_no_json(text: bytes, message: str) -> None:
    with pytest.raises(ArtefactError, match=message):
        json_text.parse(text, 100)


def test_what_is_of_another_type() -> None:
    assert json_text.parse(b'{"a": [1]}', type=dict[str, list[int]]) == {"a": [1]}
    with pytest.raises(ArtefactError, match=r"got `str` - at `\$\[\.\.\.\]\[0\]`"):
        json_text.parse(b'{"a": ["1"]}', type=dict[str, list[int]])


@pytest.mark.parametrize(
    ("value", "number"),
    [(5, 5), ("0x37f", 0x37F), ("12", 12), (-1, None), ("x", None), (1.5, None), (True, None)],
)
def test_numbers(value: Any, number: int | None) -> None:
    assert json_text.number(value) == number
