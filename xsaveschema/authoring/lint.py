# SPDX-License-Identifier: MIT
"""Every fault in schema files, in one run."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from xsaveschema.errors import SchemaFault, plain
from xsaveschema.language.files import schema_files, shipped_directory, user_files
from xsaveschema.language.library import Library


class Report(NamedTuple):
    """What lint finds: faults, with which a file is not loaded, and warnings, each in order."""

    faults: list[SchemaFault]
    warnings: list[SchemaFault]


def lint(paths: Iterable[str | os.PathLike[str]] = ()) -> list[SchemaFault]:
    """Every fault in the files and folders given; without any, in the files of the package.

    The faults are those that loading reports, in order of file and place. The files are judged
    together, on top of the shipped ones (and those of ``XSAVESCHEMA_PATH``): they may extend and
    replace those, but not each other. XsaveError where a path does not exist.
    """
    return report(paths).faults


def report(paths: Iterable[str | os.PathLike[str]] = ()) -> Report:
    """The faults that :func:`lint` finds, and what is worth a warning (schemas/README.md)."""
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    given = [Path(path) for path in paths]
    library = Library()
    library.add_shipped()
    targets: dict[str, Path] = {}
    found = []
    for path in given or [shipped_directory()]:
        files = schema_files(path)
        if not files:
            message = "has no schema files (*.yaml)"
            found.append(SchemaFault(plain(str(path)), 0, 0, "file", "", message))
        for file in files:
            targets.setdefault(os.path.realpath(file), file)
    indexed = {file: library.shipped(file) for file in targets.values()}
    for file, shipped in indexed.items():
        if shipped and given:
            library.shown[shipped] = str(file)
    judged = [shipped or file for file, shipped in indexed.items()]
    library.deep = frozenset(judged)
    if given:
        for files in user_files():
            library.add(file for file in files if os.path.realpath(file) not in targets)
    library.add(targets.values())
    found += library.faults(judged)
    found += library.shared_faults(sorted(judged), against=sorted(library.models.values()))
    return Report(sorted(set(found)), sorted(library.warnings(judged)))
