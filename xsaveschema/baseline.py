# SPDX-License-Identifier: MIT
"""What all of several hosts can take: the greatest masks that have one layout on every CPU.

A guest executes XSAVE itself, so nobody can show it another layout than the host's. What it may
have everywhere is what every CPU has enabled, alike: of one size, at one standard offset, aligned
alike in the compacted format.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial, reduce
from operator import and_
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

from xsaveschema.errors import XsaveError, items
from xsaveschema.language.cpu_models import registers_of
from xsaveschema.layout import check_xcr0, legal_part
from xsaveschema.model import FEATURES, CpuModel, StateComponent, bits_of, require_model
from xsaveschema.sigstack import sigstack

Hypervisor = Literal["qemu", "libvirt"]
HYPERVISORS: Final[tuple[Hypervisor, ...]] = ("qemu", "libvirt")


class Place(NamedTuple):
    """Where some of the CPUs have a component: size and offset in bytes, and which ones.

    ``offset`` is the standard format's, None for a supervisor component; ``align64`` moves it up
    in the compacted one. ``cpus`` are the CPUs' words.
    """

    size: int
    offset: int | None
    align64: bool
    cpus: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: sizes and offsets are numbers."""
        return {
            "size": self.size,
            "offset": self.offset,
            "supervisor": self.offset is None,
            "align64": self.align64,
            "cpus": list(self.cpus),
        }


class Features(NamedTuple):
    """CPUID features to switch off for a guest, in a hypervisor's words.

    ``without`` are the components that a guest loses and for which there is no word.
    """

    off: tuple[str, ...]
    without: tuple[str, ...]


