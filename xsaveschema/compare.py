# SPDX-License-Identifier: MIT
"""What moves between two CPU models, and what is lost: can host B restore a guest that ran on A?

The answer is about enabled components: a model that is limited to masks is compared as limited.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from xsaveschema.layout import Layout, compacted, places, standard
from xsaveschema.model import FEATURES, CpuModel, StateComponent, bits_of, require_model

State = Literal["same", "moved", "resized", "lost", "new"]


@dataclass(frozen=True, slots=True)
class ComponentComparison:
    """One state component on both models; ``a`` and ``b`` are None where the silicon lacks it.

    ``enabled_a`` and ``enabled_b`` say whether the model's masks have it. ``state`` is "same";
    "moved" where the standard offset differs; "resized" where the size does (then it may have
    moved too); "lost" where B lacks it or has not enabled it; "new" where only B has it enabled.
    A resized component is carried field by field: ``moved_fields`` change their offset in it,
    ``lost_fields`` have no place on B, and ``unplaced`` counts the bytes on A without a place on
    B, bytes that no field names included.
    """

    number: int
    name: str
    state: State
    a: StateComponent | None
    b: StateComponent | None
    enabled_a: bool
    enabled_b: bool
    moved_fields: tuple[str, ...] = ()
    lost_fields: tuple[str, ...] = ()
    unplaced: int = 0

    @property
    def lossy(self) -> bool:
        """Whether B cannot hold the component's state: no place, or too little for its fields.

        Bytes that no field names are no state where fields are declared; all are, where none is.
        """
        if self.state == "resized" and self.a is not None and not self.a.leaves:
            return bool(self.unplaced)
        return self.state == "lost" or bool(self.lost_fields)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: offsets, sizes and counts are numbers in bytes."""
        return {
            "number": self.number,
            "name": self.name,
            "state": self.state,
            "a": _place_dict(self.a, self.enabled_a),
            "b": _place_dict(self.b, self.enabled_b),
            "moved_fields": list(self.moved_fields),
            "lost_fields": list(self.lost_fields),
            "unplaced": self.unplaced,
        }


@dataclass(frozen=True, repr=False)
class Comparison:
    """What becomes of a guest of model ``a`` on a host of model ``b``.

    ``components`` has every component that either model has enabled, by number. Masks are bit
    masks of state components, sizes are in bytes.
    """

    a: CpuModel
    b: CpuModel
    components: tuple[ComponentComparison, ...]

    @property
    def lost(self) -> tuple[str, ...]:
        """The components whose state B cannot hold, by number."""
        return tuple(row.name for row in self.components if row.lossy)

    @property
    def restorable(self) -> bool:
        """Whether B can hold all state of A: nothing is lost.

        The areas may need a conversion all the same (``standard_identical``,
        ``compacted_identical``, ``missing_instructions``), and an MXCSR may be refused
        (``mxcsr_refused``).
        """
        return not self.lost

    @property
    def common_mask(self) -> int:
        """The components that both models have enabled."""
        return (self.a.xcr0 | self.a.xss) & (self.b.xcr0 | self.b.xss)

    @cached_property
    def standard_layouts(self) -> tuple[Layout, Layout]:
        """The standard layouts of the user components that both have enabled, on A and on B."""
        mask = self.a.xcr0 & self.b.xcr0
        return standard(self.a, mask), standard(self.b, mask)

    @cached_property
    def compacted_layouts(self) -> tuple[Layout, Layout]:
        """The compacted layouts of the common mask, on A and on B."""
        return compacted(self.a, self.common_mask), compacted(self.b, self.common_mask)

    @property
    def layouts(self) -> dict[str, tuple[Layout, Layout]]:
        """The same by format."""
        return {"standard": self.standard_layouts, "compacted": self.compacted_layouts}

    @property
    def standard_identical(self) -> bool:
        """Whether every common user component has the same place in the standard format."""
        return places(self.standard_layouts[0]) == places(self.standard_layouts[1])

    @property
    def compacted_identical(self) -> bool:
        """Whether every common component has the same place in the common mask's compacted form."""
        return places(self.compacted_layouts[0]) == places(self.compacted_layouts[1])

    @property
    def missing_instructions(self) -> tuple[str, ...]:
        """What A announces in CPUID leaf 0xD.1 and B does not.

        Without xsavec, B takes no compacted area; without xsaves, no supervisor component.
        """
        return _instructions(self.a.instructions - self.b.instructions)

    @property
    def new_instructions(self) -> tuple[str, ...]:
        """What B announces in CPUID leaf 0xD.1 and A does not."""
        return _instructions(self.b.instructions - self.a.instructions)

    @property
    def mxcsr_refused(self) -> int:
        """Bits of A's MXCSR_MASK that are not in B's: an MXCSR with one of them is #GP on B."""
        return self.a.mxcsr_mask & ~self.b.mxcsr_mask

    @cached_property
    def mxcsr_refused_bits(self) -> tuple[str, ...]:
        """The same bits by name: ``mm``, or ``bit 16`` where none is known."""
        field = next((f for f in self.a.component(1).fields if f.name == "mxcsr"), None)
        names = {bits.low: bits.name for bits in field.bits} if field else {}
        return tuple(names.get(bit, f"bit {bit}") for bit in bits_of(self.mxcsr_refused))

    def to_dict(self) -> dict[str, Any]:
        """For JSON: masks are strings (``"0x2e7"``), offsets, sizes and counts numbers."""
        sizes = {
            name: {"a": a.size, "b": b.size, "identical": places(a) == places(b)}
            for name, (a, b) in self.layouts.items()
        }
        return {
            "a": self.a.label,
            "b": self.b.label,
            "restorable": self.restorable,
            "lost": list(self.lost),
            "components": [row.to_dict() for row in self.components],
            "common_mask": hex(self.common_mask),
            "layouts": sizes,
            "missing_instructions": list(self.missing_instructions),
            "new_instructions": list(self.new_instructions),
            "mxcsr_mask": {
                "a": hex(self.a.mxcsr_mask),
                "b": hex(self.b.mxcsr_mask),
                "refused": hex(self.mxcsr_refused),
                "refused_bits": list(self.mxcsr_refused_bits),
            },
        }

    @property
    def verdict(self) -> str:
        """Who moves where, and what is lost, in one line."""
        verdict = f"lost: {', '.join(self.lost)}" if self.lost else "nothing is lost"
        return f"{self.a.label} -> {self.b.label}: {verdict}"

    def __repr__(self) -> str:
        return f"<Comparison {self.verdict}>"

    def __str__(self) -> str:
        from xsaveschema.area.lines import text_of
        from xsaveschema.text import comparison_lines

        return text_of(comparison_lines(self))

    def _repr_html_(self) -> str:
        from xsaveschema.svg import comparison_svg

        return comparison_svg(self)


