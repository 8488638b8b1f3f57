# SPDX-License-Identifier: MIT
"""Which models of the catalogue a CPU resembles, and in what it differs from one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from xsaveschema.catalog import Catalog, require_catalog
from xsaveschema.model import CpuModel, StateComponent

CLOSE: Final = 3
"""How many components may differ from a model that the new one extends."""


@dataclass(frozen=True, slots=True)
class Kin:
    """What the catalogue has of a CPU.

    ``same`` is a model with the CPU's whole layout, ``owner`` the one that has its signature,
    ``base`` the one that a file may extend; each None where there is none.
    """

    same: CpuModel | None
    owner: CpuModel | None
    base: CpuModel | None


def kin_of(seen: CpuModel, catalog: Catalog | None = None) -> Kin:
    """Which models of the catalogue a CPU resembles.

    Where a model has the CPU's signature, no other counts. Without one, it is a model of the
    vendor's with the same layout and instructions; else that from which the fewest components
    differ, up to ``CLOSE``. A model of the CPU's own name is replaced by the new file and cannot
    be extended.
    """
    catalog = require_catalog(catalog)
    models = catalog.models()
    owner = owner_of(seen, models)
    if owner and same_layout(seen, owner):
        # A file that extends another of its own name would extend itself, perhaps through others.
        return Kin(owner, owner, None if seen.name in catalog else owner)
    if seen.name in catalog:
        return Kin(None, owner, None)
    if owner:
        return Kin(None, owner, owner if _close(seen, owner) else None)
    kindred = [m for m in models if seen.vendor in {m.vendor, *(s.vendor for s in m.signatures)}]
    kindred.sort(key=lambda model: _distance(seen, model))
    for model in kindred:
        if same_layout(seen, model) and model.instructions == seen.instructions:
            return Kin(model, None, model)
    return Kin(None, None, next((model for model in kindred if _close(seen, model)), None))


def owner_of(seen: CpuModel, models: Iterable[CpuModel]) -> CpuModel | None:
    """The model that has the CPU's signature, or None."""
    for model in models:
        for its in seen.signatures:
            (stepping,) = its.steppings or (0,)
            if any(
                mine.matches(its.vendor, its.family, its.models[0], stepping)
                for mine in model.signatures
            ):
                return model
    return None


def _close(seen: CpuModel, base: CpuModel) -> bool:
    """Whether a file that extends ``base`` is the shorter one, and few components differ."""
    own = sum(not component.legacy for component in seen.components.values())
    return len(differences(seen, base)) <= max(0, min(CLOSE, own - 1))


def _distance(seen: CpuModel, other: CpuModel) -> tuple[int | bool | str, ...]:
    """What orders the models that are close to a CPU: smaller is closer.

    Model numbers grow with time, more or less: of models that are equally near, the one with the
    nearest number is the best guess.
    """
    numbers = [
        abs(number - seen.signatures[0].models[0])
        for signature in other.signatures
        if seen.signatures and signature.family == seen.signatures[0].family
        for number in signature.models
    ]
    return (
        len(differences(seen, other)),
        other.instructions != seen.instructions,
        not numbers,
        not other.confirmed,
        min(numbers, default=0),
        other.name,
    )


def same_layout(seen: CpuModel, other: CpuModel) -> bool:
    """Whether every component is where the CPU has it; optional ones may lack, or be there."""
    rows = {n: c.sub_leaf for n, c in other.by_number.items()}
    mine = {n: c.sub_leaf for n, c in seen.by_number.items() if c.optional is None}
    return all(rows.get(number) == row for number, row in mine.items()) and all(
        component.number in mine or component.optional for component in other.components.values()
    )


def differences(seen: CpuModel, base: CpuModel) -> dict[str, StateComponent | None]:
    """The entries by which a model that extends ``base`` has exactly the CPU's layout.

    None removes a component. Names are the base's for the components that it has.
    """
    found: dict[str, StateComponent | None] = {}
    for number in sorted({*seen.by_number, *base.by_number}):
        mine, its = seen.by_number.get(number), base.by_number.get(number)
        if mine is None:
            if its and its.optional != "absent":
                found[its.name] = None
        elif its is None:
            found[mine.name] = mine
        elif mine.sub_leaf != its.sub_leaf or (mine.optional, its.optional).count("absent") == 1:
            found[its.name] = replace(mine, name=its.name)
    return found