@dataclass(frozen=True, repr=False, eq=False)
class Baseline:
    """What a guest may have that shall run on any of ``cpus``, which stand under their words.

    ``model`` is that as a CPU model, named ``baseline``: its masks, its layouts and its leaf 0xD
    are what the guest may be shown, ``instructions`` and ``mxcsr_mask`` what all CPUs have.
    ``places`` has every component that a CPU has enabled, by name and in order of number.
    """

    cpus: Mapping[str, CpuModel]
    model: CpuModel
    places: Mapping[str, tuple[Place, ...]]

    @property
    def xcr0(self) -> int:
        """The greatest XCR0, a bit mask that every CPU takes."""
        return self.model.xcr0

    @property
    def xss(self) -> int:
        """The greatest IA32_XSS; 0 where a CPU lacks XSAVES, and with it the register."""
        return self.model.xss

    @property
    def standard_size(self) -> int:
        """Bytes of a standard area with all of XCR0, on every CPU."""
        return self.model.standard_layout().size

    @property
    def compacted_size(self) -> int:
        """Bytes of a compacted area with all of XCR0 and IA32_XSS.

        Where a CPU lacks XSAVEC (``instructions``) no guest can write one.
        """
        return self.model.compacted_layout().size

    @cached_property
    def frame_size(self) -> int:
        """AT_MINSIGSTKSZ as Linux tells it for XCR0, in bytes; MaskError for one without SSE."""
        return sigstack(self.model).minsigstksz

    @property
    def instructions(self) -> tuple[str, ...]:
        """What CPUID leaf 0xD.1 announces on every CPU, by bit: xsaveopt, xsavec, …"""
        return tuple(name for name in FEATURES if name in self.model.instructions)

    @property
    def xfd(self) -> tuple[str, ...]:
        """The components that extended feature disable knows on every CPU."""
        kept = self.xcr0 | self.xss
        return tuple(c.name for c in self.model.components.values() if c.xfd and c.bit & kept)

    @cached_property
    def lost(self) -> Mapping[str, tuple[str, ...]]:
        """What each CPU has enabled beyond this, by number; maybe nothing."""
        kept = self.xcr0 | self.xss
        beyond = {
            name: {cpu for place in places for cpu in place.cpus}
            for name, places in self.places.items()
            if not (name in self.model.components and self.model.components[name].bit & kept)
        }
        return {cpu: tuple(n for n, cpus in beyond.items() if cpu in cpus) for cpu in self.cpus}

    @property
    def moved(self) -> tuple[str, ...]:
        """The components that every CPU has enabled, but not of one size at one place."""
        return tuple(
            name
            for name, places in self.places.items()
            if len(places) > 1 and sum(len(place.cpus) for place in places) == len(self.cpus)
        )

    def features(self, hypervisor: Hypervisor) -> Features:
        """The CPUID features to switch off so that a guest sees no more than this.

        The words that components' files have for ``qemu`` or ``libvirt``, of all that a CPU has
        beyond this; and of leaf 0xD.1 what not all announce, whose words are the same.
        """
        if hypervisor not in HYPERVISORS:
            raise XsaveError(f"features: there is {' and '.join(HYPERVISORS)}, not {hypervisor!r}")
        known = {name: c for cpu in self.cpus.values() for name, c in cpu.components.items()}
        gone = [known[name] for name in self.places if any(name in n for n in self.lost.values())]
        words: dict[str, None] = {}
        without, covered = [], set()
        for component in gone:
            own = component.rules.features
            if hypervisor == "qemu":
                own += component.rules.qemu_features
            words |= dict.fromkeys(own)
            # What XCR0 enables only as a whole has its words in one file.
            covered |= {component.name, *component.rules.together} if own else set()
        without = [component.name for component in gone if component.name not in covered]
        some = set[str]().union(*(cpu.instructions for cpu in self.cpus.values()))
        off = [name for name in FEATURES if name in some - self.model.instructions]
        return Features((*words, *off), tuple(without))

    def to_dict(self) -> dict[str, Any]:
        """For JSON: masks and registers are strings (``"0x2e7"``), sizes and offsets numbers."""
        return {
            "xcr0": hex(self.xcr0),
            "xss": hex(self.xss),
            "standard_size": self.standard_size,
            "compacted_size": self.compacted_size,
            "frame_size": self.frame_size,
            "lost": {cpu: list(names) for cpu, names in self.lost.items()},
            "moved": list(self.moved),
            "instructions": list(self.instructions),
            "mxcsr_mask": hex(self.model.mxcsr_mask),
            "xfd": list(self.xfd),
            "places": {
                name: [place.to_dict() for place in places] for name, places in self.places.items()
            },
            "leaf_0xd": {
                str(number): [hex(register) for register in registers]
                for number, registers in self.model.cpuid_leaf_0xd().items()
            },
            "features": {
                each: {
                    "off": list(self.features(each).off),
                    "without": list(self.features(each).without),
                }
                for each in HYPERVISORS
            },
        }

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Baseline):
            return NotImplemented
        return self.cpus == other.cpus

    def __hash__(self) -> int:
        return hash(frozenset(self.cpus.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return baseline, (dict(self.cpus),)

    def __repr__(self) -> str:
        count = f"{len(self.cpus)} CPU{'s' * (len(self.cpus) != 1)}"
        return f"<Baseline of {count}: XCR0 {self.xcr0:#x}, IA32_XSS {self.xss:#x}>"

    def __str__(self) -> str:
        from xsaveschema.area.lines import text_of
        from xsaveschema.text import baseline_lines

        return text_of(baseline_lines(self))


def baseline(models: Iterable[CpuModel] | Mapping[str, CpuModel]) -> Baseline:
    """What a guest may have that shall run on any of these CPUs, with the masks they have enabled.

    ``models`` are CPU models, or such by the words that shall stand for them; without words they
    are called by their labels, a second one of a label that differs ``zen4 (2)``. Components are
    matched by number, as CPUID does. XsaveError where no model is given, MaskError where one of
    them has no legal XCR0 that goes with the others'.
    """
    cpus = dict(models) if isinstance(models, Mapping) else _called(models)
    for model in cpus.values():
        require_model(model, "models")
    if not cpus:
        raise XsaveError("a baseline is of CPUs, and none is named: pass at least one CpuModel")
    found: dict[int, dict[StateComponent, list[str]]] = {}
    for cpu, model in cpus.items():
        for number in bits_of(model.xcr0 | model.xss):
            alike = found.setdefault(number, {})
            component = model.by_number[number]
            same = next((c for c in alike if _place(c) == _place(component)), component)
            alike.setdefault(same, []).append(cpu)
    rows = {number: found[number] for number in sorted(found)}
    every = [number for number, row in rows.items() if [*map(len, row.values())] == [len(cpus)]]
    mask = sum(1 << number for number in every)
    xcr0 = mask & reduce(and_, (model.xcr0 for model in cpus.values()))
    before = -1
    while xcr0 != before:  # what one CPU's files rule may make what another's rule illegal
        before = xcr0
        for model in cpus.values():
            xcr0 = legal_part(model, xcr0)
    instructions = frozenset.intersection(*(model.instructions for model in cpus.values()))
    xss = mask & reduce(and_, (model.xss for model in cpus.values()))
    xss = xss if "xsaves" in instructions else 0
    for model in cpus.values():
        check_xcr0(model, xcr0)
    names = {number: _name(number, cpus.values()) for number in rows}
    limited = _limited(cpus, names, xcr0, xss, instructions)
    places = {
        names[number]: tuple(Place(*_place(c), tuple(words)) for c, words in row.items())
        for number, row in rows.items()
    }
    return Baseline(cpus, limited, places)


def _called(models: Iterable[CpuModel]) -> dict[str, CpuModel]:
    """Models by label; the same one once, another of the same label by a number."""
    found: dict[str, CpuModel] = {}
    for model in items(models, "models: pass CPU models"):
        require_model(model, "models")
        label, count = model.label, 1
        while found.get(label, model) != model:
            count += 1
            label = f"{model.label} ({count})"
        found[label] = model
    return found


def _place(component: StateComponent) -> tuple[int, int | None, bool]:
    """What must be alike; a supervisor component has no offset."""
    return component.size, component.offset, component.align64


def _name(number: int, models: Iterable[CpuModel]) -> str:
    """A component's name on the first CPU on which it has one of a file."""
    named = [model.by_number[number].name for model in models if number in model.by_number]
    return next((name for name in named if name != f"component{number}"), named[0])


def _limited(
    cpus: Mapping[str, CpuModel],
    names: Mapping[int, str],
    xcr0: int,
    xss: int,
    instructions: frozenset[str],
) -> CpuModel:
    """A CPU model of nothing but what all have."""

    def common() -> Iterator[StateComponent]:
        for number in bits_of(xcr0 | xss):
            on = [model.by_number[number] for model in cpus.values()]
            first = next(c for c in on if c.name == names[number])
            yield replace(first, xfd=all(c.xfd for c in on), optional=None)

    components = {c.name: c for c in common()}
    first = next(iter(cpus.values()))
    vendors = {model.vendor for model in cpus.values()}
    return replace(
        first,
        name="baseline",
        title=f"What {len(cpus)} CPU{'s' * (len(cpus) != 1)} have in common",
        vendor=first.vendor if len(vendors) == 1 else "",
        signatures=(),
        instructions=instructions,
        components=MappingProxyType(components),
        xcr0=xcr0,
        xss=xss,
        mxcsr_mask=reduce(and_, (model.mxcsr_mask for model in cpus.values())),
        confirmed_by=(),
        source="",
        file="",
        load_registers=partial(registers_of, first.load_registers, frozenset(components)),
        aliases=(),
        host=False,
    )
