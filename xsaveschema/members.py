# SPDX-License-Identifier: MIT
"""A component's bytes as members of a structure: fields, and the reserved bytes between them.

The map tells what a byte is; a structure of a language must know what repeats and what is a group,
which the map has unrolled. Construct's structs and those of other languages are made of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from xsaveschema.model import Field


@dataclass(frozen=True, slots=True)
class Member:
    """``size`` bytes at ``offset`` (from the start of what it is a member of), ``count`` times.

    ``count`` is None for what does not repeat. ``rest`` are reserved bytes behind each element.
    ``field`` is None for reserved bytes; ``members`` are those of a group.
    """

    name: str
    offset: int
    size: int
    count: int | None = None
    rest: int = 0
    field: Field | None = None
    members: tuple[Member, ...] = ()

    @property
    def end(self) -> int:
        """The first byte behind the last element."""
        return self.offset + (self.size + self.rest) * (1 if self.count is None else self.count)


def members_of(fields: Iterable[Field], size: int) -> tuple[Member, ...]:
    """Fields in order of offset, and the bytes between them, up to ``size``: as many as fit."""
    return tuple(_members(fields, size))


def _members(fields: Iterable[Field], size: int) -> Iterator[Member]:
    end = 0
    for field in sorted(fields, key=lambda field: field.offset):
        if field.offset + field.size > size or field.offset < end:
            continue  # beyond this CPU's component, or amid another repeated field
        yield from _reserved(end, field.offset)
        member = _member(field, size)
        yield member
        end = member.end
    yield from _reserved(end, size)


def _member(field: Field, size: int) -> Member:
    inner = members_of(field.fields, field.size) if field.fields else ()
    if field.count is None:
        return Member(field.name, field.offset, field.size, None, 0, field, inner)
    rest = field.stride - field.size
    # An element whose rest does not fit is no member.
    count = min(field.count, (size - field.offset) // field.stride)
    return Member(field.name, field.offset, field.size, count, rest, field, inner)


def _reserved(start: int, end: int) -> Iterator[Member]:
    if start < end:
        yield Member(f"reserved_{start}", start, end - start)
