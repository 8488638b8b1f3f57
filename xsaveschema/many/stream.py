# SPDX-License-Identifier: MIT
"""Files of many areas, larger than memory: converted piece by piece, and gone on with later.

Areas follow one another at a fixed stride, as an array of them stands in memory. Area i of the
input becomes area i of the output whatever is wrong with its neighbours: one that cannot be
converted keeps its place. A file is written beside its goal, as ``OUT.part``, with a journal of
what is done, ``OUT.part.journal``; the same task goes on from there, and the goal appears when all
is written. Needs the extra ``batch``.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from io import FileIO
from itertools import cycle, islice
from pathlib import Path
from select import select
from typing import Any, BinaryIO, Final, TypeVar, cast

import numpy as np

from xsaveschema.errors import TooShortError, XsaveError
from xsaveschema.header import MASKS, view_of
from xsaveschema.io import NEW_FILE, open_own, permissions, take_place, write_all, written
from xsaveschema.layout import Layout
from xsaveschema.many import batch
from xsaveschema.model import (
    COMPACTED,
    EXTENDED_OFFSET,
    HEADER_OFFSET,
    CpuModel,
    Format,
    require_model,
)
from xsaveschema.plan import Errors, kept_format, require_errors

_PIECE: Final = 16 << 20
"""Bytes of the input, or of the output, that are in memory at once."""
_CHECKPOINT: Final = 64 << 20
"""Bytes after which the output is made safe and the journal says so."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Task:
    """What is to become of each area: the arguments of :func:`xsaveschema.batch.relayout`.

    ``format`` None keeps that of the first area. ``stride`` is the distance between two areas of
    the input in bytes; ``mask`` the XCR0 of a standard result or the XCOMP_BV of a compacted one,
    None for the model's. An area that ``source`` cannot have written is one that cannot be
    converted, unless ``assume`` insists.
    """

    source: CpuModel
    model: CpuModel
    format: Format | None
    stride: int
    mask: int | None = None
    drop: tuple[str | int, ...] = ()
    errors: Errors = "raise"
    threads: int = 1
    assume: bool = False

    def __post_init__(self) -> None:
        require_model(self.source, "source")
        require_model(self.model)
        require_errors(self.errors, "raise", "skip", "copy")
        if self.stride < EXTENDED_OFFSET:
            raise XsaveError(
                f"a stride of {self.stride} bytes: the legacy region and the header alone take "
                f"{EXTENDED_OFFSET}"
            )

    def kept(self, head: bytes) -> Task:
        """The same, with the format of the area that begins with ``head`` where none is named."""
        if self.format is not None:
            return self
        xcomp_bv = MASKS.unpack_from(view_of(head), HEADER_OFFSET)[1]
        standard = not xcomp_bv & COMPACTED
        masks = (self.mask, None) if standard else (None, self.mask)
        format, mask = kept_format(xcomp_bv, self.model, *masks)
        return replace(self, format=format, mask=mask)

    @cached_property
    def layout(self) -> Layout:
        """The layout of the converted areas."""
        return self.convert(np.zeros((0, self.stride), np.uint8), None).layout

    @cached_property
    def width(self) -> int:
        """The distance between two areas of the output in bytes; a copied area fits in whole."""
        return max(self.layout.size, self.stride if self.errors == "copy" else 0)

    def convert(self, areas: batch.Areas, out: batch.Areas | None) -> batch.Batch:
        """Convert some areas; see :func:`xsaveschema.batch.relayout`."""
        standard = self.format == "standard"
        return batch.relayout(
            areas,
            source=self.source,
            target=self.model,
            format=self.format,
            xcr0=self.mask if standard else None,
            xcomp_bv=None if standard else self.mask,
            drop=self.drop,
            out=out,
            threads=self.threads,
            errors=self.errors,
            assume=self.assume,
        )


