# SPDX-License-Identifier: MIT
"""Which values of a component a restore does not load as they stand: its file's rules, judged.

The rules stand with the components: limits of fields, bytes that must be 0, and a predicate where
several fields make a rule (SDM vol. 1, 13.5, 13.12). What depends on the processor's configuration
(TraceEn while loading PT, the LBR depths it has) is not judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from xsaveschema.model import StateComponent
from xsaveschema.reading import PREDICATES as PREDICATES
from xsaveschema.rules import NO_LIMITS


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
