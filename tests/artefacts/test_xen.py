"""Saved Xen domains: HVM contexts alone, in libxc and libxl streams, and PV domains."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from writers import xen as w
from writers.hostile import cuts, mutations, survive
from writers.state import INTEL, ZEN4, State

from xsaveschema import artefacts, load_model
from xsaveschema.artefacts.reader import ArtefactError, Found, Options, Writer
from xsaveschema.artefacts.xen import READER
from xsaveschema.errors import EvidenceError, HeaderError, IdentificationError, XsaveError

SKYLAKE, ZEN4_SIGNATURE = 0x50654, 0xA10F11


def read(data: bytes, options: Options | None = None) -> list[Found]:
    view = memoryview(data)
    assert READER.recognises(view)
    return list(READER.read(view, options or Options()))


def domain(
    mask: int, places: dict[int, int], signature: int, seeds: tuple[int, ...] = (1, 2)
) -> bytes:
    areas = [State(seed).standard(mask, places) for seed in seeds]
    return w.hvm(*(w.xsave(i, a, mask) for i, a in enumerate(areas)), signature=signature)


WRAPS: dict[str, Callable[[bytes], bytes]] = {
    "hvm": lambda context: context,
    "libxc": lambda context: w.libxc(*w.hvm_context(context)),
    "libxl": lambda context: w.libxl(w.libxc(*w.hvm_context(context))),
    "xl": lambda context: w.xl_save(w.libxl(w.libxc(*w.hvm_context(context)))),
    "xl-without-libxl": lambda context: w.xl_save(w.libxc(*w.hvm_context(context))),
}


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize(
    ("mask", "places", "signature"),
    [
        pytest.param(0x7, INTEL, 0x306C3, id="haswell"),
        pytest.param(0x2E7, INTEL, SKYLAKE, id="skylake"),
        pytest.param(0x2E7, ZEN4, ZEN4_SIGNATURE, id="zen4"),
        pytest.param(0x602E7, INTEL, 0x806F8, id="amx"),
    ],
)
def test_registers_come_out(mask: int, places: dict[int, int], signature: int, wrap: str) -> None:
    data = WRAPS[wrap](domain(mask, places, signature))
    found = read(data)
    assert [f.label for f in found] == ["vCPU 0", "vCPU 1"]
    for seed, f in zip((1, 2), found, strict=True):
        said = State(seed).registers(mask)
        assert f.area.registers.read(said) == said
        assert f.area.model.xcr0 == mask
        assert f.offset is not None
        assert data[f.offset : f.offset + 576] == bytes(f.area)[:576]
        assert "XCR0_ACCUM" in f.layout_source


def test_the_signature_tells_models_of_one_size_apart() -> None:
    """Both have 832 bytes with AVX alone, and PKRU elsewhere: XCR0 is what counts."""
    (found,) = read(w.hvm(w.xsave(0, State().standard(7, INTEL), 7), signature=0x306C3))
    assert found.area.model.name == "haswell"
    assert found.layout_source == "model haswell, by XCR0_ACCUM 0x7 and size and CPUID signature"
    (found,) = read(w.hvm(w.xsave(0, State().standard(7, INTEL), 7), signature=0x12345))
    assert found.layout_source.endswith("XCR0_ACCUM 0x7 and size")


def test_what_was_ever_enabled_makes_the_layout() -> None:
    area = State().standard(0x2E7, INTEL, live=7)
    (found,) = read(w.hvm(w.xsave(0, area, 7, 0x2E7)))
    assert found.notes == ("XCR0 0x7, ever enabled 0x2E7",)
    assert "pkru" in found.area.layout
    assert found.area.registers["k1"] == 0


def test_a_named_model_is_limited_to_what_was_enabled() -> None:
    data = domain(7, INTEL, SKYLAKE, (1,))
    (found,) = read(data, Options(load_model("zen4")))
    assert found.layout_source == "model zen4, as named, limited to XCR0_ACCUM 0x7"
    odd = w.hvm(w.xsave(0, State().standard(7, INTEL), 7, 6))
    # No legal XCR0, but Xen wrote the area so: what it says is taken.
    (found,) = read(odd, Options(load_model("haswell")))
    assert found.layout_source == "model haswell, as named, limited to XCR0_ACCUM 0x6"


def test_what_was_enabled_outranks_a_named_model() -> None:
    data = domain(0x2E7, INTEL, SKYLAKE, (1,))
    for name, fact in (
        ("zen4", "the area has 2696 bytes; zen4 takes 2440 for XCR0_ACCUM 0x2E7"),
        ("haswell", "XCR0_ACCUM is 0x2E7, and haswell has no opmask, zmm_hi256, hi16_zmm, pkru"),
    ):
        with pytest.raises(EvidenceError) as caught:
            read(data, Options(load_model(name)))
        assert fact in caught.value.facts


def test_where_several_models_fit_they_are_named() -> None:
    """0x227 with PKRU behind it: no size is that, so nothing fits."""
    with pytest.raises(IdentificationError, match="no model fits: 584 bytes"):
        read(w.hvm(w.xsave(0, State().standard(3, {}) + bytes(8), 3)))


def test_pv_domains_have_a_record_for_each_vcpu() -> None:
    areas = [State(seed).standard(0x2E7, INTEL) for seed in (1, 2)]
    records = [w.pv_xsave(i, area, 0x2E7) for i, area in enumerate(areas)]
    records.insert(1, w.padded(6, struct.pack("<II", 7, 0)))  # a vCPU that never used XSAVE
    records.insert(1, w.padded(6, struct.pack("<IIQQ576x", 8, 0, 0, 0)))
    found = read(w.libxc(*records, domain=1))
    assert [f.label for f in found] == ["vCPU 0", "vCPU 1"]
    assert found[1].area.registers["zmm30"] == State(2).zmm[30]


def test_a_compacted_area_of_old_versions_is_read_too() -> None:
    area = State().compacted(7)
    (found,) = read(w.hvm(w.xsave(0, area, 7)))
    assert found.area.registers["ymm1"] == State().zmm[1] & (1 << 256) - 1


@pytest.mark.parametrize("wrap", ["hvm", "xl"])
def test_an_edited_area_goes_back(wrap: str) -> None:
    assert isinstance(READER, Writer)
    data = bytearray(WRAPS[wrap](domain(0x2E7, ZEN4, ZEN4_SIGNATURE)))
    found = read(bytes(data))[1]
    new = type(found.area).parse(bytearray(found.area.buffer), found.area.model)
    new.registers["pkru"] = 0xC
    for at, change in READER.replace(memoryview(data), found, new):
        data[at : at + len(change)] = change
    again = read(bytes(data))
    assert again[1].area.registers["pkru"] == 0xC
    assert again[0].area.registers["pkru"] == State(1).pkru
    other = type(found.area).new(load_model("haswell"))
    with pytest.raises(ArtefactError, match="832"):
        READER.replace(memoryview(data), found, other)


AREA = State().standard(7, INTEL)
FINE = w.hvm(w.xsave(0, AREA, 7))
STREAM = w.libxc(*w.hvm_context(FINE))
RECORD = len(w.header()) + 8 + 1024
"""Where the XSAVE record of FINE begins."""


def patched(data: bytes, at: int, form: str, *values: int) -> bytes:
    copy = bytearray(data)
    struct.pack_into("<" + form, copy, at, *values)
    return bytes(copy)


BAD = [
    pytest.param(bytes(64), "other first bytes", id="zeros"),
    pytest.param(w.hvm(), "no XSAVE record", id="no-xsave"),
    pytest.param(FINE[:-8], "a record of the HVM context takes 8 bytes, 0 are", id="no-end"),
    pytest.param(w.header() + FINE, "does not begin with its one HEADER", id="two-headers"),
    pytest.param(patched(FINE, 4, "I", 20), "another HEADER", id="short-header"),
    pytest.param(patched(FINE, RECORD + 4, "I", 1 << 31), "are left", id="record-length"),
    pytest.param(patched(FINE, RECORD + 4, "I", 599), "an XSAVE record takes 600", id="short"),
    pytest.param(w.hvm(*[w.xsave(0, AREA, 7)] * 2), "a second XSAVE record of vCPU 0", id="twice"),
    pytest.param(w.header() + w.record(16, 0, b"") + w.record(0, 0, b""), "takes 600", id="empty"),
    pytest.param(patched(STREAM, 16, "H", 0x0100), "big-endian", id="big-endian"),
    pytest.param(patched(STREAM, 40 + 4, "I", 1 << 31), "a record of type 0x1", id="libxc-length"),
    pytest.param(STREAM[:44], "a record of libxc takes 8", id="libxc-cut"),
    pytest.param(w.libxc(w.pv_xsave(0, bytes(8), 7)), "a PV XSAVE record takes 600", id="pv-short"),
    pytest.param(w.libxc(w.padded(9, b"")), "a record of the HVM context", id="no-context"),
    pytest.param(w.libxc(w.padded(9, bytes(64))), "its one HEADER", id="no-header"),
    pytest.param(w.libxl(bytes(40)), "no libxc stream stands here", id="no-libxc"),
    pytest.param(w.libxl(STREAM)[:16] + bytes(16), "no libxc context", id="libxl-end"),
    pytest.param(w.libxl(STREAM)[:32], "a record of type 0x[0-9a-f]* takes 13", id="libxl-cut"),
    pytest.param(
        patched(w.libxl(STREAM), 12, "I", 1 << 24), "libxl stream is big-endian", id="libxl-big"
    ),
    pytest.param(w.xl_save(b"")[:40], "the header of xl takes 48", id="xl-cut"),
    pytest.param(w.xl_save(b""), "the header of libxc takes", id="xl-empty"),
    pytest.param(patched(w.xl_save(STREAM), 32, "I", 0x04030201), "byte order", id="xl-order"),
    pytest.param(patched(w.xl_save(STREAM), 44, "I", 1 << 31), "optional data of xl", id="xl-data"),
]


@pytest.mark.parametrize(("data", "message"), BAD)
def test_what_is_wrong_is_said(data: bytes, message: str) -> None:
    with pytest.raises(ArtefactError, match=message):
        list(READER.read(memoryview(data), Options()))


def test_the_offset_is_that_of_the_fault() -> None:
    with pytest.raises(ArtefactError) as caught:
        read(patched(FINE, RECORD + 4, "I", 1 << 31))
    assert caught.value.offset == RECORD + 8


def test_masks_that_cannot_be() -> None:
    with pytest.raises(IdentificationError, match="no model fits"):
        read(w.hvm(w.xsave(0, AREA, 7, 1 << 40)))
    with pytest.raises(HeaderError):
        read(w.hvm(w.xsave(0, State().standard(7, INTEL, live=1 << 40), 7)))


def test_a_chain_of_empty_records_has_an_end() -> None:
    data = w.header() + w.record(77, 0, b"") * 200_000
    with pytest.raises(ArtefactError, match="0 are left"):
        read(data)


def test_damaged_domains_are_refused_or_read() -> None:
    data = domain(0x2E7, ZEN4, ZEN4_SIGNATURE)
    assert survive(READER, cuts(data, 500)) >= 500
    assert survive(READER, mutations(data, 500)) > 0
    small = w.xl_save(w.libxl(w.libxc(w.padded(9, FINE), w.pv_xsave(3, AREA, 7))))
    assert survive(READER, cuts(small, 500)) > 400
    assert survive(READER, mutations(small, 1500)) > 0
    with pytest.raises(XsaveError):
        read(small[:-100])


def test_the_content_tells_what_the_file_is() -> None:
    for data in (b"", FINE[:31], patched(FINE, 8, "I", 5), patched(FINE, 0, "H", 2), STREAM[1:]):
        assert not READER.recognises(memoryview(data))
    for wrap in WRAPS.values():
        (found,) = artefacts.read_bytes(wrap(FINE))
        assert found.label == "vCPU 0"


def test_a_record_longer_than_any_area() -> None:
    area = State().standard(7, INTEL).ljust((16 << 20) + 1, b"\0")
    for data in (w.hvm(w.xsave(0, area, 7)), w.libxc(w.pv_xsave(0, area, 7))):
        with pytest.raises(ArtefactError, match="bytes, no area"):
            read(data)
