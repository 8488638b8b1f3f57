# SPDX-License-Identifier: MIT
"""ELF cores: NT_X86_XSTATE, one area for each thread, of Linux and FreeBSD.

Cores without it (Valgrind's, NetBSD's, those of Linux before 2.6.35) have FXSAVE images: those are
the legacy regions of areas. Delve, which writes Linux's notes, names no owner.

The layout is NT_X86_XSAVE_LAYOUT's (Linux 6.12 and later) where the core has one. Else it is the
one that the XCR0 mask at byte 464 and the note's size tell: of the model that the user named if
that fits, of the catalogue's models otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple

from xsaveschema.area import XsaveArea
from xsaveschema.artefacts.assemble import assemble, meant_legacy
from xsaveschema.artefacts.elf_file import ElfCore, Note, is_elf
from xsaveschema.artefacts.elf_notes import (
    CORE,
    DELVE,
    FREEBSD,
    GDB,
    LAYOUT_NOTE,
    LINUX,
    NT_GDB_TDESC,
    NT_PRSTATUS,
    NT_X86_XSAVE_LAYOUT,
    NT_X86_XSTATE,
)
from xsaveschema.artefacts.layouts import (
    Entry,
    Known,
    assumed,
    best,
    named,
    of_rows,
    told,
)
from xsaveschema.artefacts.reader import ArtefactError, Data, Found, InPlace, Options, Struct
from xsaveschema.artefacts.source import MAX_AREA
from xsaveschema.errors import IdentificationError, MaskError, XsaveError, hex_mask
from xsaveschema.header import MASKS, view_of
from xsaveschema.identify.match import identify
from xsaveschema.layout import check_user_mask, under
from xsaveschema.model import (
    HEADER_OFFSET,
    LEGACY_SIZE,
    MXCSR_OFFSET,
    SSE,
    X87,
    XCR0_OFFSET,
    CpuModel,
)
from xsaveschema.spans import MXCSR_END
from xsaveschema.traces import mxcsr_mask_of, mxcsr_mask_word

NT_FPREGSET: Final = 2
NT_PRXFPREG: Final = 0x46E62B7F

_NETBSD: Final = b"NetBSD-CORE@"
"""In front of the number of the thread (LWP) whose note it is."""
_NETBSD_FXSAVE: Final = frozenset({35, 37})
"""PT_GETFPREGS of amd64 and PT_GETXMMREGS of i386: the machine's ptrace requests are the types."""
_FXSAVE: Final = {
    NT_FPREGSET: (CORE, FREEBSD, DELVE),
    NT_PRXFPREG: (CORE, LINUX),
}
_TYPES: Final = frozenset(
    {NT_PRSTATUS, NT_X86_XSTATE, NT_X86_XSAVE_LAYOUT, NT_GDB_TDESC, *_FXSAVE, *_NETBSD_FXSAVE}
)
_SHAPES_MAX: Final = 64
_U64: Final = Struct("<Q")
_LEGACY: Final = X87 | SSE
_AVX512: Final = 0xE0
_TILES: Final = 0x60000
_AVX_ALONE: Final = 7
"""Up to here, all processors and GDB lay an area out alike."""


class Survey(NamedTuple):
    """What the notes of a core say as a whole: its layout note, who wrote it, how many of each.

    ``areas`` counts NT_X86_XSTATE; where there is none, ``images`` counts FXSAVE images. ``cut`` is
    why the rest of a damaged core was not counted.
    """

    layout: Note | None
    by_gdb: bool
    by_delve: bool
    threads: int
    areas: int
    images: int
    cut: ArtefactError | None

    @property
    def damage(self) -> tuple[str, ...]:
        """A note that says so of a damaged core."""
        return (f"the core is damaged, threads may be missing: {self.cut}",) if self.cut else ()


class ElfReader(InPlace):
    """The areas of a core, in the order of its threads; the crashed one comes first on Linux."""

    name = "elf-core"
    title = "ELF core dump of Linux, FreeBSD or NetBSD"

    def recognises(self, data: Data) -> bool:
        """Whether it is an ELF file; :meth:`read` says if it is no core."""
        return is_elf(data)

    def read(self, data: Data, options: Options) -> Iterator[Found]:
        """Each thread's area. Where not strict, the whole notes of a core that is cut off."""
        core = ElfCore(data)
        survey = survey_of(core, options.strict)
        layouts = CoreLayouts(core, survey, options) if survey.areas else None
        for label, note in threads(core, survey):
            view = core.body(note)
            if layouts is None:
                yield _legacy(view, label, note, survey, options)
                continue
            try:
                known = layouts.known(view)
            except XsaveError as error:
                error.add_note(label)
                raise
            yield known.found(view, options, label, note.offset)

    def replace(self, data: Data, found: Found, area: XsaveArea) -> Iterable[tuple[int, bytes]]:
        """As InPlace; of an FXSAVE image, the legacy region."""
        if found.origin != "assembled" or found.offset is None:
            return super().replace(data, found, area)
        if area.xstate_bv & ~_LEGACY:
            raise ArtefactError(f"{found.label}: an FXSAVE image has no place beyond SSE")
        return [(found.offset, meant_legacy(area))]


