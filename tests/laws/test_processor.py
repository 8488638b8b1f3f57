"""The machine's own processor as the judge of conversions: it executes XSAVE, XSAVEC, XRSTOR.

Every expectation here is what the processor did with the same state; nothing is computed twice.
"""

from __future__ import annotations

import random
from functools import cache

import processor
import pytest
from processor import Case

from xsaveschema import XsaveArea, to_compacted, to_standard
from xsaveschema.identify.named import host_model
from xsaveschema.model import COMPACTED, CpuModel, bits_of

REASON = processor.available()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))
needs_xsavec = pytest.mark.skipif(
    REASON is not None or not processor.has("xsavec"), reason="the processor has no XSAVEC"
)

# FOP, FIP and FDP do not survive XRSTOR + XSAVE on AMD unless an exception is pending (HW).
POINTERS = slice(6, 24)


@cache
def host() -> CpuModel:
    """This machine's model, limited to the XCR0 that its system enabled."""
    processor.request_amx()
    return host_model().limited(xcr0=processor.xgetbv(0), xss=0)


def random_state(rng: random.Random, mask: int = processor.ALL) -> bytes:
    """A standard area with random components of `mask` in use, some of them all zero."""
    model = host()
    area = bytearray(model.standard_layout().size)
    xstate_bv = 0
    for slot in model.standard_layout():
        kind = rng.choice(("initial", "random", "zero"))
        if kind == "initial" or slot.name == "lwp" or not slot.component.bit & mask:
            continue
        if slot.name == "tiledata" and not processor.request_amx():
            continue  # the kernel does not let this process have tiles
        xstate_bv |= slot.component.bit
        if kind == "random":
            tilecfg = slot.name == "tilecfg"
            data = processor.legal_tilecfg(rng) if tilecfg else rng.randbytes(slot.size)
            area[slot.offset : slot.end] = data
    area[0:8] = (0x37F | rng.randrange(4) << 10).to_bytes(2, "little") + bytes(6)
    area[POINTERS] = bytes(18)
    if xstate_bv & 1:
        area[2:4] = (rng.randrange(8) << 11).to_bytes(2, "little")
        area[4] = rng.randrange(256)
    area[24:28] = rng.choice((0x1F80, 0x1FC0, 0x9F80, 0x3FBF)).to_bytes(4, "little")
    area[28:32] = bytes(4)
    if "pkru" in model.components and xstate_bv >> 9 & 1:
        pkru = model.standard_layout()["pkru"].offset
        area[pkru] &= 0xFC  # key 0 is what this process itself runs on
    area[512:576] = xstate_bv.to_bytes(8, "little") + bytes(56)
    return bytes(area)


def masks(rng: random.Random, count: int) -> list[int]:
    """All, and random subsets of XCR0."""
    xcr0 = host().xcr0
    subsets = [sum(1 << n for n in bits_of(xcr0) if rng.random() < 0.6) for _ in range(count)]
    return [xcr0, *subsets]


def restored(area: bytes, rfbm: int, prior: bytes) -> bytes:
    """What XSAVE shows after XRSTOR of an area over a prior state, without x87 pointers."""
    result = processor.restore_all([Case(area, rfbm, prior)])[0]
    assert not result.faulted, "the processor refuses what the conversion made"
    return _comparable(result.after)


def _comparable(area: bytes) -> bytes:
    found = bytearray(area)
    found[POINTERS] = bytes(18)
    found[28:32] = bytes(4)
    return bytes(found)


@needs_xsavec
@pytest.mark.parametrize("seed", range(40))
def test_converting_what_xsave_wrote_gives_what_xsavec_wrote(seed: int) -> None:
    rng = random.Random(seed)
    model = host()
    size = max(model.standard_layout().size, model.compacted_layout(model.xcr0).size)
    state = random_state(rng)
    for rfbm in masks(rng, 4):
        if not rfbm & 2:
            continue  # no MXCSR in the target: a loss, tested on its own
        plain = processor.save("xsave64", state, rfbm, size=size)
        packed = processor.save("xsavec64", state, rfbm, size=size)
        result = to_compacted(plain, model, xcomp_bv=rfbm)
        assert result.data == packed[: len(result.data)], hex(rfbm)


