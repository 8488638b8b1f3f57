# SPDX-License-Identifier: MIT
"""Hypothesis strategies for XSAVE areas, for this project's tests and for yours.

Needs the extra ``test``. ``areas(model)`` draws legal areas as a processor could have written
them: stale bytes at the places of initial components, any XSTATE_BV within the layout.
"""

from __future__ import annotations

from random import Random

try:
    from hypothesis import assume
    from hypothesis import strategies as st
except ModuleNotFoundError as error:
    if error.name != "hypothesis":
        raise
    raise ModuleNotFoundError(
        "xsaveschema.testing needs hypothesis: pip install 'xsaveschema[test]'", name="hypothesis"
    ) from None

from xsaveschema.layout import Layout, compacted, standard, takes_xcr0
from xsaveschema.model import (
    EXTENDED_OFFSET,
    HEADER_OFFSET,
    HEADER_SIZE,
    MXCSR_INITIAL,
    MXCSR_OFFSET,
    CpuModel,
    Format,
    bits_of,
    require_model,
)
from xsaveschema.restore import check

__all__ = ["areas", "illegal_areas", "layouts", "xcr0s"]


def _subset(mask: int) -> st.SearchStrategy[int]:
    bits = [1 << number for number in bits_of(mask)]
    return st.sets(st.sampled_from(bits)).map(sum) if bits else st.just(0)


def xcr0s(model: CpuModel) -> st.SearchStrategy[int]:
    """Masks that this model's processor takes as XCR0."""
    require_model(model)
    return _subset(model.xcr0).map(lambda mask: mask | 1).filter(lambda m: takes_xcr0(model, m))


def layouts(model: CpuModel, format: Format | None = None) -> st.SearchStrategy[Layout]:
    """Layouts of a model: standard for any XCR0, compacted for any XCOMP_BV."""
    require_model(model)
    return _layouts(model, format)


@st.composite
def _layouts(draw: st.DrawFn, model: CpuModel, format: Format | None) -> Layout:
    if format is None:
        format = draw(st.sampled_from(("standard", "compacted")))
    if format == "standard":
        return standard(model, draw(xcr0s(model)))
    return compacted(model, draw(_subset(model.xcr0 | model.xss)))


def areas(
    model: CpuModel,
    format: Format | None = None,
    *,
    supervisor: bool = True,
    trailing: bool = True,
) -> st.SearchStrategy[bytes]:
    """Legal areas that ``model`` wrote, as bytes.

    Components in use hold random bytes; the places of the others hold garbage, as XSAVEC leaves
    them, or zeros. ``supervisor`` False keeps supervisor components out of the compacted format;
    ``trailing`` True sometimes adds bytes behind the area, and sometimes cuts a standard area
    behind its last component in use.
    """
    require_model(model)
    return _areas(model, format, supervisor, trailing)


@st.composite
def _areas(
    draw: st.DrawFn, model: CpuModel, format: Format | None, supervisor: bool, trailing: bool
) -> bytes:
    layout = draw(layouts(model if supervisor else model.limited(xss=0), format))
    # A seed, not st.randoms: areas of 11 KB drawn through Hypothesis exceed what it can hold.
    random = Random(draw(st.integers(0, (1 << 64) - 1)))
    xstate_bv = draw(_subset(layout.mask))
    size = layout.size + (draw(st.sampled_from((0, 0, 1, 64, 4096))) if trailing else 0)
    area = bytearray(random.randbytes(size) if draw(st.booleans()) else size)
    if draw(st.integers(0, 3)):
        for slot in layout:
            if slot.component.bit & xstate_bv:
                area[slot.offset : slot.end] = random.randbytes(slot.size)
    mxcsr = draw(st.sampled_from((MXCSR_INITIAL, 0, 0xFFFF))) & model.mxcsr_mask
    area[MXCSR_OFFSET : MXCSR_OFFSET + 4] = mxcsr.to_bytes(4, "little")
    header = xstate_bv.to_bytes(8, "little") + layout.xcomp_bv.to_bytes(8, "little")
    area[HEADER_OFFSET:EXTENDED_OFFSET] = header + bytes(HEADER_SIZE - 16)
    if layout.format == "standard" and trailing and draw(st.booleans()):
        ends = [slot.end for slot in layout if slot.component.bit & xstate_bv]
        area = area[: draw(st.integers(max([EXTENDED_OFFSET, *ends]), len(area)))]
    return bytes(area)


def illegal_areas(model: CpuModel, format: Format | None = None) -> st.SearchStrategy[bytes]:
    """Areas of a model whose header, or MXCSR, XRSTOR refuses: ``check`` has faults for each."""
    require_model(model)
    return _illegal_areas(model, format)


@st.composite
def _illegal_areas(draw: st.DrawFn, model: CpuModel, format: Format | None) -> bytes:
    area = bytearray(draw(areas(model, format, supervisor=False, trailing=False)))
    places = st.one_of(st.integers(HEADER_OFFSET, HEADER_OFFSET + 24), st.just(MXCSR_OFFSET + 3))
    for at in draw(st.sets(places, min_size=1, max_size=3)):
        area[at] ^= draw(st.integers(1, 255))
    broken = bytes(area).ljust(EXTENDED_OFFSET + standard(model, model.xcr0).size, b"\0")
    assume(check(broken, model))
    return broken
