"""Files as readers see them, whatever their size.

Small files are read whole. Of larger ones what readers look at is read when they do: never mapped,
because whoever cuts a mapped file off kills the process that looks at it.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final

from xsaveschema.artefacts.data import ArtefactError, Data, Window
from xsaveschema.io import open_regular

MAX_AREA: Final = 16 << 20
"""Bytes. Areas of real CPUs have 576 to 11,776; this leaves 256 KiB for each component."""

_PAGE: Final = 64 << 10
_PAGES: Final = 16


class Source:
    """An open regular file: its ``path``, its ``data`` and, for copying it, its ``descriptor``.

    The data can be looked at until the file is closed. Raises OSError, and ArtefactError for what
    is no regular file; looking does so where the file has become shorter since.
    """

    __slots__ = ("_pages", "data", "descriptor", "path")

    def __init__(self, path: str | os.PathLike[str]):
        self.data: Data = memoryview(b"")
        self._pages: _Pages | None = None
        self.descriptor = -1
        self.path = Path(path)
        self.descriptor = open_regular(self.path, ArtefactError)
        with ExitStack() as undo:
            undo.callback(self.close)
            self._load()
            undo.pop_all()

    def _load(self) -> None:
        size = os.fstat(self.descriptor).st_size
        if size > MAX_AREA:
            self._pages = _Pages(self.descriptor, size)
            self.data = Window(size, self._pages.fetch)
            return
        with os.fdopen(os.dup(self.descriptor), "rb") as file:
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

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Pages:
    """The pages of a file that were looked at last."""

    def __init__(self, file: int, size: int):
        self.file = file
        self._size = size
        self._pages: dict[int, memoryview] = {}

    def fetch(self, start: int, size: int) -> memoryview:
        """Bytes that the file had when it was opened; ArtefactError where it has them no longer."""
        number, at = divmod(start, _PAGE)
        if at + size > _PAGE:
            return self._read(start, size)
        page = self._pages.get(number)
        if page is None:
            if len(self._pages) >= _PAGES:
                del self._pages[next(iter(self._pages))]
            first = number * _PAGE
            page = self._read(first, min(_PAGE, self._size - first))
            self._pages[number] = page
        return page[at : at + size]

    def _read(self, start: int, size: int) -> memoryview:
        found = _pread(self.file, size, start)
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
