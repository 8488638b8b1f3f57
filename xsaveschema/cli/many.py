"""``convert --batch``: a file of many areas, with a progress bar on a terminal."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, TextIO, cast

import click

from xsaveschema.cli.areas import as_shown
from xsaveschema.cli.files import (
    SAMPLE,
    about,
    open_regular,
    read_area,
    standard_input,
    standard_stream,
)
from xsaveschema.cli.options import Many, note
from xsaveschema.errors import TooShortError, XsaveError
from xsaveschema.header import MASKS
from xsaveschema.layout import compacted, standard
from xsaveschema.model import COMPACTED, EXTENDED_OFFSET, HEADER_OFFSET, CpuModel, Format

if TYPE_CHECKING:
    from xsaveschema.stream import OnError, Piece, Task

_SAID: Final = 20
"""Bad areas that are told one by one on standard error."""


def convert_many(
    source: str,
    output: str,
    many: Many,
    writer: CpuModel,
    model: CpuModel,
    format: Format,
    mask: int | None,
    drop: tuple[str | int, ...],
) -> int:
    """Convert the areas of FILE into OUT; 1 where some could not be."""
    try:
        from xsaveschema.stream import Task
    except ModuleNotFoundError as error:
        raise XsaveError(f"--batch needs {error.name}: pip install 'xsaveschema[batch]'") from None
    with ExitStack() as stack:
        stack.enter_context(about(source))
        file = stack.enter_context(_opened(source))
        head = _head(file)
        seen, how = as_shown(writer, head)
        if seen is not writer:
            note(f"{how} of the first area")
        target = seen if model is writer else as_shown(model, head)[0]
        stride = many.stride or _length(seen, head)
        on_error = cast("OnError", many.on_error)
        task = Task(seen, target, format, stride, mask, drop, on_error, many.threads)
        tally = _Tally(many.on_error, stack.enter_context(_report(many.bad)))
        pieces = _pieces(task, source, file, head, output, stack)
        with _progress(file, stride) as advance, _kept(output):
            for piece in pieces:
                tally.add(piece)
                advance(piece.count)
    tally.tell(output, task)
    return 1 if tally.bad else 0


def _pieces(
    task: Task, source: str, file: BinaryIO, head: bytes, output: str, stack: ExitStack
) -> Iterator[Piece]:
    """The conversion that suits the two ends: only files can be gone on with."""
    from xsaveschema.stream import convert_file, convert_stream

    goal = Path(output)
    to_file = output != "-" and (not goal.exists() or goal.is_file())
    if to_file and source != "-" and not source.startswith(SAMPLE):
        return convert_file(task, file, goal)
    if output == "-":
        return convert_stream(task, file, standard_stream(sys.stdout, "standard output"), head)
    return convert_stream(task, file, stack.enter_context(goal.open("wb", buffering=0)), head)


@contextmanager
def _kept(output: str) -> Iterator[None]:
    """Say where the areas are that were done before one stopped the work."""
    from xsaveschema.batch import BatchError

    try:
        yield
    except BatchError as error:
        part = Path(os.path.realpath(output) + ".part")
        if output == "-" or not part.exists():
            raise
        raise XsaveError(
            f"{error}\n{part} keeps the areas before it: the same command goes on from there, "
            "with --on-error skip or copy past it"
        ) from error


@contextmanager
def _opened(source: str) -> Iterator[BinaryIO]:
    if source == "-":
        yield standard_input()
    elif source.startswith(SAMPLE):
        yield BytesIO(read_area(source))
    else:
        with open_regular(Path(source)) as file:
            yield file


def _head(file: BinaryIO) -> bytes:
    """The legacy region and the header of the first area."""
    head = b""
    while len(head) < EXTENDED_OFFSET and (more := file.read(EXTENDED_OFFSET - len(head))):
        head += more
    if len(head) < EXTENDED_OFFSET:
        raise TooShortError(
            f"has {len(head)} bytes, and an area at least {EXTENDED_OFFSET}",
            EXTENDED_OFFSET,
            len(head),
        )
    return head


def _length(writer: CpuModel, head: bytes) -> int:
    """The length of the first area in bytes, by its own header."""
    xcomp_bv = MASKS.unpack_from(head, HEADER_OFFSET)[1]
    if xcomp_bv & COMPACTED:
        return compacted(writer, xcomp_bv & ~COMPACTED).size
    return standard(writer, writer.xcr0).size


@contextmanager
def _report(path: str | None) -> Iterator[TextIO | None]:
    if path is None:
        yield None
        return
    with Path(path).open("w", encoding="utf-8") as report:
        yield report


class _Tally:
    """Counts what has been done, and tells bad areas: the first ones here, all in the report."""

    def __init__(self, on_error: str, report: TextIO | None):
        self.areas = self.bad = self.resumed = 0
        self.dropped: Counter[str] = Counter()
        self._on_error = on_error
        self._report = report

    def add(self, piece: Piece) -> None:
        self.areas += piece.count
        self.resumed += piece.count if piece.resumed else 0
        self.dropped.update(piece.dropped)
        for index, fault in piece.bad.items():
            self.bad += 1
            if self._report is not None:
                self._report.write(json.dumps({"index": index, "fault": fault}) + "\n")
            if self.bad <= _SAID:
                note(f"area {index}: {fault}")

    def tell(self, output: str, task: Task) -> None:
        """Say in one line what was written."""
        parts = [
            f"{self.areas:,} areas, {task.model.name}, {task.format} format, "
            f"{task.width:,} bytes each"
        ]
        if self.resumed:
            parts.append(f"{self.resumed:,} of them by an earlier run")
        if self.bad > _SAID:
            note(f"and {self.bad - _SAID:,} more; --bad FILE lists them all")
        if self.bad:
            fate = "zeros in their places" if self._on_error == "skip" else "copied as they were"
            parts.append(f"{self.bad:,} could not be converted: {fate}")
        if self.dropped:
            lost = ", ".join(f"{name} ({count:,} areas)" for name, count in self.dropped.items())
            parts.append(f"dropped: {lost}")
        name = "standard output" if output == "-" else click.format_filename(output)
        click.echo(f"{name}: {'; '.join(parts)}", err=True)


@contextmanager
def _progress(file: BinaryIO, stride: int) -> Iterator[Callable[[int], object]]:
    """A bar on a terminal, and nothing elsewhere; gives the function that takes areas done."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    status = os.fstat(file.fileno())
    total = status.st_size // stride if stat.S_ISREG(status.st_mode) else None
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        line = bar.add_task("areas", total=total)
        yield lambda count: bar.advance(line, count)
