# SPDX-License-Identifier: MIT
"""Bytes from files that may be hostile, and text from bytes."""

from __future__ import annotations

import codecs
import os
from typing import Final

from xsaveschema import io
from xsaveschema.errors import CpuidDumpError, XsaveError

MAX_BYTES: Final = 16 << 20
"""No CPUID dump is longer: the largest known, of 128 logical CPUs, has 3 MB."""


def read_file(path: str, limit: int = MAX_BYTES) -> bytes:
    """Read a regular file, or a pipe that is open already, of at most ``limit`` bytes.

    Anything else raises CpuidDumpError.
    """
    try:
        if io.is_pipe(path):
            with os.fdopen(io.open_pipe(path), "rb") as pipe:
                data = pipe.read(limit + 1)
        else:
            data = io.read_regular(path, limit + 1)
    except (OSError, XsaveError) as error:
        raise CpuidDumpError(getattr(error, "strerror", None) or str(error), path) from None
    require_size(len(data), path, limit)
    return data


def require_size(size: int, source: str, limit: int = MAX_BYTES) -> None:
    """Raise CpuidDumpError for more than ``limit`` bytes."""
    if size > limit:
        raise CpuidDumpError(f"more than {limit} bytes: this is no CPUID dump", source)


def decode(data: bytes, source: str) -> str:
    """Text from UTF-8, UTF-16 with a byte order mark, or else Latin-1; lines end in a line feed."""
    utf_16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        if utf_16:
            raise CpuidDumpError(f"damaged UTF-16 at byte {error.start}", source) from None
        text = data.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")
