"""Batches give, row by row, what the conversion of one area gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsaveschema import (
    StateLossError,
    XsaveArea,
    XsaveError,
    load_model,
    relayout,
    to_compacted,
    to_standard,
)
from xsaveschema.catalog import Catalog, default_catalog
from xsaveschema.model import CpuModel
from xsaveschema.restore import Target, check
from xsaveschema.testing import areas

np = pytest.importorskip("numpy", reason="the extra batch is not installed")
batch = pytest.importorskip("xsaveschema.many.batch")

models = st.sampled_from(default_catalog().models())


def stack(rows: list[bytes]) -> Any:
    """Areas of different lengths as one array: zeros behind the shorter ones."""
    size = max(map(len, rows))
    return np.stack([np.frombuffer(row.ljust(size, b"\0"), np.uint8) for row in rows])


def _told(area: bytes, model: CpuModel) -> bytes:
    """With a mask as Linux leaves it at byte 464; one that XSTATE_BV exceeds tells nothing."""
    return area[:464] + model.xcr0.to_bytes(48, "little") + area[512:]


@settings(max_examples=30)
@given(data=st.data(), model=models, other=models, threads=st.sampled_from((1, 3)))
def test_rows_are_converted_as_single_areas_are(
    data: st.DataObject, model: CpuModel, other: CpuModel, threads: int
) -> None:
    rows = data.draw(st.lists(areas(model), min_size=1, max_size=12))
    # Some rows tell the mask of the system that wrote them, or something that looks like it.
    rows = [data.draw(st.sampled_from((row, _told(row, model)))) for row in rows]
    array = stack(rows)
    target = data.draw(st.sampled_from((model, other)))
    for mask in (
        {"format": "standard"},
        {"format": "compacted"},
        {"format": "compacted", "xcomp_bv": target.xcr0 & 0x207},
        {"format": "standard", "xcr0": 1},
    ):
        drop = data.draw(st.sampled_from(((), (2, 9), range(63))))
        options: dict[str, Any] = {"source": model, "target": target, "drop": drop, **mask}
        out = None
        if data.draw(st.booleans()):
            size = batch.relayout(array[:0], **options).layout.size
            out = np.full((len(rows), size + 8), 0xEE, np.uint8)
        result = batch.relayout(array, errors="skip", threads=threads, out=out, **options)
        dropped: dict[str, int] = {}
        for index, row in enumerate(array):
            failure = None
            try:
                single = relayout(row.tobytes(), **options)
            except XsaveError as error:
                failure = type(error)
            assert type(result.errors.pop(index, None)) is (failure or type(None))
            if failure:
                assert not result.data[index].any()
                continue
            assert result.data[index].tobytes() == single.data, index
            for name in single.dropped:
                dropped[name] = dropped.get(name, 0) + 1
        assert result.errors == {}
        assert result.dropped == dropped
        if out is not None:
            assert (out[:, result.layout.size :] == 0xEE).all()


def test_the_first_bad_area_is_named_and_nothing_of_it_written() -> None:
    model = load_model("zen4")
    good = bytes(XsaveArea.new(model))
    bad = bytearray(good)
    bad[520] = 1
    array = stack([good, good, bytes(bad), bytes(bad)])
    out = np.full((4, 2480), 0xEE, np.uint8)
    with pytest.raises(batch.BatchError, match="area 2: illegal XSAVE header") as caught:
        batch.to_compacted(array, model, out=out)
    assert caught.value.index == 2
    assert (out == 0xEE).all()


def test_losses_name_the_area() -> None:
    model = load_model("zen4")
    area = XsaveArea.new(model)
    area.registers["k1"] = 1
    array = stack([bytes(XsaveArea.new(model)), bytes(area)])
    with pytest.raises(batch.BatchError, match=r"area 1: .*opmask") as caught:
        batch.to_standard(array, model, xcr0=7)
    assert isinstance(caught.value.error, StateLossError)
    result = batch.to_standard(array, model, xcr0=7, drop=["opmask", "pkru"])
    assert result.dropped == {"opmask": 1}


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(576, np.uint8), "shape"),
        (np.zeros((2, 576), np.int8), "uint8"),
        (np.zeros((2, 575), np.uint8), "576"),
        (np.zeros((2, 2, 576), np.uint8), "shape"),
    ],
)
def test_arrays_of_another_kind(array: Any, message: str) -> None:
    with pytest.raises(XsaveError, match=message):
        batch.to_standard(array, load_model("zen4"))


def test_out_is_judged_before_anything_is_written() -> None:
    model = load_model("zen4")
    array = np.zeros((3, 2440), np.uint8)
    frozen = np.zeros((3, 2440), np.uint8)
    frozen.flags.writeable = False
    for out in (np.zeros((2, 2440), np.uint8), np.zeros((3, 2439), np.uint8), frozen, array):
        with pytest.raises(XsaveError, match="out="):
            batch.to_standard(array, model, out=out)
    with pytest.raises(XsaveError, match="errors"):
        batch.to_standard(array, model, errors="ignore")


def test_no_areas_are_no_error() -> None:
    assert batch.to_standard(np.zeros((0, 2440), np.uint8), load_model("zen4")).data.shape == (
        0,
        2440,
    )


@settings(max_examples=20)
@given(data=st.data(), model=models)
def test_check_agrees_with_the_check_of_one(data: st.DataObject, model: CpuModel) -> None:
    array = stack(data.draw(st.lists(areas(model, trailing=False), min_size=1, max_size=8))).copy()
    for _ in range(data.draw(st.integers(0, 6))):
        row = data.draw(st.integers(0, len(array) - 1))
        array[row, data.draw(st.integers(512, 575))] ^= data.draw(st.integers(1, 255))
    array = np.pad(array, ((0, 0), (0, 16384)))  # what a restore reads is there
    for target in get_args(Target):
        found = batch.check(array, model, target)
        for index, row in enumerate(array):
            assert found.get(index, []) == check(row.tobytes(), model, target)


def test_fields_are_columns_without_a_copy() -> None:
    model = load_model("skylake-server")
    rows = []
    for n in range(5):
        area = XsaveArea.new(model)
        area.registers["k3"] = n + 1
        area.registers["mxcsr"] = 0x1F80
        rows.append(bytes(area))
    array = stack(rows).copy()
    columns = batch.view(array, model.standard_layout())
    assert list(columns.dtype.names) == list(XsaveArea.parse(array[0].data, model).values())
    assert columns["header.xstate_bv"].tolist() == [1 << 5 | 2] * 5
    assert columns["avx.ymm_hi128[3]"].shape == (5, 2)
    assert columns["opmask.k[3]"].tolist() == [1, 2, 3, 4, 5]
    assert columns["sse.mxcsr"].tolist() == [0x1F80] * 5
    columns["opmask.k[3]"][2] = 99
    assert XsaveArea.parse(array[2].data, model).registers["k3"] == 99
    with pytest.raises(XsaveError):
        batch.view(array[:, :2000], model.standard_layout())


def test_rows_whose_components_share_bytes(tmp_path: Path) -> None:
    """No row has both in use, though the rows together have."""
    (tmp_path / "both.yaml").write_text(
        "model: both\ntitle: x\nvendor: GenuineIntel\ncomponents:\n"
        "  avx: {size: 256, offset: 576}\n"
        "  bndregs: {size: 64, offset: 960, optional: absent}\n"
        "  bndcsr: {size: 64, offset: 1024, optional: absent}\n"
        "  apx: {size: 128, offset: 960}\n"
        "confirmed: false\nsource: made up\n"
    )
    model = Catalog([tmp_path]).model("both")
    rows = []
    for state in (0x80007, 0x1F, 0x80004, 0x18):
        area = bytearray(range(256)) * 5
        area[512:576] = state.to_bytes(8, "little") + bytes(56)
        rows.append(bytes(area))
    result = batch.to_compacted(stack(rows), model, xcomp_bv=0x8001F)
    for index, row in enumerate(rows):
        assert result.data[index].tobytes() == to_compacted(row, model, xcomp_bv=0x8001F).data


@pytest.mark.parametrize("threads", [1, 2, 3, 64])
def test_many_rows_of_every_kind(threads: int) -> None:
    """More rows than a step: bad ones, mixed states and layouts, in every thread's share."""
    model = load_model("zen4")
    rng = np.random.default_rng(7)
    array = rng.integers(0, 256, (9001, 2600), dtype=np.uint8)
    array[:, 512:576] = 0
    array[:, 512] = rng.integers(0, 256, 9001) & 0xE7
    array[1::3, 520:528] = np.frombuffer((1 << 63 | 0xE7).to_bytes(8, "little"), np.uint8)
    array[2::3, 520:528] = np.frombuffer((1 << 63 | 0x2E7).to_bytes(8, "little"), np.uint8)
    array[5000, 512:520] = 255
    chosen = [0, 1, 2, 4095, 4096, 4999, 5000, 5001, 8999, 9000]
    for one, many in ((to_compacted, batch.to_compacted), (to_standard, batch.to_standard)):
        result = many(array, model, threads=threads, errors="skip")
        assert list(result.errors) == [5000]
        assert not result.data[5000].any()
        for index in chosen:
            if index != 5000:
                assert result.data[index].tobytes() == one(array[index].data, model).data
        out = np.full_like(result.data, 0xEE)
        with pytest.raises(batch.BatchError, match="area 5000"):
            many(array, model, threads=threads, out=out)
        assert (out == 0xEE).all()
        many(array, model, threads=threads, errors="skip", out=out)
        assert np.array_equal(out, result.data)


