"""ELF cores: NT_X86_XSTATE, one area for each thread, of Linux and FreeBSD.

Cores without it (Valgrind's, NetBSD's, those of Linux before 2.6.35) have FXSAVE images: those are
the legacy regions of areas. Delve, which writes Linux's notes, names no owner.

The layout is NT_X86_XSAVE_LAYOUT's (Linux 6.12 and later) where the core has one. Else it is the
one that the XCR0 mask at byte 464 and the note's size tell: of the model that the user named if
that fits, of the catalogue's models otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce
from operator import or_
from typing import Final, NamedTuple

from xsaveschema.area import XsaveArea
from xsaveschema.artefacts.assemble import assemble, meant_legacy
from xsaveschema.artefacts.elf_file import ElfCore, Note, is_elf
from xsaveschema.artefacts.layouts import (
    Entry,
    Known,
    assumed,
    best,
    named,
    of_rows,
    row_faults,
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

NT_PRSTATUS: Final = 1
NT_FPREGSET: Final = 2
NT_PRXFPREG: Final = 0x46E62B7F
NT_X86_XSTATE: Final = 0x202
NT_X86_XSAVE_LAYOUT: Final = 0x205
LINUX: Final = b"LINUX"
FREEBSD: Final = b"FreeBSD"
ROW: Final = Struct("<IIII")
"""struct x86_xfeat_component: type, size, offset, flags."""

_CORE: Final = b"CORE"
_GDB: Final = b"GDB"
_NT_GDB_TDESC: Final = 0xFF000000
_LAYOUT: Final = "NT_X86_XSAVE_LAYOUT"
_DELVE: Final = b""
_NETBSD: Final = b"NetBSD-CORE@"
"""In front of the number of the thread (LWP) whose note it is."""
_NETBSD_FXSAVE: Final = frozenset({35, 37})
"""PT_GETFPREGS of amd64 and PT_GETXMMREGS of i386: the machine's ptrace requests are the types."""
_FXSAVE: Final = {
    NT_FPREGSET: (_CORE, FREEBSD, _DELVE),
    NT_PRXFPREG: (_CORE, LINUX),
}
_TYPES: Final = frozenset(
    {NT_PRSTATUS, NT_X86_XSTATE, NT_X86_XSAVE_LAYOUT, _NT_GDB_TDESC, *_FXSAVE, *_NETBSD_FXSAVE}
)
_ROWS_MAX: Final = 64
_SHAPES_MAX: Final = 64
_PID: Final = Struct("<i")
# Where pr_pid stands in struct prstatus, by owner and ELF class.
_PID_AT: Final = {
    (_CORE, 64): 32,
    (_CORE, 32): 24,
    (_DELVE, 64): 32,
    (_DELVE, 32): 24,
    (FREEBSD, 64): 40,
    (FREEBSD, 32): 24,
}
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
        core = ElfCore.parse(data)
        survey = survey_of(core, options.strict)
        layouts = CoreLayouts(core, survey, options)
        for label, note in threads(core, survey):
            view = core.body(note)
            if not survey.areas:
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
            by_delve |= note.owner == _DELVE
            by_gdb |= (note.type, note.owner) == (_NT_GDB_TDESC, _GDB)
            count += _is_area(note)
            images += _is_image(note)
            threads += note.type == NT_PRSTATUS and note.owner in (_CORE, FREEBSD, _DELVE)
            if note.type == NT_X86_XSAVE_LAYOUT and note.owner == LINUX:
                if layout and _table(core, layout) != _table(core, note):
                    raise ArtefactError(f"a second {_LAYOUT}, which differs", note.offset)
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
    label = ""
    index = 0
    for note in core.notes(_TYPES):
        if note.type == NT_PRSTATUS and (note.owner, core.bits) in _PID_AT:
            at = _PID_AT[note.owner, core.bits]
            if note.size < at + _PID.size:
                raise ArtefactError(f"NT_PRSTATUS of {note.size} bytes has no pid", note.offset)
            label = f"thread {_PID.unpack_from(core.data, note.offset + at)[0]}"
        elif wanted(note):
            if lwp := _lwp(note):
                label = f"thread {lwp}"
            if note.size > MAX_AREA:
                raise ArtefactError(
                    f"NT_X86_XSTATE of {note.size} bytes, which no area has", note.offset
                )
            yield label or f"{called} {index}", note
            index += 1
            if index == left:  # behind the last may be what cut the core off
                return


