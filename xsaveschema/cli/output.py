"""What goes to standard output: JSON for programs, rich text for people."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import click
import msgspec

from xsaveschema.errors import XsaveError, hex_mask

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def print_json(value: Any) -> None:
    """Write a value as JSON, indented."""
    click.echo(_json_text(value))


def _json_text(value: Any) -> str:
    """Indented JSON. msgspec is loaded already where there is a model."""
    try:
        return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    except UnicodeEncodeError:  # a file's name that is no text
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


def number(value: int | bytes) -> str:
    """A mask, a register or a field as ``--json`` tells it: ``0x2e7``, raw bytes as they stand."""
    return hex(value) if isinstance(value, int) else value.hex()


def plain(text: str) -> str:
    """Text of unknown origin without what a terminal would obey, or no encoding can say."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def mask_text(mask: int, names: list[str]) -> str:
    """A mask with the names of its bits: ``0x203  x87 sse pkru``."""
    return f"{hex_mask(mask)}  {' '.join(names)}".rstrip()


Line = list[tuple[str, str]]
"""A line of text in parts: (text, style as rich calls it)."""


def print_lines(lines: Iterable[Line]) -> None:
    """Write lines as they are, unwrapped; rich is imported where they are to have colours."""
    stdout = sys.stdout
    if not (stdout and stdout.isatty()) and not os.environ.get("FORCE_COLOR"):
        click.echo("\n".join("".join(text for text, _ in line) for line in lines))
        return
    from rich.text import Text

    # Once for all lines: rich takes 0.2 ms a call.
    console().print(Text("\n").join(Text.assemble(*line) for line in lines), soft_wrap=True)


def console() -> Console:
    """Standard output for rich: no colour and 80 columns where it is no terminal."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, soft_wrap=False)


def table(out: Console, *columns: tuple[str, str]) -> Table:
    """An empty table of columns (heading, justify), a rule below the headings."""
    from rich import box
    from rich.table import Table

    ruled = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
    made = Table(
        box=ruled if out.options.ascii_only else box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
        header_style="bold",
    )
    for heading, justify in columns:
        made.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    return made
