"""What goes to standard output: JSON for programs, rich text for people."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import click
import msgspec

from xsaveschema.cli.plain import plain, plain_lines, terminal_width
from xsaveschema.errors import XsaveError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from xsaveschema.area.lines import Line


def print_json(value: Any) -> None:
    """Write a value as JSON, indented."""
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
    try:
        for count, item in enumerate(chain(first, coming)):
            text = _json_text(item).replace("\n", "\n    ")
            click.echo(f"{',' if count else head}\n    {text}", nl=False)
    except XsaveError as error:
        click.echo(f"\n  ],\n  {_json_text({'error': str(error)})[4:]}")
        raise
    click.echo("\n  ]\n}" if first else f"{head}]\n}}")


def echo(text: str, *, err: bool = False) -> None:
    """Write lines as they are, but for what a terminal would obey; see :func:`plain`."""
    click.echo(plain_lines(text), err=err)


def note(text: str) -> None:
    """Say on standard error what the user should know; nothing is wrong."""
    click.echo(f"xsaveschema: note: {plain(text)}", err=True)


def number(value: int | bytes) -> str:
    """A mask, a register or a field as ``--json`` tells it: ``0x2e7``, raw bytes as they stand."""
    return hex(value) if isinstance(value, int) else value.hex()


def print_lines(lines: Iterable[Line]) -> None:
    """Write lines as they are, unwrapped; rich is imported where they are to have colours."""
    lines = [[(plain(text), style) for text, style in line] for line in lines]
    stdout = sys.stdout
    if not (stdout and stdout.isatty()) and not os.environ.get("FORCE_COLOR"):
        click.echo("\n".join("".join(text for text, _ in line) for line in lines))
        return
    from rich.text import Text

    # Once for all lines: rich takes 0.2 ms a call.
    console().print(Text("\n").join(Text.assemble(*line) for line in lines), soft_wrap=True)


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
