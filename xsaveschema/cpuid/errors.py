"""The error of every reader of CPUID dumps."""

from __future__ import annotations

from xsaveschema.errors import XsaveError, plain


class CpuidDumpError(XsaveError):
    """A CPUID dump that cannot be read, or that must not be believed.

    Attributes: ``message``; ``source``, the file's name as it was given, and ``line``, counted
    from 1 (None: the dump as a whole), say where.
    """

    def __init__(self, message: str, source: str = "", line: int | None = None):
        shown = plain(source)
        place = f"{shown}:{line}" if line is not None else shown
        super().__init__(f"{place}: {message}" if place else message)
        self.message = message
        self.source = source
        self.line = line