@pytest.mark.parametrize("form", ["standard", "compacted"])
def test_a_converted_area_restores_the_same_registers(form: str) -> None:
    if form == "compacted" and not processor.has("xsavec"):
        pytest.skip("the processor has no XSAVEC, hence no compacted XRSTOR")
    rng = random.Random(form)
    model = host()
    cases, expected = [], []
    for _ in range(150):
        state, prior = random_state(rng), random_state(rng)
        rfbm = rng.choice(masks(rng, 3))
        if form == "compacted":
            # A compacted restore touches MXCSR only with RFBM[1] (HW): keep to RFBMs with it.
            rfbm |= 2
            converted = bytes(to_compacted(state, model, xcomp_bv=model.xcr0).data)
        else:
            packed = to_compacted(state, model, xcomp_bv=model.xcr0).data
            converted = bytes(to_standard(packed, model).data)
            rfbm |= 2
        expected.append(Case(state, rfbm, prior))
        cases.append(Case(converted, rfbm, prior))
    wanted = processor.restore_all(expected)
    for case, reference, result in zip(cases, wanted, processor.restore_all(cases), strict=True):
        assert not result.faulted
        assert _state(result.after) == _state(reference.after), hex(case.rfbm)


def _state(area: bytes) -> dict[str, int | bytes]:
    """The fields, and XSTATE_BV without SSE: whether an initial SSE is tracked as in use differs
    by instruction, by vendor, and by what loaded it (HW)."""
    values = XsaveArea.parse(_comparable(area), host()).values()
    values["header.xstate_bv"] = int(values["header.xstate_bv"]) & ~2
    return {name: v for name, v in values.items() if name != "sse.mxcsr_mask"}


@needs_xsavec
def test_what_xsavec_wrote_over_garbage_becomes_what_xsave_wrote() -> None:
    rng = random.Random(3)
    model = host()
    layout = model.compacted_layout(model.xcr0)
    for _ in range(60):
        state = random_state(rng)
        garbage = rng.randbytes(layout.size)
        packed = processor.save("xsavec64", state, model.xcr0, size=layout.size, prefill=garbage)
        plain = processor.save("xsave64", state, model.xcr0, size=model.standard_layout().size)
        got = to_standard(packed, model, software="zero").data
        assert _state(bytes(got)) == _state(plain)


def test_an_area_built_from_nothing_restores_the_initial_state() -> None:
    rng = random.Random(4)
    model = host()
    area = bytes(XsaveArea.new(model))
    after = restored(area, model.xcr0, random_state(rng))
    assert after[:512] + after[576:] == area[:28] + bytes(4) + area[32:512] + area[576:]
    if processor.real() is None:  # TCG says of all components that they are in use
        assert int.from_bytes(after[512:520], "little") & ~0x200 == 0
    if processor.has("xsavec"):
        packed = bytes(XsaveArea.new(model, "compacted", xcomp_bv=model.xcr0))
        assert _state(restored(packed, model.xcr0, random_state(rng))) == _state(after)


def test_registers_written_through_an_area_arrive_in_the_processor() -> None:
    model = host()
    area = XsaveArea.new(model)
    rng = random.Random(5)
    wanted = {}
    for name in area.registers:
        if name[:3] in {"ymm", "zmm", "xmm"} or name[0] in "k":
            area.registers[name] = wanted[name] = rng.getrandbits(8 * area.registers.size(name))
    wanted = {name: area.registers[name] for name in wanted}
    area.registers["mxcsr"] = wanted["mxcsr"] = 0x9F80
    after = processor.restore_all([Case(bytes(area), model.xcr0, processor.INITIAL)])[0]
    assert not after.faulted
    seen = XsaveArea.parse(after.after, model)
    assert seen.registers.read(wanted) == wanted
    assert seen.xcomp_bv & COMPACTED == 0
