"""A raw file: the bytes of one area, in the format that XCOMP_BV bit 63 says.

It has no magic number, so this reader comes last. KVM_GET_XSAVE2 gives such areas too where they
are longer than ``struct kvm_xsave``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from xsaveschema.artefacts.layouts import of_area
from xsaveschema.artefacts.reader import ArtefactError, Found, InPlace, Options, area_of
from xsaveschema.artefacts.source import MAX_AREA
from xsaveschema.model import EXTENDED_OFFSET


class RawReader(InPlace):
    """One area, the whole file."""

    name = "raw"
    title = "the bytes of one area"

    def recognises(self, data: memoryview) -> bool:
        """Whether the file has the length of an area: nothing else can be told."""
        return EXTENDED_OFFSET <= len(data) <= MAX_AREA

    def read(self, data: memoryview, options: Options) -> Iterator[Found]:
        """The area. TooShortError below 576 bytes."""
        if len(data) > MAX_AREA:
            raise ArtefactError(
                f"is no file that a reader knows, and longer than {MAX_AREA >> 20} MiB, which no "
                "area is"
            )
        known = of_area(data, options)
        area = area_of(data, known.model, options, "area")
        yield Found("area", area, known.source, 0, known.notes, known.others)


READER: Final = RawReader()
