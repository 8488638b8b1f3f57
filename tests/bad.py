"""The schema files under ``data/bad``: each breaks rules, and says at its top what it must give.

The first comment lines of a file are its expected faults, in order: ``# expect: `` and the fault
as it is printed, without the file's name, its further lines behind ``#``. A folder is linted as
one; one with ``models/`` in it stands in for the folder of the package.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from unittest import mock

from xsaveschema.authoring.lint import lint
from xsaveschema.errors import SchemaFault
from xsaveschema.language.files import shipped_directory

BAD = Path(__file__).parent / "data" / "bad"
EXPECT = "# expect: "
_TOLD = (shipped_directory() / "README.md").read_text().partition("## The rules\n")[2]
RULES, WARNINGS = (
    dict(re.findall(r"^\| `([a-z-]+)` \| (.*) \|$", part, re.MULTILINE))
    for part in _TOLD.split("\nA warning")
)
"""What files keep to, by the name of the rule, as the page for their authors says it."""


def cases() -> list[Path]:
    """Every file and folder of bad schemas."""
    return sorted(path for path in BAD.iterdir() if path.suffix == ".yaml" or path.is_dir())


def files(case: Path) -> list[Path]:
    """The files of a case."""
    return sorted(case.rglob("*.yaml")) if case.is_dir() else [case]


def rule(case: Path, rules: set[str]) -> str:
    """The rule that a case is for: the longest one with which its name starts."""
    stem = case.name.removesuffix(".yaml")
    fitting = [name for name in rules if stem == name or stem.startswith(f"{name}-")]
    return max(fitting, key=len, default="")


@contextmanager
def in_folder(case: Path) -> Iterator[list[str]]:
    """The paths to lint for a case, from the folder where the names come out short."""
    here = Path.cwd()
    os.chdir(BAD)
    try:
        with ExitStack() as stack:
            if (case / "models").is_dir():
                for module in ("language.library", "authoring.lint"):
                    where = f"xsaveschema.{module}.shipped_directory"
                    stack.enter_context(mock.patch(where, return_value=case))
                yield []
            else:
                yield [case.relative_to(BAD).as_posix()]
    finally:
        os.chdir(here)


@cache
def lint_case(case: Path) -> list[SchemaFault]:
    """The faults of a case."""
    with in_folder(case) as paths:
        return lint(paths)


def shown(fault: SchemaFault) -> tuple[str, str]:
    """A fault's file and its text, the same on every machine."""
    file = fault.file.removeprefix(f"{BAD}/")
    text = str(fault).removeprefix(f"{fault.file}:").strip()
    return file, text.replace(f"{shipped_directory()}/", "schemas/")


def expected(file: Path) -> list[str]:
    """The faults that a file says it has."""
    found: list[str] = []
    for line in file.read_bytes().decode("utf-8", "replace").split("\n"):
        if line.startswith(EXPECT):
            found.append(line.removeprefix(EXPECT))
        elif line.startswith("#    ") and found:
            found[-1] += "\n" + line.removeprefix("#")
        else:
            break
    return found
