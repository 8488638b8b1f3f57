# SPDX-License-Identifier: MIT
"""``convert --batch``: a file of many areas, with a progress bar on a terminal."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final, TextIO, cast

import click

from xsaveschema import samples
from xsaveschema.artefacts.containers import packed
from xsaveschema.artefacts.opened import SAMPLE
from xsaveschema.artefacts.reader import Options
from xsaveschema.cli.files import about, named, permitted, standard_input, standard_stream
from xsaveschema.cli.inputs import goal
from xsaveschema.cli.options import Many
from xsaveschema.cli.output import console, echo, note, stop_waiting
from xsaveschema.errors import TooShortError, XsaveError, hex_mask
from xsaveschema.evidence import seen_under, shown_in
from xsaveschema.header import MASKS
from xsaveschema.io import is_device, open_regular
from xsaveschema.layout import compacted, standard
from xsaveschema.many.batch import BatchError
from xsaveschema.many.stream import (
    Done,
    Task,
    convert_file,
    convert_new,
    convert_stream,
    journal_of,
    part_of,
)
from xsaveschema.model import COMPACTED, EXTENDED_OFFSET, HEADER_OFFSET, CpuModel, Format
from xsaveschema.traces import of_kvm

_SAID: Final = 20
"""Bad areas that are told one by one on standard error."""


def convert_many(
    source: str,
    output: str,
    many: Many,
    options: Options,
    cpu: CpuModel | None,
    format: Format | None,
    mask: int | None,
    drop: tuple[str | int, ...],
) -> int:
    """Convert the areas of FILE into OUT; 1 where some could not be.

    ``options`` has the model that wrote them, ``cpu`` is the one whose layout the results have.
    """
    writer = options.model
    assert writer is not None  # noqa: S101 - the caller's condition
    _refuse_collisions(source, output, many)
    with ExitStack() as stack:
        stack.enter_context(about(source))
        file = stack.enter_context(_opened(source))
        head = _head(file)
        # The first area tells how far apart they are, and what its system had enabled, which the
        # results have then; beyond that each is judged by itself.
        seen, stride = _first(writer, head, many.stride)
        if seen.xcr0 != writer.xcr0:
            note(f"model {writer.label} limited to XCR0 {hex_mask(seen.xcr0)} by the first area")
        target, mask = goal(seen, cpu, format or _format(head), mask, options.catalog)
        task = Task(writer, target, format, stride, mask, drop, many.errors, many.threads)
        task = replace(task, assume=options.assume).kept(head)
        tally = stack.enter_context(_Tally(many.errors, many.bad, permitted(source)))
        pieces = _pieces(task, source, file, head, output)
        with _progress(file, stride) as advance, _kept(source, output, many, task, tally):
            for piece in pieces:
                tally.add(piece)
                advance(piece.count)
    tally.tell(output, task)
    return 1 if tally.bad else 0


def _pieces(task: Task, source: str, file: BinaryIO, head: bytes, output: str) -> Iterator[Done]:
    """The conversion that suits the two ends: only between files can it be gone on with."""
    if output == "-":
        return convert_stream(task, file, standard_stream(sys.stdout, "standard output"), head)
    goal = Path(output)
    if _resumable(source, output):
        return convert_file(task, file, goal)
    return convert_new(task, file, goal, head, permitted(source))


def _is_file(source: str) -> bool:
    return source != "-" and not source.startswith(SAMPLE)


def _resumable(source: str, output: str) -> bool:
    return _is_file(source) and output != "-" and not is_device(output)


def _refuse_collisions(source: str, output: str, many: Many) -> None:
    """Wrong usage, where a file of the run would be written over, or the only copy lost."""
    goal = Path(os.path.realpath(output))
    read = Path(os.path.realpath(source)) if _is_file(source) else None
    if many.errors == "skip" and _resumable(source, output) and read == goal:
        raise click.UsageError("--errors skip onto FILE itself would lose the bad areas")
    if many.bad is None:
        return
    report = Path(os.path.realpath(many.bad))
    files = [goal, part_of(goal), journal_of(goal)] if output != "-" else []
    files += [read] if read else []
    taken = [path.stat() for path in files if path.exists()]
    for stream in (sys.stdin, sys.stdout):
        with suppress(AttributeError, OSError):  # closed, or no file
            taken.append(os.fstat(stream.fileno()))
    same = report.exists() and any(os.path.samestat(report.stat(), status) for status in taken)
    if many.bad == "-" or report in files or same:
        raise click.UsageError("--bad names a file of its own, not one that is read or written")


@contextmanager
def _kept(source: str, output: str, many: Many, task: Task, tally: _Tally) -> Iterator[None]:
    """Where the work ends early, say what is kept of it, and how it is gone on with."""
    part = part_of(Path(os.path.realpath(output)))

    def kept() -> str:
        if not _resumable(source, output) or not part.is_file():
            return ""
        return f"\n{named(str(part))} keeps what is done: the same command goes on from there"

    try:
        yield
    except BatchError as error:
        tally.report(error.index, str(error.error))
        said = f"{error}{kept()}"
        if said != str(error):
            # Areas that are copied need room, which those before this one were not given.
            fates = "skip or copy" if task.layout.size >= task.stride else "skip"
            said += f", with --errors {fates} past it"
        if error.index == 0 and many.stride is None:
            said += "\nif the areas stand at another distance, say which: --stride BYTES"
        raise XsaveError(said) from error
    except OSError as error:
        if error.filename is not None:
            raise
        raise XsaveError(f"{output}: {error.strerror}{kept()}") from error
    except (KeyboardInterrupt, SystemExit):  # SIGINT, SIGTERM
        if said := kept():
            note(f"interrupted;{said}")
        raise


@contextmanager
def _opened(source: str) -> Iterator[BinaryIO]:
    if source == "-":
        yield standard_input()
    elif source.startswith(SAMPLE):
        yield BytesIO(samples.read(source.removeprefix(SAMPLE)))
    else:
        with os.fdopen(open_regular(source), "rb", buffering=0) as file:
            yield cast("BinaryIO", file)


def _head(file: BinaryIO) -> bytes:
    """The legacy region and the header of the first area."""
    head = b""
    while len(head) < EXTENDED_OFFSET and (more := file.read(EXTENDED_OFFSET - len(head))):
        head += more
    if kind := packed(memoryview(head)):
        raise XsaveError(
            f"is compressed by {kind.name}, and areas are gone on with by position: decompress it "
            f"first ({kind.name} -dc), to a file or to standard input, -"
        )
    if len(head) < EXTENDED_OFFSET:
        raise TooShortError(
            f"has {len(head)} bytes, and an area at least {EXTENDED_OFFSET}",
            EXTENDED_OFFSET,
            len(head),
        )
    return head


def _format(head: bytes) -> Format:
    """The first area's format."""
    return "compacted" if MASKS.unpack_from(head, HEADER_OFFSET)[1] & COMPACTED else "standard"


