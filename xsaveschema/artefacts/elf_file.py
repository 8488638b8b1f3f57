"""The parts of an ELF core that carry notes: its header, program headers and PT_NOTE segments.

A reader of its own instead of pyelftools, which wants a file object, builds a struct per note,
copies every note's bytes and trusts lengths. Here notes are stepped over by their headers alone,
and everything a file could lie about is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

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
    word: Struct  # an offset or a size
    header: Struct  # e_phoff, e_shoff, e_phentsize, e_phnum, e_shentsize, e_shnum
    segment: Struct  # p_type, p_offset, p_filesz, p_memsz, p_align
    segment_at: tuple[int, int, int]  # p_offset, p_filesz, p_memsz
    section: Struct  # sh_type, sh_offset, sh_size, sh_info
    section_at: tuple[int, int]  # sh_offset, sh_size


_ELF32: Final = _Class(
    bits=32,
    word=Struct("<I"),
    header=Struct("<28xII6xHHHH"),
    segment=Struct("<II8xII4xI"),
    segment_at=(4, 16, 20),
    section=Struct("<4xI8xII4xI8x"),
    section_at=(16, 20),
)
_ELF64: Final = _Class(
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


class ElfCore(NamedTuple):
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

    def body(self, note: Note) -> memoryview:
        """The description of a note."""
        return self.data[note.offset : note.offset + note.size]

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
        *places, memory = (segment.header + at for at in kind.segment_at)
        changes = [*zip(places, (there, length), strict=True)]
        if segment.memory == segment.size:
            changes.append((memory, length))
        for at in self.sections:  # GDB's gcore describes the segment by a section too
            kind_of, *place, _ = kind.section.unpack_from(self.data, at)
            if (kind_of, *place) == (_SHT_NOTE, segment.offset, segment.size):
                places = [at + field for field in kind.section_at]
                changes += zip(places, (there, length), strict=True)
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
        *_, count = kind.section.unpack_from(data, sections)
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
    sections_end = sections + section_count * kind.section.size
    if not has_sections or sections_end > len(data):
        return ElfCore(data, kind, segments, range(0), max(reach, end))
    places = range(sections, sections_end, kind.section.size)
    return ElfCore(data, kind, segments, places, max(reach, end, sections_end))


def _segments(table: memoryview, kind: _Class, at: int) -> tuple[tuple[Segment, ...], int]:
    """The PT_NOTE segments of a table at byte ``at``, and where the last segment of all ends."""
    notes: list[Segment] = []
    reach = 0
    for what, offset, size, memory, align in kind.segment.iter_unpack(table):
        if what:
            reach = max(reach, offset + size)
        if what == _PT_NOTE and size:
            notes.append(Segment(at, offset, size, memory, align))
            if len(notes) > MAX_NOTE_SEGMENTS:
                raise ArtefactError(f"more than {MAX_NOTE_SEGMENTS} note segments", at)
        at += kind.segment.size
    for last, segment in pairwise(sorted(notes, key=lambda segment: segment.offset)):
        if segment.offset < last.end:
            raise ArtefactError(
                f"note segments [{last.offset:#x}..{last.end:#x}) and "
                f"[{segment.offset:#x}..{segment.end:#x}) overlap",
                segment.header,
            )
    return tuple(notes), reach


def early_notes(data: Data) -> int:
    """Where the first segment ends, in a core that tells behind everything how many it has.

    0 for any other core. Linux and GDB keep the notes there; 128 bytes of ``data`` are looked at.
    """
    kind = _ELF32 if data[4] == 1 else _ELF64
    table, _, _, count, *_ = kind.header.unpack_from(data)
    if count != _PN_XNUM:
        return 0
    _, start, size, *_ = kind.segment.unpack_from(data, table)
    return int(start + size)


def note_bytes(owner: bytes, kind: int, body: bytes, align: int) -> bytes:
    """A note as it stands in a file."""
    name = owner + b"\0"
    head = _NOTE.pack(len(name), len(body), kind) + name
    head += bytes(-len(head) % align)
    return head + body + bytes(-len(head + body) % align)
