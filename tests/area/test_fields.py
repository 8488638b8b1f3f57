"""The fields of a component by name and by path: what they take, and what leads nowhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from xsaveschema import XsaveArea, load_model
from xsaveschema.errors import UnknownComponentError, ValueRangeError, XsaveError


def test_paths_reach_fields_elements_and_bits() -> None:
    area = XsaveArea.new(load_model("skylake-server"))
    area["bndregs"]["bnd[2].lower"] = 7
    assert area["bndregs"]["bnd"][2]["lower"] == 7
    area["bndregs"]["bnd"][1]["upper"] = 9
    assert area["bndregs"]["bnd[1].upper"] == 9
    area["sse"]["mxcsr.rc"] = 3
    assert area["sse"]["mxcsr"] == 0x1F80 | 3 << 13
    area["x87"]["st[7].exponent"] = 0x7FFF
    assert area["x87"]["st"][7] == 0x7FFF << 64
    assert area["pkru"]["pkru.ad1"] == 0
    area["opmask"]["k"] = range(8)
    assert list(area["opmask"]["k"]) == list(range(8))
    assert dict(area["bndcsr"]) == {"bndcfgu": 0, "bndstatus": 0}


@pytest.mark.parametrize(
    "path",
    [
        *("rc", "mxcsr.", "mxcsr.nope", "xmm", "bnd", "xmm[16]", "xmm[0", "xmm.0", "xmm[0].x"),
        *("", ".", 5, None),
    ],
)
def test_paths_that_lead_nowhere(path: Any) -> None:
    fields = XsaveArea.new(load_model("zen4"))["sse"]
    if path == "xmm":
        assert len(fields[path]) == 16
        return
    with pytest.raises(UnknownComponentError):
        fields[path]
    with pytest.raises(UnknownComponentError):
        fields[path] = 0
    assert path not in fields


@pytest.mark.parametrize("value", [-1, 1 << 32, "1", 1.0, None, True, b"12345"], ids=repr)
def test_values_that_do_not_fit(value: Any) -> None:
    before = bytes(XsaveArea.new(load_model("zen4")))
    data = bytearray(before)
    area = XsaveArea.parse(data, load_model("zen4"))
    with pytest.raises(ValueRangeError, match="mxcsr"):
        area["sse"]["mxcsr"] = value
    with pytest.raises(ValueRangeError, match="mxcsr"):
        area.registers["mxcsr"] = value
    assert data == before


def test_bits_that_do_not_fit() -> None:
    fields = XsaveArea.new(load_model("zen4"))["sse"]
    fields["mxcsr.rc"] = 3
    for value in (4, -1):
        with pytest.raises(ValueRangeError, match=rf"sse\.mxcsr\.rc takes 0\.\.0x3, not {value}"):
            fields["mxcsr.rc"] = value
    assert fields["mxcsr.rc"] == 3


def test_a_component_that_is_cut_short_has_fewer_elements() -> None:
    """On a CPU whose LBR component has room for some entries alone."""
    model = load_model("sapphire-rapids")
    lbr = model.components["lbr"]
    first = next(field for field in lbr.fields if field.count)
    for room, count in ((0, 0), (1, 0), (first.stride, 1), (first.stride * 2 + 1, 2)):
        short = replace(lbr, size=first.offset + room)
        cut = replace(model, components={**model.components, "lbr": short})
        fields = XsaveArea.new(cut, "compacted")["lbr"]
        assert len(fields[first.name]) == count
        with pytest.raises(IndexError):
            fields[first.name][count]
    assert len(XsaveArea.new(model, "compacted")["lbr"][first.name]) == first.count


@pytest.mark.parametrize("index", ["0", None, 1.5, True])
def test_an_element_is_named_by_a_number(index: Any) -> None:
    elements = XsaveArea.new(load_model("zen4"))["sse"]["xmm"]
    with pytest.raises(XsaveError, match="takes an integer"):
        elements[index]
