# SPDX-License-Identifier: MIT
"""A live process on Linux: each thread's area by PTRACE_GETREGSET, and one's own by XSAVE64.

A thread is seized, interrupted, read and let go, one after another: no thread stands still for
longer than its own reading takes, and a thread that was stopped stays stopped. As with any
debugger, a system call that the stop interrupts is restarted, or fails with EINTR where Linux does
not restart it (epoll_wait, for one). The layout is that of this machine's CPUID leaf 0xD.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, TypeVar

from xsaveschema.artefacts.layouts import Known, layout_of, told
from xsaveschema.artefacts.ptrace import ptrace, regset
from xsaveschema.artefacts.reader import ArtefactError, Found, Options
from xsaveschema.errors import XsaveError
from xsaveschema.evidence import seen_under, shown_in
from xsaveschema.identify.named import host_model
from xsaveschema.model import CpuModel

_T = TypeVar("_T")

_SECONDS: Final = 2.0
"""How long a thread may take to stop. One in uninterruptible sleep does not."""

_STATES: Final = {
    "D": ", uninterruptible sleep",
    "t": ", a stop that another thread of this process has waited for",
}
_ENDED: Final = "ZX"
_DETACH: Final = 17
_SEIZE: Final = 0x4206
_INTERRUPT: Final = 0x4207
_EVENT_STOP: Final = 128
_WALL: Final = 0x40000000

# void save(void *area: rdi): every component of XCR0
_XSAVE: Final = bytes.fromhex(
    "f3 0f 1e fa"  # endbr64
    "83 c8 ff"  #    or eax, -1
    "83 ca ff"  #    or edx, -1
    "48 0f ae 27"  # xsave64 [rdi]
    "c3"  #          ret
)


def read(which: str, options: Options) -> Iterator[Found]:
    """The areas of a process: ``1234``, ``self``. ArtefactError where it cannot be traced.

    ``self`` is the calling thread alone, since no thread may trace its own process. Threads that
    end meanwhile are left out, new ones are not looked for.
    """
    pid = number(which)
    return iter([own(options)]) if pid is None else _threads(pid, options)


def number(which: str) -> int | None:
    """The process that is meant; None is this one. ArtefactError for what is none."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise ArtefactError("live processes are read on Linux on x86-64 only")
    if which == "self" or which == str(os.getpid()):
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,9}", which):
        raise ArtefactError(f"{which!r} is no process: give a number, or self")
    return int(which)


def _threads(pid: int, options: Options) -> Iterator[Found]:
    layouts = HostLayouts(options)
    read_any = False
    for thread in tasks(pid):
        data = while_stopped(pid, thread, partial(regset, thread))
        if data is not None:
            read_any = True
            yield layouts.found(data, thread)
    if not read_any:
        raise ended(pid)


def ended(pid: int) -> ArtefactError:
    """That nothing of a process is left."""
    return ArtefactError(f"process {pid} has ended: none of its threads is left")


def own(options: Options) -> Found:
    """The calling thread's area, as XSAVE64 stores it at this moment."""
    from xsaveschema.cpuid import host, xgetbv

    size = host().leaf_0xd[0][1]
    try:
        data = _xsave(size)
    except OSError as error:
        raise ArtefactError(f"XSAVE cannot be executed: {error.strerror}") from None
    return HostLayouts(options, xgetbv()).found(data, threading.get_native_id())


class HostLayouts:
    """How this machine lays an area out: by its CPUID leaf 0xD."""

    def __init__(self, options: Options, xcr0: int | None = None):
        self._options = options
        self._host: CpuModel | None = None
        self._why = ""
        try:
            model = host_model(options.catalog)
            self._host = model if xcr0 is None else model.limited(xcr0=xcr0)
        except XsaveError as error:
            self._why = str(error)

    def found(self, data: bytes, thread: int) -> Found:
        """An area of a thread of this machine."""
        view = memoryview(data)
        return self._known(view).found(view, self._options, label_of(thread))

    def _known(self, view: memoryview) -> Known:
        if self._host is None:
            known = layout_of(view, self._options)
            return known._replace(notes=(*known.notes, f"this machine's CPUID: {self._why}"))
        model = seen_under(self._host, shown_in(view, self._host, self._options.catalog))
        size = model.standard_layout().size
        notes: tuple[str, ...] = ()
        if size != len(view):
            notes = (f"the area has {len(view)} bytes, but CPUID tells {size}",)
        known = Known(model, "this machine's CPUID leaf 0xD", notes)
        return told(known, self._options, view, "this machine's CPUID leaf 0xD", "host")


