"""Running the command line on a terminal, as a person has it."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from contextlib import suppress

import pytest

_STYLE = re.compile(r"\x1b\[[0-9;]*m")


def on_terminal(
    *args: str,
    columns: int = 80,
    code: int = 0,
    program: tuple[str, ...] = ("-m", "xsaveschema"),
    **env: str,
) -> str:
    """What a command writes to a terminal of so many columns, its standard error included."""
    fcntl = pytest.importorskip("fcntl", reason="no terminals to open here")
    import pty
    import termios

    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    inherited = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    child = subprocess.Popen(
        [sys.executable, *program, *args],
        stdin=other,
        stdout=other,
        stderr=other,
        env={**inherited, "TERM": "xterm-256color", "PYTHONUTF8": "1", **env},
    )
    os.close(other)
    found = b""
    with suppress(OSError):  # EIO: the other end is closed
        while part := os.read(main, 1 << 16):
            found += part
    os.close(main)
    assert child.wait() == code, found.decode()
    return found.decode().replace("\r\n", "\n")


def unstyled(text: str) -> str:
    """A text without its colours."""
    return _STYLE.sub("", text)
