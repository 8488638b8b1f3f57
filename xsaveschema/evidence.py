# SPDX-License-Identifier: MIT
"""Who wrote this area? What its bytes say, held against the CPU model that somebody names.

What the bytes say for sure outranks what people say: the user components that the writer's system
had enabled (traces.py), and an MXCSR_MASK that CPUs of another vendor write. Header bits that a
model lacks, and live state that it places beyond the buffer, are refused wherever a layout is
made (header.py). The length and other masks are hints: notes beside a model's name.
"""

from __future__ import annotations

from collections.abc import Iterable

from xsaveschema.catalog import Catalog, require_catalog
from xsaveschema.errors import EvidenceError, hex_mask
from xsaveschema.header import MASKS
from xsaveschema.layout import has_layout, lays_out, standard, under
from xsaveschema.model import COMPACTED, HEADER_OFFSET, XCR0_OFFSET, CpuModel, bits_of
from xsaveschema.traces import Shown, credible, mxcsr_mask_of, of_kvm


def shown_in(view: memoryview, model: CpuModel, catalog: Catalog | None = None) -> Shown | None:
    """The user components that an area says its writer's system had enabled; None: it says nothing.

    Only the standard format shows any.
    """
    xstate_bv, xcomp_bv = MASKS.unpack_from(view, HEADER_OFFSET)
    return None if xcomp_bv & COMPACTED else credible(view, xstate_bv, catalog, model)


def describes(view: memoryview, model: CpuModel) -> bool:
    """Whether bytes 464..511 would tell a reader something, in this area or in one made of it.

    In a compacted area, and under an XSTATE_BV that they do not cover, they tell nothing yet.
    """
    return credible(view, 0, model=model) is not None


def contradictions(
    view: memoryview, model: CpuModel, catalog: Catalog | None = None, *, guest: bool = False
) -> tuple[str, ...]:
    """What an area's bytes say against ``model`` as the CPU that wrote it, a sentence each.

    ``guest``: KVM wrote the area, as is plain of a struct kvm_xsave. Then the mask in it is its
    host's, which bounds no guest: it says only how the components are laid out.
    """
    found: list[str] = []
    seen = shown_in(view, model, catalog)
    if seen is not None:
        if guest or of_kvm(view):
            found += _by_host(model, seen, require_catalog(catalog).models())
        else:
            found += _by_mask(model, seen, catalog)
    mask = mxcsr_mask_of(view, model, catalog)
    if alien := mask & ~model.mxcsr_mask:
        found.append(
            f"MXCSR_MASK is {hex_mask(mask)}, with bits {hex_mask(alien)} that {model.label}'s "
            f"{hex_mask(model.mxcsr_mask)} lacks"
        )
    return tuple(found)


def judge(view: memoryview, model: CpuModel, catalog: Catalog | None = None) -> None:
    """EvidenceError where an area's bytes contradict ``model`` as the CPU that wrote it."""
    if found := contradictions(view, model, catalog):
        raise EvidenceError(model.label, found, needed=True)


def hints(view: memoryview, model: CpuModel, seen: Shown | None) -> tuple[str, ...]:
    """What speaks against a model without ruling it out."""
    found = []
    compacts = MASKS.unpack_from(view, HEADER_OFFSET)[1] & COMPACTED
    mask = model.xcr0 if seen is None else seen.mask
    if not compacts and has_layout(model, mask):
        size = standard(model, mask).size
        if size != len(view):
            what = f"XCR0 {hex_mask(mask)}"
            if seen is not None:
                what = f"the mask {hex_mask(mask)} at byte {seen.at}"
            found.append(f"the area has {len(view)} bytes; {model.label} takes {size} for {what}")
    mask = mxcsr_mask_of(view, model)
    if mask and mask != model.mxcsr_mask:
        found.append(
            f"MXCSR_MASK is {hex_mask(mask)}, {model.label}'s own is {hex_mask(model.mxcsr_mask)}: "
            "an emulated CPU may have written this"
        )
    return tuple(found)


def seen_under(model: CpuModel, seen: Shown | None) -> CpuModel:
    """The model under the mask that an area shows, where it has such a layout."""
    if seen is None or not has_layout(model, seen.mask):
        return model
    return under(model, seen.mask)


def _by_mask(model: CpuModel, seen: Shown, catalog: Catalog | None) -> Iterable[str]:
    what = f"byte {seen.at} has the mask {hex_mask(seen.mask)} of the components that the "
    what += "writer's system had enabled" if seen.size is None else "signal frame holds"
    if alien := seen.mask & ~model.user_mask:
        yield f"{what}, and {lacks(model, alien, catalog)}"
    elif not has_layout(model, seen.mask):
        yield f"{what}, and on {model.label} they share bytes"
    elif seen.size is not None and standard(model, seen.mask).size != seen.size:
        yield (
            f"{what} in {seen.size} bytes; {model.label} takes "
            f"{standard(model, seen.mask).size} for them"
        )


def _by_host(model: CpuModel, seen: Shown, hosts: Iterable[CpuModel]) -> Iterable[str]:
    if not seen.mask & ~model.user_mask:
        return
    common = standard(model, seen.mask & model.user_mask)
    if not any(lays_out(host, common) for host in hosts if not seen.mask & ~host.user_mask):
        yield (
            f"byte {XCR0_OFFSET} has the mask {hex_mask(seen.mask)} of KVM's host, and no CPU with "
            f"these components lays them out as {model.label} does"
        )


def lacks(model: CpuModel, alien: int, catalog: Catalog | None = None) -> str:
    """That a model has no such components, by the names that others know them by."""
    known = {number: name for name, number in require_catalog(catalog).component_names().items()}
    names = (known.get(number, model.name_of(number)) for number in bits_of(alien))
    return f"{model.label} has no {', '.join(names)}"