def label_of(thread: int) -> str:
    """What a thread's area is called."""
    return f"thread {thread}"


def tasks(pid: int) -> list[int]:
    """The threads of a process, the first one first."""
    try:
        return sorted(int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir())
    except FileNotFoundError:
        raise ArtefactError(f"there is no process {pid}") from None
    except OSError as error:
        raise ArtefactError(f"process {pid}: {error.strerror}") from None


def while_stopped(pid: int, thread: int, work: Callable[[], _T]) -> _T | None:
    """What ``work`` gives while this process traces a thread that is stopped; None: it has ended.

    The thread goes on behind it, or stays stopped where it was, whatever happened: a Linux thread
    traces, and what it traces is free when it ends. The caller waits for that even where it is
    interrupted, which is not for long. ArtefactError where the thread cannot be traced or does not
    stop in time; what ``work`` raises is the caller's, but for ESRCH, which says that it has ended.
    """
    with ThreadPoolExecutor(1, "xsaveschema-tracer") as tracer:
        return tracer.submit(_trace, pid, thread, work).result()


def _trace(pid: int, thread: int, work: Callable[[], _T]) -> _T | None:
    try:
        ptrace(_SEIZE, thread, 0, 0)
    except OSError as error:
        if error.errno == errno.ESRCH or has_ended(pid, thread):
            return None
        raise ArtefactError(f"thread {thread} cannot be traced: {_why(pid, error)}") from None
    pending = 0
    try:
        ptrace(_INTERRUPT, thread, 0, 0)
        stop = _stopped(pid, thread)
        if stop is None:
            return None
        # Stopped by a signal of its own: it gets that signal when it is let go.
        pending = 0 if stop >> 8 == _EVENT_STOP else stop & 0x7F
        return work()
    except OSError as error:
        if error.errno == errno.ESRCH:  # killed meanwhile
            return None
        raise ArtefactError(f"thread {thread}: {error.strerror}") from None
    finally:
        with suppress(OSError):
            ptrace(_DETACH, thread, 0, pending)


def _stopped(pid: int, thread: int) -> int | None:
    """Wait for a thread to stop: the stop's code, or None if it ended instead."""
    deadline = time.monotonic() + _SECONDS
    pause = 0.00002
    while True:
        # Stops alone: how a child of this process ended is for others to learn.
        found = os.waitid(os.P_PID, thread, os.WSTOPPED | os.WNOHANG | _WALL)
        if found is not None:
            return found.si_status
        state = _state(pid, thread)
        if state in _ENDED:
            return None
        if time.monotonic() > deadline:
            raise ArtefactError(
                f"thread {thread} does not stop within {_SECONDS:g} s: its state is {state}"
                + _STATES.get(state, "")
            )
        time.sleep(pause)
        pause = min(2 * pause, 0.01)


def has_ended(pid: int, thread: int) -> bool:
    """Whether a thread runs no more, be it that somebody has still to learn so."""
    return _state(pid, thread) in _ENDED


def _state(pid: int, thread: int) -> str:
    """The state letter of a thread; X where it is gone."""
    try:
        status = Path(f"/proc/{pid}/task/{thread}/stat").read_text(errors="replace")
        return status.rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "X"


def _why(pid: int, error: OSError) -> str:
    if error.errno != errno.EPERM:
        return error.strerror or str(error)
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name == "TracerPid" and value.strip() not in ("", "0"):
                return f"process {value.strip()} traces it already"
            if name == "Kthread" and value.strip() == "1":
                return "it is a thread of the kernel"
    return "no permission (another user's process, or kernel.yama.ptrace_scope forbids it)"


def _xsave(size: int) -> bytes:
    _, function = _function()
    room = mmap.mmap(-1, size + mmap.PAGESIZE)  # page-aligned, zero
    memory = (ctypes.c_char * size).from_buffer(room)
    function(ctypes.addressof(memory))
    return bytes(memory)


@cache
def _function() -> tuple[Any, Any]:
    """XSAVE64 as a function, and the page that holds it. OSError where that is forbidden."""
    page = mmap.mmap(
        -1,
        mmap.PAGESIZE,
        flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
        prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC,
    )
    page[: len(_XSAVE)] = _XSAVE
    code = (ctypes.c_char * mmap.PAGESIZE).from_buffer(page)
    return code, ctypes.CFUNCTYPE(None, ctypes.c_void_p)(ctypes.addressof(code))
