"""What goes to standard output: JSON for programs, rich text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from xsaveschema.errors import hex_mask

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def print_json(value: Any) -> None:
    """Write a value as JSON, indented. msgspec is loaded already where there is a model."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def number(value: int | bytes) -> str:
    """A mask, a register or a field as ``--json`` tells it: ``0x2e7``, raw bytes as they stand."""
    return hex(value) if isinstance(value, int) else value.hex()


def plain(text: str) -> str:
    """Text of unknown origin without what a terminal would obey, or no encoding can say."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def mask_text(mask: int, names: list[str]) -> str:
    """A mask with the names of its bits: ``0x203  x87 sse pkru``."""
    return f"{hex_mask(mask)}  {' '.join(names)}".rstrip()


def console() -> Console:
    """Standard output for rich: no colour and 80 columns where it is no terminal."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, soft_wrap=False)


def table(*columns: tuple[str, str]) -> Table:
    """An empty table of columns (heading, justify)."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for heading, justify in columns:
        made.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    return made
