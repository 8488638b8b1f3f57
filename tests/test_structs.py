"""Construct structs: byte-exact both ways, with errors that name the member."""

from __future__ import annotations

import construct
import pytest

from xsaveschema import XsaveError, load_model
from xsaveschema.catalog import default_catalog
from xsaveschema.errors import StructError

COMPACTED = 1 << 63


def test_members_are_the_components_by_name() -> None:
    parsed = load_model("zen4").construct().parse(bytes(2440))
    names = [name for name in parsed if name != "_io"]
    assert names == [
        "legacy", "header", "avx", "opmask", "zmm_hi256", "hi16_zmm", "pkru", "trailing",
    ]  # fmt: skip


def test_the_format_is_chosen_by_xcomp_bv_while_parsing() -> None:
    struct = load_model("zen4").construct()
    data = bytearray(4096)
    data[512:528] = (0x200).to_bytes(8, "little") + (0x201 | COMPACTED).to_bytes(8, "little")
    data[576:584] = b"\x01\x02\x03\x04\x05\x06\x07\x08"
    parsed = struct.parse(bytes(data))
    assert parsed.pkru.pkru == 0x04030201
    assert "avx" not in parsed
    assert struct.build(parsed) == data


def test_parts_beyond_a_short_standard_buffer_are_none() -> None:
    struct = load_model("skylake-server").construct()
    for size in range(576, 2700, 3):
        data = bytes([size % 251]) * 512 + bytes(64) + bytes([1]) * (size - 576)
        parsed = struct.parse(data)
        assert struct.build(parsed) == data
        assert (parsed.hi16_zmm is None) == (size < 1664 + 1024)
        assert (parsed.pkru is None) == (size < 2696)


def test_what_is_left_out_is_built_initial() -> None:
    model = load_model("zen4")
    built = model.construct(model.standard_layout()).build({"avx": {"ymm_hi128": [7] * 16}})
    assert len(built) == 2440
    assert built[:2] == b"\x7f\x03"
    assert built[576:592] == (7).to_bytes(16, "little")
    compacted = model.construct(model.compacted_layout(7)).build({})
    assert compacted[520:528] == (7 | COMPACTED).to_bytes(8, "little")


def test_embedding() -> None:
    model = load_model("haswell")
    area = model.construct(model.standard_layout(), trailing=False)
    record = construct.Struct("count" / construct.Int32ul, "areas" / area[2])
    data = record.build({"count": 2, "areas": [{"header": {"xstate_bv": 7}}, {}]})
    assert len(data) == 4 + 2 * 832 == record.sizeof()
    assert record.parse(data).areas[0].header.xstate_bv == 7


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"legacy": {"fcw": 1 << 16}}, "legacy -> fcw"),
        ({"avx": {"ymm_hi128": [0] * 15}}, "avx -> ymm_hi128"),
        ({"avx": {"ymm_hi128": [-1] * 16}}, "avx -> ymm_hi128"),
        ({"header": {"xstate_bv": 1 << 20}}, "header"),
        ({"header": 5}, "building"),
        ({"avx": 5}, "building"),
        ({"axv": {}}, "axv"),
        (5, "mapping"),
        ({"gap_832": "text"}, "gap_832"),
    ],
)
def test_building_from_wrong_values(value: object, path: str) -> None:
    struct = load_model("skylake-server").construct()
    with pytest.raises(StructError, match=path):
        struct.build(value)


@pytest.mark.parametrize("size", [0, 1, 511, 512, 575])
def test_parsing_too_little(size: int) -> None:
    with pytest.raises(StructError, match="stream"):
        load_model("zen4").construct().parse(bytes(size))


def test_a_short_compacted_area_names_the_member_that_is_cut() -> None:
    model = load_model("zen4")
    with pytest.raises(StructError, match="hi16_zmm"):
        model.construct(model.compacted_layout()).parse(bytes(2000))


def test_a_struct_error_is_no_construct_error() -> None:
    with pytest.raises(XsaveError):
        load_model("zen4").construct().parse(b"")
    assert not issubclass(StructError, construct.ConstructError)


@pytest.mark.parametrize("name", list(default_catalog()))
def test_every_model_has_structs_of_the_layouts_size(name: str) -> None:
    model = load_model(name)
    for layout in (model.standard_layout(), model.compacted_layout()):
        assert model.construct(layout, trailing=False).sizeof() == layout.size
