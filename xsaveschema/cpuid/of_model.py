# SPDX-License-Identifier: MIT
"""CPUID leaf 0xD as a model implies it: what a machine or guest with these masks would show."""

from __future__ import annotations

from xsaveschema.layout import check_xcr0, compacted, standard
from xsaveschema.model import FEATURES, CpuidRegisters, CpuModel, bits_of


def implied_leaf(model: CpuModel, xcr0: int, xss: int) -> dict[int, CpuidRegisters]:
    """Leaf 0xD of ``model`` exposing exactly these masks: {sub-leaf: (EAX, EBX, ECX, EDX)}.

    Sizes are in bytes and as if every component of the masks were enabled: D.0.EBX equals
    D.0.ECX, and D.1.EBX is the compacted size of ``xcr0 | xss`` (0 without XSAVEC). MaskError for
    an XCR0 that the processor refuses and for components that the model lacks (SDM vol. 2, CPUID).
    """
    check_xcr0(model, xcr0)
    limited = model.limited(xcr0=xcr0, xss=xss)
    packed = compacted(model, xcr0 | xss).size if "xsavec" in model.instructions else 0
    return _leaf(limited, standard(model, xcr0).size, packed, xcr0 | xss)


def whole_leaf(model: CpuModel) -> dict[int, CpuidRegisters]:
    """What a model is built from again: its masks, legal or not, and all that its silicon has."""
    return _leaf(model, 0, 0, model.user_mask | model.supervisor_mask)


def _leaf(model: CpuModel, size: int, packed: int, mask: int) -> dict[int, CpuidRegisters]:
    announced = sum(1 << bit for bit, word in enumerate(FEATURES) if word in model.instructions)
    return {
        0: (model.xcr0 & 0xFFFFFFFF, size, size, model.xcr0 >> 32),
        1: (announced, packed, model.xss & 0xFFFFFFFF, model.xss >> 32),
        **{number: model.by_number[number].sub_leaf for number in bits_of(mask & ~3)},
    }
