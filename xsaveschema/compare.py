# SPDX-License-Identifier: MIT
"""What moves between two CPU models, and what is lost: can host B restore a guest that ran on A?

For a CPU the answer is about user components that it has enabled: a model that is limited to an
XCR0 is compared as limited. Supervisor components count where the guest's IA32_XSS is told: what a
CPU offers there a guest need not have enabled. For areas it is about what they have in use.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_
from typing import Any, Literal

from xsaveschema.area import XsaveArea
from xsaveschema.errors import WrongTypeError, XsaveError, described
from xsaveschema.layout import Layout, compacted, places, standard
from xsaveschema.model import FEATURES, CpuModel, StateComponent, bits_of, require_model
from xsaveschema.permission import Permission, permission
from xsaveschema.verdict import AreaVerdict, verdict

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

    ``components`` has, by number, every component that either model has enabled; of areas that were
    compared, those that they have ``in_use`` (XSTATE_BV, united), with one of ``areas`` for each.
    ``xss`` is the guest's IA32_XSS, None where nobody told it. Masks are bit masks of state
    components, sizes are in bytes.
    """

    a: CpuModel
    b: CpuModel
    components: tuple[ComponentComparison, ...]
    xss: int | None = None
    areas: tuple[AreaVerdict, ...] = ()
    known: bool = True
    """Whether A's XCR0 is known: areas that were put together from registers tell nothing of it."""

    @property
    def in_use(self) -> int | None:
        """What the areas have in use, united; None where CPUs were compared."""
        if not self.areas:
            return None
        return reduce(or_, (each.in_use for each in self.areas))

    @property
    def lost(self) -> tuple[str, ...]:
        """The components whose state B cannot hold, by number."""
        if self.areas:
            gone = {name for each in self.areas for name in each.lost}
            named = [row.name for row in self.components if row.name in gone]
            return (*named, *sorted(gone.difference(named)))
        return tuple(row.name for row in self._lossy if not self._unsure(row))

    @property
    def possible(self) -> tuple[str, ...]:
        """The components that would be lost, too, if the guest has enabled them in IA32_XSS.

        None where that is told, and of areas, which say what is in use.
        """
        return tuple(row.name for row in self._lossy if self._unsure(row))

    @property
    def _lossy(self) -> list[ComponentComparison]:
        return [] if self.areas else [row for row in self.components if row.lossy]

    def _unsure(self, row: ComponentComparison) -> bool:
        return self.xss is None and row.a is not None and row.a.supervisor

    @property
    def missing(self) -> tuple[str, ...]:
        """The components that B could hold, but whose state some area's file does not have."""
        return tuple(dict.fromkeys(name for each in self.areas for name in each.missing))

    @property
    def refused(self) -> tuple[str, ...]:
        """The rules by which B refuses some area after a conversion; see ``check``."""
        rules = (fault.rule for each in self.areas for fault in each.faults)
        return tuple(dict.fromkeys(rules))

    @property
    def restorable(self) -> bool:
        """Whether B restores all state that counts: nothing is lost.

        Of areas: each can be converted for B without loss, is whole in its file, and B then takes
        it. Of CPUs: ``possible`` losses do not count, and an MXCSR may be refused
        (``mxcsr_refused``). Either may need a conversion (``as_it_is``, ``standard_identical``,
        ``compacted_identical``, ``missing_instructions``).
        """
        if self.areas:
            return all(each.restorable for each in self.areas)
        return not self.lost

    @property
    def as_it_is(self) -> bool | None:
        """Whether B restores every area without a conversion; None where CPUs were compared."""
        return all(each.as_it_is for each in self.areas) if self.areas else None

    @property
    def permission(self) -> Permission:
        """What Linux must be asked for on B before it takes the dynamic components of the guest."""
        return permission(self.b, self._on_a)

    @property
    def buffers(self) -> tuple[int, int] | None:
        """How long an area is that XSAVE writes of all that XCR0 has, on A and on B, in bytes.

        A process that asked CPUID on A and saves on B, which nobody told it, needs the latter. None
        where A's is not ``known``.
        """
        if not self.known:
            return None
        return standard(self.a, self.a.xcr0).size, standard(self.b, self.b.xcr0).size

    @property
    def _on_a(self) -> int:
        return self.a.xcr0 | self.a.xss if self.in_use is None else self.in_use

    @property
    def common_mask(self) -> int:
        """The components that both models have enabled; of areas, those in use that B has."""
        return self._on_a & (self.b.xcr0 | self.b.xss)

    @cached_property
    def standard_layouts(self) -> tuple[Layout, Layout]:
        """The standard layouts of the common mask's user components, on A and on B."""
        mask = self.common_mask & self.a.user_mask & self.b.xcr0
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
            "possible": list(self.possible),
            **self._of_areas(),
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
            "buffers": self.buffers and dict(zip("ab", self.buffers, strict=True)),
            "permission": self.permission.to_dict() if self.permission else None,
        }

    def _of_areas(self) -> dict[str, Any]:
        if self.in_use is None:
            return {"in_use": None}
        return {
            "in_use": self.a.names_of(self.in_use),
            "missing": list(self.missing),
            "refused": list(self.refused),
            "as_it_is": self.as_it_is,
            "areas": len(self.areas),
            "failing": [each.to_dict() for each in self.areas if not each.restorable],
        }

    @property
    def outcome(self) -> str:
        """What is lost or refused, in one line."""
        said = []
        if self.lost:
            said.append(f"lost: {', '.join(self.lost)}")
        if self.missing:
            said.append(f"not in this file: {', '.join(self.missing)}")
        if self.refused:
            said.append(f"refused: {', '.join(self.refused)}")
        return "; ".join(said or ["nothing is lost"])

    @property
    def verdict(self) -> str:
        """Who moves where, and what is lost, in one line."""
        return f"{self.a.label} -> {self.b.label}: {self.outcome}"

    def __repr__(self) -> str:
        return f"<Comparison {self.verdict}>"

    def __str__(self) -> str:
        from xsaveschema.area.lines import text_of
        from xsaveschema.text import comparison_lines

        return text_of(comparison_lines(self))

    def _repr_html_(self) -> str:
        from xsaveschema.svg import comparison_svg

        return comparison_svg(self)


