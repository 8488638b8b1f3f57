"""ELF cores: NT_X86_XSTATE, one area for each thread, of Linux and FreeBSD.

Cores without it (Valgrind's, NetBSD's, those of Linux before 2.6.35) have FXSAVE images: those are
the legacy regions of areas. Delve, which writes Linux's notes, names no owner.

The layout is NT_X86_XSAVE_LAYOUT's (Linux 6.12 and later) where the core has one. Else it is the
one that the XCR0 mask at byte 464 and the note's size tell: of the model that the user named if
that fits, of the catalogue's models otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final

import msgspec

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
    of_area,
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
from xsaveschema.traces import mxcsr_mask_of

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


class Survey(msgspec.Struct, frozen=True):
    """What the notes of a core say as a whole: its layout note, who wrote it, how many of each.

    ``areas`` counts NT_X86_XSTATE; where there is none, ``images`` counts FXSAVE images.
    """

    layout: Note | None
    by_gdb: bool
    by_delve: bool
    threads: int
    areas: int
    images: int
    cut: ArtefactError | None


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
        if not survey.areas:
            for label, note in fxsave_images(core, survey):
                yield _legacy(core, label, note, survey, options)
            return
        layouts = CoreLayouts(core, survey, options)
        for label, note in areas(core, survey):
            view = data[note.offset : note.offset + note.size]
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


def survey_of(core: ElfCore, strict: bool = True) -> Survey:
    """Go through the notes once. ArtefactError where they are at fault or hold no area."""
    layout: Note | None = None
    by_gdb = by_delve = False
    threads = count = images = 0
    cut = None
    try:
        for note in core.notes(_TYPES):
            by_delve |= note.owner == DELVE
            if _is_area(note):
                count += 1
            elif _is_image(note):
                images += 1
            elif note.type == NT_PRSTATUS and note.owner in (CORE, FREEBSD, DELVE):
                threads += 1
            elif note.type == NT_X86_XSAVE_LAYOUT and note.owner == LINUX:
                if layout and core.layout_body(layout) != core.layout_body(note):
                    raise ArtefactError(f"a second {LAYOUT_NOTE}, which differs", note.offset)
                layout = note
            elif note.type == NT_GDB_TDESC and note.owner == GDB:
                by_gdb = True
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


def areas(core: ElfCore, survey: Survey) -> Iterator[tuple[str, Note]]:
    """The label and the note of each area. A thread's NT_PRSTATUS comes before its other notes."""
    for label, note in _by_thread(core, _is_area, survey.areas, "area"):
        if note.size > MAX_AREA:
            raise ArtefactError(
                f"NT_X86_XSTATE of {note.size} bytes, which no area has", note.offset
            )
        yield label, note


def fxsave_images(core: ElfCore, survey: Survey) -> Iterator[tuple[str, Note]]:
    """The label and the note of each thread's FXSAVE image."""
    return _by_thread(core, _is_image, survey.images, "FXSAVE image")


def _by_thread(
    core: ElfCore, wanted: Callable[[Note], bool], count: int, called: str
) -> Iterator[tuple[str, Note]]:
    """The first ``count`` notes that are wanted, each with the thread that it stands behind."""
    index = 0
    for thread, note in core.by_thread(_TYPES):
        if not wanted(note):
            continue
        number = _lwp(note) or thread
        yield f"{called} {index}" if number is None else f"thread {number}", note
        index += 1
        if index == count:  # behind the last may be what cut the core off
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


