# SPDX-License-Identifier: MIT
"""What commands write: JSON for programs, text without what a terminal obeys for people."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from shutil import get_terminal_size
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec

from xsaveschema.area.lines import Line, folded
from xsaveschema.errors import SchemaFault, XsaveError, plain
from xsaveschema.text import columns

if TYPE_CHECKING:
    from rich.console import Console

_T = TypeVar("_T")


def terminal_width() -> int:
    """The columns of the terminal; COLUMNS, or 80, where there is none."""
    return get_terminal_size().columns


def print_json(value: Any) -> None:
    """Write a value as JSON, indented."""
    if on_terminal():
        stop_waiting()
    click.echo(_json_text(value))


def _json_text(value: Any) -> str:
    """Indented JSON."""
    try:
        text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
        # A terminal would obey what JSON need not escape.
        if all(map(str.isprintable, text.split("\n"))):
            return text
    except UnicodeEncodeError:  # a file's name that is no text
        pass
    return json.dumps(value, indent=2)


def print_json_items(facts: dict[str, Any], name: str, items: Iterable[Any]) -> None:
    """Write ``facts`` and, as their last member, the list ``name``, each item when it comes.

    Nothing is written before the first one has come. An XsaveError behind that leaves JSON: the
    items until then, and ``error``, the error's text.
    """
    coming = iter(items)
    first = [*islice(coming, 1)]
    head = _json_text(facts | {name: []}).removesuffix("]\n}")
    if on_terminal():
        stop_waiting()
    try:
        for count, item in enumerate(chain(first, coming)):
            text = _json_text(item).replace("\n", "\n    ")
            click.echo(f"{',' if count else head}\n    {text}", nl=False)
    except XsaveError as error:
        click.echo(f"\n  ],\n  {_json_text({'error': str(error)})[4:]}")
        raise
    click.echo("\n  ]\n}" if first else f"{head}]\n}}")


def until_fault(items: Iterable[_T]) -> tuple[list[_T], XsaveError | None]:
    """What comes until a fault, and the fault: what is known is shown in front of it."""
    found: list[_T] = []
    try:
        for item in items:
            found.append(item)
    except XsaveError as error:
        return found, error
    return found, None


def print_rows(
    items: Iterable[_T],
    as_json: bool,
    facts: Callable[[_T], dict[str, Any]],
    headings: Sequence[str],
    cells: Callable[[_T], Sequence[str]],
    counts: Callable[[_T], object],
    above: str = "",
) -> int:
    """Write something for each of several areas: JSON, or a row; how many it ``counts``.

    An XsaveError is raised behind what came before it. The column ``above`` stands above the
    others, once, where all rows have the same there.
    """
    counted = 0

    def each() -> Iterator[_T]:
        nonlocal counted
        for item in items:
            counted += bool(counts(item))
            yield item

    if as_json:
        print_json_items({}, "areas", map(facts, each()))
        return counted
    rows, fault = until_fault(map(cells, each()))
    table: list[Sequence[str]] = [headings, *rows]
    if above and len({row[headings.index(above)] for row in rows}) == 1:
        at = headings.index(above)
        echo(f"{rows[0][at]}:\n")
        table = [[*row[:at], *row[at + 1 :]] for row in table]
    print_lines(columns(table))
    if fault is not None:
        raise fault
    return counted


def echo(text: str, *, err: bool = False) -> None:
    """Write lines without colour; see :func:`print_lines`."""
    print_lines(([(line, "")] for line in text.split("\n")), err=err)


def note(text: str) -> None:
    """Say on standard error what the user should know; nothing is wrong."""
    print_lines([[("xsaveschema: note: ", "yellow"), (text, "")]], err=True)


def complain(text: str) -> None:
    """Say on standard error what is wrong, in one line or several."""
    first, *more = text.split("\n")
    lines: list[Line] = [[("xsaveschema: error: ", "bold red"), (first, "")]]
    print_lines([*lines, *([(line, "")] for line in more)], err=True)


def number(value: int | bytes) -> str:
    """A mask, a register or a field as ``--json`` tells it: ``0x2e7``, raw bytes as they stand."""
    return hex(value) if isinstance(value, int) else value.hex()


def picked(value: object, *names: str) -> dict[str, Any]:
    """Attributes by name, as ``--json`` tells them."""
    return {name: getattr(value, name) for name in names}


def print_lines(lines: Iterable[Line], *, err: bool = False) -> None:
    """Write lines without what a terminal would obey; see :func:`plain`.

    A terminal gets them in colour, and broken between words where they are longer than it is wide.
    rich is imported for that alone. No lines are nothing.
    """
    if not (lines := list(lines)):
        return
    lines = [[(plain(text), style) for text, style in line] for line in lines]
    if on_terminal(err):
        stop_waiting()
        width = terminal_width()
        lines = [part for line in lines for part in folded(line, width)]
    elif not os.environ.get("FORCE_COLOR"):
        click.echo("\n".join("".join(text for text, _ in line) for line in lines), err=err)
        return
    from rich.text import Text

    text = Text("\n").join(Text.assemble(*line) for line in lines)
    console(stderr=err).print(text, soft_wrap=True)


def in_colour() -> bool:
    """Whether standard output shows colours."""
    if not on_terminal() and not os.environ.get("FORCE_COLOR"):
        return False
    out = console()
    return out.color_system is not None and not out.no_color


def in_ascii() -> bool:
    """Whether standard output can say no more than ASCII, as far as is known."""
    return not (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")


_WAITING: Final = "xsaveschema.waiting"


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say on a terminal, as standard error, that work goes on where it takes more than a second.

    The line is gone when the work ends, or when something is written to a terminal.
    """
    ctx = click.get_current_context(silent=True)
    if ctx is None or not on_terminal(True) or os.environ.get("TERM") == "dumb":
        yield
        return
    done = Event()
    thread = Thread(target=_say, args=(what, done), daemon=True)

    def stop() -> None:
        done.set()
        thread.join()

    before = ctx.meta.get(_WAITING)
    ctx.meta[_WAITING] = stop
    thread.start()
    try:
        yield
    finally:
        stop()
        ctx.meta[_WAITING] = before


