"""The command line: ``xsaveschema COMMAND``, one module per command."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command line and exit."""
    # Most of a short run is imports, whose objects stay: looking for garbage took 6 % of it.
    gc.set_threshold(100_000, 50, 50)
    # A file's name may hold what the terminal's encoding cannot say.
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure:
        reconfigure(errors="backslashreplace")

    from xsaveschema.cli.program import program

    program()
