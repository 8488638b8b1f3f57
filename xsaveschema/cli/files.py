"""Areas from files, standard input and the samples; areas to files, whole or not at all."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

import click

from xsaveschema.cli.plain import plain
from xsaveschema.errors import XsaveError

MAX_AREA: Final = 16 << 20
"""Bytes. Areas of real CPUs have 576 to 11,776; this leaves 256 KiB for each component."""

SAMPLE: Final = "sample:"

# Never wait for the writer of a FIFO, never translate line ends, never hand the file down.
_BINARY: Final = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_READ: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY
# EXCL: never through a link that somebody has put there.
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY


def read_area(source: str) -> bytes:
    """The bytes of FILE: a path, ``-`` for standard input, or ``sample:NAME``.

    Raises OSError, and XsaveError for what is no regular file or is too long for an area.
    """
    if source.startswith(SAMPLE):
        return _sample(source.removeprefix(SAMPLE))
    with about(source):
        data = _standard_input() if source == "-" else _regular(Path(source))
        if len(data) > MAX_AREA:
            raise XsaveError(f"is longer than {MAX_AREA >> 20} MiB, which no area is")
    return data


def sample_list() -> str:
    """The samples with their descriptions, one a line."""
    from xsaveschema.samples import SAMPLES

    width = max(map(len, SAMPLES))
    return "\n".join(f"  {SAMPLE}{name:{width}}  {text}" for name, text in SAMPLES.items())


@contextmanager
def about(source: str) -> Iterator[None]:
    """An XsaveError that is raised in here is told with the name of the file."""
    try:
        yield
    except XsaveError as error:
        error.add_note(named_input(source))
        raise


def refuse_terminal(output: str) -> None:
    """Wrong usage, where ``output`` means to write bytes to a terminal."""
    if output == "-" and standard_stream(sys.stdout, "standard output").isatty():
        raise click.UsageError("an area is binary: redirect standard output, or name a file")


def named_input(source: str) -> str:
    """What a message calls a FILE."""
    return "standard input" if source == "-" else plain(source)


def named(output: str) -> str:
    """What a message calls an output."""
    return "standard output" if output == "-" else plain(output)


def write_area(output: str, data: bytes | bytearray | memoryview) -> None:
    """Write a file whole or not at all; ``-`` is standard output.

    The bytes go to a new file beside ``output`` that takes its place when all is written; an
    existing file keeps its permissions. Pipes and devices are written to as they are. OSError
    names ``output``.
    """
    if output == "-":
        stdout = standard_stream(sys.stdout, "standard output")
        stdout.write(data)
        stdout.flush()
        return
    try:
        _write(Path(output), data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, output) from error
    except ValueError as error:  # a NUL in the name
        raise XsaveError(f"{output}: {error}") from None


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


def _standard_input() -> bytes:
    stdin = standard_input()
    try:
        return stdin.read(MAX_AREA + 1)
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard input") from error


def _sample(name: str) -> bytes:
    from xsaveschema import samples

    try:
        return samples.read(name)
    except KeyError:
        said = f"there is no sample {name!r}; the samples are\n{sample_list()}"
        raise click.UsageError(said) from None


def _regular(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(MAX_AREA + 1)
    except ValueError as error:  # a NUL in the name
        raise XsaveError(str(error)) from None


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """A regular file, open for reading and unbuffered; XsaveError for anything else."""
    # Looked at first: opening some devices already does something to them.
    _require_regular(path.stat().st_mode)
    with os.fdopen(os.open(path, _READ), "rb") as file:
        _require_regular(os.fstat(file.fileno()).st_mode)
        yield file


def _require_regular(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise XsaveError("is a folder")
    if not stat.S_ISREG(mode):
        raise XsaveError("is no regular file; bring what a pipe holds to standard input, -")


def _write(output: Path, data: bytes | bytearray | memoryview) -> None:
    mode = None
    with suppress(FileNotFoundError):
        mode = output.stat().st_mode
    if mode is not None and not stat.S_ISREG(mode):
        with output.open("wb", buffering=0) as device:
            _write_all(device.write, data)
        return
    target = Path(os.path.realpath(output))  # a link stays, what it leads to is replaced
    new = target.with_name(f".xsaveschema-{os.urandom(8).hex()}.new")
    file = os.open(new, _CREATE, 0o666)  # the umask decides, as for any new file
    try:
        try:
            if mode is not None:
                new.chmod(stat.S_IMODE(mode))
            _write_all(lambda part: os.write(file, part), data)
            os.fsync(file)
        finally:
            os.close(file)
        new.replace(target)
    finally:
        with suppress(OSError):  # it has taken the other's place
            new.unlink()


def _write_all(write: Callable[[memoryview], Any], data: bytes | bytearray | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[write(rest) :]
