# SPDX-License-Identifier: MIT
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
        *places, memory = (segment.header + at for at in kind.segment_at)
        changes = [*zip(places, (there, length), strict=True)]
        if segment.memory == segment.size:
            changes.append((memory, length))
        for at in self.sections:  # GDB's gcore describes the segment by a section too
            kind_of, *place, _ = read(kind.section, self.data, at)
            if (kind_of, *place) == (_SHT_NOTE, segment.offset, segment.size):
                places = [at + field for field in kind.section_at]
                changes += zip(places, (there, length), strict=True)
        return changes


def early_notes(data: Data) -> int:
    """Where the first segment ends, in a core that tells behind everything how many it has.

    0 for any other core. Linux and GDB keep the notes there; 128 bytes of ``data`` are looked at.
    """
    kind = class_of(data)
    table, _, _, count, *_ = read(kind.header, data, 0)
    if count != PN_XNUM:
        return 0
    _, start, size, *_ = read(kind.segment, data, table)
    return int(start + size)


def note_bytes(owner: bytes, kind: int, body: bytes, align: int) -> bytes:
    """A note as it stands in a file."""
    name = owner + b"\0"
    head = NOTE.pack(len(name), len(body), kind) + name
    head += bytes(-len(head) % align)
    return head + body + bytes(-len(head + body) % align)