def _legacy(core: ElfCore, label: str, note: Note, survey: Survey, options: Options) -> Found:
    image = core.data[note.offset : note.offset + note.size]
    area, _ = assemble(image, {}, _LEGACY, options, label)
    notes = ["an FXSAVE image: state beyond SSE, if the machine had any, is not in the file"]
    if not image[0] | image[1] and not any(image[MXCSR_OFFSET : MXCSR_OFFSET + 4]):
        notes.append("FCW and MXCSR are 0: Valgrind writes 0 there, and not what the thread had")
    if survey.cut:
        notes.append(f"the core is damaged, threads may be missing: {survey.cut}")
    source = "no NT_X86_XSTATE: the legacy region alone"
    return Found(label, area, source, note.offset, tuple(notes), origin="assembled")


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
        notes = []
        if flags:
            notes.append(
                f"{LAYOUT_NOTE} has flags {hex_mask(flags)}, whose meaning is not known here"
            )
        if survey.cut:
            notes.append(f"the core is damaged, threads may be missing: {survey.cut}")
        elif survey.threads > survey.areas:
            notes.append(f"{survey.threads - survey.areas} threads have no NT_X86_XSTATE")
        self._notes = tuple(notes)

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
        (mask,) = _U64.unpack_from(view, XCR0_OFFSET)
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
        given = self._options.model
        wanted = None if given is None else named(view, given, self._options)
        if wanted is not None and (
            wanted.assumed or wanted.model.standard_layout().size == len(view)
        ):
            return self._judged(wanted, view)
        (mask,) = _U64.unpack_from(view, XCR0_OFFSET)
        what = f"{len(view)} bytes under XCR0 mask {hex_mask(mask)}"
        found = None
        try:
            found = self._catalogued(view)
        except IdentificationError:
            if wanted is None:
                raise
        exact = found is not None and found.model.standard_layout().size == len(view)
        if wanted is None and found is not None:
            if not exact:
                fault = f"{what} do not fit: {_size_of(found.model)}"
                found = found._replace(notes=(*found.notes, fault))
            return self._judged(found, view)
        assert wanted is not None  # noqa: S101 - one of the two is there
        fault = f"{what} do not fit: {_size_of(wanted.model)}"
        if found is not None and exact and mask:
            wanted = assumed(wanted.model, [f"{fault}; {_size_of(found.model)}"], self._options)
            return self._judged(wanted, view)
        return self._judged(wanted._replace(notes=wanted.notes or (fault,)), view)

    def _catalogued(self, view: memoryview) -> Known:
        probe = _probe(view)
        if probe is None:
            return of_area(view, replace(self._options, model=None))
        catalog = self._options.catalog
        return best(identify(probe, catalog=catalog), catalog)

    def _judged(self, known: Known, view: memoryview) -> Known:
        """Add what tells that a debugger wrote the area, in whatever layout it knew."""
        mask = known.model.xcr0
        seen = mxcsr_mask_of(view, known.model, self._options.catalog)
        (stored,) = Struct("<I").unpack_from(view, MXCSR_OFFSET + 4)
        notes = list(known.notes)
        without_tiles = mask & _AVX512 and not mask & _TILES
        if without_tiles and (self._survey.by_gdb or self._survey.by_delve):
            who = "GDB's gcore (seen of 13)" if self._survey.by_gdb else "Delve (seen of 1.20)"
            notes.append(
                f"{who} leaves AMX state out, and its bits: if the machine has tiles, what they "
                "held is not in the file"
            )
        if mask & ~_AVX_ALONE:
            if self._survey.by_gdb or not stored:
                who = "GDB's gcore" if self._survey.by_gdb else "a debugger (MXCSR_MASK is 0)"
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


def _size_of(model: CpuModel) -> str:
    size = model.standard_layout().size
    return f"{model.name} has {size} under XCR0 {hex_mask(model.xcr0)}"


def _probe(view: memoryview) -> bytes | None:
    """An area with this one's size and masks, everything in use; None where it has no XCR0 mask.

    A faulty XSTATE_BV must not keep the layout from being found.
    """
    (mask,) = _U64.unpack_from(view, XCR0_OFFSET)
    if mask & _LEGACY != _LEGACY or mask >> 63:
        return None
    probe = bytearray(len(view))
    probe[MXCSR_OFFSET + 4 : MXCSR_OFFSET + 8] = view[MXCSR_OFFSET + 4 : MXCSR_OFFSET + 8]
    _U64.pack_into(probe, XCR0_OFFSET, mask)
    MASKS.pack_into(probe, HEADER_OFFSET, mask, 0)
    return bytes(probe)


READER: Final = ElfReader()
