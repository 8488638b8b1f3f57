# SPDX-License-Identifier: MIT
"""Editing artefacts: registers in an area of a file or of a thread, canonical form, layout note.

A file's result is a new file, or takes the place of the old one when it is whole. Holes in a sparse
core stay holes. A live thread is written to where it is, see ``live``.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Final

from xsaveschema import samples
from xsaveschema.area import XsaveArea
from xsaveschema.area.loaded import as_restored, loaded_otherwise
from xsaveschema.artefacts.elf import CoreLayouts, survey_of, threads
from xsaveschema.artefacts.elf_file import ElfCore, Note, is_elf, note_bytes
from xsaveschema.artefacts.elf_notes import LINUX, NT_X86_XSAVE_LAYOUT, ROW
from xsaveschema.artefacts.layouts import Known
from xsaveschema.artefacts.opened import PID, SAMPLE
from xsaveschema.artefacts.reader import ArtefactError, Found, Options, Writer
from xsaveschema.artefacts.registry import recognise
from xsaveschema.artefacts.select import numbered, one, selected
from xsaveschema.artefacts.source import Data, Source, Window
from xsaveschema.catalog import Catalog
from xsaveschema.diff import Delta, diff
from xsaveschema.errors import HeaderError, ValueRangeError, XsaveError
from xsaveschema.io import permissions, replacing, write_all
from xsaveschema.layout import places
from xsaveschema.model import SSE, X87, CpuModel
from xsaveschema.normalise import normalise as canonical_form
from xsaveschema.values import encode_float80

_CHUNK: Final = 1 << 20
_FLOAT80: Final = "f80"
StrPath = str | os.PathLike[str]
Change = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Edited:
    """What was written: the file, which area (or note), how its layout is known, what to tell.

    ``before`` and ``after`` are the area as it was and as it is, None where a note was added. Of a
    live thread ``path`` is what was named, ``pid:1234``.
    """

    path: Path
    what: str
    layout_source: str
    notes: tuple[str, ...] = ()
    before: XsaveArea | None = field(default=None, repr=False)
    after: XsaveArea | None = field(default=None, repr=False)

    @property
    def deltas(self) -> list[Delta]:
        """What has changed, also what no restore loads: see :func:`xsaveschema.diff`."""
        if self.before is None or self.after is None:
            return []
        return diff(self.before, self.after, everything=True)


def patch(
    path: StrPath,
    out: StrPath | None = None,
    registers: Mapping[str, int | bytes | str] | None = None,
    area: str | None = None,
    *,
    in_place: bool = False,
    model: CpuModel | None = None,
    catalog: Catalog | None = None,
    assume: bool = False,
) -> Edited:
    """Set registers in an area of a file and write the result to ``out``, or ``in_place``.

    Of a live process, ``"pid:1234"``, the thread is written to and nothing else: see below.

    ``registers`` has whole registers (``zmm17``, ``mxcsr``) and fields (``pkru.pkru``,
    ``avx.ymm_hi128[3]``) by name; text is a type and lanes of it, ``"f32:1.0,2.5,…"``, of an x87
    register ``"f80:1.5"``. ``area`` says which area: ``"#0"`` is an index, or a label or a
    part of it that is unique; it may be left out where the file has one. ``model`` and ``assume``
    are those of :func:`xsaveschema.artefacts.open`. Raises OSError and XsaveError; nothing is
    written then.

    A thread of a live process (Linux) is stopped, read, edited, written by PTRACE_SETREGSET, read
    back and compared, and goes on; one that was stopped stays so. What the kernel refuses or a
    processor would not load as it stands is an ArtefactError before anything is written, and so is
    a kernel that has not taken all: the old state is back then. Of several threads ``area`` names
    one, unless ``"pid:1234"`` is itself a thread's number beside its process's. KeyboardInterrupt
    and SystemExit wait until the thread is free, and have a note where it was written to.
    """
    options = Options(model, False, catalog, assume)
    edit = partial(_edited, registers or {})
    if isinstance(path, str) and path.startswith(PID):
        if in_place or out is not None:
            raise ArtefactError(f"{path}: a live thread is written to where it is: name no output")
        from xsaveschema.artefacts import live  # of Linux alone

        was, now = live.write(path.removeprefix(PID), options, area, edit)
        return Edited(Path(path), now.label, now.layout_source, now.notes, was.area, now.area)

    def only(areas: Iterator[Found]) -> list[Found]:
        return [one(areas, area)]

    (done,) = _rewritten(path, out, in_place, options, only, lambda found: edit(found.area))
    return done


def normalise(
    path: StrPath,
    out: StrPath | None = None,
    area: str | None = None,
    *,
    in_place: bool = False,
    model: CpuModel | None = None,
    catalog: Catalog | None = None,
    assume: bool = False,
) -> list[Edited]:
    """Put areas of a file into their canonical form, and write it to ``out``, or ``in_place``.

    ``area`` says which ones, as for :func:`patch`, or several: a glob or ``all``; default: all. The
    rest of the file stays as it is. See :func:`xsaveschema.normalise`. Raises OSError and
    XsaveError, one for an area that no restore takes or that lacks state, too; nothing is written
    then.
    """

    if isinstance(path, str) and path.startswith(PID):
        raise ArtefactError("a live process stays as it is: normalise a core of it")

    def canonical(found: Found) -> XsaveArea:
        reason = as_restored(found.area)[1].get("x87")
        if reason and found.origin == "identified" and found.others:
            said = f"{found.label}: x87 depends on the CPU's vendor here ({reason})"
            raise ArtefactError(f"{said}; name the CPU that wrote it (--model)")
        return XsaveArea.parse(canonical_form(found.area), found.area.model, assume=True)

    options = Options(model, True, catalog, assume)
    return _rewritten(path, out, in_place, options, partial(selected, selector=area), canonical)


def add_layout(
    path: StrPath,
    out: StrPath | None = None,
    model: CpuModel | None = None,
    *,
    in_place: bool = False,
    catalog: Catalog | None = None,
    assume: bool = False,
) -> Edited:
    """Add NT_X86_XSAVE_LAYOUT to an ELF core that lacks it, and write it to ``out``.

    The layout is that of ``model``, or of the model that the areas are identified as; either must
    fit their size and XCR0 mask exactly. The notes move to the end of the file, so everything
    else stays where it was. Raises OSError and XsaveError; nothing is written then.
    """
    options = Options(model, True, catalog, assume)
    with _opened(path, in_place) as source:
        target = _target(source.path, out, in_place)
        data = source.data
        if not is_elf(data):
            raise ArtefactError("is no ELF core, and only those have a layout note", 0)
        core = ElfCore(data)
        survey = survey_of(core)
        if survey.layout:
            raise ArtefactError("the core has NT_X86_XSAVE_LAYOUT already", survey.layout.offset)
        if not survey.areas:
            raise ArtefactError("the core has FXSAVE images and no area to lay out")
        if core.reach > len(data):
            raise ArtefactError(
                f"the core is cut off: its segments reach to {core.reach:#x}. A note behind its "
                "end would be taken for memory",
                len(data),
            )
        layouts = CoreLayouts(core, survey, options)
        known, last = _agreed(core, layouts, threads(core, survey), model)
        rows = b"".join(
            ROW.pack(slot.number, slot.size, slot.offset, 0)
            for slot in known.model.standard_layout().by_number()
            if not slot.component.legacy
        )
        _write(source, target, _moved(core, last, rows))
    return Edited(target, "NT_X86_XSAVE_LAYOUT", known.source, known.notes)


def _rewritten(
    path: StrPath,
    out: StrPath | None,
    in_place: bool,
    options: Options,
    pick: Callable[[Iterator[Found]], Iterable[Found]],
    edit: Callable[[Found], XsaveArea],
) -> list[Edited]:
    """Write a file with some of its areas edited; what it holds then is read again before."""
    with _opened(path, in_place) as source:
        target = _target(source.path, out, in_place)
        reader = recognise(source.data, options.assume)
        if not isinstance(reader, Writer):
            raise ArtefactError(f"{reader.title}: an edited area cannot be written back into it")
        done: list[Edited] = []
        changes: list[Change] = []
        wanted: dict[int, XsaveArea] = {}
        for found in pick(numbered(reader.read(source.data, options))):
            area = edit(found)
            changes += reader.replace(source.data, found, area)
            wanted[found.index] = area
            notes = (*found.notes, *loaded_otherwise(area))
            done.append(Edited(target, found.label, found.layout_source, notes, found.area, area))
        changed = _changed(source.data, changes, reader.title)
        known = recognise(changed, options.assume).name == reader.name
        for again in numbered(reader.read(changed, options)) if known else ():
            if again.index in wanted and _holds(again.area, wanted[again.index]):
                del wanted[again.index]
        if wanted:
            raise ArtefactError(f"{reader.title}: what is read back is not what was to be written")
        _write(source, target, changes)
    return done


def _holds(again: XsaveArea, area: XsaveArea) -> bool:
    """Whether what is read back is the area, as far as its place can say.

    An FXSAVE image has no XSTATE_BV: x87 and SSE are in use there, be their values initial.
    """
    if bytes(again) == bytes(area):
        return True
    if not again.xstate_bv ^ area.xstate_bv or (again.xstate_bv ^ area.xstate_bv) & ~(X87 | SSE):
        return False
    return all(delta.kind == "in-use" for delta in diff(again, area, everything=True))


def _opened(path: StrPath, in_place: bool) -> Source:
    name = path if isinstance(path, str) else ""
    if name.startswith(PID):
        raise ArtefactError(f"{path}: a live process has no notes; edit a core of it")
    if not name.startswith(SAMPLE):
        return Source(path)
    if in_place:
        raise ArtefactError(f"{path}: a sample stays as it is; name a file to write")
    return Source(samples.path(name.removeprefix(SAMPLE)))


def _edited(registers: Mapping[str, int | bytes | str], area: XsaveArea) -> XsaveArea:
    """A copy of an area with other registers."""
    if area.faults:
        raise HeaderError(area.faults)
    edited = _copied(area)
    held: dict[str, int | bytes] = {}
    for name, value in registers.items():
        _set(edited, name, value)
        for other, was in held.items():
            if _get(edited, other) != was:
                said = f"{name} changes {other}, which is set, too"
                raise XsaveError(f"{said}: leave one of them out, or patch twice")
        held[name] = _get(edited, name)
    return edited


def _copied(area: XsaveArea) -> XsaveArea:
    return XsaveArea.parse(bytearray(bytes(area)), area.model, assume=True)


def _set(area: XsaveArea, name: str, value: int | bytes | str) -> None:
    if isinstance(value, str):
        type, _, text = value.partition(":")
        if type == _FLOAT80 and name in area.registers and area.registers.size(name) == 10:
            try:
                area.registers[name] = encode_float80(text)
            except ValueError as error:
                raise ValueRangeError(f"{name}: {error}", name) from None
        else:
            area.registers.set_lanes(name, type, text)
    elif found := _field(area, name):
        area[found[0]][found[1]] = value
    else:
        area.registers[name] = value  # or an error that says why there is no such register


def _get(area: XsaveArea, name: str) -> int | bytes:
    """The value of what :func:`_set` takes."""
    if found := _field(area, name):
        held: int | bytes = area[found[0]][found[1]]
    else:
        held = area.registers[name]
    return held


def _field(area: XsaveArea, name: str) -> tuple[str, str] | None:
    """The component and the field that a name says; None for a register's name."""
    component, dot, field = name.partition(".")
    return (component, field) if dot and component in area.model.components else None