@dataclass(frozen=True, slots=True)
class Done:
    """Areas that are done: ``count`` of them from the one of index ``first``.

    ``bad`` says by index why an area could not be converted, ``dropped`` how many areas lost a
    component. ``resumed`` pieces were done by an earlier run.
    """

    first: int
    count: int
    bad: dict[int, str]
    dropped: dict[str, int]
    resumed: bool = False


def convert_stream(
    task: Task, source: BinaryIO, sink: BinaryIO, head: bytes = b""
) -> Iterator[Done]:
    """Convert what ``source`` holds into ``sink``; each piece is written when it is yielded.

    ``head`` is what has been read of ``source`` already, less than an area.

    Raises batch.BatchError for an area that stops the work, with all before it written, and
    TooShortError where the last area is cut off.
    """
    task, head = _settled(task, source, head)
    for piece, data in _pieces(task, source, 0, head):
        _write_all(sink.write, data)
        yield piece
    sink.flush()


def convert_new(
    task: Task, source: BinaryIO, output: Path, head: bytes = b"", like: int = NEW_FILE
) -> Iterator[Done]:
    """As :func:`convert_stream`, into a file that appears, whole, when the last piece was taken.

    For ends that cannot be gone on with, as a pipe. A new file has the permissions ``like``, as far
    as the umask lets it.
    """
    with written(output, like) as file:
        yield from convert_stream(task, source, cast("BinaryIO", file), head)


