"""What ``identify`` and ``new`` are given: CPUID dumps, by path, pipe or standard input."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from xsaveschema import cpuid
from xsaveschema.artefacts.source import MAX_AREA
from xsaveschema.cli.files import read_some
from xsaveschema.cpuid import CpuidRecord
from xsaveschema.cpuid.files import is_pipe, read_file
from xsaveschema.errors import XsaveError
from xsaveschema.io import read_regular

_HEAD: Final = 1 << 16


def read_dump(source: str) -> list[CpuidRecord]:
    """The records of a dump; ``-`` is standard input."""
    if source != "-":
        return list(cpuid.read(source))
    return list(cpuid.read_bytes(_standard_input(), "standard input"))


def file_name(source: str) -> str:
    """What a model's file calls the dump: a link's target, without its folder."""
    if source == "-" or is_pipe(source):
        return "standard input" if source == "-" else "a pipe"
    return Path(os.path.realpath(source)).name


def piped(source: str) -> bytes | None:
    """The bytes of standard input or of an open pipe, which are read once; None for the rest."""
    if source == "-":
        return _standard_input()
    return read_file(source, MAX_AREA) if is_pipe(source) else None


def head_of(source: str) -> bytes:
    """How a regular file begins; empty for anything else."""
    try:
        return read_regular(source, _HEAD)
    except (OSError, XsaveError):  # whoever reads the whole of it says why
        return b""


def _standard_input() -> bytes:
    data = bytearray()
    while part := read_some(1 << 20):
        data += part
        if len(data) > MAX_AREA:
            raise XsaveError(f"standard input: is longer than {MAX_AREA >> 20} MiB")
    return bytes(data)