def _agreed(
    core: ElfCore, layouts: CoreLayouts, found: Iterable[tuple[str, Note]], model: CpuModel | None
) -> tuple[Known, int]:
    """The layout that all areas share, and the segment of the last one."""
    agreed: Known | None = None
    segment = 0
    for label, note in found:
        known = layouts.known(core.body(note))
        layout = known.model.standard_layout()
        if layout.size != note.size or (model and known.model.name != model.name):
            wanted = known.model if model is None else model
            raise ArtefactError(
                f"{label}: {note.size} bytes do not fit {wanted.name}; "
                + ("; ".join(known.notes) or f"its layout has {layout.size}"),
                note.offset,
            )
        agreed = agreed or known
        if places(layout) != places(agreed.model.standard_layout()):
            raise ArtefactError(f"{label}: laid out unlike the areas before it", note.offset)
        segment = note.segment
    assert agreed is not None  # noqa: S101 - a core without areas was refused
    return agreed, segment


def _moved(core: ElfCore, number: int, rows: bytes) -> Iterator[Change]:
    """The changes that move a note segment to the end of the file and add the layout note."""
    segment = core.segments[number]
    align = segment.alignment
    start = (len(core.data) + 7) & -8
    padded = (segment.size + align - 1) & -align
    note = note_bytes(LINUX, NT_X86_XSAVE_LAYOUT, rows, align)
    yield from core.moved(segment, start, padded + len(note))
    for at in range(0, segment.size, _CHUNK):
        end = min(at + _CHUNK, segment.size)
        yield start + at, bytes(core.data[segment.offset + at : segment.offset + end])
    yield start + segment.size, bytes(padded - segment.size) + note


