# SPDX-License-Identifier: MIT
"""A model's self-check, ``sizes:``, and which single change would make it come out right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import MappingProxyType

from msgspec import UNSET

from xsaveschema.errors import hex_mask
from xsaveschema.language.document import Document
from xsaveschema.language.grammar import ModelDoc, given
from xsaveschema.layout import compacted, standard, takes_xcr0
from xsaveschema.model import CpuModel, Optional, StateComponent


def check_sizes(
    sizes_seen: Callable[[str], set[int]], document: Document, doc: ModelDoc, model: CpuModel
) -> bool:
    """Whether the components end where CPUID says they do; ``sizes_seen`` is for the hint."""
    if doc.sizes is UNSET:
        return True  # inherited ones were checked where they stand
    sizes = doc.sizes
    wanted = given(sizes.compacted, None)
    end = standard(model, model.xcr0).size
    mask = model.xcr0 | model.xss
    size = compacted(model, mask).size
    if end == sizes.standard and wanted in (None, size):
        return True
    change = _single_change(sizes_seen, model, sizes.standard, wanted)
    if end != sizes.standard:
        last = max(standard(model, model.xcr0), key=lambda slot: slot.end).name
        what = f"the components of XCR0 {hex_mask(model.xcr0)} end at {end} ({last})"
        what += f", not at {sizes.standard}"
        hint = change or "CPUID D.0.ECX is max(offset + size): see which entry is off"
        document.fault("sizes-standard", ("sizes", "standard"), what, hint)
    if wanted not in (None, size):
        what = f"the compacted layout of {hex_mask(mask)} ends at {size}, not at {wanted}"
        hint = change or "CPUID D.1.EBX with all enabled: see which size or align64 is off"
        document.fault("sizes-compacted", ("sizes", "compacted"), what, hint)
    return False


def _single_change(
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
        mask = changed.xcr0 | changed.xss
        if (
            takes_xcr0(changed, changed.xcr0)
            and standard(changed, changed.xcr0).size == standard_size
            and compacted_size in (None, compacted(changed, mask).size)
        ):
            found.append(text)
    return f"{found[0]} would make it right" if len(found) == 1 else ""


def _changes(
    sizes_seen: Callable[[str], set[int]], model: CpuModel
) -> Iterator[tuple[str, CpuModel]]:
    for c in model.components.values():
        if c.legacy:
            continue
        flag = "false" if c.align64 else "true"
        yield f"align64: {flag} for {c.name}", _with(model, replace(c, align64=not c.align64))
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
