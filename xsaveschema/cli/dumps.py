"""What ``identify`` and ``new`` are given: CPUID dumps, by path, pipe or standard input."""

from __future__ import annotations

import os
from pathlib import Path

from xsaveschema import cpuid
from xsaveschema.cli.files import read_some
from xsaveschema.cpuid import CpuidRecord
from xsaveschema.cpuid.files import MAX_BYTES
from xsaveschema.io import is_pipe


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


def _standard_input() -> bytes:
    data = bytearray()
    while len(data) <= MAX_BYTES and (part := read_some(1 << 20)):
        data += part
    return bytes(data)
