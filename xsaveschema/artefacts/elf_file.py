"""An ELF core as the package reads and edits it: its notes, moved or made anew."""

from __future__ import annotations

from typing import Final

from xsaveschema.artefacts.elf_notes import NOTE, PN_XNUM, CoreNotes, Segment, class_of, read
from xsaveschema.artefacts.elf_notes import Note as Note
from xsaveschema.artefacts.elf_notes import is_elf as is_elf
from xsaveschema.artefacts.reader import ArtefactError, Data

_SHT_NOTE: Final = 7


class ElfCore(CoreNotes):
    """An ELF core of an x86 machine: its note segments, and where its last part ends.

    ArtefactError where it is none, or the tables are cut off.
    """

    fault = ArtefactError

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
            fields = read(kind.section, self.data, at)
            if (fields[1], fields[4], fields[5]) == (_SHT_NOTE, segment.offset, segment.size):
                changes += [(at + kind.sh_offset, there), (at + kind.sh_size, length)]
        return changes


def first_segment(data: Data) -> slice:
    """Where the first segment stands, for which ``data`` needs no more than 128 bytes.

    Linux and GDB keep the notes there.
    """
    kind = class_of(data)
    table, *_ = read(kind.header, data, 0)
    fields = read(kind.segment, data, table)
    start, size = fields[kind.wanted[1]], fields[kind.wanted[2]]
    return slice(start, start + size)


def counts_elsewhere(data: Data) -> bool:
    """Whether the number of program headers stands in the section headers, behind everything."""
    return bool(read(class_of(data).header, data, 0)[3] == PN_XNUM)


def note_bytes(owner: bytes, kind: int, body: bytes, align: int) -> bytes:
    """A note as it stands in a file."""
    name = owner + b"\0"
    head = NOTE.pack(len(name), len(body), kind) + name
    head = head.ljust(_up(len(head), align), b"\0")
    return (head + body).ljust(_up(len(head) + len(body), align), b"\0")


def _up(value: int, align: int) -> int:
    return (value + align - 1) & -align
