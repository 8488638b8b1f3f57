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
    size = standard(model, xcr0).size
    announced = sum(1 << bit for bit, word in enumerate(FEATURES) if word in model.instructions)
    packed = compacted(model, limited.xcr0 | limited.xss).size
    leaf = {
        0: (xcr0 & 0xFFFFFFFF, size, size, xcr0 >> 32),
        1: (
            announced,
            packed if "xsavec" in model.instructions else 0,
            xss & 0xFFFFFFFF,
            xss >> 32,
        ),
    }
    for number in bits_of((xcr0 | xss) & ~3):
        component = model.by_number[number]
        flags = component.supervisor | component.align64 << 1 | component.xfd << 2
        leaf[number] = (component.size, component.offset or 0, flags, 0)
    return leaf