def _is_area(note: Note) -> bool:
    return note.type == NT_X86_XSTATE and note.owner in (LINUX, FREEBSD, _DELVE)


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
    area, _ = assemble(image, {}, _LEGACY, options, label)
    notes = ["an FXSAVE image: state beyond SSE, if the machine had any, is not in the file"]
    if not image[0] | image[1] and not any(image[MXCSR_OFFSET : MXCSR_OFFSET + 4]):
        notes.append("FCW and MXCSR are 0: Valgrind writes 0 there, and not what the thread had")
    source = "no NT_X86_XSTATE: the legacy region alone"
    notes += survey.damage
    return Found(label, area, source, note.offset, tuple(notes), origin="assembled")


class CoreLayouts:
    """The layouts of a core's areas: one for each size and XCR0 mask, as a rule one in all."""

    def __init__(self, core: ElfCore, survey: Survey, options: Options):
        self._survey = survey
        self._options = options
        self._rows, flags = _rows(core, survey.layout)
        self._at = survey.layout.offset if survey.layout else 0
        self._found: dict[tuple[int, bytes, int], Known] = {}
        self._notes = survey.damage
        if flags:
            said = f"{_LAYOUT} has flags {hex_mask(flags)}, whose meaning is not known here"
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
        known = of_rows(self._rows, view, _LAYOUT, self._options.catalog)
        model = known.model
        try:
            check_user_mask(model, model.xcr0)
        except MaskError as error:
            raise ArtefactError(f"{_LAYOUT}: {error}", self._at) from None
        notes = []
        mask = _mask(view)
        if mask and mask != model.xcr0:
            if not mask & ~model.xcr0:
                model = under(model, mask)
            else:
                notes.append(
                    f"the XCR0 mask at byte 464 is {hex_mask(mask)}, but {_LAYOUT} describes "
                    f"{hex_mask(model.xcr0)}"
                )
        size = model.standard_layout().size
        if size != len(view):
            notes.append(f"the area has {len(view)} bytes, but {_LAYOUT} describes {size}")
        known = known._replace(model=model, notes=tuple(notes))
        return told(known, self._options, view, f"the core's {_LAYOUT}")

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
        seen = mxcsr_mask_of(view, known.model, self._options.catalog)
        notes = list(known.notes)
        without_tiles = mask & _AVX512 and not mask & _TILES
        if without_tiles and (self._survey.by_gdb or self._survey.by_delve):
            who = "GDB's gcore (seen of 13)" if self._survey.by_gdb else "Delve (seen of 1.20)"
            notes.append(
                f"{who} leaves AMX state out, and its bits: if the machine has tiles, what they "
                "held is not in the file"
            )
        if mask & ~_AVX_ALONE:
            if self._survey.by_gdb or not mxcsr_mask_word(view):
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


def _table(core: ElfCore, note: Note) -> bytes:
    if note.size > _ROWS_MAX * ROW.size:
        raise ArtefactError(f"{_LAYOUT} of {note.size} bytes has too many components", note.offset)
    return bytes(core.body(note))


def _rows(core: ElfCore, note: Note | None) -> tuple[list[Entry], int]:
    """The rows of NT_X86_XSAVE_LAYOUT, and all its flags. ArtefactError for an absurd one."""
    if note is None:
        return [], 0
    table = _table(core, note)
    if len(table) % ROW.size:
        raise ArtefactError(
            f"{_LAYOUT} of {len(table)} bytes is no table of {ROW.size}-byte rows", note.offset
        )
    rows = [*ROW.iter_unpack(table)]
    # x87 and SSE stand where they always do; Linux leaves them out.
    entries = [(number, size, offset) for number, size, offset, _ in rows if number > 1]
    if fault := row_faults(entries, MAX_AREA):
        raise ArtefactError(f"{_LAYOUT}: {fault}", note.offset)
    return entries, reduce(or_, (flags for *_, flags in rows), 0)
