# SPDX-License-Identifier: MIT
"""``xsave`` for LLDB, which knows nothing past AVX: on cores, read from their files.

A live process is not read: LLDB's tracer is another process. Python 3.6 runs this module, inside
LLDB.
"""

import mmap
import shlex
from pathlib import Path
from typing import Any

from xsaveschema.artefacts.elf_notes import is_core
from xsaveschema.debuggers.areas import Area, RefusedError, Tables, of_thread
from xsaveschema.debuggers.commands import USAGE, asked, reason, shown

_CORES = "elf-core"
"""What LLDB calls its reader of cores."""
_MAPS = "/proc/self/maps"


class Xsave:
    """The command: LLDB makes one of it."""

    tables: Tables

    def __init__(self, debugger: Any, internal: Any):
        self._width = debugger.GetTerminalWidth()

    def __call__(self, debugger: Any, text: str, context: Any, result: Any) -> None:
        """Show the XSAVE state of the current thread."""
        try:
            result.AppendMessage(self._shown(shlex.split(text), context))
        except (ValueError, OSError) as error:
            result.SetError(reason(error))

    def get_short_help(self) -> str:
        """What ``help`` lists."""
        return "Show the XSAVE state of the current thread of a core."

    def get_long_help(self) -> str:
        """What ``help xsave`` says."""
        more = "--core names the core's file, where LLDB does not tell it."
        return f"{self.get_short_help()}\nUsage: xsave {USAGE}\n{more}"

    def _shown(self, words: "list[str]", context: Any) -> str:
        wanted = asked(words, "--core")
        process, thread = context.GetProcess(), context.GetThread()
        if not thread.IsValid():
            raise RefusedError("there is no thread: load a core")
        if process.GetPluginName() != _CORES:
            raise RefusedError(
                "only ELF cores are read here: a live process is traced by another process, "
                "lldb-server, which hands out no more than the registers that it knows, up to AVX"
            )
        number = thread.GetThreadID()
        area = self._area(wanted.core or _core_path(process), number, wanted.model)
        return shown(area, f"thread {number}", wanted, self._width)

    def _area(self, path: str, thread: int, model: str) -> Area:
        with open(path, "rb") as file:  # noqa: PTH123 - for Python 3.6, and no more than that
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return of_thread(data, thread, self.tables, model)


def _core_path(process: Any) -> str:
    """The core's file: LLDB 17 tells it, and those before have it mapped, if it is large."""
    if hasattr(process, "GetCoreFile"):
        return str(process.GetCoreFile().fullpath)
    mapped = set()
    with open(_MAPS, errors="surrogateescape") as file:  # noqa: PTH123
        for line in file:
            path = Path("/", line.rstrip("\n").partition("/")[2])
            if path.is_file() and is_core(str(path)):
                mapped.add(str(path))
    if len(mapped) != 1:
        raise RefusedError("LLDB does not tell where the core's file is: name it with --core FILE")
    return mapped.pop()


def install(debugger: Any, name: str, tables: Tables) -> None:
    """Define the command in the LLDB that has imported the file as the module ``name``."""
    Xsave.tables = tables
    debugger.HandleCommand(f"command script add -c {name}.Xsave xsave")
