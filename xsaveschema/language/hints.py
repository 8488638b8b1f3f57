"""Which single change to a model would make its self-check come out right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from xsaveschema.errors import MaskError
from xsaveschema.layout import check_xcr0, compacted, standard
from xsaveschema.model import CpuModel, Optional, StateComponent

_FLAGS: Final = {False: "false", True: "true"}


def single_change(
    sizes_seen: Callable[[str], set[int]],
    model: CpuModel,
    standard_size: int,
    compacted_size: int | None,
) -> str:
    """A hint that names the one change of one entry after which both sizes are as wanted.

    Tried are another align64, being in the default mask or not, being a supervisor component, and
    the sizes that the component has in other models. Empty where no change does it, or several.
    """
    found = []
    for text, changed in _changes(sizes_seen, model):
        try:
            check_xcr0(changed, changed.xcr0)
        except MaskError:
            continue
        mask = changed.xcr0 | changed.xss
        if standard(changed, changed.xcr0).size != standard_size:
            continue
        if compacted_size is None or compacted(changed, mask).size == compacted_size:
            found.append(text)
    return f"{found[0]} would make it right" if len(found) == 1 else ""


def _changes(
    sizes_seen: Callable[[str], set[int]], model: CpuModel
) -> Iterator[tuple[str, CpuModel]]:
    for c in model.components.values():
        if c.legacy:
            continue
        said = f"align64: {_FLAGS[not c.align64]} for {c.name}"
        yield said, _with(model, replace(c, align64=not c.align64))
        optional: Optional = "present" if c.optional == "absent" else "absent"
        if c.optional == "absent":
            said = f"having {c.name} in the default mask (it is optional: absent)"
        else:
            said = f"optional: absent for {c.name}"
        changed = _with(model, replace(c, optional=optional))
        if c.supervisor:
            yield said, replace(changed, xss=model.xss ^ c.bit)
        else:
            yield said, replace(changed, xcr0=model.xcr0 ^ c.bit)
        if not c.supervisor and c.optional != "absent":
            said = f"supervisor: true for {c.name}, without offset:,"
            changed = _with(model, replace(c, supervisor=True, offset=None))
            yield said, replace(changed, xcr0=model.xcr0 & ~c.bit, xss=model.xss | c.bit)
        for size in sorted(sizes_seen(c.name) - {c.size}):
            yield (
                f"size: {size} for {c.name}, as in other models,",
                _with(model, replace(c, size=size)),
            )


def _with(model: CpuModel, component: StateComponent) -> CpuModel:
    """The model with one component exchanged."""
    components = {**model.components, component.name: component}
    return replace(model, components=MappingProxyType(components))
