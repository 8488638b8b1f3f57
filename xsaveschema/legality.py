"""Which values of a component a restore does not load as they stand: its file's rules, judged.

The rules stand with the components: limits of fields, bytes that must be 0, and a predicate where
several fields make a rule (SDM vol. 1, 13.5, 13.12). What depends on the processor's configuration
(TraceEn while loading PT, the LBR depths it has) is not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from struct import Struct
from typing import Final, NamedTuple

from xsaveschema.model import StateComponent
from xsaveschema.rules import NO_LIMITS

_TILECFG_SIZE: Final = 64
_COLSB: Final = Struct("<16x8H")
_ROWS: Final = slice(48, 56)
_TILECFG_RESERVED: Final = (slice(2, 16), slice(32, 48), slice(56, 64))
_MOST_ROWS, _MOST_COLSB = 16, 64


class IllegalValue(NamedTuple):
    """What is illegal: where it stands, as field offsets count, and why, in a few words."""

    offset: int
    message: str


def illegal_values(component: StateComponent, image: bytes) -> Iterator[IllegalValue]:
    """What in a component's bytes is against its rules; ``image`` is indexed by field offset."""
    rules, name = component.rules, component.name
    stale = stale_elements(component, image)
    for leaf in component.leaves:
        if leaf.limits == NO_LIMITS or leaf.path.startswith(stale):
            continue
        value = int.from_bytes(image[leaf.offset : leaf.offset + leaf.size], "little")
        for why in leaf.limits.broken_by(value):
            yield IllegalValue(leaf.offset, f"{name}.{leaf.path} is {value:#x}: {why}")
    for start, end in rules.reserved_bytes:
        if any(image[start:end]):
            yield IllegalValue(start, f"{name} bytes {start}..{end - 1} must be 0")
    if rules.predicate and (why := PREDICATES[rules.predicate](image)):
        yield IllegalValue(0, why)


def stale_elements(component: StateComponent, image: bytes) -> tuple[str, ...]:
    """The elements that a component in use does not count, as the paths of their fields begin.

    XSAVES leaves them alone (SDM 13.5.12: LBR entries from DEPTH on). A count of 0 counts all.
    """
    found: list[str] = []
    for field in component.fields:
        if field.counted_by and field.count is not None:
            by = next(by for by in component.fields if by.name == field.counted_by)
            used = int.from_bytes(image[by.offset : by.end], "little")
            found += (f"{field.name}[{i}]" for i in range(used or field.count, field.count))
    return tuple(found)


@lru_cache(maxsize=1024)
def illegal_tilecfg(image: bytes) -> str:
    """Why a processor does not load a TILECFG (64 bytes) as it stands; empty for a legal one.

    XRSTOR and XRSTORS load the initial TILECFG then, palette 0, without a fault; LDTILECFG raises
    #GP, but for palette 0, which is initial whatever follows it (SDM vol. 1, 13.8.1; vol. 2,
    LDTILECFG; HW: Intel with AMX). start_row has no limit, and colsb need not be a multiple of 4.
    """
    image = image.ljust(_TILECFG_SIZE, b"\0")
    palette = image[0]
    if palette > 1:
        return f"there is no palette {palette}"
    if not palette:
        return "palette 0 with other bytes that are not 0" if any(image) else ""
    if any(any(image[part]) for part in _TILECFG_RESERVED):
        return "a reserved byte is not 0"
    shapes = zip(image[_ROWS], _COLSB.unpack_from(image), strict=True)
    for tile, (rows, colsb) in enumerate(shapes):
        said = f"tmm{tile} has {rows} rows of {colsb} bytes"
        if rows > _MOST_ROWS or colsb > _MOST_COLSB:
            return f"{said}, more than {_MOST_ROWS} of {_MOST_COLSB}"
        if bool(rows) != bool(colsb):
            return f"{said}: one of them alone is 0"
    return ""


PREDICATES: Final[Mapping[str, Callable[[bytes], str]]] = {"tilecfg": illegal_tilecfg}
"""Rules of several fields, by the name in a component's file: why bytes are illegal, or empty."""
