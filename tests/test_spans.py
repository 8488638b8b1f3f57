"""The map: spans tile every layout, and say of each byte what the rest of the package goes by."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xsaveschema import XsaveArea, load_model
from xsaveschema.catalog import default_catalog
from xsaveschema.errors import MaskError, UnknownComponentError
from xsaveschema.layout import Layout, compacted, has_layout, standard
from xsaveschema.model import CpuModel, bits_of
from xsaveschema.spans import ALWAYS

MODELS = default_catalog().models()
SPR = load_model("sapphire-rapids")


def tiles(layout: Layout) -> None:
    end = 0
    for span in layout.spans():
        assert (span.offset, len(span.initial)) == (end, span.size)
        assert span.size > 0
        end = span.end
    assert end == layout.size


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_spans_tile_the_layouts_of_every_model(model: CpuModel) -> None:
    everything = model.user_mask | model.supervisor_mask
    for layout in (
        model.standard_layout(),
        model.compacted_layout(),
        model.compacted_layout(everything),
        *(compacted(model, 1 << number) for number in bits_of(everything)),
        *(standard(model, 1 << number) for number in bits_of(model.user_mask)),
    ):
        tiles(layout)


@given(data=st.data(), model=st.sampled_from(MODELS))
def test_spans_tile_any_mask(data: st.DataObject, model: CpuModel) -> None:
    numbers = st.sets(st.sampled_from([*bits_of(model.user_mask | model.supervisor_mask)]))
    mask = sum(1 << number for number in data.draw(numbers))
    tiles(compacted(model, mask))
    if has_layout(model, mask):
        tiles(standard(model, mask))


@given(data=st.data(), model=st.sampled_from(MODELS))
def test_every_field_reads_as_the_bytes_of_its_span(data: st.DataObject, model: CpuModel) -> None:
    """In an area of random bytes a field is its span's bytes, or its initial value."""
    layout = data.draw(st.sampled_from((model.standard_layout(), model.compacted_layout())))
    random = data.draw(st.randoms(use_true_random=False))
    numbers = data.draw(st.sets(st.sampled_from([*bits_of(layout.mask)])))
    xstate_bv = sum(1 << number for number in numbers)
    area = bytearray(random.randbytes(layout.size))
    struct.pack_into("<II", area, 24, 0x1F80, model.mxcsr_mask)
    area[464:512] = bytes(48)
    struct.pack_into("<QQ48x", area, 512, xstate_bv, layout.xcomp_bv)
    values = XsaveArea.parse(bytes(area), model).values()
    named = [span for span in layout.spans() if span.named]
    assert [span.path for span in named] == list(values)
    for span in named:
        live = span.alive == ALWAYS or xstate_bv & span.alive
        stored = bytes(area[span.offset : span.end]) if live else span.initial
        value = values[span.path]
        got = value if isinstance(value, bytes) else value.to_bytes(span.size, "little")
        assert got == stored, span.path


EXPECTED: dict[str, Any] = {  # of SDM 13.4, counted by hand
    "x87.fcw": (0, 2, 1, b"\x7f\x03"),
    "sse.mxcsr": (24, 4, ALWAYS, b"\x80\x1f\0\0"),
    "sse.xmm[15]": (400, 16, 2, bytes(16)),
    "header.xcomp_bv": (520, 8, ALWAYS, bytes(8)),
    "opmask.k[1]": (1096, 8, 1 << 5, bytes(8)),
    "pkru.pkru": (2688, 4, 1 << 9, bytes(4)),
    "tilecfg.palette": (2752, 1, 1 << 17, b"\0"),
}


@pytest.mark.parametrize("path", EXPECTED)
def test_spans_by_hand(path: str) -> None:
    layout = SPR.standard_layout()
    (span,) = [span for span in layout.spans() if span.path == path and span.named]
    assert (span.offset, span.size, span.alive, span.initial) == EXPECTED[path]
    assert layout.offset(path) == EXPECTED[path][0]


def test_mxcsr_lives_with_sse_in_the_compacted_format() -> None:
    spans = {span.path: span for span in SPR.compacted_layout().spans()}
    assert spans["sse.mxcsr"].alive == 2
    assert not any(span.path == "sse.mxcsr" for span in compacted(SPR, 5).spans())
    assert {span.path: span for span in standard(SPR, 5).spans()}["sse.mxcsr"].alive == ALWAYS


def test_what_lies_between() -> None:
    kinds = [(s.kind, s.offset, s.size) for s in SPR.standard_layout().spans() if not s.path]
    assert ("gap", 832, 256) in kinds
    assert ("software", 464, 48) in kinds
    assert ("header", 528, 48) in kinds
    padded = SPR.compacted_layout(0x65AE7).spans()
    assert ("padding", 2528, 32) in [(s.kind, s.offset, s.size) for s in padded]


@pytest.mark.parametrize("layout", [SPR.standard_layout(), SPR.compacted_layout(0x65AE7)], ids=repr)
def test_what_every_area_has_besides_state(layout: Layout) -> None:
    found = [s for s in layout.spans() if s.component is None and s.offset < 576]
    assert [(s.kind, s.path, s.offset, s.end) for s in found] == [
        ("reserved", "", 416, 464),
        ("software", "", 464, 512),
        ("header", "header.xstate_bv", 512, 520),
        ("header", "header.xcomp_bv", 520, 528),
        ("header", "", 528, 576),
    ]
    assert all(s.alive == ALWAYS and s.field is None for s in found)
    assert found[3].initial == layout.xcomp_bv.to_bytes(8, "little")


def test_an_offset_that_no_field_has() -> None:
    with pytest.raises(UnknownComponentError, match=r"did you mean .*sse\.mxcsr"):
        SPR.standard_layout().offset("sse.mxcr")


@pytest.mark.parametrize("path", ["", "x87", "x87.st", "header", 5, None])
def test_a_path_without_a_field_has_no_offset(path: Any) -> None:
    """The header's reserved bytes have no name, x87's have the component's: neither is a field."""
    with pytest.raises(UnknownComponentError, match="has no field") as caught:
        SPR.standard_layout().offset(path)
    assert "mean x87 " not in str(caught.value)


def test_components_that_share_bytes_have_no_map() -> None:
    pkru = replace(SPR.components["pkru"], offset=1100)  # within opmask
    shared = replace(SPR, components={**SPR.components, "pkru": pkru})
    with pytest.raises(MaskError, match="overlaps what stands before it"):
        standard(shared, 0x2E7).spans()