def test_rows_that_are_not_contiguous() -> None:
    model = load_model("zen4")
    area = XsaveArea.new(model)
    area.registers["zmm3"] = 1 << 500
    array = stack([bytes(area)] * 3)
    want = batch.to_compacted(array, model).data
    assert np.array_equal(batch.to_compacted(np.asfortranarray(array), model).data, want)
    out = np.asfortranarray(np.zeros_like(want))
    with pytest.raises(XsaveError, match="contiguous"):
        batch.to_compacted(array, model, out=out)
    wide = np.zeros((3, 2 * array.shape[1]), np.uint8)
    wide[:, : array.shape[1]] = array
    assert np.array_equal(batch.to_compacted(wide[:, : array.shape[1]], model).data, want)
    assert np.array_equal(batch.to_compacted(array[::-1], model).data, want[::-1])
    assert np.array_equal(
        batch.to_compacted(np.broadcast_to(array[0], array.shape), model).data, want
    )


def test_initial_values_are_the_components_own(tmp_path: Path) -> None:
    """Also those that no shipped component has, whatever the neighbours hold."""
    for folder in ("components", "models"):
        (tmp_path / folder).mkdir()
    (tmp_path / "components" / "20-new.yaml").write_text(
        "component: new\nnumber: 20\ntitle: x\nfields:\n"
        "  - {name: control, type: u64, initial: 1}\n"
    )
    (tmp_path / "models" / "newer.yaml").write_text(
        "model: newer\ntitle: x\nvendor: GenuineIntel\ncomponents:\n"
        "  avx: {size: 256, offset: 576}\n  new: {size: 64, offset: 832}\n"
        "confirmed: false\nsource: made up\n"
    )
    model = Catalog([tmp_path]).model("newer")
    rows = []
    for state in (0x100007, 7):
        area = XsaveArea.new(model)
        data = bytearray(bytes(area))
        data[512:520] = state.to_bytes(8, "little")
        rows.append(bytes(data))
    for source in (stack(rows), batch.to_compacted(stack(rows), model).data):
        found = batch.to_standard(source, model).data
        for index, row in enumerate(source):
            assert found[index].tobytes() == to_standard(row.tobytes(), model).data
        assert found[1, 832] == 1


