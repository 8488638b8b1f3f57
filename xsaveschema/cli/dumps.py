"""What ``identify`` and ``new`` are given: CPUID dumps, by path, pipe or standard input."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from xsaveschema import cpuid
from xsaveschema.cli.files import MAX_AREA, open_regular, read_area
from xsaveschema.cpuid import CpuidRecord
from xsaveschema.cpuid.files import is_pipe, read_file
from xsaveschema.errors import XsaveError

_HEAD: Final = 1 << 16


def read_dump(source: str) -> list[CpuidRecord]:
    """The records of a dump; ``-`` is standard input."""
    if source != "-":
        return list(cpuid.read(source))
    return list(cpuid.read_bytes(read_area(source), "standard input"))


def file_name(source: str) -> str:
    """What a model's file calls the dump: a link's target, without its folder."""
    if source == "-" or is_pipe(source):
        return "standard input" if source == "-" else "a pipe"
    return Path(os.path.realpath(source)).name


def piped(source: str) -> bytes | None:
    """The bytes of standard input or of an open pipe, which are read once; None for the rest."""
    if source == "-":
        return read_area(source)
    return read_file(source, MAX_AREA) if is_pipe(source) else None


def head_of(source: str) -> bytes:
    """How a regular file begins; empty for anything else."""
    try:
        with open_regular(Path(source)) as file:
            return file.read(_HEAD)
    except (OSError, ValueError, XsaveError):  # whoever reads the whole of it says why
        return b""