def _first(writer: CpuModel, head: bytes, stride: int | None) -> tuple[CpuModel, int]:
    """The model as the first area shows it, and how far apart areas are: by its header, or so."""
    view = memoryview(head)
    if stride is not None and of_kvm(view, stride):
        return writer, stride  # the mask in it is the host's, which limits no guest
    if _format(head) == "compacted":
        xcomp_bv = MASKS.unpack_from(head, HEADER_OFFSET)[1]
        return writer, stride or compacted(writer, xcomp_bv & ~COMPACTED).size
    seen = seen_under(writer, shown_in(view, writer))
    return seen, stride or standard(seen, seen.xcr0).size


def _counted(areas: int) -> str:
    return f"{areas:,} area{'s' * (areas != 1)}"


class _Tally:
    """Counts what has been done, and tells bad areas: the first ones here, all in the report.

    The report is begun when there is something to count: a run that is refused leaves an older one.
    """

    def __init__(self, errors: str, path: str | None, like: int):
        self.areas = self.bad = self.resumed = 0
        self.dropped: Counter[str] = Counter()
        self._errors = errors
        self._path = path
        self._like = like
        self._report: TextIO | None = None

    def __enter__(self) -> _Tally:
        return self

    def __exit__(self, *_: object) -> None:
        if self._report is not None:
            self._report.close()

    def add(self, piece: Done) -> None:
        """Count a piece, and tell its bad areas."""
        self._begin()
        self.areas += piece.count
        self.resumed += piece.count if piece.resumed else 0
        self.dropped.update(piece.dropped)
        for index, fault in piece.bad.items():
            self.bad += 1
            self.report(index, fault)
            if self.bad <= _SAID:
                note(f"area {index}: {fault}")

    def report(self, index: int, fault: str) -> None:
        """Write a bad area into the report, where one is asked for."""
        self._begin()
        if self._report is not None:
            self._report.write(json.dumps({"index": index, "fault": fault}) + "\n")

    def _begin(self) -> None:
        if self._report is None and self._path is not None:
            opener = partial(os.open, mode=self._like)
            self._report = open(self._path, "w", encoding="utf-8", opener=opener)  # noqa: SIM115 - Path has no opener; closed by __exit__

    def tell(self, output: str, task: Task) -> None:
        """Say in one line what was written."""
        parts = [
            f"{_counted(self.areas)}, {task.model.label}, {task.format} format, "
            f"{task.width:,} bytes each"
        ]
        if self.resumed:
            parts.append(f"{self.resumed:,} of them by an earlier run")
        if self.bad > _SAID:
            note(f"and {self.bad - _SAID:,} more; --bad FILE lists them all")
        if self.bad:
            fate = "zeros in their places" if self._errors == "skip" else "copied as they were"
            parts.append(f"{self.bad:,} could not be converted: {fate}")
        if self.dropped:
            lost = ", ".join(f"{name} ({_counted(count)})" for name, count in self.dropped.items())
            parts.append(f"dropped: {lost}")
        echo(f"{named(output)}: {'; '.join(parts)}", err=True)


@contextmanager
def _progress(file: BinaryIO, stride: int) -> Iterator[Callable[[int], object]]:
    """A bar on a terminal, and nothing elsewhere; gives the function that takes areas done."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    stop_waiting()
    total = None
    with suppress(OSError):  # a sample is no file
        status = os.fstat(file.fileno())
        total = status.st_size // stride if stat.S_ISREG(status.st_mode) else None
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True)) as bar:
        line = bar.add_task("areas", total=total)
        yield lambda count: bar.advance(line, count)
