"""``info xsave`` and ``$xs("zmm17")`` for GDB, whatever layouts that GDB knows.

:func:`gdb_script` gives a script that imports this module into GDB's own Python. For a core the
area is read from the core's file; for a process by PTRACE_GETREGSET from within GDB, which traces
it anyway. (A core that GDB generates would not do: it has the area as GDB understood it.)
"""

from __future__ import annotations

import os
import re
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from xsaveschema.area import XsaveArea
from xsaveschema.area.registers import widest
from xsaveschema.artefacts.reader import ArtefactError, Found, Options
from xsaveschema.errors import XsaveError, hex_mask

_PACKAGES: Final = ("xsaveschema", "msgspec", "yaml")
"""What decoding an area imports. GDB's Python needs their folders on its path."""

_SCRIPT: Final = """\
# xsaveschema for GDB: info xsave [REGISTER...] and $xs("REGISTER") for the current thread.
# Load it with: source THIS-FILE
import sys

import gdb

BUILT_FOR = {version!r}
PATHS = {paths!r}


def _load():
    before = list(sys.path)
    sys.path[:0] = PATHS  # later imports of the package need them too
    try:
        from xsaveschema.artefacts import gdb as commands
    except Exception as error:
        sys.path[:] = before
        said = "%s: %s" % (type(error).__name__, error)
        if sys.version_info[:2] != BUILT_FOR:
            said += " (GDB has Python %d.%d, xsaveschema is installed for %d.%d)" % (
                tuple(sys.version_info[:2]) + BUILT_FOR
            )
        raise gdb.GdbError("xsaveschema cannot be imported into GDB: " + said)
    commands.register()


_load()
"""

# "Local core dump file: `/tmp/core', file type elf64-x86-64.", in any language of GDB's messages
_CORE: Final = re.compile(r"(/.+?)\W*,\s[^,]*elf(?:32|64)-")


def gdb_script() -> str:
    """The script for GDB's ``source``; it names the folders where the package is installed now."""
    paths: list[str] = []
    for package in _PACKAGES:
        spec = find_spec(package)
        origin = spec.origin if spec else None
        if origin is None:
            raise XsaveError(f"the package {package} is not installed in a folder")
        paths.append(str(Path(os.path.realpath(origin)).parent.parent))
    unique = list(dict.fromkeys(paths))
    return _SCRIPT.format(version=tuple(sys.version_info[:2]), paths=unique)


def register() -> None:
    """Define the command and the function in the GDB that this runs in."""
    gdb = import_module("gdb")

    class InfoXsave(gdb.Command):  # type: ignore[misc, name-defined]
        """Show the XSAVE state of the current thread.

        Usage: info xsave [REGISTER...]
        Without names, the registers of components in use.
        """

        def __init__(self) -> None:
            super().__init__("info xsave", gdb.COMMAND_STATUS)

        def invoke(self, text: str, from_tty: bool) -> None:
            found = _current(gdb)
            for line in _lines(found, gdb.string_to_argv(text), gdb):
                gdb.write(line + "\n")

    class Xs(gdb.Function):  # type: ignore[misc, name-defined]
        """A register of the current thread's XSAVE state: $xs("zmm17"), $xs("k1").

        Vectors are arrays of 64-bit integers, the lowest first.
        """

        def __init__(self) -> None:
            super().__init__("xs")

        def invoke(self, name: Any) -> Any:
            try:
                wanted = name.string()
            except gdb.error:
                raise gdb.GdbError('name a register as a string: $xs("zmm17")') from None
            return _value(gdb, _current(gdb).area, wanted)

    InfoXsave()
    Xs()


def _lines(found: Found, names: list[str], gdb: Any) -> list[str]:
    area = found.area
    chosen = names or [name for name in widest(area.layout) if area.registers.in_use(name)]
    shown = [f"{name:<12}{_text(_register(gdb, area, name))}" for name in chosen]
    if names:
        return shown
    in_use = ", ".join(area.model.names_of(area.xstate_bv)) or "nothing"
    return [
        f"{found.label}: {len(area)} bytes, {area.format} format, XCR0 {hex_mask(area.model.xcr0)}",
        f"layout: {found.layout_source} (as {area.model.name})",
        *(f"note: {note}" for note in found.notes),
        *(f"fault: {fault}" for fault in area.faults),
        f"XSTATE_BV {hex_mask(area.xstate_bv)}: {in_use}",
        *shown,
    ]


def _text(value: int | bytes) -> str:
    return value.hex() if isinstance(value, bytes) else f"{value:#x}"


def _register(gdb: Any, area: XsaveArea, name: str) -> int | bytes:
    try:
        value: int | bytes = area.registers[name]
    except XsaveError as error:
        raise gdb.GdbError(str(error)) from None
    return value


def _value(gdb: Any, area: XsaveArea, name: str) -> Any:
    """A register as GDB's value: an integer, an x87 float, or an array."""
    value = _register(gdb, area, name)
    architecture = gdb.selected_inferior().architecture()
    if isinstance(value, bytes):
        if not value:
            raise gdb.GdbError(f"{name} has no rows: TILECFG")
        return gdb.Value(value, architecture.integer_type(8, False).array(len(value) - 1))
    size = area.registers.size(name)
    data = value.to_bytes(max(size, 16), "little")
    if size == 10:
        try:
            kind = gdb.lookup_type("long double")
            if kind.sizeof == 16:
                return gdb.Value(data, kind)
        except gdb.error:
            pass
        size = 16
    if size in (1, 2, 4, 8, 16):
        return gdb.Value(data[:size], architecture.integer_type(8 * size, False))
    return gdb.Value(data[:size], architecture.integer_type(64, False).vector(size // 8 - 1))


def _current(gdb: Any) -> Found:
    """The current thread's area. GdbError where there is no thread, or none that can be read."""
    try:
        return _found(gdb)
    except (XsaveError, OSError) as error:
        notes = getattr(error, "__notes__", ())
        raise gdb.GdbError(": ".join(["xsave", *notes, str(error)])) from None


def _found(gdb: Any) -> Found:
    thread = gdb.selected_thread()
    if thread is None:
        raise ArtefactError("there is no thread: load a core or start a process")
    process, lwp, _ = thread.ptid
    number = lwp or process
    connection = getattr(thread.inferior, "connection", None)
    kind = getattr(connection, "type", None)
    if kind == "native":
        from xsaveschema.artefacts import process as live

        return live.HostLayouts(Options(strict=False)).found(live.regset(number), number)
    if kind != "core":
        raise ArtefactError(
            f"the target is {kind or 'unknown'}: only cores and native processes are read"
        )
    path = _core_path(gdb)
    from xsaveschema import artefacts

    for found in artefacts.open(path, strict=False):
        if found.label == f"thread {number}":
            return found
    raise ArtefactError(f"{path}: has no area of thread {number}")


def _core_path(gdb: Any) -> str:
    """The core's file: GDB tells it in text alone."""
    for line in gdb.execute("info files", to_string=True).splitlines():
        match = _CORE.search(line)
        if match and Path(match[1]).is_file():
            with Path(match[1]).open("rb") as file:
                head = file.read(18)
            if head[16:18] == b"\4\0":  # ET_CORE, not the program
                return match[1]
    raise ArtefactError("GDB does not tell where the core's file is")
