"""Areas put together from fields: what is in use, what is missing, and whose layout they get."""

from __future__ import annotations

import struct
from typing import Any

import pytest

import xsaveschema as xs
from xsaveschema import artefacts
from xsaveschema.artefacts.assemble import assemble, joined, meant_legacy
from xsaveschema.artefacts.reader import ArtefactError, Options
from xsaveschema.errors import EvidenceError

SSE, AVX, CET_U = 1 << 1, 1 << 2, 1 << 11
AVX_IMAGE, CET_IMAGE = bytes([7]) * 256, bytes([3]) + bytes(15)
ZEN4 = Options(model=xs.load_model("zen4"))


def legacy(mxcsr: int = 0x1F80, mxcsr_mask: int = 0, fcw: int = 0x37F, xmm0: int = 0) -> bytes:
    words = struct.pack("<HHBxHQQII", fcw, 0, 0, 0, 0, 0, mxcsr, mxcsr_mask)
    return words.ljust(160, b"\0") + xmm0.to_bytes(16, "little") + bytes(512 - 176)


def made(
    image: bytes, images: dict[str, bytes], xstate_bv: int, options: Options = ZEN4, **more: Any
) -> xs.XsaveArea:
    return assemble(image, images, xstate_bv, options, "thread 1", **more).area


@pytest.mark.parametrize(
    ("images", "xstate_bv", "mxcsr", "format", "wanted"),
    [
        # A standard area has MXCSR whatever XSTATE_BV says (SDM 13.8.1).
        pytest.param({}, 0, 0x1FA0, "standard", 0, id="standard"),
        pytest.param({"avx": AVX_IMAGE}, AVX, 0x1FA0, "standard", AVX, id="standard, avx"),
        # A compacted one only with XSTATE_BV[1] (SDM 13.8.2).
        pytest.param({"cet_u": CET_IMAGE}, CET_U, 0x1FA0, "compacted", CET_U | SSE, id="woken"),
        pytest.param({"cet_u": CET_IMAGE}, CET_U, 0x1F80, "compacted", CET_U, id="initial"),
        pytest.param({"cet_u": CET_IMAGE}, CET_U, 0, "compacted", CET_U | SSE, id="zero"),
        pytest.param({"cet_u": CET_IMAGE}, CET_U | SSE, 0x1F80, "compacted", CET_U | SSE, id="sse"),
    ],
)
def test_mxcsr_puts_sse_in_use_where_nothing_else_can_say_it(
    images: dict[str, bytes], xstate_bv: int, mxcsr: int, format: str, wanted: int
) -> None:
    area = made(legacy(mxcsr), images, xstate_bv)
    assert (area.format, area.xstate_bv) == (format, wanted)
    assert area.registers["mxcsr"] == mxcsr


@pytest.mark.parametrize(("there", "wanted"), [(0, 0x2FFFF), (0x2FFFF, 0x2FFFF)])
def test_mxcsr_mask_is_the_models_where_the_file_has_none(there: int, wanted: int) -> None:
    assert struct.unpack_from("<I", bytes(made(legacy(0x1F80, there), {}, 0)), 28) == (wanted,)


def test_mxcsr_mask_of_the_file_chooses_the_model() -> None:
    found = assemble(legacy(mxcsr_mask=0xFFFF), {}, 0, Options(), "thread 1", offset=7)
    intel, amd = found.area.model, made(legacy(mxcsr_mask=0x2FFFF), {}, 0, Options()).model
    assert (intel.mxcsr_mask, amd.mxcsr_mask) == (0xFFFF, 0x2FFFF)
    why = f"no offsets in the file: those of {intel.name}, the smallest that fits"
    assert found == artefacts.Found("thread 1", found.area, why, 7, origin="assembled")


def test_a_file_that_contradicts_a_named_model_is_refused_or_assumed() -> None:
    image, named = legacy(mxcsr_mask=0x2FFFF), xs.load_model("haswell")
    with pytest.raises(EvidenceError):
        made(image, {}, 0, Options(model=named))
    found = assemble(image, {}, 0, Options(model=named, assume=True), "thread 1")
    assert found.area.assumed
    assert found.layout_source.endswith("; assumed, against MXCSR_MASK")
    # The catalogue's own choice is nobody's word.
    assert not made(image, {}, 0, Options(assume=True)).assumed


