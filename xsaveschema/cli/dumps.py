"""What ``identify`` and ``new`` take for a CPU: dumps by path, pipe or standard input."""

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


def is_path(word: str) -> bool:
    """Whether a word that names a CPU is a path: that has a slash or a suffix, or is ``-``."""
    return word == "-" or os.sep in word or bool(Path(word).suffix)


def is_gathered(source: str) -> bool:
    """Whether a path leads to a folder of hwloc-gather-cpuid."""
    return Path(source).is_dir() and any(Path(source).glob("pu[0-9]*"))


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
