# SPDX-License-Identifier: MIT
"""Writing to a live process on Linux: registers of one thread, by PTRACE_SETREGSET.

The thread is stopped as it is to be read. What the kernel would refuse, or would take and a
processor not load as it stands, is refused before anything is written; what was written is read
back and compared, byte by byte, before the thread goes on.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from xsaveschema.area import XsaveArea
from xsaveschema.area.loaded import as_restored
from xsaveschema.artefacts.process import (
    HostLayouts,
    ended,
    has_ended,
    label_of,
    number,
    tasks,
    while_stopped,
)
from xsaveschema.artefacts.ptrace import regset, set_regset
from xsaveschema.artefacts.reader import ArtefactError, Found, Options
from xsaveschema.artefacts.select import one
from xsaveschema.diff import X87_POINTERS, byte_differences, diff
from xsaveschema.restore import check
from xsaveschema.traces import mxcsr_mask_of

Edit = Callable[[XsaveArea], XsaveArea]
_PENDING = 0x80
"""FSW's ES: an x87 exception is pending."""


@dataclass(frozen=True, slots=True)
class _Thread:
    """A thread that nobody has read yet."""

    number: int
    index: int

    @property
    def label(self) -> str:
        return label_of(self.number)


def write(which: str, options: Options, selector: str | None, edit: Edit) -> tuple[Found, Found]:
    """One thread's area before and after ``edit``, which gives an area to load in its place.

    ``which`` is a process or one of its threads, ``selector`` says which thread; without one it is
    the thread that ``which`` names, or the only one. ArtefactError where the thread cannot be
    traced, does not stop or has ended, where its layout is not this machine's, where the kernel
    would refuse the area or a processor load something else, and where the kernel has not taken
    what was written: the old state is back then. Errors of ``edit`` leave everything as it was.

    An interruption waits until the thread is free again; it has a note where the registers were
    written by then.
    """
    pid = number(which)
    if pid is None:
        raise ArtefactError("no process can write its own registers by ptrace: name another one")
    thread = _chosen(pid, selector)
    layouts = HostLayouts(options)
    written: list[bytes] = []
    try:
        done = while_stopped(
            pid, thread.number, partial(_exchange, layouts, thread, edit, options, written)
        )
    except (KeyboardInterrupt, SystemExit) as interrupted:
        if written:
            interrupted.add_note(f"{thread.label}: the registers were written all the same")
        raise
    if done is None:
        raise ArtefactError(f"{thread.label} has ended")
    return done


def _chosen(pid: int, selector: str | None) -> _Thread:
    numbers = [each for each in tasks(pid) if not has_ended(pid, each)]
    if not numbers:
        raise ended(pid)
    if selector is None and pid in numbers and pid != _leader(pid):
        selector = label_of(pid)
    return one(map(_Thread, numbers, range(len(numbers))), selector)


def _leader(thread: int) -> int:
    """The process that a thread is of."""
    try:
        for line in Path(f"/proc/{thread}/status").read_text(errors="replace").splitlines():
            if line.startswith("Tgid:"):
                return int(line.split()[1])
    except (OSError, IndexError, ValueError):
        pass
    return thread


def _exchange(
    layouts: HostLayouts, thread: _Thread, edit: Edit, options: Options, written: list[bytes]
) -> tuple[Found, Found]:
    """What is done while the thread is stopped. ``written`` gets what the kernel has taken."""
    before = regset(thread.number)
    found = replace(layouts.found(before, thread.number), index=thread.index)
    if found.origin != "host" or found.area.assumed:
        raise ArtefactError(
            f"{thread.label}: the kernel goes by this machine's layout, and that is not known to "
            f"be {found.area.model.label}'s; {'; '.join(found.notes) or found.layout_source}"
        )
    area = edit(found.area)
    after = bytes(area)
    notes = (*found.notes, *_notes(found.area, area))
    if faults := [*_refused(found.area, area, options)]:
        raise ArtefactError(f"{thread.label}: {'; '.join(faults)}; nothing was written")
    try:
        set_regset(thread.number, after)
    except OSError as error:
        if error.errno == errno.ESRCH:
            raise
        why = _dynamic(found.area, area) or f"{error.strerror}"
        raise ArtefactError(
            f"{thread.label}: the kernel refuses this: {why}; nothing was written"
        ) from None
    now = regset(thread.number)
    if now != after:
        raise ArtefactError(_undone(thread, before, area, now))
    written.append(after)
    return found, replace(found, area=area, notes=notes)


def _refused(before: XsaveArea, after: XsaveArea, options: Options) -> Iterator[str]:
    """Why an area would not become the thread's state as it stands."""
    model = after.model
    mask = mxcsr_mask_of(before.buffer, model, options.catalog) or model.mxcsr_mask
    for fault in check(bytes(after), model, "ptrace", mxcsr_mask=mask):
        yield f"the kernel refuses this: {fault.message} [{fault.rule}]"
    for delta in diff(before, after, everything=True):
        if delta.kind not in ("state", "in-use"):
            yield f"no processor loads {delta.path}"
    restored, reasons = as_restored(after)
    for name, reason in reasons.items():
        loaded = ", ".join(
            f"{each.owner_b} = {int.from_bytes(each.b, 'little'):#x} in place of "
            f"{int.from_bytes(each.a, 'little'):#x}"
            for each in byte_differences(after, restored)
            if each.owner_b.split(".")[0] == name
        )
        yield f"{name}: {reason}; it would load {loaded}"


def _notes(before: XsaveArea, after: XsaveArea) -> Iterator[str]:
    paths = [each.path for each in diff(before, after) if each.path in X87_POINTERS]
    if paths and before.model.vendor == "AuthenticAMD" and not after["x87"]["fsw"] & _PENDING:
        yield f"an AMD processor keeps {', '.join(paths)} only while an x87 exception is pending"


def _dynamic(before: XsaveArea, after: XsaveArea) -> str:
    """What the kernel does not tell before it is asked: the permission for a component."""
    fresh = after.xstate_bv & ~before.xstate_bv
    names = [c.name for c in after.model.components.values() if c.xfd and c.bit & fresh]
    if not names:
        return ""
    return (
        f"{', '.join(names)} is there only for a thread that has permission for it (arch_prctl) "
        "and has used it already"
    )


def _undone(thread: _Thread, before: bytes, wanted: XsaveArea, now: bytes) -> str:
    """Put the old state back, and say so."""
    other = byte_differences(wanted, now, model_b=wanted.model)
    owners = ", ".join(dict.fromkeys(each.owner_a or each.owner_b for each in other))
    said = f"{thread.label}: the kernel has not taken all that was written ({owners})"
    try:
        set_regset(thread.number, before)
        back = regset(thread.number) == before
    except OSError as error:
        return f"{said}, and refuses to take the old state back: {error.strerror}"
    if not back:
        return f"{said}, nor the old state as it was: the thread has neither"
    return f"{said}; the old state is back"
