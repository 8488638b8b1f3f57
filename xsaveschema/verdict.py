# SPDX-License-Identifier: MIT
"""Whether one area's state would restore on another CPU: what a conversion loses, what is refused.

Nothing is judged here by rules of its own: the area is converted as ``relayout`` does it, and the
outcome is held against ``check``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xsaveschema.area import XsaveArea
from xsaveschema.convert import relayout
from xsaveschema.errors import Fault, StateLossError
from xsaveschema.header import MASKS, Buffer, view_of
from xsaveschema.model import COMPACTED, HEADER_OFFSET, CpuModel, Format, bits_of
from xsaveschema.restore import check, misplaced
from xsaveschema.restore_rules import Target


@dataclass(frozen=True, slots=True)
class AreaVerdict:
    """What becomes of the area called ``label`` on a CPU.

    ``in_use`` is its XSTATE_BV. ``lost`` are the components in use that the CPU cannot hold,
    ``missing`` those that it could, but whose state is not in the file, ``faults`` what the CPU
    would refuse of the converted area. ``as_it_is``: it is restored without a conversion.
    """

    label: str
    in_use: int
    lost: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    as_it_is: bool = False

    @property
    def restorable(self) -> bool:
        """Whether all state of the area is restored there, by a conversion if need be."""
        return not (self.lost or self.missing or self.faults)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: names, and the faults' rules and messages."""
        return {
            "label": self.label,
            "lost": list(self.lost),
            "missing": list(self.missing),
            "faults": [{"rule": each.rule, "message": each.message} for each in self.faults],
        }


def verdict(area: XsaveArea, cpu: CpuModel, label: str = "area") -> AreaVerdict:
    """Judge an area that shall be restored on ``cpu``, in the area's format if the CPU has that.

    A CPU without XSAVEC gets the standard format. HeaderError and TooShortError as ``relayout``'s:
    such an area has no state to judge.
    """
    format = format_for(area, cpu)
    name_of = {number: area.model.name_of(number) for number in bits_of(area.xstate_bv)}
    name_of |= area.missing_by_number
    gone = {name_of[number] for number in area.missing_by_number} & {
        name_of[number] for number in bits_of(area.xstate_bv & ~(cpu.xcr0 | cpu.xss))
    }
    faults: tuple[Fault, ...] = ()
    try:
        moved = relayout(area, target=cpu, format=format, drop=area.missing)
    except StateLossError as error:
        gone |= set(error.lost)
    else:
        faults = tuple(check(moved.data, cpu, _instruction(moved.data, cpu)))
    whole = not (gone or faults or area.missing) and format == area.format
    return AreaVerdict(
        label=label,
        in_use=area.xstate_bv,
        lost=tuple(name for name in name_of.values() if name in gone),
        missing=tuple(name for name in area.missing if name not in gone),
        faults=faults,
        as_it_is=whole
        and not misplaced(area, cpu)
        and not check(area.buffer, cpu, _instruction(area.buffer, cpu)),
    )


def format_for(area: XsaveArea, cpu: CpuModel) -> Format:
    """The format in which an area goes to a CPU: its own, if the CPU has it."""
    return area.format if "xsavec" in cpu.instructions else "standard"


def _instruction(data: Buffer, cpu: CpuModel) -> Target:
    """What restores an area: XRSTOR, or XRSTORS where supervisor components have a place."""
    _, xcomp_bv = MASKS.unpack_from(view_of(data), HEADER_OFFSET)
    places = xcomp_bv & ~COMPACTED if xcomp_bv & COMPACTED else 0
    return "xrstors" if places & cpu.supervisor_mask else "xrstor"
