"""The command line: ``xsaveschema COMMAND``, one module per command."""

from __future__ import annotations

import gc
import os
import sys

_WIDEST = 10_000  # a line is padded to that


def main() -> None:
    """Run the command line and exit."""
    # Most of a short run is imports, whose objects stay: looking for garbage took 6 % of it.
    gc.set_threshold(100_000, 50, 50)
    # A file's name may hold what the terminal's encoding cannot say.
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure:
        reconfigure(errors="backslashreplace")

    from xsaveschema.cli.program import program

    try:
        program()
    finally:
        # Nor is there garbage worth looking for at the end: that took 12 %.
        gc.freeze()


def terminal_width() -> int:
    """The columns of the terminal; COLUMNS, or 80, where there is none."""
    # As shutil.get_terminal_size has it; shutil imports every compression that Python knows.
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and (width := int(columns[:9])):
        return min(width, _WIDEST)
    try:
        found = os.get_terminal_size(sys.__stdout__.fileno()).columns if sys.__stdout__ else 0
    except (OSError, ValueError):  # a pipe, or closed
        found = 0
    return found or 80
