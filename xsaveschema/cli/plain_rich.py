"""rich's console and table, with text that no terminal obeys."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from xsaveschema.cli.plain import plain, plain_lines


class PlainConsole(Console):
    """Prints strings without control and bidirectional characters; lines stay lines."""

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich has it."""
        shown = (plain_lines(each) if isinstance(each, str) else each for each in objects)
        super().print(*shown, **options)


class PlainTable(Table):
    """Keeps every cell to one line without control and bidirectional characters."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        """As rich has it."""
        shown = (plain(cell) if isinstance(cell, str) else cell for cell in cells)
        super().add_row(*shown, **options)