# Writing: whole or not at all.


def _target(source: Path, out: StrPath | None, in_place: bool) -> Path:
    """The file to write; ArtefactError where it is the source without ``in_place``."""
    if in_place != (out is None):
        raise ArtefactError("either name a file to write, or write in place")
    target = source if out is None else Path(out)
    with suppress(FileNotFoundError, ValueError):  # a NUL in the name: writing says so
        if not in_place and target.samefile(source):
            raise ArtefactError(
                f"{target} is the file that is read; say so if it is to be replaced"
            )
    return target


def _changed(data: Data, changes: Iterable[Change], title: str) -> Window:
    """A file as it would be with changes. ArtefactError for one that does not lie within it."""
    changes = sorted(changes, key=itemgetter(0))
    for offset, part in changes:
        if offset < 0 or offset + len(part) > len(data):
            raise ArtefactError(f"{title}: would be changed beyond its end", offset)

    starts = [offset for offset, _ in changes]

    def fetch(start: int, size: int) -> memoryview:
        piece = bytearray(data[start : start + size])
        # No two overlap: behind the last that begins before the piece's end there is none.
        from_, to = bisect_right(starts, start) - 1, bisect_left(starts, start + size)
        for offset, part in changes[max(0, from_) : to]:
            first, last = max(start, offset), min(start + size, offset + len(part))
            if first < last:
                piece[first - start : last - start] = part[first - offset : last - offset]
        return memoryview(piece)

    return Window(len(data), fetch)


