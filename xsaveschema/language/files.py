# SPDX-License-Identifier: MIT
"""Which files of schemas there are: those that come with the package, and a user's."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from xsaveschema.errors import XsaveError, plain

PATH_VARIABLE: Final = "XSAVESCHEMA_PATH"
MAX_FILES: Final = 10_000
SUFFIXES: Final = (".yaml", ".yml")
COMPONENT_FILE: Final = re.compile(r"([0-9]{2})-([a-z][a-z0-9_]*)\.ya?ml\Z")
"""How the file of a component is called: its number and its name."""


def shipped_directory() -> Path:
    """The folder of the schema files that come with the package."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "schemas"
    # A wheel carries the folder inside the package; a checkout has it beside the package.
    return inside if inside.is_dir() else package.parent / "schemas"


def schema_files(path: Path) -> list[Path]:
    """The schema files that a path means: itself, or every ``*.yaml`` and ``*.yml`` below a folder.

    Hidden files and folders are passed over. XsaveError where nothing is there, or a folder cannot
    be listed.
    """
    if not path.is_dir():
        if not os.path.lexists(path):
            shown = plain(str(path))
            raise XsaveError(f"{shown}: there is no such file or folder of schema files")
        return [path]

    def refused(error: OSError) -> None:
        shown = plain(str(error.filename))
        raise XsaveError(f"{shown}: cannot be listed: {error.strerror}") from error

    found: list[Path] = []
    for folder, folders, names in os.walk(path, onerror=refused):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.endswith(SUFFIXES) and not name.startswith("."):
                found.append(Path(folder, name))
                if len(found) > MAX_FILES:
                    raise XsaveError(f"{path}: more than {MAX_FILES} schema files")
    return sorted(found)


def user_paths() -> list[Path]:
    """The files and folders that the environment variable ``XSAVESCHEMA_PATH`` names."""
    return [Path(p) for p in os.environ.get(PATH_VARIABLE, "").split(os.pathsep) if p]


def user_files() -> list[list[Path]]:
    """The schema files of each of :func:`user_paths`."""
    found = []
    for path in user_paths():
        try:
            found.append(schema_files(path))
        except XsaveError as error:
            raise XsaveError(f"{PATH_VARIABLE}: {error}") from error
    return found