def stop_waiting() -> None:
    """Make room for what is written to a terminal."""
    ctx = click.get_current_context(silent=True)
    if ctx is not None and (stop := ctx.meta.get(_WAITING)):
        stop()


def _say(what: str, done: Event) -> None:
    since = monotonic()
    cut = plain(what)[: max(1, terminal_width() - len(" ... 10000 s"))]
    while not done.wait(1):
        click.echo(f"\r{cut} ... {monotonic() - since:.0f} s", nl=False, err=True)
    if monotonic() - since >= 1:
        click.echo("\r\x1b[K", nl=False, err=True)


def on_terminal(err: bool = False) -> bool:
    """Whether standard output, or error, is a terminal."""
    stream = sys.stderr if err else sys.stdout
    return stream is not None and stream.isatty()


def fault_lines(fault: SchemaFault, *, warning: bool = False) -> Iterator[Line]:
    """A fault of a schema file as its text has it, in colour."""
    colour = "yellow" if warning else "red"
    head, *more = str(fault).split("\n")
    place = f"{fault.file}:{fault.line}:{fault.column}" if fault.line else fault.file
    rule = f"[{fault.rule}]"
    message = head.removeprefix(place).removesuffix(rule)
    yield [(place, "bold"), (message, ""), (rule, "dim")]
    for line in more:
        hint = line.startswith("    hint: ")
        # The caret would lose its place if the line above were broken.
        cut = line if hint or not on_terminal() else line[: terminal_width()]
        yield [(cut, "green" if hint else colour if not line.strip(" ^") else "")]


def console(*, stderr: bool = False) -> Console:
    """Standard output or error for rich: no colour and 80 columns where it is no terminal."""
    from rich.console import Console

    # With both given, rich reads neither COLUMNS nor LINES, which it takes for numbers unseen.
    return Console(highlight=False, width=terminal_width(), height=25, stderr=stderr)