def test_a_format_and_a_mask_that_do_not_go_together() -> None:
    model = load_model("zen4")
    array = np.zeros((1, 2440), np.uint8)
    for options, said in (
        ({"format": "standrad"}, "is no format"),
        ({"format": "none"}, "is no format"),
        ({"format": "compacted", "xcr0": 7}, "takes xcomp_bv="),
        ({"format": "standard", "xcomp_bv": 7}, "takes xcr0="),
    ):
        with pytest.raises(XsaveError, match=said):
            batch.relayout(array, source=model, target=model, **options)
        if options["format"] is not None:
            with pytest.raises(XsaveError, match=said):
                relayout(array[0].data, source=model, target=model, **options)


def test_no_rows_go_into_no_rows() -> None:
    model = load_model("zen4")
    out = np.empty((0, 2480), np.uint8)
    assert batch.to_compacted(np.empty((0, 2440), np.uint8), model, out=out).data.shape == (0, 2480)


@pytest.mark.parametrize("threads", [1, 3])
def test_errors_are_in_the_order_of_the_areas(threads: int) -> None:
    array = np.zeros((8, 2440), np.uint8)
    array[:, 520] = [4, 1, 0, 3, 1, 2, 0, 1]  # XCOMP_BVs without bit 63
    result = batch.to_compacted(array, load_model("zen4"), errors="skip", threads=threads)
    assert list(result.errors) == [0, 1, 3, 4, 5, 7]


def test_errors_hold_on_to_no_areas() -> None:
    model = load_model("zen4")
    array = np.zeros((50, 2440), np.uint8)
    array[:, 520] = np.arange(1, 51)
    result = batch.to_compacted(array, model, errors="skip")
    assert len(result.errors) == 50
    assert all(error.__traceback__ is None for error in result.errors.values())
