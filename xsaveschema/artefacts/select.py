# SPDX-License-Identifier: MIT
"""Which areas of an artefact are meant: the one way to name them.

A selector is an index (``#5``), a whole label (``thread 16908``), a part of a label that is unique
(``16908``), a glob (``vCPU *``) or ``all``. Areas go by once, and a few of them are held at most.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import islice
from typing import Final, Protocol, TypeVar

from xsaveschema.artefacts.reader import Found
from xsaveschema.errors import WrongTypeError, XsaveError, described


class Labelled(Protocol):
    """What can be selected: an area, or a thread whose area nobody has read yet."""

    @property
    def label(self) -> str:
        """Whose area it is."""

    @property
    def index(self) -> int:
        """Which area of the artefact it is, from 0."""


_L = TypeVar("_L", bound=Labelled)

ALL: Final = "all"

_INDEX: Final = re.compile(r"#([0-9]{1,9})")
_GLOB: Final = re.compile(r"[*?\[]")
_TOLD: Final = 4
"""Labels that a message names."""
_LIST: Final = "the command areas lists them"


def numbered(areas: Iterable[Found]) -> Iterator[Found]:
    """The areas, each with its index."""
    for index, found in enumerate(areas):
        yield replace(found, index=index)


def require_selector(selector: object) -> None:
    """WrongTypeError for what is no selector; None is one."""
    if not (selector is None or isinstance(selector, str)):
        said = 'area: pass a selector, "#5", "thread 16908", a part of a label or "all"'
        raise WrongTypeError(f"{said}, not {described(selector)}")


def is_plural(selector: str | None) -> bool:
    """Whether a selector means any number of areas: ``all``, or a glob."""
    return selector is not None and (selector == ALL or bool(_GLOB.search(selector)))


def is_sole(selector: str | None, label: str) -> bool:
    """Whether a selector takes the area of this label where there is no other."""
    if not selector:
        return selector is None
    if is_plural(selector):
        return selector == ALL or _matches(selector, label)
    if index := _INDEX.fullmatch(selector):
        return not int(index[1])
    return selector.casefold() in label.casefold()


def selected(areas: Iterable[_L], selector: str | None) -> Iterator[_L]:
    """The areas that a selector means, as they come; None means all.

    XsaveError, which tells what there is, where it means none, or more than one that it could mean.
    """
    require_selector(selector)
    if selector in (None, ALL):
        yield from areas
    elif is_plural(selector):
        assert selector is not None  # noqa: S101 - None is no glob
        there = _There()
        some = False
        for found in there.seen(areas):
            if _matches(selector, found.label):
                some = True
                yield found
        if not some:
            raise there.nothing(selector)
    else:
        yield one(areas, selector)


def one(areas: Iterable[_L], selector: str | None) -> _L:
    """The one area that a selector means; XsaveError as :func:`selected`'s."""
    require_selector(selector)
    if is_plural(selector) or selector is None:
        found = [*islice(selected(areas, selector), 2)]
        if len(found) > 1:
            raise XsaveError(
                f"holds more than one area ({_names(found)}, ...): choose one (area=, on the "
                f"command line --area); {_LIST}"
            )
        if not found:
            raise XsaveError("holds no area")
        return found[0]
    there = _There()
    if index := _INDEX.fullmatch(selector):
        for each in there.seen(areas):
            if each.index == int(index[1]):
                return each
        raise there.nothing(selector)
    return _called(areas, selector, there)


def _called(areas: Iterable[_L], selector: str, there: _There) -> _L:
    """By label: the whole of it before a whole word, that before any part."""
    word = re.compile(rf"(?<!\w){re.escape(selector)}(?!\w)", re.IGNORECASE)
    folded = selector.casefold()
    ranks: tuple[list[_L], ...] = ([], [], [])
    by_index = None
    for found in there.seen(areas):
        if selector.isdecimal() and str(found.index) == selector:
            by_index = found
        if not selector or folded not in found.label.casefold():
            continue
        whole = found.label == selector
        rank = ranks[0 if whole else 1 if word.search(found.label) else 2]
        if len(rank) < _TOLD:
            rank.append(found)
    best = next(filter(None, ranks), [])
    if len(best) > 1:
        raise XsaveError(f"has several areas called {selector!r}: {_names(best)}; {_LIST}")
    if not best:
        hint = f"; #{selector} is {by_index.label}" if by_index else ""
        raise there.nothing(selector, hint)
    if by_index is not None and by_index.index != best[0].index:
        raise XsaveError(
            f"has two areas that {selector} may mean: {_names([best[0], by_index])}; say "
            f"{best[0].label!r} or #{selector}"
        )
    return best[0]


class _There:
    """What there is, as far as a message tells it."""

    def __init__(self) -> None:
        self._first: list[Labelled] = []
        self._count = 0

    def seen(self, areas: Iterable[_L]) -> Iterator[_L]:
        for found in areas:
            self._count += 1
            if len(self._first) < _TOLD:
                self._first.append(found)
            yield found

    def nothing(self, selector: str, hint: str = "") -> XsaveError:
        there = _names(self._first)
        if self._count > len(self._first):
            there += f", ... ({self._count} areas; {_LIST})"
        return XsaveError(f"has no area {selector!r:.80}{hint}; it has {there}")


def _names(found: Iterable[Labelled]) -> str:
    return ", ".join(f"{each.label} (#{each.index})" for each in found)


def _matches(glob: str, label: str) -> bool:
    return glob == label or fnmatchcase(label.casefold(), glob.casefold())
