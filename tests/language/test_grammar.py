"""The types of the documents describe themselves: to editors, and in what a key stands for."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET

from xsaveschema.language.grammar import KINDS, given, json_schema


@pytest.mark.parametrize(("value", "wanted"), [(UNSET, 7), (0, 0), (None, None), ("", "")])
def test_what_is_left_out_has_a_stand_in(value: Any, wanted: Any) -> None:
    assert given(value, 7) == wanted


def definitions(kind: str) -> dict[str, dict[str, Any]]:
    schema = json_schema(kind)
    return {kind: schema, **schema.get("$defs", {})}


@pytest.mark.parametrize("kind", KINDS)
def test_the_lines_of_docstrings_are_descriptions_of_keys(kind: str) -> None:
    for name, definition in definitions(kind).items():
        assert "\n" not in definition["description"], name
        for key, value in definition["properties"].items():
            assert "\n" not in value.get("description", ""), key
            assert value.get("default", False) not in ("", (), [], {}), key


def test_a_key_that_a_docstring_describes_is_described_so() -> None:
    field = definitions("component")["FieldDoc"]["properties"]
    assert field["at"]["description"].endswith("the field follows the one before it")
    assert field["name"]["description"].startswith("A name: lower-case letters")
    assert definitions("model")["model"]["properties"]["popularity"]["default"] == 50
