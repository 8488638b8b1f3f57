"""ELF cores for the tests: written byte by byte here, or by the kernel and GDB.

The writer shares nothing with the package: the structures are those of elf.h and of Linux's and
FreeBSD's core dumps. `loaded` runs a program whose threads hold areas in their registers.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import processor
import pytest

XSTATE, LAYOUT, PRSTATUS = 0x202, 0x205, 1
PROGRAM = Path(__file__).with_name("loaded.py")


def note(owner: bytes, kind: int, body: bytes, align: int = 4) -> bytes:
    name = owner + b"\0"
    head = struct.pack("<III", len(name), len(body), kind) + name
    head += bytes(-len(head) % align)
    return head + body + bytes(-len(body) % align)


def prstatus(pid: int, bits: int = 64, align: int = 4) -> bytes:
    """Linux's struct elf_prstatus: pr_pid behind siginfo, pr_cursig and two signal sets."""
    head = bytes(32 if bits == 64 else 24) + struct.pack("<i", pid)
    return note(b"CORE", PRSTATUS, head.ljust(336 if bits == 64 else 144, b"\0"), align)


def freebsd_prstatus(pid: int) -> bytes:
    """FreeBSD's: version, three sizes, pr_osreldate, pr_cursig, pr_pid."""
    body = struct.pack("<i4xQQQiii4x", 1, 336, 176, 512, 1400000, 11, pid)
    return note(b"FreeBSD", PRSTATUS, body.ljust(224, b"\0"))


def layout_note(rows: Iterable[tuple[int, int, int]], align: int = 4) -> bytes:
    body = b"".join(struct.pack("<IIII", number, size, at, 0) for number, size, at in rows)
    return note(b"LINUX", LAYOUT, body, align)


def threads(areas: Sequence[bytes], first: int = 100, bits: int = 64, align: int = 4) -> bytes:
    """What Linux writes for threads `first`, `first` + 1, …: the notes that matter here."""
    found = b""
    for index, area in enumerate(areas):
        found += prstatus(first + index, bits, align)
        found += note(b"CORE", 2, bytes(512), align)
        found += note(b"LINUX", XSTATE, area, align)
    return found


def core(
    *notes: bytes,
    bits: int = 64,
    align: int = 4,
    load: bytes = b"memory of the process",
    machine: int | None = None,
    kind: int = 4,
    many: int = 0,
    sections: bool = False,
) -> bytes:
    """A core with a PT_NOTE segment for each of `notes` and a PT_LOAD behind them.

    `many` adds so many empty PT_LOADs, counted in the first section header as Linux does.
    `sections` describes the note segments by section headers too, as GDB's gcore does.
    """
    wide = bits == 64
    count = len(notes) + 1 + many
    header, entry, row = (64, 56, 64) if wide else (52, 32, 40)
    at = header + count * entry
    table = b""
    places = []
    for body in notes:
        places.append((at, len(body)))
        table += _segment(wide, 4, at, len(body), 0, align)
        at += len(body)
    table += _segment(wide, 1, at, len(load), len(load), 4096)
    table += _segment(wide, 1, 0, 0, 4096, 4096) * many
    rows = []
    if many or sections:
        rows = [_section(wide, 0, 0, 0, count if many else 0)]
    if sections:
        rows += [_section(wide, 7, *place, 0) for place in places]
    shoff = at + len(load) if rows else 0
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + bytes(9)
    rest = (kind, machine or (62 if wide else 3), 1)
    head = struct.pack("<16sHHI" + ("QQQ" if wide else "III"), ident, *rest, 0, header, shoff)
    phnum = 0xFFFF if many else count
    head += struct.pack("<IHHHHHH", 0, header, entry, phnum, row if rows else 0, len(rows), 0)
    return head + table + b"".join(notes) + load + b"".join(rows)


def _segment(wide: bool, kind: int, at: int, size: int, memory: int, align: int) -> bytes:
    if wide:
        return struct.pack("<IIQQQQQQ", kind, 4, at, 0x400000, 0, size, memory, align)
    return struct.pack("<8I", kind, at, 0x400000, 0, size, memory, 4, align)