def test_what_is_in_use_without_bytes_is_missing() -> None:
    area = made(legacy(), {"cet_u": CET_IMAGE}, CET_U | AVX | SSE)
    assert area.missing == ("avx",)
    assert area.xstate_bv == CET_U | AVX | SSE
    assert "avx" not in area.layout
    # No model has what is missing, so its number is all that is known of it.
    assert made(legacy(), {}, 1 << 40, Options()).missing == ("component40",)


def test_images_are_as_long_as_the_component_or_end_in_zeros() -> None:
    for image in (b"\1", b"\1" + bytes(255), b"\1" + bytes(300)):
        assert made(legacy(), {"avx": image}, AVX).raw["avx"] == b"\1" + bytes(255)
    with pytest.raises(ArtefactError, match="avx has 257 bytes in the file, 256 on zen4"):
        made(legacy(), {"avx": bytes(256) + b"\1"}, AVX)


@pytest.mark.parametrize(
    ("image", "images", "wanted"),
    [
        pytest.param(legacy(), {}, (), id="nothing"),
        pytest.param(legacy(fcw=0x27F), {}, ("x87",), id="x87"),
        pytest.param(legacy(xmm0=1), {}, ("sse",), id="sse"),
        pytest.param(legacy(mxcsr=0x1FA0), {}, (), id="mxcsr alone"),
        pytest.param(legacy(), {"avx": bytes(256)}, (), id="avx of zeros"),
        pytest.param(legacy(), {"avx": AVX_IMAGE}, ("avx",), id="avx"),
    ],
)
def test_what_is_in_use_by_its_bytes(
    image: bytes, images: dict[str, bytes], wanted: tuple[str, ...]
) -> None:
    area = made(image, images, 0, infer=True)
    assert tuple(slot.name for slot in area.layout if area.in_use(slot.name)) == wanted
    assert made(image, images, 0).xstate_bv == 0


def test_what_is_named_live_is_in_use() -> None:
    area = made(legacy(), {"avx": b""}, 0, live=("avx",))
    assert (area.in_use("avx"), any(area.raw["avx"])) == (True, False)


def test_what_is_enabled_gets_a_place() -> None:
    assert made(legacy(), {}, 0, enabled=0x2E7).layout.mask == 0x2E7
    assert made(legacy(), {}, 0).layout.mask == 3


def test_what_nobody_can_hold_is_refused() -> None:
    with pytest.raises(ArtefactError, match=r"the masks of thread 1, .* have bit 63"):
        made(legacy(), {}, 1 << 63)
    with pytest.raises(ArtefactError, match=r"model haswell cannot hold .*: it has no cet_u"):
        made(legacy(), {"cet_u": CET_IMAGE}, CET_U, Options(model=xs.load_model("haswell")))
    with pytest.raises(ArtefactError, match="no model of the catalogue has all that is in use"):
        made(legacy(), {"lwp": b"\1", "tiledata": b"\1"}, 1 << 62 | 1 << 18, Options())


def test_a_legacy_region_is_meant_as_the_registers_are() -> None:
    """FXRSTOR has no XSTATE_BV: what is initial must stand there."""
    image = legacy(mxcsr=0x1FA0, fcw=0x27F, xmm0=5)
    stale = made(image, {}, 0)
    meant = meant_legacy(stale)
    assert meant[:24] == b"\x7f\x03" + bytes(22)
    assert meant[24:28] == b"\xa0\x1f\0\0", "MXCSR of a standard area counts"
    assert not any(meant[32:416])
    compacted = xs.XsaveArea.parse(joined(image, bytes(48), 0, 1 << 63 | 3), ZEN4.model)
    assert meant_legacy(compacted)[24:28] == b"\x80\x1f\0\0", "of a compacted one only with SSE"
    live = xs.XsaveArea.parse(joined(image, bytes(48), 3, 1 << 63 | 3), ZEN4.model)
    assert meant_legacy(live) == image


def test_joined() -> None:
    area = joined(b"\1" * 512, b"\2" * 300, 6, 1 << 63 | 7)
    assert area[:512] == b"\1" * 512
    assert struct.unpack_from("<QQ", area, 512) == (6, 1 << 63 | 7)
    assert area[528:] == b"\2" * 300
