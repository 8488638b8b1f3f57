# SPDX-License-Identifier: MIT
"""``info xsave``, ``xsave set`` and ``$xsave()`` for GDB, whatever layouts that GDB knows.

A core is read from its file; a process by ptrace from within GDB, which traces it anyway. Python
3.6 runs this module, inside GDB.
"""

import mmap
import re
from inspect import cleandoc
from typing import Any

from xsaveschema.artefacts.elf_notes import is_core
from xsaveschema.artefacts.ptrace import regset, set_regset
from xsaveschema.debuggers.areas import Area, RefusedError, Tables, of_host, of_thread
from xsaveschema.debuggers.commands import USAGE, asked, lanes_of, reason, set_register, shown

_WIDTH = 80  # where GDB does not wrap lines
_TARGET = re.compile(r"^\s+- (\S+) \(", re.M)
# "Local core dump file: `/tmp/core', file type elf64-x86-64.", in any language of GDB's messages
_CORE = re.compile(r"(/.+?)\W*,\s[^,]*elf(?:32|64)-")
_MEMBERS = {"f16": "v8_half", "bf16": "v8_bfloat16", "f32": "v4_float", "f64": "v2_double"}
"""The members of GDB's own $xmm0 that have a type of floating point, whatever the language."""
_INTEGERS = {1: "unsigned char", 2: "unsigned short", 4: "unsigned int", 8: "unsigned long"}


def install(gdb: Any, tables: Tables) -> None:
    """Define the commands and the function in the GDB that this runs in."""

    def answer(make: Any, *arguments: Any) -> Any:
        try:
            return make(Debugger(gdb, tables), *arguments)
        except (ValueError, OSError) as error:
            raise gdb.GdbError(f"xsave: {reason(error)}") from None

    class InfoXsave(gdb.Command):  # type: ignore[misc]
        __doc__ = f"Show the XSAVE state of the current thread.\nUsage: info xsave {USAGE}"

        def __init__(self) -> None:
            super().__init__("info xsave", gdb.COMMAND_STATUS)

        def invoke(self, text: str, from_tty: bool) -> None:
            gdb.write(answer(Debugger.show, gdb.string_to_argv(text)) + "\n")

    class Xsave(gdb.Command):  # type: ignore[misc]
        """Commands for the XSAVE state of the current thread."""

        def __init__(self) -> None:
            super().__init__("xsave", gdb.COMMAND_DATA, prefix=True)

    class XsaveSet(gdb.Command):  # type: ignore[misc]
        """Write a register of the current thread, which must be a live process's.

        Usage: xsave set REGISTER VALUE, xsave set REGISTER TYPE VALUES
        VALUE is a number, or hex: and the bytes as they stand in memory; VALUES are all lanes of
        the register, lowest first, as info xsave --as TYPE shows them: xsave set xmm3 f32 1.0 2.5
        -0.0 inf. st0 to st7 take f80.
        """

        def __init__(self) -> None:
            super().__init__("xsave set", gdb.COMMAND_DATA)

        def invoke(self, text: str, from_tty: bool) -> None:
            answer(Debugger.set, gdb.string_to_argv(text))

    class XsaveValue(gdb.Function):  # type: ignore[misc]
        """A register of the current thread's XSAVE state: $xsave("k1"), $xsave("zmm17", "f32").

        The second argument is the type of the lanes; without it, they are 64-bit integers. A tile
        is a matrix of bytes, or of lanes of the type.
        """

        def __init__(self) -> None:
            super().__init__("xsave")

        def invoke(self, name: Any, type: Any = None) -> Any:
            try:
                words = [name.string(), "" if type is None else type.string()]
            except gdb.error:
                raise gdb.GdbError('name a register as a string: $xsave("zmm17")') from None
            return answer(Debugger.value, *words)

    for each in (InfoXsave, Xsave, XsaveSet, XsaveValue):
        each.__doc__ = cleandoc(str(each.__doc__))
        each()


