"""Files as readers see them: a view of the bytes, whatever the size of the file.

Small files are read, so that whoever cuts one off later harms nobody; larger ones are mapped, and
what is looked at is all that is loaded.
"""

from __future__ import annotations

import mmap
import os
import stat
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from xsaveschema.artefacts.reader import ArtefactError

MAX_AREA: Final = 16 << 20
"""Bytes. Areas of real CPUs have 576 to 11,776; this leaves 256 KiB for each component."""

_READ_AT_ONCE: Final = 1 << 20
# Never wait for the writer of a FIFO, never become a terminal's process, never hand the file down.
_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


class Source:
    """An open regular file: its ``path``, its ``data`` and, for copying it, its ``descriptor``.

    Raises OSError, and ArtefactError for what is no regular file or is empty.
    """

    __slots__ = ("_mapping", "data", "descriptor", "path")

    def __init__(self, path: str | os.PathLike[str]):
        self.data = memoryview(b"")
        self._mapping: mmap.mmap | None = None
        self.descriptor = -1
        self.path = Path(path)
        try:
            # Looked at first: opening some devices already does something to them.
            _require_regular(self.path.stat().st_mode)
            self.descriptor = os.open(self.path, _FLAGS)
        except ValueError as error:  # a NUL in the name
            raise ArtefactError(str(error)) from None
        with ExitStack() as undo:
            undo.callback(self.close)
            self._load()
            undo.pop_all()

    def _load(self) -> None:
        status = os.fstat(self.descriptor)
        _require_regular(status.st_mode)
        if status.st_size > _READ_AT_ONCE:
            self._mapping = mmap.mmap(self.descriptor, 0, access=mmap.ACCESS_READ)
            self.data = memoryview(self._mapping)
            return
        with os.fdopen(os.dup(self.descriptor), "rb") as file:
            self.data = memoryview(file.read(_READ_AT_ONCE + 1))
        if not self.data:
            raise ArtefactError("is empty")

    def close(self) -> None:
        """Let go of the file. The mapping goes with the last view that a reader still holds."""
        with suppress(BufferError):
            self.data.release()
            if self._mapping is not None:
                self._mapping.close()
        if self.descriptor >= 0:
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


def _require_regular(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise ArtefactError("is a folder")
    if not stat.S_ISREG(mode):
        raise ArtefactError("is no regular file")
