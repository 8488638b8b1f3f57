# SPDX-License-Identifier: MIT
"""The catalogue as the tables of a debugger's file: components, registers, CPUs laid out alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from xsaveschema.area.registers import Place, Plan, register_plans
from xsaveschema.catalog import Catalog
from xsaveschema.debuggers import areas
from xsaveschema.layout import standard
from xsaveschema.model import CpuModel, Leaf, Piece, StateComponent, bits_of


def tables(catalog: Catalog) -> areas.Tables:
    """What the catalogue says of the standard format: CPUs in the order in which people expect."""
    models = sorted(catalog.models(), key=lambda model: (-model.popularity, model.name))
    users = [model.by_number[n] for model in models for n in bits_of(model.user_mask)]
    widest: dict[int, StateComponent] = {}
    for each in users:
        if each.number not in widest or widest[each.number].size < each.size:
            widest[each.number] = each
    plans: dict[str, Plan] = {}
    for model in models:
        for name, plan in register_plans(standard(model, model.user_mask)).items():
            plans.setdefault(name, plan)
    ordered = [name for name in catalog.registers() if name in plans]
    return areas.Tables(
        {number: _component(widest[number]) for number in sorted(widest)},
        tuple(_register(plans[name]) for name in ordered),
        tuple(_cpus(models)),
    )


def _component(component: StateComponent) -> areas.Component:
    predicate = component.rules.predicate if component.illegal == "initial" else ""
    leaves = tuple(map(_leaf, component.leaves))
    size, initial = component.size, component.initial
    return areas.Component(component.number, component.name, size, initial, leaves, predicate)


def _leaf(leaf: Leaf) -> areas.Leaf:
    bits = tuple(areas.Bits(each.name, each.low, each.width) for each in leaf.bits)
    return areas.Leaf(leaf.path, leaf.offset, leaf.size, leaf.raw, bits)


def _register(plan: Plan) -> areas.Register:
    register = plan.register
    top = None
    if plan.top is not None:
        word, low, slots = plan.top
        top = _spot(word), low, tuple(map(_spot, slots))
    shape = register.shape and (_piece(register.shape[0]), _piece(register.shape[1]))
    return areas.Register(
        register.name,
        register.index,
        tuple(map(_piece, register.pieces)),
        tuple(map(_spot, plan.places)),
        top,
        shape,
        tuple(map(_spot, plan.shape or ())),
    )


def _piece(piece: Piece) -> areas.Piece:
    return areas.Piece(piece.component, piece.field, piece.start, piece.size)


def _spot(place: Place) -> areas.Spot:
    slot = place.slot
    return areas.Spot(
        slot.number, place.start - slot.origin, place.end - place.start, place.initial
    )


def _cpus(models: Iterable[CpuModel]) -> Iterable[areas.Cpus]:
    alike: dict[Any, list[CpuModel]] = {}
    for model in models:
        rows = tuple(
            (slot.number, slot.size, slot.offset)
            for slot in standard(model, model.user_mask).by_number()
            if slot.number > 1
        )
        alike.setdefault((model.vendor, model.mxcsr_mask, rows), []).append(model)
    for (vendor, mxcsr_mask, rows), same in alike.items():
        names = tuple(model.name for model in same)
        aliases = tuple(alias for model in same for alias in model.aliases)
        yield areas.Cpus(names, aliases, vendor, mxcsr_mask, rows)


def literal(value: Any) -> str:
    """A value of these tables as Python writes it."""
    if isinstance(value, dict):
        items = (f"{key!r}: {literal(each)},\n" for key, each in value.items())
        return "{\n" + "".join(items) + "}"
    if isinstance(value, tuple):
        parts = [literal(each) for each in value]
        if type(value) is not tuple:
            return f"{type(value).__name__}({', '.join(parts)})"
        apart = ",\n" if sum(map(len, parts)) > 80 else ", "
        return f"({apart.join(parts)}{',' * (len(parts) == 1)})"
    if isinstance(value, bytes):  # an initial state: few bytes, and zeros
        return f"{value.rstrip(bytes(1))!r}.ljust({len(value)}, bytes(1))"
    return repr(value)
