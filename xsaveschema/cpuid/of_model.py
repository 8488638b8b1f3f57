"""CPUID leaf 0xD as a model implies it: what a machine or guest with these masks would show."""

from __future__ import annotations

from xsaveschema.layout import check_xcr0, compacted, standard
from xsaveschema.model import FEATURES, CpuidRegisters, CpuModel, StateComponent, bits_of


def implied_leaf(model: CpuModel, xcr0: int, xss: int) -> dict[int, CpuidRegisters]:
    """Leaf 0xD of ``model`` exposing exactly these masks: {sub-leaf: (EAX, EBX, ECX, EDX)}.

    Sizes are in bytes and as if every component of the masks were enabled: D.0.EBX equals
    D.0.ECX, and D.1.EBX is the compacted size of ``xcr0 | xss`` (0 without XSAVEC). MaskError for
    an XCR0 that the processor refuses and for components that the model lacks (SDM vol. 2, CPUID).
    """
    check_xcr0(model, xcr0)
    limited = model.limited(xcr0=xcr0, xss=xss)
    size = standard(model, xcr0).size
    packed = compacted(model, limited.xcr0 | limited.xss).size
    leaf = {
        0: (xcr0 & 0xFFFFFFFF, size, size, xcr0 >> 32),
        1: (
            _announced(model),
            packed if "xsavec" in model.instructions else 0,
            xss & 0xFFFFFFFF,
            xss >> 32,
        ),
    }
    leaf |= {number: leaf_row(model.by_number[number]) for number in bits_of((xcr0 | xss) & ~3)}
    return leaf


def whole_leaf(model: CpuModel) -> dict[int, CpuidRegisters]:
    """What a model is built from again: its masks, legal or not, and all that its silicon has."""
    rows = {c.number: leaf_row(c) for c in model.components.values() if not c.legacy}
    return {
        0: (model.xcr0 & 0xFFFFFFFF, 0, 0, model.xcr0 >> 32),
        1: (_announced(model), 0, model.xss & 0xFFFFFFFF, model.xss >> 32),
        **rows,
    }


def leaf_row(component: StateComponent) -> CpuidRegisters:
    """The sub-leaf that describes an extended component."""
    flags = component.supervisor | component.align64 << 1 | component.xfd << 2
    return component.size, component.offset or 0, flags, 0


def _announced(model: CpuModel) -> int:
    return sum(1 << bit for bit, word in enumerate(FEATURES) if word in model.instructions)
