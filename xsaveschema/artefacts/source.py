# SPDX-License-Identifier: MIT
"""Files as readers see them: bytes by position, whether or not all of them are in memory.

Small files are read whole. Of larger ones what readers look at is read when they do: never mapped,
because whoever cuts a mapped file off kills the process that looks at it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import lru_cache
from operator import index
from pathlib import Path
from typing import Any, Final, Protocol, SupportsIndex, overload

from xsaveschema.errors import XsaveError
from xsaveschema.io import open_regular

MAX_AREA: Final = 16 << 20
"""Bytes. Areas of real CPUs have 576 to 11,776; this leaves 256 KiB for each component."""
MAX_AT_ONCE: Final = 256 << 20
"""The most bytes of a file that are looked at, or kept, at once."""

_PAGE: Final = 64 << 10
_PAGES: Final = 16


class ArtefactError(XsaveError):
    """A file that is not what it says, or is cut off. ``offset`` is the byte where it shows."""

    def __init__(self, message: str, offset: int | None = None):
        super().__init__(message if offset is None else f"at byte {offset:#x}: {message}")
        self.offset = offset


class Data(Protocol):
    """The bytes of a file: a memoryview, or a :class:`Window` of a file that is not in memory.

    A slice is a memoryview of bytes, clipped at the end of the file as slices are.
    """

    def __len__(self) -> int: ...

    @overload
    def __getitem__(self, key: SupportsIndex, /) -> int: ...

    @overload
    def __getitem__(self, key: slice, /) -> memoryview: ...


def require(data: Data, at: int, size: int, what: str, end: int | None = None) -> None:
    """ArtefactError, which calls them ``what``, where there are no ``size`` bytes at byte ``at``.

    ``end`` is where what holds them ends, if not the file. Nothing is looked at.
    """
    end = len(data) if end is None else end
    if at + size > end:
        raise ArtefactError(f"{what} takes {size} bytes, {max(0, end - at)} are left", at)


def part(data: Data, at: int, size: int, what: str, end: int | None = None) -> memoryview:
    """These bytes; ArtefactError as :func:`require`'s where they are not all there."""
    require(data, at, size, what, end)
    return data[at : at + size]


class Struct(struct.Struct):
    """A struct that is read from :class:`Data`."""

    def unpack_from(self, buffer: Any, offset: int = 0) -> tuple[Any, ...]:
        """The values at byte ``offset``; struct.error where the data end before."""
        return self.unpack(buffer[offset : offset + self.size])

    def read(self, data: Data, at: int, what: str, end: int | None = None) -> tuple[Any, ...]:
        """The values at byte ``at``; ArtefactError as :func:`require`'s where the data end."""
        return self.unpack(part(data, at, self.size, what, end))


class Window:
    """Data that ``fetch(start, size)`` brings, piece by piece, as readers look at them.

    Slices are 256 MiB at most: ArtefactError beyond.
    """

    __slots__ = ("_fetch", "_size")

    def __init__(self, size: int, fetch: Callable[[int, int], memoryview]):
        self._size = size
        self._fetch = fetch

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        return bytes(self[:])

    @overload
    def __getitem__(self, key: SupportsIndex, /) -> int: ...

    @overload
    def __getitem__(self, key: slice, /) -> memoryview: ...

    def __getitem__(self, key: SupportsIndex | slice, /) -> int | memoryview:
        if not isinstance(key, slice):
            at = index(key)
            if at < 0:
                at += self._size
            if not 0 <= at < self._size:
                raise IndexError(f"byte {at} of {self._size}")
            return self._fetch(at, 1)[0]
        start, stop, step = key.indices(self._size)
        if step != 1:
            raise ValueError("slices of a file have no steps")
        if stop - start > MAX_AT_ONCE:
            raise ArtefactError(
                f"{stop - start} bytes would have to be looked at together; "
                f"{MAX_AT_ONCE >> 20} MiB is the most",
                start,
            )
        return self._fetch(start, stop - start) if stop > start else memoryview(b"")


def behind(data: Data, start: int) -> Window:
    """The data from byte ``start`` on, however much that is; nothing of it is looked at yet."""
    return Window(len(data) - start, lambda at, size: data[start + at : start + at + size])


class Source(AbstractContextManager["Source"]):
    """An open regular file: its ``path``, its ``data`` and, for copying it, its ``descriptor``.

    The data can be looked at until the file is closed. Raises OSError, and ArtefactError for what
    is no regular file; looking does so where the file has become shorter since.
    """

    __slots__ = ("_pages", "data", "descriptor", "path")

    def __init__(self, path: str | os.PathLike[str]):
        self._pages: _Pages | None = None
        self.descriptor = -1
        self.path = Path(path)
        self.descriptor = open_regular(self.path, ArtefactError)
        size = os.fstat(self.descriptor).st_size
        self.data: Data
        if size > MAX_AREA:
            self._pages = _Pages(self.descriptor, size)
            self.data = Window(size, self._pages.fetch)
            return
        with open(self.descriptor, "rb", closefd=False) as file:
            self.data = memoryview(file.read(MAX_AREA + 1))

    def close(self) -> None:
        """Let go of the file."""
        if self.descriptor >= 0:
            if self._pages is not None:
                self._pages.file = -1  # the number is soon another file's
            os.close(self.descriptor)
            self.descriptor = -1

    def __del__(self) -> None:
        self.close()  # of an iterator that nobody started

    def __exit__(self, *_: object) -> None:
        self.close()


class _Pages:
    """The pages of a file that were looked at last."""

    def __init__(self, file: int, size: int):
        self.file = file
        self._size = size
        self._page = lru_cache(_PAGES)(self._whole)

    def fetch(self, start: int, size: int) -> memoryview:
        """Bytes that the file had when it was opened; ArtefactError where it has them no longer."""
        number, at = divmod(start, _PAGE)
        if at + size > _PAGE:
            return self._read(start, size)
        return self._page(number)[at : at + size]

    def _whole(self, number: int) -> memoryview:
        first = number * _PAGE
        return self._read(first, min(_PAGE, self._size - first))

    def _read(self, start: int, size: int) -> memoryview:
        found = b""
        while len(found) < size:
            more = _pread(self.file, size - len(found), start + len(found))
            if not more:
                raise ArtefactError("the file became shorter while it was read", start + len(found))
            found += more
        return memoryview(found)


def _pread(file: int, size: int, offset: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(file, size, offset)
    os.lseek(file, offset, os.SEEK_SET)
    return os.read(file, size)
