# SPDX-License-Identifier: MIT
"""The notes of an ELF core, and what they say of areas: whose they are, and how they are laid out.

A reader of its own instead of pyelftools, which wants a file object, builds a struct per note,
copies every note's bytes and trusts lengths. Here two tables are looked at, over a mapping, notes
are stepped over by their headers alone, and everything a file could lie about is bounded.

Python 3.6 runs this module, too, inside debuggers: it stands alone but for ``reading``.
"""

from collections.abc import Iterable, Iterator
from functools import reduce
from operator import or_
from struct import Struct
from typing import Any, NamedTuple

from xsaveschema.reading import EXTENDED_OFFSET

EM_386 = 3
EM_X86_64 = 62

MAX_SEGMENTS = 1 << 22
"""Linux allows 65,530 mappings by default; databases raise that to a few millions at most."""
MAX_NOTE_SEGMENTS = 1 << 10
MAX_NOTES = 1 << 20
"""Linux writes three notes or four for each thread."""

_ET_CORE = 4
_PT_NOTE = 4
PN_XNUM = 0xFFFF
_TYPE_AND_MACHINE = Struct("<HH")
NOTE = Struct("<III")  # namesz, descsz, type
_OWNER_MAX = 32
"""Bytes of an owner's name that are looked at: NetBSD's has the number of the thread."""

NT_PRSTATUS = 1
NT_X86_XSTATE = 0x202
NT_X86_XSAVE_LAYOUT = 0x205
NT_GDB_TDESC = 0xFF000000
LAYOUT_NOTE = "NT_X86_XSAVE_LAYOUT"
CORE = b"CORE"
LINUX = b"LINUX"
FREEBSD = b"FreeBSD"
GDB = b"GDB"
DELVE = b""

ROW = Struct("<IIII")
"""struct x86_xfeat_component: type, size, offset, flags."""
_ROWS_MAX = 64
_PID = Struct("<i")
# Where pr_pid stands in struct prstatus, by owner and ELF class.
_PID_AT = {
    (CORE, 64): 32,
    (CORE, 32): 24,
    (DELVE, 64): 32,
    (DELVE, 32): 24,
    (FREEBSD, 64): 40,
    (FREEBSD, 32): 24,
}


class CoreError(ValueError):
    """A core that is not what it says, or is cut off; ``offset`` is the byte where it shows."""

    def __init__(self, message: str, offset: "int | None" = None):
        super().__init__(message if offset is None else f"at byte {offset:#x}: {message}")
        self.offset = offset


def class_of(data: Any) -> "_Class":
    """How an ELF file lays its structures out, by its fifth byte."""
    return _ELF32 if data[4] == 1 else _ELF64


def is_elf(data: Any) -> bool:
    """Whether this is an ELF file, a core or not."""
    return bytes(data[:4]) == b"\x7fELF"


