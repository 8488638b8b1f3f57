"""The parts of an ELF core that carry notes: its header, program headers and PT_NOTE segments.

A reader of its own instead of pyelftools, which wants a file object, builds a struct per note,
copies every note's bytes and trusts lengths. Here two tables are looked at, over a mapping, notes
are stepped over by their headers alone, and everything a file could lie about is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from xsaveschema.artefacts.reader import ArtefactError, Data, Struct

EM_386: Final = 3
EM_X86_64: Final = 62

MAX_SEGMENTS: Final = 1 << 22
"""Linux allows 65,530 mappings by default; databases raise that to a few millions at most."""
MAX_NOTE_SEGMENTS: Final = 1 << 10
MAX_NOTES: Final = 1 << 20
"""Linux writes three notes or four for each thread."""

_ET_CORE: Final = 4
_PT_NOTE: Final = 4
_PN_XNUM: Final = 0xFFFF
_SHT_NOTE: Final = 7
_NOTE: Final = Struct("<III")  # namesz, descsz, type
_OWNER_MAX: Final = 32
"""Bytes of an owner's name that are looked at: NetBSD's has the number of the thread."""


def is_elf(data: Data) -> bool:
    """Whether this is an ELF file, a core or not."""
    return bytes(data[:4]) == b"\x7fELF"


class _Class(NamedTuple):
    """How one ELF class lays its structures out, and at which byte of them a field stands."""

    bits: int
    header: Struct  # e_phoff, e_shoff, e_phentsize, e_phnum, e_shentsize, e_shnum
    segment: Struct
    wanted: tuple[int, int, int, int, int]  # which are p_type, p_offset, p_filesz, p_memsz, p_align
    p_offset: int
    p_filesz: int
    p_memsz: int
    section: Struct  # sh_name, sh_type, sh_flags, sh_addr, sh_offset, sh_size, sh_link, sh_info, …
    sh_offset: int
    sh_size: int
    word: Struct  # an offset or a size


_ELF64: Final = _Class(
    bits=64,
    header=Struct("<32xQQ6xHHHH"),
    segment=Struct("<IIQQQQQQ"),
    wanted=(0, 2, 5, 6, 7),
    p_offset=8,
    p_filesz=32,
    p_memsz=40,
    section=Struct("<IIQQQQIIQQ"),
    sh_offset=24,
    sh_size=32,
    word=Struct("<Q"),
)
_ELF32: Final = _Class(
    bits=32,
    header=Struct("<28xII6xHHHH"),
    segment=Struct("<8I"),
    wanted=(0, 1, 4, 5, 7),
    p_offset=4,
    p_filesz=16,
    p_memsz=20,
    section=Struct("<10I"),
    sh_offset=16,
    sh_size=20,
    word=Struct("<I"),
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


class ElfCore(msgspec.Struct, frozen=True):
    """An ELF core of an x86 machine: its note segments, and where its last part ends."""

    data: Data
    kind: _Class
    segments: tuple[Segment, ...]
    sections: range
    reach: int

    @property
    def bits(self) -> int:
        """32 or 64."""
        return self.kind.bits

    @classmethod
    def parse(cls, data: Data) -> ElfCore:
        """Read the headers. ArtefactError where this is no x86 core, or the tables are cut off."""
        if len(data) < 52 or not is_elf(data):
            raise ArtefactError("is no ELF file, or ends within the ELF header", len(data))
        kind = {1: _ELF32, 2: _ELF64}.get(data[4])
        if kind is None or data[5] != 1:
            raise ArtefactError(
                f"ELF class {data[4]}, data encoding {data[5]}: x86 has class 1 or 2, encoding 1",
                4,
            )
        if len(data) < kind.header.size:
            raise ArtefactError("ends within the ELF header", len(data))
        file_type, machine = Struct("<HH").unpack_from(data, 16)
        if file_type != _ET_CORE:
            kinds = {1: "an object file", 2: "a program", 3: "a program or library"}
            raise ArtefactError(
                f"is {kinds.get(file_type, f'an ELF file of type {file_type}')}, not a core dump",
                16,
            )
        if machine not in (EM_386, EM_X86_64):
            raise ArtefactError(f"is a core dump of ELF machine {machine}, which is not x86", 18)
        return _tables(data, kind)

    def notes(self, types: frozenset[int]) -> Iterator[Note]:
        """The notes of these types of every PT_NOTE segment, in the file's order.

        ArtefactError where a note's lengths lie, the file ends within a segment, or there are more
        than MAX_NOTES.
        """
        data, unpack = self.data, _NOTE.unpack_from
        count = 0
        for number, segment in enumerate(self.segments):
            at, end = segment.offset, min(segment.end, len(data))
            align = segment.alignment
            # Alignment counts from the segment's start, wherever that is in the file.
            skew, pad = at % align, align - 1
            last = end - _NOTE.size
            while at <= last:
                count += 1
                if count > MAX_NOTES:
                    raise ArtefactError(f"more than {MAX_NOTES} notes: no system writes that", at)
                name_size, size, kind = unpack(data, at)
                body = (at + 12 + name_size - skew + pad & -align) + skew
                if body + size > end:
                    if end < segment.end:
                        break
                    raise ArtefactError(
                        f"a note with a name of {name_size} and a description of {size} bytes "
                        f"reaches beyond its segment, which ends at {end:#x}",
                        at,
                    )
                if kind in types:
                    name_at = at + _NOTE.size
                    owner = bytes(data[name_at : name_at + min(name_size, _OWNER_MAX)])
                    yield Note(owner.rstrip(b"\0"), kind, body, size, number)
                at = (body + size - skew + pad & -align) + skew
            if end < segment.end:
                raise ArtefactError(
                    f"the file ends here, within the notes that go on to {segment.end:#x}: it is "
                    "cut off",
                    len(data),
                )
            if at < end and any(data[at:end]):
                raise ArtefactError(f"{end - at} bytes behind the last note are no note", at)

    def moved(self, segment: Segment, offset: int, size: int) -> list[tuple[int, bytes]]:
        """The (offset, bytes) to write so that a PT_NOTE segment stands elsewhere.

        ArtefactError where the ELF class cannot say so large an offset.
        """
        kind = self.kind
        if (offset + size) >> kind.bits:
            raise ArtefactError(f"the file is too large for its ELF class, {kind.bits} bits")
        there, length = kind.word.pack(offset), kind.word.pack(size)
        changes = [
            (segment.header + kind.p_offset, there),
            (segment.header + kind.p_filesz, length),
        ]
        if segment.memory == segment.size:
            changes.append((segment.header + kind.p_memsz, length))
        for at in self.sections:  # GDB's gcore describes the segment by a section too
            fields = kind.section.unpack_from(self.data, at)
            if (fields[1], fields[4], fields[5]) == (_SHT_NOTE, segment.offset, segment.size):
                changes += [(at + kind.sh_offset, there), (at + kind.sh_size, length)]
        return changes


def _tables(data: Data, kind: _Class) -> ElfCore:
    table, sections, entry_size, count, section_size, section_count = kind.header.unpack_from(data)
    has_sections = sections and section_size == kind.section.size
    if count == _PN_XNUM and has_sections:
        # More segments than e_phnum can say: sh_info of the first section header has the number.
        if sections + kind.section.size > len(data):
            raise ArtefactError(
                "the file ends before the section header with the number of segments", len(data)
            )
        count = kind.section.unpack_from(data, sections)[7]
    if count > MAX_SEGMENTS:
        raise ArtefactError(f"{count} program headers: no system writes so many")
    if count and entry_size != kind.segment.size:
        raise ArtefactError(f"program headers of {entry_size} bytes, not {kind.segment.size}")
    end = table + count * kind.segment.size
    if end > len(data):
        raise ArtefactError(
            f"the file ends here, before the end of its program headers at {end:#x}", len(data)
        )
    segments, reach = _segments(data[table:end], kind, table)
    reach = max(reach, end)
    sections_end = sections + section_count * kind.section.size
    if not has_sections or sections_end > len(data):
        return ElfCore(data, kind, segments, range(0), reach)
    places = range(sections, sections_end, kind.section.size)
    return ElfCore(data, kind, segments, places, max(reach, sections_end))


def _segments(table: memoryview, kind: _Class, at: int) -> tuple[tuple[Segment, ...], int]:
    """The PT_NOTE segments of a table at byte ``at``, and where the last segment of all ends."""
    notes: list[Segment] = []
    reach = 0
    what, offset, size, memory, align = kind.wanted
    for fields in kind.segment.iter_unpack(table):
        if fields[what]:
            reach = max(reach, fields[offset] + fields[size])
        if fields[what] == _PT_NOTE and fields[size]:
            notes.append(Segment(at, fields[offset], fields[size], fields[memory], fields[align]))
            if len(notes) > MAX_NOTE_SEGMENTS:
                raise ArtefactError(f"more than {MAX_NOTE_SEGMENTS} note segments", at)
        at += kind.segment.size
    last: Segment | None = None
    for segment in sorted(notes, key=lambda segment: segment.offset):
        if last and segment.offset < last.end:
            raise ArtefactError(
                f"note segments [{last.offset:#x}..{last.end:#x}) and "
                f"[{segment.offset:#x}..{segment.end:#x}) overlap",
                segment.header,
            )
        last = segment
    return tuple(notes), reach


def first_segment(data: Data) -> slice:
    """Where the first segment stands, for which ``data`` needs no more than 128 bytes.

    Linux and GDB keep the notes there.
    """
    kind = _ELF32 if data[4] == 1 else _ELF64
    table, *_ = kind.header.unpack_from(data)
    fields = kind.segment.unpack_from(data, table)
    start, size = fields[kind.wanted[1]], fields[kind.wanted[2]]
    return slice(start, start + size)


def counts_elsewhere(data: Data) -> bool:
    """Whether the number of program headers stands in the section headers, behind everything."""
    kind = _ELF32 if data[4] == 1 else _ELF64
    return bool(kind.header.unpack_from(data)[3] == _PN_XNUM)


def note_bytes(owner: bytes, kind: int, body: bytes, align: int) -> bytes:
    """A note as it stands in a file."""
    name = owner + b"\0"
    head = _NOTE.pack(len(name), len(body), kind) + name
    head = head.ljust(_up(len(head), align), b"\0")
    return (head + body).ljust(_up(len(head) + len(body), align), b"\0")


def _up(value: int, align: int) -> int:
    return (value + align - 1) & -align