def _write(source: Source, target: Path, changes: Iterable[Change]) -> None:
    """Copy the source with changes to a new file, which then takes the target's place."""
    size = len(source.data)
    with replacing(target, permissions(source.descriptor)) as new:
        file = new.fileno()
        os.truncate(file, size)
        for start, end in _extents(source.descriptor, size):
            _copy(source.descriptor, file, start, end)
        for offset, part in changes:
            write_all(file, part, offset)
        # A part that is gone looks like a hole.
        if os.fstat(source.descriptor).st_size < size:
            raise ArtefactError("the file became shorter while it was copied")


def _extents(file: int, size: int) -> Iterator[tuple[int, int]]:
    """The (start, end) of what is no hole, as far as the file system knows."""
    at = 0
    while at < size:
        start, end = at, size
        if hasattr(os, "SEEK_DATA"):
            try:
                start = os.lseek(file, at, os.SEEK_DATA)
                end = min(os.lseek(file, start, os.SEEK_HOLE), size)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole
                    return
                start, end = at, size
        yield start, end
        at = end


def _copy(source: int, target: int, at: int, end: int) -> None:
    in_kernel = hasattr(os, "copy_file_range")
    while at < end:
        done = 0
        if in_kernel:  # shares the blocks where the file system can
            try:
                done = os.copy_file_range(source, target, min(end - at, 1 << 30), at, at)
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    raise
            in_kernel = done > 0
        if not done:
            os.lseek(source, at, os.SEEK_SET)
            part = os.read(source, min(_CHUNK, end - at))
            if not part:
                raise ArtefactError("the file became shorter while it was copied", at)
            write_all(target, part, at)
            done = len(part)
        at += done