def is_core(path: str) -> bool:
    """Whether a file is an ELF core, and not a program; not where it cannot be read."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - for Python 3.6
            head = file.read(18)
    except OSError:
        return False
    return is_elf(head) and head[16:] == _ET_CORE.to_bytes(2, "little")


class _Class(NamedTuple):
    """How one ELF class lays its structures out, and at which byte of them a field stands."""

    bits: int
    word: Struct  # an offset or a size
    header: Struct  # e_phoff, e_shoff, e_phentsize, e_phnum, e_shentsize, e_shnum
    segment: Struct  # p_type, p_offset, p_filesz, p_memsz, p_align
    segment_at: "tuple[int, int, int]"  # p_offset, p_filesz, p_memsz
    section: Struct  # sh_type, sh_offset, sh_size, sh_info
    section_at: "tuple[int, int]"  # sh_offset, sh_size


_ELF32 = _Class(
    bits=32,
    word=Struct("<I"),
    header=Struct("<28xII6xHHHH"),
    segment=Struct("<II8xII4xI"),
    segment_at=(4, 16, 20),
    section=Struct("<4xI8xII4xI8x"),
    section_at=(16, 20),
)
_ELF64 = _Class(
    bits=64,
    word=Struct("<Q"),
    header=Struct("<32xQQ6xHHHH"),
    segment=Struct("<I4xQ16xQQQ"),
    segment_at=(8, 32, 40),
    section=Struct("<4xI16xQQ4xI16x"),
    section_at=(24, 32),
)


class Segment(NamedTuple):
    """A PT_NOTE segment: where its program header stands, and where its notes do."""

    header: int
    offset: int
    size: int
    memory: int
    align: int

    @property
    def end(self) -> int:
        """The first byte behind the segment."""
        return self.offset + self.size

    @property
    def alignment(self) -> int:
        """What names and descriptions are padded to: 4 bytes, or 8 where p_align says so."""
        return 8 if self.align == 8 else 4


class Note(NamedTuple):
    """A note: its owner and type, and where the bytes of its description stand in the file."""

    owner: bytes
    type: int
    offset: int
    size: int
    segment: int


class CoreNotes:
    """The note segments of an x86 core; ``reach`` is where its last part ends.

    ``fault`` is the class of the errors: message and offset.
    """

    fault: "type[Exception]" = CoreError

    def __init__(self, data: Any):
        """Read the headers. A fault where this is no x86 core, or the tables are cut off."""
        self.data = data
        if len(data) < 52 or not is_elf(data):
            raise self.fault("is no ELF file, or ends within the ELF header", len(data))
        if data[4] not in (1, 2) or data[5] != 1:
            raise self.fault(
                f"ELF class {data[4]}, data encoding {data[5]}: x86 has class 1 or 2, encoding 1",
                4,
            )
        self.kind = kind = class_of(data)
        if len(data) < kind.header.size:
            raise self.fault("ends within the ELF header", len(data))
        file_type, machine = read(_TYPE_AND_MACHINE, data, 16)
        if file_type != _ET_CORE:
            kinds = {1: "an object file", 2: "a program", 3: "a program or library"}
            raise self.fault(
                f"is {kinds.get(file_type, f'an ELF file of type {file_type}')}, not a core dump",
                16,
            )
        if machine not in (EM_386, EM_X86_64):
            raise self.fault(f"is a core dump of ELF machine {machine}, which is not x86", 18)
        self._read_tables()

    @property
    def bits(self) -> int:
        """32 or 64."""
        return self.kind.bits

    def body(self, note: Note) -> Any:
        """The description of a note."""
        return self.data[note.offset : note.offset + note.size]

    def notes(self, types: "frozenset[int]") -> "Iterator[Note]":
        """The notes of these types of every PT_NOTE segment, in the file's order.

        A fault where a note's lengths lie, the file ends within a segment, or there are more
        than MAX_NOTES.
        """
        data, unpack = self.data, NOTE.unpack
        count = 0
        for number, segment in enumerate(self.segments):
            at, end = segment.offset, min(segment.end, len(data))
            align = segment.alignment
            # Alignment counts from the segment's start, wherever that is in the file.
            skew, pad = at % align, align - 1
            last = end - NOTE.size
            while at <= last:
                count += 1
                if count > MAX_NOTES:
                    raise self.fault(f"more than {MAX_NOTES} notes: no system writes that", at)
                name_size, size, kind = unpack(data[at : at + NOTE.size])
                body = (at + 12 + name_size - skew + pad & -align) + skew
                if body + size > end:
                    if end < segment.end:
                        break
                    raise self.fault(
                        f"a note with a name of {name_size} and a description of {size} bytes "
                        f"reaches beyond its segment, which ends at {end:#x}",
                        at,
                    )
                if kind in types:
                    name_at = at + NOTE.size
                    owner = bytes(data[name_at : name_at + min(name_size, _OWNER_MAX)])
                    yield Note(owner.rstrip(b"\0"), kind, body, size, number)
                at = (body + size - skew + pad & -align) + skew
            if end < segment.end:
                raise self.fault(
                    f"the file ends here, within the notes that go on to {segment.end:#x}: it is "
                    "cut off",
                    len(data),
                )
            if at < end and any(data[at:end]):
                raise self.fault(f"{end - at} bytes behind the last note are no note", at)

    def by_thread(self, types: "frozenset[int]") -> "Iterator[tuple[int | None, Note]]":
        """The same, each with the thread whose NT_PRSTATUS it stands behind; None before any."""
        thread = None
        for note in self.notes(types | {NT_PRSTATUS}):
            at = _PID_AT.get((note.owner, self.bits))
            if note.type != NT_PRSTATUS or at is None:
                yield thread, note
                continue
            if note.size < at + _PID.size:
                raise self.fault(f"NT_PRSTATUS of {note.size} bytes has no pid", note.offset)
            (thread,) = read(_PID, self.data, note.offset + at)

    def layout_body(self, note: Note) -> bytes:
        """The bytes of an NT_X86_XSAVE_LAYOUT."""
        if note.size > _ROWS_MAX * ROW.size:
            said = f"{LAYOUT_NOTE} of {note.size} bytes has too many components"
            raise self.fault(said, note.offset)
        return bytes(self.body(note))

    def layout_rows(self, note: Note, limit: int) -> "tuple[list[tuple[int, int, int]], int]":
        """Its components beyond SSE as (number, size, offset), and all of its flags.

        A fault for absurd ones; ``limit`` is the byte at which an area ends at the latest.
        """
        body = self.layout_body(note)
        if len(body) % ROW.size:
            raise self.fault(
                f"{LAYOUT_NOTE} of {len(body)} bytes is no table of {ROW.size}-byte rows",
                note.offset,
            )
        rows = [*ROW.iter_unpack(body)]
        # x87 and SSE stand where they always do; Linux leaves them out.
        entries = [(number, size, offset) for number, size, offset, _ in rows if number > 1]
        fault = row_faults(entries, limit)
        if fault:
            raise self.fault(f"{LAYOUT_NOTE}: {fault}", note.offset)
        return entries, reduce(or_, (flags for *_, flags in rows), 0)

    def _read_tables(self) -> None:
        data, kind = self.data, self.kind
        table, sections, entry_size, count, section_size, section_count = read(kind.header, data, 0)
        has_sections = sections and section_size == kind.section.size
        if count == PN_XNUM and has_sections:
            # More segments than e_phnum can say: sh_info of the first section header has it.
            if sections + kind.section.size > len(data):
                raise self.fault(
                    "the file ends before the section header with the number of segments",
                    len(data),
                )
            *_, count = read(kind.section, data, sections)
        if count > MAX_SEGMENTS:
            raise self.fault(f"{count} program headers: no system writes so many")
        if count and entry_size != kind.segment.size:
            raise self.fault(f"program headers of {entry_size} bytes, not {kind.segment.size}")
        end = table + count * kind.segment.size
        if end > len(data):
            raise self.fault(
                f"the file ends here, before the end of its program headers at {end:#x}", len(data)
            )
        self.segments, reach = self._note_segments(data[table:end], table)
        self.reach = max(reach, end)
        self.sections = range(0)
        sections_end = sections + section_count * kind.section.size
        if has_sections and sections_end <= len(data):
            self.sections = range(sections, sections_end, kind.section.size)
            self.reach = max(self.reach, sections_end)

    def _note_segments(self, table: Any, at: int) -> "tuple[tuple[Segment, ...], int]":
        """The PT_NOTE segments of a table at byte ``at``; where the last segment of all ends."""
        kind = self.kind
        notes: list[Segment] = []
        reach = 0
        for what, offset, size, memory, align in kind.segment.iter_unpack(table):
            if what:
                reach = max(reach, offset + size)
            if what == _PT_NOTE and size:
                notes.append(Segment(at, offset, size, memory, align))
                if len(notes) > MAX_NOTE_SEGMENTS:
                    raise self.fault(f"more than {MAX_NOTE_SEGMENTS} note segments", at)
            at += kind.segment.size
        ordered = sorted(notes, key=lambda segment: segment.offset)
        for last, segment in zip(ordered, ordered[1:]):
            if segment.offset < last.end:
                raise self.fault(
                    f"note segments [{last.offset:#x}..{last.end:#x}) and "
                    f"[{segment.offset:#x}..{segment.end:#x}) overlap",
                    segment.header,
                )
        return tuple(notes), reach


def read(structure: Struct, data: Any, at: int) -> "tuple[Any, ...]":
    """A structure at byte ``at`` of data of which only slices are in memory."""
    return structure.unpack(data[at : at + structure.size])


def row_faults(
    rows: "Iterable[tuple[int, int, int]]", limit: int, *, supervisor: bool = False
) -> "str | None":
    """What is absurd in a table of components, which may end at byte ``limit`` at the latest.

    With ``supervisor``, a row without an offset is a supervisor component's.
    """
    taken: dict[int, tuple[int, int, int]] = {}
    for row in rows:
        number, size, offset = row
        if not 2 <= number <= 62:
            return f"component {number}: the extended region has components 2 to 62"
        if number in taken:
            return f"component {number} stands there twice"
        start = EXTENDED_OFFSET if supervisor and not offset else offset
        if not size or start < EXTENDED_OFFSET or start + size > limit:
            return (
                f"component {number} at [{start:#x}..{start + size:#x}) lies outside the "
                f"extended region [{EXTENDED_OFFSET:#x}..{limit:#x})"
            )
        taken[number] = row
    ordered = sorted((at, size, number) for number, size, at in taken.values() if at)
    for one, next in zip(ordered, ordered[1:]):
        if next[0] < one[0] + one[1]:
            both = (f"component {n} [{at:#x}..{at + size:#x})" for at, size, n in (one, next))
            return f"{' and '.join(both)} overlap"
    return None
