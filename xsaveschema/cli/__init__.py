# SPDX-License-Identifier: MIT
"""The command line: ``xsaveschema COMMAND``, one module per command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit."""
    # A file's name may hold what the terminal's encoding cannot say.
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure:
        reconfigure(errors="backslashreplace")

    from xsaveschema.cli.program import program

    program()
