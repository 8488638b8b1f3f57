"""Errors travel: between processes, through copies, and as mappings want them."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from xsaveschema import XsaveArea, check, load_model, relayout, samples, to_compacted, to_standard
from xsaveschema.errors import (
    HeaderError,
    MaskError,
    StateLossError,
    TooShortError,
    UnknownComponentError,
    XsaveError,
)

ZEN4 = load_model("zen4")


def raised(call: Any) -> XsaveError:
    with pytest.raises(XsaveError) as caught:
        call()
    return caught.value


CORE = samples.read("zen4-kernel-core")
CALLS = [
    lambda: to_standard(CORE, ZEN4, xcr0=7),
    lambda: XsaveArea.parse(bytes(3), ZEN4),
    lambda: XsaveArea.parse(samples.read("zen4-bad-header"), ZEN4),
    lambda: load_model("zen44"),
    lambda: ZEN4.limited(xcr0=0x27),
    lambda: ZEN4.component("axv"),
]


@pytest.mark.parametrize("call", CALLS, ids=["loss", "short", "header", "model", "mask", "name"])
def test_errors_are_pickled_and_copied_whole(call: Any) -> None:
    error = raised(call)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert twin.__dict__ == error.__dict__


def test_results_are_pickled() -> None:
    result = to_compacted(samples.read("zen4-kernel-core"), ZEN4.limited(xcr0=0xE7))
    twin = pickle.loads(pickle.dumps(result))
    assert twin.data == result.data
    assert twin.layout.slots == result.layout.slots
    assert pickle.loads(pickle.dumps(ZEN4)) is ZEN4
    assert copy.deepcopy(ZEN4) is ZEN4


@pytest.mark.parametrize("mask", [-1, 1 << 70, "7", 7.5], ids=repr)
def test_masks_of_no_kind(mask: Any) -> None:
    for call in (
        lambda: ZEN4.limited(xss=mask),
        lambda: ZEN4.limited(xcr0=mask),
        lambda: ZEN4.standard_layout(mask),
        lambda: ZEN4.compacted_layout(mask),
    ):
        assert isinstance(raised(call), MaskError)


def test_an_illegal_header_is_named_although_no_model_was() -> None:
    data = samples.read("zen4-bad-header")
    assert isinstance(raised(lambda: XsaveArea.parse(data)), HeaderError)
    area = XsaveArea.parse(data, strict=False)
    assert [fault.rule for fault in area.faults] == ["xcomp-bv-form"]
    assert area.model.name == "zen4"


def test_views_are_mappings() -> None:
    area = XsaveArea.new(ZEN4)
    assert area.registers.get("zmm99") is None
    assert area.raw.get("nope") is None
    assert area["avx"].get("nope") is None
    assert "nope" not in area["avx"]
    assert "ymm_hi128" in area["avx"]
    assert str(raised(lambda: area["nope"])).startswith("zen4 has no state component")
    assert isinstance(raised(lambda: area["nope"]), UnknownComponentError)


def test_buffers_that_are_no_run_of_bytes() -> None:
    np = pytest.importorskip("numpy")
    odd = np.zeros((2440, 2), np.uint8)[:, 0]
    for call in (
        lambda: XsaveArea.parse(odd, ZEN4),
        lambda: to_standard(odd, ZEN4),
        lambda: check(odd, ZEN4),
        lambda: to_standard(bytes(576), ZEN4, out=odd),
    ):
        assert "not contiguous" in str(raised(call))
    assert isinstance(raised(lambda: XsaveArea.parse(np.zeros((0, 5)), ZEN4)), TooShortError)
    area = XsaveArea.new(ZEN4)
    area.registers["k0"] = np.uint64(5)
    assert area.registers["k0"] == 5


@pytest.mark.parametrize("drop", [[1.5], True, b"avx", [b"avx"], 63], ids=repr)
def test_drop_of_no_kind(drop: Any) -> None:
    error = raised(lambda: to_standard(bytes(576), ZEN4, drop=drop))
    assert isinstance(error, UnknownComponentError)


def test_a_partial_loss_says_so() -> None:
    data = bytearray(896)
    data[512:514] = b"\0\2"
    data[895] = 1
    error = raised(
        lambda: relayout(
            data, source=load_model("zen2"), target=load_model("zen3"), format="standard"
        )
    )
    assert isinstance(error, StateLossError)
    assert "pkru has 64 bytes in the source and 8 here" in str(error)
