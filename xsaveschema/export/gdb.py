# SPDX-License-Identifier: MIT
"""GDB target descriptions: the registers that a CPU's areas hold, as GDB knows them.

GDB tells a vector extension by a feature and its registers' names: it has them in parts, as areas
do, and puts ``$ymm0`` and ``$zmm0`` together itself. User state that it knows nothing of makes
features of our own, whose registers it shows as they are described.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from xsaveschema.area.registers import Plan, register_plans
from xsaveschema.export.exporter import banner, comment, identifier, template
from xsaveschema.model import BitRange, CpuModel

_KNOWN: Final = (
    *("x87", "sse", "avx", "bndregs", "bndcsr", "opmask", "zmm_hi256", "hi16_zmm", "pkru"),
)
"""The components whose registers GDB's own features have."""
_ROW: Final = 64  # bytes of a tile's row
_INTEGERS: Final = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class _Register:
    name: str
    bits: int
    type: str


@dataclass(frozen=True)
class _Feature:
    """A component that GDB knows nothing of. ``rows``: of its tiles."""

    name: str
    about: str
    registers: tuple[_Register, ...]
    rows: int
    bytes: tuple[int, ...]


class _Gdb:
    target = "gdb"
    title = "GDB target descriptions: registers, vectors as unions"
    suffix = ".xml"

    def render(self, cpus: Sequence[CpuModel]) -> dict[str, str]:
        """``CPU.xml`` for each CPU."""
        return {f"{identifier(model.label)}.xml": _description(model) for model in cpus}


EXPORTER: Final = _Gdb()


def _description(model: CpuModel) -> str:
    layout = model.standard_layout()
    there = {slot.name for slot in layout}
    avx512 = {"avx", "opmask", "zmm_hi256", "hi16_zmm"}
    return template(
        "tdesc.xml.j2",
        banner=[comment(line) for line in banner([model])],
        title=comment(model.title),
        avx="avx" in there,
        mpx={"bndregs", "bndcsr"} <= there,
        avx512=avx512 <= there,
        pkeys="pkru" in there,
        mxcsr=_bits(model),
        features=[*_features(model)],
    )


def _bits(model: CpuModel) -> tuple[BitRange, ...]:
    return next(f.bits for f in model.components["sse"].fields if f.name == "mxcsr")


def _features(model: CpuModel) -> Iterator[_Feature]:
    layout = model.standard_layout()
    found: dict[str, list[Plan]] = {}
    for plan in register_plans(layout).values():
        names = {place.slot.name for place in plan.places}
        if len(names) == 1 and not names & {*_KNOWN}:
            found.setdefault(names.pop(), []).append(plan)
    for name, plans in found.items():
        titles = [field.title for field in layout[name].component.fields if field.title]
        rows = {plan.size // _ROW for plan in plans if plan.shape}
        yield _Feature(
            name=f"org.xsaveschema.{name}",
            about=comment(", ".join(titles) or name),
            registers=tuple(
                _Register(plan.register.name, 8 * plan.size, _type(plan)) for plan in plans
            ),
            rows=max(rows, default=0),
            bytes=tuple(sorted({p.size for p in plans if not p.shape} - {*_INTEGERS})),
        )


def _type(plan: Plan) -> str:
    if plan.shape:
        return "tile"
    return f"uint{8 * plan.size}" if plan.size in _INTEGERS else f"bytes{plan.size}"
