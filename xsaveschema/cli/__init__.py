"""The command line: ``xsaveschema COMMAND``, one module per command."""

from __future__ import annotations

import sys
import warnings
from typing import Any, Final

_shown: Final = warnings.showwarning


def main() -> None:
    """Run the command line and exit."""
    # A file's name may hold what the terminal's encoding cannot say.
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure:
        reconfigure(errors="backslashreplace")

    from xsaveschema.cli.program import program

    warnings.showwarning = _note
    program()


def _note(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    """A warning as commands tell what is to be noted: nobody asks where in the code it is from."""
    from xsaveschema.cli.options import note
    from xsaveschema.plugins import PluginWarning

    if issubclass(category, PluginWarning):
        note(str(message))
    else:
        _shown(message, category, *place, **more)
