# SPDX-License-Identifier: MIT
"""FILE and OUT: standard input, the samples, and what is written whole or not at all."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from io import UnsupportedOperation
from operator import and_
from pathlib import Path
from select import select
from typing import Any, BinaryIO

import click

from xsaveschema.artefacts.opened import PID, SAMPLE
from xsaveschema.cli.output import waiting
from xsaveschema.errors import XsaveError, plain
from xsaveschema.io import NEW_FILE, permissions, write_file


@contextmanager
def about(source: str) -> Iterator[None]:
    """An XsaveError that is raised in here is told with the name of the file, and a long wait."""
    try:
        with waiting(named_input(source)):
            yield
    except XsaveError as error:
        error.add_note(named_input(source))
        raise


def refuse_terminal(output: str) -> None:
    """Wrong usage, where ``output`` means to write bytes to a terminal."""
    if output == "-" and standard_stream(sys.stdout, "standard output").isatty():
        raise click.UsageError("an area is binary: redirect standard output, or name a file")


def require_one_output(source: str, output: str | None, in_place: bool) -> None:
    """Wrong usage, where a file is to be edited into neither or both of two places, or no file."""
    if (output is None) == (not in_place):
        raise click.UsageError("give one of -o OUT and --in-place")
    if "-" in (source, output):  # the copy needs both files, and a file may be called so
        raise click.UsageError("a file is edited into a file: name both (./- is one called -)")


def named_input(source: str) -> str:
    """What a message calls a FILE."""
    return "standard input" if source == "-" else plain(source)


def named(output: str) -> str:
    """What a message calls an output."""
    return "standard output" if output == "-" else plain(output)


def write_area(
    output: str, data: bytes | bytearray | memoryview, source: str | None = None
) -> None:
    """Write a file whole or not at all; ``-`` is standard output.

    A new file is open to nobody that the FILE ``source`` is not open to. Pipes and devices are
    written to as they are. OSError names ``output``.
    """
    if output == "-":
        stdout = standard_stream(sys.stdout, "standard output")
        stdout.write(data)
        stdout.flush()
        return
    write_file(output, data, NEW_FILE if source is None else permitted(source))


def write_picture(output: str, picture: str, as_json: bool, *sources: str) -> None:
    """Write SVG; a new file is open to nobody that the FILEs it shows are not open to."""
    if as_json:
        raise click.UsageError("--svg and --json are two ways to show one thing: give one")
    if output == "-":
        write_area(output, picture.encode())
        return
    write_file(output, picture.encode(), reduce(and_, map(permitted, sources), NEW_FILE))


def permitted(source: str) -> int:
    """The permissions that a new file with what FILE holds may have."""
    if source.startswith(SAMPLE):
        return NEW_FILE
    if source.startswith(PID) or (source != "-" and Path(source).is_dir()):
        return 0o600
    if source != "-":
        return permissions(source)
    try:
        return permissions(standard_input().fileno())
    except UnsupportedOperation:  # what a program put in its place
        return NEW_FILE


def standard_stream(stream: Any, name: str) -> BinaryIO:
    """The bytes of sys.stdin or sys.stdout; wrong usage where it is closed."""
    if stream is None:
        raise click.UsageError(f"{name} is closed")
    buffer: BinaryIO = stream.buffer
    return buffer


def standard_input() -> BinaryIO:
    """Standard input; wrong usage where it is a terminal, which nobody types areas into."""
    stdin = standard_stream(sys.stdin, "standard input")
    if stdin.isatty():
        raise click.UsageError("standard input is a terminal: redirect a file to it")
    return stdin


def read_some(size: int) -> bytes:
    """The next bytes of standard input, ``size`` at most; none at its end."""
    stdin = standard_input()
    try:
        while (found := stdin.read1(size)) is None:  # type: ignore[attr-defined]
            select([stdin], [], [])  # a pipe that does not block
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard input") from error
    data: bytes = found
    return data