def compare(
    a: CpuModel | XsaveArea | Iterable[XsaveArea], b: CpuModel, *, xss: int | None = None
) -> Comparison:
    """Compare what a guest of ``a`` keeps on a host of ``b``, and where it sits.

    Of two models only enabled components count (``xcr0 | xss``): a ``limited`` model is compared as
    limited, and one that B's silicon has but not its masks is lost. Supervisor components that B
    lacks are lost where ``xss``, the guest's IA32_XSS, has them, and ``possible`` losses where it
    is None. Components are matched by number. What differs is said, never raised.

    Of areas, one or several that one CPU wrote, what they have in use counts, and each is judged as
    a conversion and ``check`` would judge it. HeaderError and TooShortError for what is no area
    that can be converted, MaskError for an ``xss`` that A does not have.
    """
    if isinstance(a, XsaveArea):
        a = [a]
    if not isinstance(a, CpuModel) and isinstance(a, Iterable) and not isinstance(a, str | bytes):
        require_model(b, "b")
        if xss is not None:
            raise XsaveError("xss= is a CPU's: an area says what it has in use")
        return compare_areas(((f"#{index}", area) for index, area in enumerate(a)), [b])[0]
    require_model(a, "a")
    require_model(b, "b")
    if xss is not None:
        a = a.limited(xss=xss)
    mask = a.xcr0 | a.xss
    return Comparison(a, b, _components(a, b, mask, mask | b.xcr0 | b.xss), xss)


def compare_areas(
    areas: Iterable[tuple[str, XsaveArea]], cpus: Sequence[CpuModel]
) -> list[Comparison]:
    """Compare areas, each with its label, with several CPUs at once, as they come.

    The places that are told are those of a CPU that has all that is in use; an area that is laid
    out otherwise is judged by its own. XsaveError where there is no area, or no such CPU. Other
    errors are :func:`compare`'s, and name the area.
    """
    verdicts: list[list[AreaVerdict]] = [[] for _ in cpus]
    models: list[CpuModel] = []
    in_use = 0
    for label, area in areas:
        if not isinstance(area, XsaveArea):
            raise WrongTypeError(f"a: pass a CpuModel, or XsaveAreas, not {described(area)}")
        in_use |= area.xstate_bv
        if not any(area.model.components == model.components for model in models):
            models.append(area.model)
        try:
            for found, cpu in zip(verdicts, cpus, strict=True):
                found.append(verdict(area, cpu, label))
        except XsaveError as error:
            error.add_note(label)
            raise
    if not models:
        raise XsaveError("there is no area to compare")
    whole = [m for m in models if not in_use & ~(m.user_mask | m.supervisor_mask)]
    if len(models) > 1 and not whole:
        raise XsaveError(
            f"areas of {', '.join(model.label for model in models)} have components in use that no "
            "one of these has: compare them one by one (on the command line --area)"
        )
    model = (whole or models)[0]
    return [
        Comparison(model, cpu, _components(model, cpu, in_use, in_use), areas=tuple(found))
        for found, cpu in zip(verdicts, cpus, strict=True)
    ]


def _components(a: CpuModel, b: CpuModel, on_a: int, shown: int) -> tuple[ComponentComparison, ...]:
    """A row for each component that is ``shown``; A has those of ``on_a``."""
    on_b = b.xcr0 | b.xss
    return tuple(
        _component(
            number,
            a.by_number.get(number),
            b.by_number.get(number),
            bool(on_a >> number & 1),
            bool(on_b >> number & 1),
        )
        for number in bits_of(shown)
    )


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
