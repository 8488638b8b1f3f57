"""Selectors: one area by index, label or a part of it; several by a glob or all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import xsaveschema as xs
from xsaveschema.artefacts.reader import Found
from xsaveschema.artefacts.select import is_sole, numbered, one, selected
from xsaveschema.errors import XsaveError

AREA = xs.XsaveArea.new(xs.load_model("zen4"))


def areas(*labels: str) -> Iterator[Found]:
    return numbered(Found(label, AREA, "made up") for label in labels)


THREADS = ("thread 16900", "thread 16901", "thread 1690", "exception in thread 16901")
SMALL = ("thread 1", "thread 2", "thread 12")


@pytest.mark.parametrize(
    ("labels", "selector", "index"),
    [
        (THREADS, "#0", 0),
        (THREADS, "#3", 3),
        (THREADS, "thread 16901", 1),
        (THREADS, "exception", 3),
        (THREADS, "EXCEPTION in", 3),
        (THREADS, "16900", 0),
        pytest.param(THREADS, "1690", 2, id="a whole number before a part of one"),
        pytest.param(THREADS, "thread 1690", 2, id="a whole label before a part of one"),
        pytest.param(("vCPU 0", "vCPU 1"), "1", 1, id="both readings are the same area"),
        pytest.param(("vCPU 0", "vCPU 1"), "vcpu 1", 1, id="case"),
        pytest.param(("a[1]", "b"), "a[1]", 0, id="a label that looks like a glob"),
        (("area",), None, 0),
        (("area",), "all", 0),
        (THREADS, "exc*", 3),
    ],
)
def test_one(labels: tuple[str, ...], selector: str | None, index: int) -> None:
    found = one(areas(*labels), selector)
    assert (found.index, found.label) == (index, labels[index])
    assert [each.index for each in selected(areas(*labels), selector)] == [index]


@pytest.mark.parametrize(
    ("labels", "selector", "said"),
    [
        (THREADS, "#4", "has no area '#4'; it has thread 16900 (#0), "),
        (THREADS, "9", "'9': thread 16900 (#0), thread 16901 (#1), thread 1690 (#2), "),
        (THREADS, "thread", "several areas called 'thread'"),
        (THREADS, "nope", "has no area 'nope'"),
        (THREADS, "", "has no area ''"),
        (THREADS, "2", "has no area '2'; #2 is thread 1690; it has"),
        (THREADS, "n*", "has no area 'n*'"),
        (
            SMALL,
            "2",
            "two areas that 2 may mean: thread 2 (#1), thread 12 (#2); say 'thread 2'",
        ),
        (("x", "x"), "x", "several areas called 'x': x (#0), x (#1)"),
    ],
)
def test_errors_name_what_there_is(labels: tuple[str, ...], selector: str, said: str) -> None:
    for choose in (one, lambda *args: list(selected(*args))):
        with pytest.raises(XsaveError) as caught:
            choose(areas(*labels), selector)
        assert said in str(caught.value)


@pytest.mark.parametrize("selector", [None, "all", "thread *"])
def test_several_are_no_one(selector: str | None) -> None:
    with pytest.raises(XsaveError, match=r"more than one area \(thread 1 \(#0\), thread 2 \(#1\)"):
        one(areas(*SMALL), selector)
    assert len(list(selected(areas(*SMALL), selector))) == 3


@pytest.mark.parametrize("selector", ["nope", "#1000", "n*", "9"])
def test_messages_are_short_however_many_areas_there_are(selector: str) -> None:
    with pytest.raises(XsaveError) as caught:
        one(areas(*(f"thread {number}" for number in range(100, 600))), selector)
    assert len(str(caught.value)) < 200
    assert "the command areas lists them" in str(caught.value)


def test_an_index_is_read_no_further_than_it_stands() -> None:
    coming = areas(*SMALL)
    assert one(coming, "#1").label == "thread 2"
    assert next(coming).label == "thread 12"


@pytest.mark.parametrize(
    "selector", [None, "area", "all", "#0", "are", "a*", "nope", "#1", "", "b*"]
)
def test_where_there_is_no_other(selector: str | None) -> None:
    try:
        found: Found | None = one(areas("area"), selector)
    except XsaveError:
        found = None
    assert is_sole(selector, "area") == (found is not None)


@pytest.mark.parametrize("selector", [5, b"all", ["all"], True])
def test_a_selector_is_text(selector: Any) -> None:
    for choose in (one, lambda areas, which: [*selected(areas, which)]):
        with pytest.raises(XsaveError, match="area: pass a selector"):
            choose([], selector)