READER: Final = ElfReader()


def survey_of(core: ElfCore, strict: bool = True) -> Survey:
    """Go through the notes once. ArtefactError where they are at fault or hold no area."""
    layout: Note | None = None
    by_gdb = by_delve = False
    threads = count = images = 0
    cut = None
    try:
        for note in core.notes(_TYPES):
            by_delve |= note.owner == DELVE
            by_gdb |= (note.type, note.owner) == (NT_GDB_TDESC, GDB)
            count += _is_area(note)
            images += _is_image(note)
            threads += note.type == NT_PRSTATUS and note.owner in (CORE, FREEBSD, DELVE)
            if note.type == NT_X86_XSAVE_LAYOUT and note.owner == LINUX:
                if layout and core.layout_body(layout) != core.layout_body(note):
                    raise ArtefactError(f"a second {LAYOUT_NOTE}, which differs", note.offset)
                layout = note
    except ArtefactError as error:
        if strict or not count + images:
            raise
        cut = error
    if not count + images:
        raise ArtefactError(
            f"the core has no NT_X86_XSTATE note and no FXSAVE image, {threads} threads and "
            f"{len(core.segments)} note segments: another tool left them out"
        )
    return Survey(layout, by_gdb, by_delve, threads, count, images, cut)


def threads(core: ElfCore, survey: Survey) -> Iterator[tuple[str, Note]]:
    """The label and the note of each thread's area; of its FXSAVE image in a core without areas.

    A thread's NT_PRSTATUS comes before its other notes.
    """
    wanted, left = (_is_area, survey.areas) if survey.areas else (_is_image, survey.images)
    called = "area" if survey.areas else "FXSAVE image"
    index = 0
    for thread, note in core.by_thread(_TYPES):
        if not wanted(note):
            continue
        if note.size > MAX_AREA:
            raise ArtefactError(
                f"NT_X86_XSTATE of {note.size} bytes, which no area has", note.offset
            )
        number = _lwp(note) or thread
        yield f"{called} {index}" if number is None else f"thread {number}", note
        index += 1
        if index == left:  # behind the last may be what cut the core off
            return


def _is_area(note: Note) -> bool:
    return note.type == NT_X86_XSTATE and note.owner in (LINUX, FREEBSD, DELVE)


def _is_image(note: Note) -> bool:
    """Whether it is an FXSAVE image: the same notes of i386 have FSAVE's 108 bytes."""
    if note.size != LEGACY_SIZE:
        return False
    if _lwp(note):
        return note.type in _NETBSD_FXSAVE
    return note.owner in _FXSAVE.get(note.type, ())


def _lwp(note: Note) -> str:
    """The number of NetBSD's thread; empty for other systems' notes."""
    number = note.owner.removeprefix(_NETBSD)
    return number.decode() if number != note.owner and number.isdigit() else ""


def _legacy(image: memoryview, label: str, note: Note, survey: Survey, options: Options) -> Found:
    notes = ["an FXSAVE image: state beyond SSE, if the machine had any, is not in the file"]
    if not image[0] | image[1] and not any(image[MXCSR_OFFSET : MXCSR_OFFSET + 4]):
        notes.append("FCW and MXCSR are 0: Valgrind writes 0 there, and not what the thread had")
    notes += survey.damage
    found = assemble(image, {}, _LEGACY, options, label, offset=note.offset, notes=notes)
    return replace(found, layout_source="no NT_X86_XSTATE: the legacy region alone")


