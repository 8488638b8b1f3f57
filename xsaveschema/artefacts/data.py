"""What readers get of a file: bytes by position, whether or not all of them are in memory."""

from __future__ import annotations

import struct
from collections.abc import Callable
from operator import index
from typing import Any, Final, Protocol, SupportsIndex, overload

from xsaveschema.errors import XsaveError

MAX_AT_ONCE: Final = 256 << 20
"""The most bytes of a file that are looked at, or kept, at once."""


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


class Struct(struct.Struct):
    """A struct that is read from :class:`Data`."""

    def unpack_from(self, buffer: Any, offset: int = 0) -> tuple[Any, ...]:
        """The values at byte ``offset``; struct.error where the data end before."""
        return self.unpack(buffer[offset : offset + self.size])


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