def _section(wide: bool, kind: int, at: int, size: int, info: int) -> bytes:
    if wide:
        return struct.pack("<IIQQQQIIQQ", 0, kind, 0, 0, at, size, 0, info, 1, 0)
    return struct.pack("<10I", 0, kind, 0, 0, at, size, 0, info, 1, 0)


# The program whose threads hold known areas.


class Loaded(NamedTuple):
    """A process whose threads have loaded areas: `threads` maps thread to index of the area."""

    process: subprocess.Popen[bytes]
    threads: dict[int, int]
    saved: Path

    def sees(self, index: int) -> bytes:
        """What thread `index` has saved of its registers just now, where it runs as `watch`."""
        with self.saved.open("rb") as file:

            def saves() -> int:
                return int.from_bytes(self._part(file, index)[-8:], "little")

            first, deadline = saves(), time.monotonic() + 20
            while saves() < first + 2:  # the first of them may have begun before
                assert time.monotonic() < deadline, f"thread {index} does not run"
                time.sleep(0.0005)
            while True:
                part = self._part(file, index)
                if part == self._part(file, index):
                    return part[:-64]

    def _part(self, file: BinaryIO, index: int) -> bytes:
        size = self.saved.stat().st_size // len(self.threads)
        return os.pread(file.fileno(), size, index * size)


@contextmanager
def loaded(
    areas: Sequence[bytes], folder: Path, crash: bool = False, watch: bool = False
) -> Iterator[Loaded]:
    """Run `loaded.py`: thread i has restored areas[i]. With `crash` it is dead, and has dumped."""
    if why := processor.real():
        pytest.skip(why)
    size = max(len(area) for area in areas)
    image = folder / "areas.bin"
    image.write_bytes(b"".join(area.ljust(size, b"\0") for area in areas))
    saved = folder / "areas.bin.seen"
    saved.write_bytes(bytes(len(areas) * (-(-size // 64) * 64 + 64)))
    mode = "crash" if crash else "watch" if watch else "wait"
    command = [sys.executable, "-I", str(PROGRAM), mode, str(image), str(len(areas))]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if crash:
                process.wait(60)
            yield Loaded(process, {int(k): v for k, v in json.loads(line).items()}, saved)
        finally:
            process.kill()


def kernel_core(folder: Path) -> Path:
    """The core that the kernel wrote into this folder; the test is skipped where it does not."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    found = list(folder.glob("core*"))
    if not found:
        pytest.skip(f"the kernel writes no core into the folder: core_pattern is {pattern!r}")
    return found[0]


def gdb(*commands: str, folder: Path, arguments: Sequence[str] = ()) -> str:
    """What GDB prints, errors behind the rest; the test is skipped where there is no GDB."""
    return "".join(gdb_apart(*commands, folder=folder, arguments=arguments))


def gdb_apart(*commands: str, folder: Path, arguments: Sequence[str] = ()) -> tuple[str, str]:
    """The same, standard output and standard error apart."""
    line = ["gdb", "-q", "-nx", "-batch", "-iex", "set debuginfod enabled off", *arguments]
    for command in commands:
        line += ["-ex", command]
    return debugged(line, folder, {})


def debugged(line: list[str], folder: Path, more: dict[str, str]) -> tuple[str, str]:
    """What a debugger prints, in an environment that knows nothing of the one of the tests.

    The Python inside a debugger looks for its modules beside the python3 that PATH has.
    """
    program = shutil.which(line[0])
    if program is None:
        pytest.skip(f"there is no {line[0]}")
    environment = {"PATH": os.defpath, "HOME": str(folder), "LC_ALL": "C.UTF-8", **more}
    done = subprocess.run(
        [program, *line[1:]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout, done.stderr


def lldb(*commands: str, folder: Path, arguments: Sequence[str] = ()) -> tuple[str, str]:
    """What LLDB prints, standard output and error; the test is skipped where there is no LLDB.

    Debian's finds its own Python module by PYTHONPATH alone.
    """
    version, _ = debugged(["lldb", "--version"], folder, {})
    found = re.search(r"version (\d+)", version)
    modules = Path("/usr/lib").glob(f"llvm-{found[1] if found else '*'}/lib/python3*/*-packages")
    line = ["lldb", "-x", "-b", *arguments]
    for command in commands:
        line += ["-o", command]
    return debugged(line, folder, {"PYTHONPATH": ":".join(map(str, modules))})