def compare(a: CpuModel, b: CpuModel) -> Comparison:
    """Compare two models: what a guest of ``a`` keeps on a host of ``b``, and where it sits.

    Only enabled components count (``xcr0 | xss``): a ``limited`` model is compared as limited, and
    one that B's silicon has but not its masks is lost. Components are matched by number. What
    differs is said, never raised.
    """
    require_model(a, "a")
    require_model(b, "b")
    on_a, on_b = a.xcr0 | a.xss, b.xcr0 | b.xss
    rows = [
        _component(
            number,
            a.by_number.get(number),
            b.by_number.get(number),
            bool(on_a >> number & 1),
            bool(on_b >> number & 1),
        )
        for number in bits_of(on_a | on_b)
    ]
    return Comparison(a, b, tuple(rows))


def _component(
    number: int, a: StateComponent | None, b: StateComponent | None, on_a: bool, on_b: bool
) -> ComponentComparison:
    known = a or b
    name = known.name if known else f"component{number}"

    def row(
        state: State, moved: Iterable[str] = (), lost: Iterable[str] = (), unplaced: int = 0
    ) -> ComponentComparison:
        return ComponentComparison(
            number, name, state, a, b, on_a, on_b, tuple(moved), tuple(lost), unplaced
        )

    if a is None or not on_a:
        return row("new")
    if b is None or not on_b:
        return row("lost", unplaced=a.size)
    if a.size == b.size:
        return row("same" if a.offset == b.offset else "moved")
    # As the conversion does it: the fields that both have are copied by name, no other byte.
    places = {leaf.path: leaf for leaf in b.leaves}
    kept = [leaf for leaf in a.leaves if leaf.path in places]
    kept = [leaf for leaf in kept if places[leaf.path].size == leaf.size]
    moved = [leaf.path for leaf in kept if places[leaf.path].offset != leaf.offset]
    lost = [leaf.path for leaf in a.leaves if leaf not in kept]
    return row("resized", moved, lost, a.size - sum(leaf.size for leaf in kept))


def _instructions(names: frozenset[str]) -> tuple[str, ...]:
    known = [name for name in FEATURES if name in names]
    return (*known, *sorted(names.difference(known)))


def _place_dict(component: StateComponent | None, enabled: bool) -> dict[str, Any] | None:
    if component is None:
        return None
    names = ("size", "offset", "supervisor", "optional")
    return {"enabled": enabled, **{name: getattr(component, name) for name in names}}
