"""What goes to standard output: JSON for programs, rich text for people."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from xsaveschema.cli.plain import plain, terminal_width
from xsaveschema.errors import XsaveError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from xsaveschema.area.lines import Line
    from xsaveschema.errors import SchemaFault


def print_json(value: Any) -> None:
    """Write a value as JSON, indented."""
    if _on_terminal(False):
        stop_waiting()
    click.echo(_json_text(value))


def _json_text(value: Any) -> str:
    """Indented JSON. msgspec is loaded already where there is a model."""
    try:
        text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
        # A terminal would obey what JSON need not escape.
        if all(map(str.isprintable, text.split("\n"))):
            return text
    except UnicodeEncodeError:  # a file's name that is no text
        pass
    import json

    return json.dumps(value, indent=2)


def print_json_items(facts: dict[str, Any], name: str, items: Iterable[Any]) -> None:
    """Write ``facts`` and, as their last member, the list ``name``, each item when it comes.

    Nothing is written before the first one has come. An XsaveError behind that leaves JSON: the
    items until then, and ``error``, the error's text.
    """
    coming = iter(items)
    first = [*islice(coming, 1)]
    head = _json_text(facts | {name: []}).removesuffix("]\n}")
    if _on_terminal(False):
        stop_waiting()
    try:
        for count, item in enumerate(chain(first, coming)):
            text = _json_text(item).replace("\n", "\n    ")
            click.echo(f"{',' if count else head}\n    {text}", nl=False)
    except XsaveError as error:
        click.echo(f"\n  ],\n  {_json_text({'error': str(error)})[4:]}")
        raise
    click.echo("\n  ]\n}" if first else f"{head}]\n}}")


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


def print_lines(lines: Iterable[Line], *, err: bool = False) -> None:
    """Write lines without what a terminal would obey; see :func:`plain`.

    A terminal gets them in colour, and broken between words where they are longer than it is wide.
    rich is imported for that alone. No lines are nothing.
    """
    if not (lines := list(lines)):
        return
    lines = [[(plain(text), style) for text, style in line] for line in lines]
    if _on_terminal(err):
        stop_waiting()
        width = terminal_width()
        lines = [part for line in lines for part in folded(line, width)]
    elif not os.environ.get("FORCE_COLOR"):
        click.echo("\n".join("".join(text for text, _ in line) for line in lines), err=err)
        return
    from rich.text import Text

    # Once for all lines: rich takes 0.2 ms a call.
    text = Text("\n").join(Text.assemble(*line) for line in lines)
    console(stderr=err).print(text, soft_wrap=True)


def in_colour() -> bool:
    """Whether standard output shows colours."""
    if not _on_terminal(False) and not os.environ.get("FORCE_COLOR"):
        return False
    out = console()
    return out.color_system is not None and not out.no_color


_WAITING: Final = "xsaveschema.waiting"


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say on a terminal, as standard error, that work goes on where it takes more than a second.

    The line is gone when the work ends, or when something is written to a terminal.
    """
    ctx = click.get_current_context(silent=True)
    if ctx is None or not _on_terminal(True) or os.environ.get("TERM") == "dumb":
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


def _on_terminal(err: bool) -> bool:
    stream = sys.stderr if err else sys.stdout
    return stream is not None and stream.isatty()


def folded(line: Line, width: int) -> Iterator[Line]:
    """A line in lines of ``width`` cells, broken at spaces; those behind the first are indented.

    A word that is longer sticks out.
    """
    text = "".join(part for part, _ in line)
    margin = len(text) - len(text.lstrip()) + 2
    if len(line) > 1 and line[0][0].startswith("  "):
        margin = len(line[0][0])  # a label in front of what is said
    margin = min(margin, width // 2)
    start, room, indent = 0, width, ""
    while len(text) - start > room:
        word = start + len(text[start:]) - len(text[start:].lstrip())
        at = text.rfind(" ", word + 1, start + room + 1)
        if at < 0:
            at = text.find(" ", start + room)
        if at < 0:
            break
        yield [(indent, ""), *_between(line, start, at)]
        start = at + 1
        room, indent = width - margin, " " * margin
    yield [(indent, ""), *_between(line, start, len(text))]


def _between(line: Line, start: int, end: int) -> Line:
    """The characters ``start`` to ``end`` of a line, in their styles."""
    found: Line = []
    at = 0
    for text, style in line:
        found.append((text[max(0, start - at) : max(0, end - at)], style))
        at += len(text)
    return found


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
        cut = line if hint or not _on_terminal(False) else line[: terminal_width()]
        yield [(cut, "green" if hint else colour if not line.strip(" ^") else "")]


def console(*, stderr: bool = False) -> Console:
    """Standard output or error for rich: no colour and 80 columns where it is no terminal."""
    from xsaveschema.cli.plain_rich import PlainConsole

    # With both given, rich reads neither COLUMNS nor LINES, which it takes for numbers unseen.
    return PlainConsole(
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
        width=terminal_width(),
        height=25,
        stderr=stderr,
    )


def table(out: Console, *columns: tuple[str, str]) -> Table:
    """An empty table of columns (heading, justify), a rule below the headings."""
    from rich import box

    from xsaveschema.cli.plain_rich import PlainTable

    ruled = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
    made = PlainTable(
        box=ruled if out.options.ascii_only else box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
        header_style="bold",
    )
    for heading, justify in columns:
        made.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    return made