class CoreLayouts:
    """The layouts of a core's areas: one for each size and XCR0 mask, as a rule one in all."""

    def __init__(self, core: ElfCore, survey: Survey, options: Options):
        self._survey = survey
        self._options = options
        rows: list[Entry] = []
        flags = 0
        if survey.layout:
            rows, flags = core.layout_rows(survey.layout, MAX_AREA)
        self._rows = rows
        self._at = survey.layout.offset if survey.layout else 0
        self._found: dict[tuple[int, bytes, int], Known] = {}
        self._notes = survey.damage
        if flags:
            said = f"{LAYOUT_NOTE} has flags {hex_mask(flags)}, whose meaning is not known here"
            self._notes = (said, *self._notes)
        if not survey.cut and survey.threads > survey.areas:
            self._notes += (f"{survey.threads - survey.areas} threads have no NT_X86_XSTATE",)

    def known(self, data: memoryview) -> Known:
        """The layout of an area of the core."""
        view = view_of(data)
        mask = bytes(view[XCR0_OFFSET : XCR0_OFFSET + 16])
        key = (len(view), mask, mxcsr_mask_of(view, self._options.model, self._options.catalog))
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= _SHAPES_MAX:
                raise ArtefactError(
                    f"areas of more than {_SHAPES_MAX} different sizes and XCR0 masks: "
                    "no system writes that"
                )
            found = self._by_note(view) if self._rows else self._by_mask(view)
            found = found._replace(notes=(*self._notes, *found.notes))
            self._found[key] = found
        return found

    def _by_note(self, view: memoryview) -> Known:
        """By NT_X86_XSAVE_LAYOUT, limited to the area's XCR0 mask."""
        known = of_rows(self._rows, view, LAYOUT_NOTE, self._options.catalog)
        model = known.model
        try:
            check_user_mask(model, model.xcr0)
        except MaskError as error:
            raise ArtefactError(f"{LAYOUT_NOTE}: {error}", self._at) from None
        notes = []
        mask = _mask(view)
        if mask and mask != model.xcr0:
            if not mask & ~model.xcr0:
                model = under(model, mask)
            else:
                notes.append(
                    f"the XCR0 mask at byte 464 is {hex_mask(mask)}, but {LAYOUT_NOTE} describes "
                    f"{hex_mask(model.xcr0)}"
                )
        size = model.standard_layout().size
        if size != len(view):
            notes.append(f"the area has {len(view)} bytes, but {LAYOUT_NOTE} describes {size}")
        known = known._replace(model=model, notes=tuple(notes))
        return told(known, self._options, view, f"the core's {LAYOUT_NOTE}")

    def _by_mask(self, view: memoryview) -> Known:
        """By the XCR0 mask and the size: the named model if they fit, else the catalogue's.

        A kernel's note is as long as the layout: a model of another length did not write it where
        one of this length is known.
        """
        given, catalog = self._options.model, self._options.catalog
        wanted = None if given is None else named(view, given, self._options)
        if wanted is not None and (wanted.assumed or _fits(wanted.model, view)):
            return self._judged(wanted, view)
        found = None
        try:
            # A faulty XSTATE_BV must not keep the layout from being found.
            found = best(identify(_in_use(view), catalog=catalog), catalog)
        except IdentificationError:
            if wanted is None:
                raise
        known = wanted or found
        assert known is not None  # noqa: S101 - one of the two is there
        mask = _mask(view)
        fault = (
            f"{len(view)} bytes under XCR0 mask {hex_mask(mask)} do not fit: "
            f"{_size_of(known.model)}"
        )
        exact = found is not None and _fits(found.model, view)
        if found is not None and wanted is not None and exact and mask:
            known = assumed(wanted.model, [f"{fault}; {_size_of(found.model)}"], self._options)
        elif not exact or wanted is not None:
            notes = known.notes if wanted and known.notes else (*known.notes, fault)
            known = known._replace(notes=notes)
        return self._judged(known, view)

    def _judged(self, known: Known, view: memoryview) -> Known:
        """Add what tells that a debugger wrote the area, in whatever layout it knew."""
        mask = known.model.xcr0
        by_gdb, by_delve = self._survey.by_gdb, self._survey.by_delve
        notes = list(known.notes)
        if (by_gdb or by_delve) and mask & _AVX512 and not mask & _TILES:
            who = "GDB's gcore (seen of 13)" if by_gdb else "Delve (seen of 1.20)"
            notes.append(
                f"{who} leaves AMX state out, and its bits: if the machine has tiles, what they "
                "held is not in the file"
            )
        if not mask & ~_AVX_ALONE:
            return known._replace(notes=tuple(notes))
        seen = mxcsr_mask_of(view, known.model, self._options.catalog)
        if by_gdb or not mxcsr_mask_word(view):
            who = "GDB's gcore" if by_gdb else "a debugger (MXCSR_MASK is 0)"
            notes.append(
                f"{who} wrote this core, not the kernel: up to version 13 GDB writes, and "
                "reads, Intel's layout on every CPU; if an AMD CPU ran this, its state beyond "
                "AVX is not to be trusted"
            )
        elif seen and seen != known.model.mxcsr_mask:
            notes.append(
                f"MXCSR_MASK {hex_mask(seen)} is not {known.model.name}'s, but no model that "
                f"has it fits {len(view)} bytes under XCR0 mask {hex_mask(mask)}"
            )
        return known._replace(notes=tuple(notes))


def _fits(model: CpuModel, view: memoryview) -> bool:
    return model.standard_layout().size == len(view)


def _size_of(model: CpuModel) -> str:
    size = model.standard_layout().size
    return f"{model.name} has {size} under XCR0 {hex_mask(model.xcr0)}"


def _mask(view: memoryview) -> int:
    """What stands at byte 464, where kernels leave their XCR0 mask."""
    return int(_U64.unpack_from(view, XCR0_OFFSET)[0])


def _in_use(view: memoryview) -> bytes | memoryview:
    """An area with this one's size and masks, everything in use; itself where it has no mask."""
    mask = _mask(view)
    if mask & _LEGACY != _LEGACY or mask >> 63:
        return view
    probe = bytearray(len(view))
    probe[MXCSR_OFFSET:MXCSR_END] = view[MXCSR_OFFSET:MXCSR_END]
    _U64.pack_into(probe, XCR0_OFFSET, mask)
    MASKS.pack_into(probe, HEADER_OFFSET, mask, 0)
    return bytes(probe)