def convert_file(task: Task, source: BinaryIO, output: Path) -> Iterator[Done]:
    """Convert the open file ``source`` into the file ``output``, going on where a run ended.

    Yields what earlier runs did, then each piece that is written. ``output`` appears, whole, when
    the last piece has been taken; until then what is done stands in ``OUT.part``. An area that
    stops the work (batch.BatchError) leaves it there: the same call goes on from that area. Raises
    TooShortError for a file that ends within an area, before anything is written, and XsaveError
    where ``OUT.part`` is not this task's, or not this user's alone, or the input changes while it
    is read. A new file is open to nobody that the input is not open to.
    """
    task, _ = _settled(task, source, b"")
    status = os.fstat(source.fileno())
    whole, rest = divmod(status.st_size, task.stride)
    if rest:
        raise _cut_off(task, whole, rest)
    output = Path(os.path.realpath(output))  # a link stays, what it leads to is replaced
    part = part_of(output)
    like = permissions(source.fileno())
    mode = 0o600 if output.exists() else like | 0o600
    with (
        _Journal(journal_of(output), task, source) as journal,
        _opened(part, mode) as file,
        # Left before the file is closed that it makes safe.
        ThreadPoolExecutor(1, "xsaveschema-journal") as aside,
    ):
        written = file.seek(0, os.SEEK_END)
        if not journal.scan(written // task.width) and written:
            raise XsaveError(
                f"{part} exists, and is not what this command left: the input or what is asked for "
                "differs; move it away to begin anew"
            )
        yield from journal.replay()
        journal.start(file, aside)
        source.seek(journal.done * task.stride)
        file.seek(journal.done * task.width)
        file.truncate()
        try:
            for piece, data in _ahead(_pieces(task, source, journal.done, rooms=2)):
                _write_all(file.write, data)
                journal.add(piece, len(data))
                yield piece
        finally:
            journal.end()
            if whole and not journal.done:
                part.unlink()
                journal.path.unlink()
        after = os.fstat(source.fileno())
        if journal.done != whole or _identity(after) != _identity(status):
            raise XsaveError(
                f"the input changed while it was read: {part} may be of both; remove it and "
                f"{journal.path.name} to begin anew"
            )
        take_place(file, part, output, like)
        journal.path.unlink()


def _settled(task: Task, source: BinaryIO, head: bytes) -> tuple[Task, bytes]:
    """The task with a format, and what has been read of the source by now."""
    if task.format is not None:
        return task, head
    while len(head) < EXTENDED_OFFSET and (more := source.read(EXTENDED_OFFSET - len(head))):
        head += more
    return task.kept(head), head


def part_of(output: Path) -> Path:
    """The file that grows until it takes the place of ``output``."""
    return output.with_name(output.name + ".part")


def journal_of(output: Path) -> Path:
    """What says how much of :func:`part_of` is done."""
    return output.with_name(output.name + ".part.journal")


def _pieces(
    task: Task, source: BinaryIO, first: int, head: bytes = b"", rooms: int = 1
) -> Iterator[tuple[Done, memoryview]]:
    """Read and convert; a piece is good until the one ``rooms`` behind it is asked for."""
    rows = max(1, _PIECE // max(task.stride, task.width))
    buffer = bytearray(rows * task.stride)
    areas = np.frombuffer(buffer, np.uint8).reshape(rows, task.stride)
    outs = cycle(np.zeros((rooms, rows, task.width), np.uint8))
    buffer[: len(head)] = head
    at = len(head)
    while got := _read(source, buffer, at):
        at, out = 0, next(outs)
        count, rest = divmod(got, task.stride)
        stop: batch.BatchError | None = None
        try:
            result = task.convert(areas[:count], out[:count])
        except batch.BatchError as error:
            # What stands before it is done: the work can go on from the very area.
            count, stop = error.index, error
            result = task.convert(areas[:count], out[:count])
        if count:
            errors = {first + index: str(error) for index, error in result.errors.items()}
            yield Done(first, count, errors, result.dropped), out[:count].reshape(-1).data
        first += count
        if stop is not None:
            raise batch.BatchError(first, stop.error) from stop.error
        if rest:
            raise _cut_off(task, first, rest)


def _ahead(pieces: Iterator[_T]) -> Iterator[_T]:
    """The same, each made while the one before it is in use.

    Not for what a pipe gives: an interrupt would wait for it.
    """
    with ThreadPoolExecutor(1, "xsaveschema-pieces") as aside:
        coming = aside.submit(next, pieces, None)
        while (piece := coming.result()) is not None:
            coming = aside.submit(next, pieces, None)
            yield piece


def _cut_off(task: Task, whole: int, rest: int) -> TooShortError:
    return TooShortError(
        f"has {whole} areas of {task.stride} bytes, and {rest} bytes of one more: the file is cut "
        "off, or its areas stand at another distance (stride=, on the command line --stride)",
        task.stride,
        rest,
    )


def _read(source: BinaryIO, buffer: bytearray, got: int) -> int:
    """Fill the buffer from byte ``got`` on, as far as there is something: a pipe gives parts."""
    view = memoryview(buffer)
    while count := source.readinto(view[got:]) or _waited(source, view[got:]):  # type: ignore[attr-defined]  # every binary file has it
        got += count
    return got


def _waited(source: BinaryIO, room: memoryview) -> int:
    """What a pipe that does not block gives when there is something; 0 at its end."""
    if not room:
        return 0
    while (count := source.readinto(room)) is None:  # type: ignore[attr-defined]  # see above
        select([source], [], [])
    found: int = count
    return found


def _write_all(write: Callable[[memoryview], Any], data: memoryview) -> None:
    while data:
        count = write(data)
        if count is None:
            raise BlockingIOError(errno.EAGAIN, "the output does not block, and is full")
        data = data[count:]


def _digest(task: Task, errors: Errors, source: BinaryIO) -> str:
    """What makes two runs the same work: the layouts, what is asked for, and the input itself."""
    parts = [
        *([model.digest, model.xcr0, model.xss] for model in (task.source, task.model)),
        [task.format, task.layout.mask, task.stride, task.width, sorted(map(str, task.drop))],
        [errors, task.assume, *_identity(os.fstat(source.fileno()))],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _identity(status: os.stat_result) -> list[int]:
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]


@contextmanager
def _opened(part: Path, mode: int) -> Iterator[BinaryIO]:
    """The unfinished file, for this process alone."""
    with open_own(part, mode) as file:
        with suppress(ImportError):  # no locks there
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise XsaveError(f"{part}: another process is writing it") from None
        yield cast("BinaryIO", file)


class _Journal:
    """What is done of a task, a line of JSON a checkpoint; a line that is torn ends it."""

    def __init__(self, path: Path, task: Task, source: BinaryIO):
        self.path = path
        self.done = 0
        self._digest = _digest(task, task.errors, source)
        # What stopped at a bad area may be gone on with past it.
        self._digests = {self._digest, _digest(task, "raise", source)}
        self._lines = 0
        self._end = 0
        self._waiting: list[Done] = []
        self._unsafe = 0
        self._file: FileIO | None = None
        self._part = -1
        self._aside: ThreadPoolExecutor | None = None
        self._safe: Future[None] | None = None
        with suppress(FileNotFoundError):
            self._file = open_own(path)

    def __enter__(self) -> _Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the journal; what has been made safe stands in it."""
        if self._file is not None:
            self._file.close()

    def scan(self, written: int) -> bool:
        """See what earlier runs of this task did, of ``written`` areas; False for no such runs."""
        lines = self._read()
        head = next(lines, b"")
        if head.rstrip().decode("ascii", "replace") not in self._digests:
            return False
        self._end = len(head)
        for line in lines:
            piece = _piece(line)
            if piece is None or piece.first != self.done or self.done + piece.count > written:
                break
            self.done += piece.count
            self._lines += 1
            self._end += len(line)
        return True

    def _read(self) -> Iterator[bytes]:
        if self._file is not None:
            self._file.seek(0)
            with os.fdopen(os.dup(self._file.fileno()), "rb") as lines:
                yield from lines

    def replay(self) -> Iterator[Done]:
        """What earlier runs did, piece by piece."""
        for line in islice(self._read(), 1, self._lines + 1):
            if piece := _piece(line):
                yield piece

    def start(self, part: BinaryIO, aside: ThreadPoolExecutor) -> None:
        """Go on behind what is done, whatever stands there; the disk is waited for ``aside``."""
        self._part, self._aside = part.fileno(), aside
        head = f"{self._digest}\n".encode()
        if self._file is None or not self._lines:
            self.close()  # a run that has ended since may have removed it
            self.path.unlink(missing_ok=True)
            self._file = open_own(self.path, 0o600)
            self._end = len(head)
        write_all(self._file.fileno(), head, 0)
        self._file.truncate(self._end)

    def add(self, piece: Done, size: int) -> None:
        """Take note of a piece of ``size`` bytes that has been written to the output."""
        self.done += piece.count
        self._waiting.append(piece)
        self._unsafe += size
        if self._unsafe >= _CHECKPOINT:
            self._checkpoint()

    def end(self) -> None:
        """Make safe what has been written, and wait until it is."""
        self._checkpoint()
        self._wait()

    def _checkpoint(self) -> None:
        """Make the output safe, then say that it is; conversion goes on meanwhile."""
        # One at a time: no more is unsafe than two of them cover, and the journal keeps its order.
        self._wait()
        told = [[piece.first, piece.count, piece.bad, piece.dropped] for piece in self._waiting]
        lines = "".join(json.dumps(piece) + "\n" for piece in told).encode()
        if self._aside is not None:
            self._safe = self._aside.submit(self._tell, lines)
        self._waiting.clear()
        self._unsafe = 0

    def _wait(self) -> None:
        # What failed once stays failed: the disk tells of an error only the first time.
        if self._safe is not None:
            self._safe.result()

    def _tell(self, lines: bytes) -> None:
        os.fsync(self._part)
        if self._file is not None:
            self._file.seek(0, os.SEEK_END)
            write_all(self._file.fileno(), lines)


def _piece(line: bytes) -> Done | None:
    """A line of the journal; None for one that is torn, or none of ours."""
    try:
        first, count, bad, dropped = json.loads(line)
        errors = {int(index): str(error) for index, error in bad.items()}
        piece = Done(int(first), int(count), errors, dict(dropped), resumed=True)
    except (ValueError, TypeError, AttributeError):
        return None
    return piece if piece.count > 0 and line.endswith(b"\n") else None