class Debugger:
    """GDB, as the commands find it: its current thread and what that belongs to."""

    def __init__(self, gdb: Any, tables: Tables):
        self._gdb = gdb
        self._tables = tables
        self._thread = gdb.selected_thread()
        if self._thread is None:
            raise RefusedError("there is no thread: load a core or start a process")
        process, lwp, _ = self._thread.ptid
        self._number = lwp or process

    def show(self, words: "list[str]") -> str:
        """What ``info xsave`` prints."""
        wanted = asked(words)
        width = self._gdb.parameter("width") or _WIDTH
        return shown(self._area(wanted.model), f"thread {self._number}", wanted, width)

    def set(self, words: "list[str]") -> None:
        """Write a register of a live process, and see that the kernel has taken it."""
        if not self._live():
            raise RefusedError("a core cannot be written to; xsaveschema patch writes a new one")
        if self._gdb.parameter("may-write-registers") is False:
            raise RefusedError("GDB may not write registers (may-write-registers)")
        area = self._area()
        name = set_register(area, words)
        try:
            set_regset(self._number, bytes(area.buffer))
        except OSError as error:
            raise RefusedError(
                f"the kernel refuses this value of {name}: {error.strerror}"
            ) from None
        self._flush()
        if self._area().registers[name] != area.registers[name]:
            raise RefusedError(f"the kernel has not taken this value of {name}")

    def value(self, name: str, type: str) -> Any:
        """A register as GDB's value: a number, a vector of lanes, or a matrix."""
        area = self._area()
        data, type = lanes_of(area, name, type)
        if not data:
            raise RefusedError(f"{name} has no rows: TILECFG")
        kind = self._type(type)
        count = len(data) // kind.sizeof
        if isinstance(area.registers[name], bytes):
            rows, _ = area.registers.shape(name)
            kind = kind.array(count // rows - 1).array(rows - 1)
        elif count > 1:
            kind = kind.vector(count - 1)
        return self._gdb.Value(data.ljust(kind.sizeof, b"\0"), kind)

    def _type(self, type: str) -> Any:
        """GDB's type for lanes of a type, in whatever language GDB is set to."""
        gdb = self._gdb
        if type[0] in "iu":
            size, signed = int(type[1:]) // 8, type[0] == "i"
            architecture = self._thread.inferior.architecture()
            if hasattr(architecture, "integer_type"):  # GDB 12
                return architecture.integer_type(8 * size, signed)
            kind = _INTEGERS[size]
            return gdb.lookup_type(kind.replace("unsigned", "signed") if signed else kind)
        where = "$st0" if type == "f80" else f"$xmm0.{_MEMBERS[type]}[0]"
        try:
            return gdb.parse_and_eval(where).type
        except gdb.error:
            raise RefusedError(f"this GDB has no type for {type}: info xsave --as {type}") from None

    def _area(self, model: str = "") -> Area:
        """The current thread's area."""
        if self._live():
            return of_host(regset(self._number), self._tables, model)
        path = self._core_path()
        with open(path, "rb") as file:  # noqa: PTH123 - for Python 3.6, and no more than that
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return of_thread(data, self._number, self._tables, model)

    def _live(self) -> bool:
        """Whether this GDB traces the thread; else it is a core's. Other targets are refused."""
        targets = _TARGET.findall(self._gdb.execute("maint print target-stack", to_string=True))
        if "core" in targets:
            return False
        if "native" not in targets or any(name.startswith("record") for name in targets):
            raise RefusedError(
                f"the target is {targets[0] if targets else 'unknown'}: only cores and processes "
                "that this GDB itself traces are read"
            )
        if self._thread.is_running():
            raise RefusedError(f"thread {self._number} is running")
        return True

    def _core_path(self) -> str:
        """The core's file: GDB tells it in text alone."""
        for line in self._gdb.execute("info files", to_string=True).splitlines():
            match = _CORE.search(line)
            if match and is_core(match.group(1)):
                return match.group(1)
        raise RefusedError("GDB does not tell where the core's file is")

    def _flush(self) -> None:
        """GDB keeps registers that it has read; it must read them anew."""
        try:
            self._gdb.execute("maint flush register-cache", to_string=True)
        except self._gdb.error:  # before GDB 11
            self._gdb.execute("flushregs", to_string=True)
