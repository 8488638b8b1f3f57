"""Areas in Arrow, and their registers as columns, are what the areas give one by one."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsaveschema import XsaveArea, XsaveError, load_model, to_compacted
from xsaveschema.catalog import Catalog, default_catalog
from xsaveschema.errors import UnknownComponentError
from xsaveschema.model import CpuModel
from xsaveschema.testing import areas

np = pytest.importorskip("numpy", reason="the extra arrow is not installed")
pa = pytest.importorskip("pyarrow", reason="the extra arrow is not installed")
pq = pytest.importorskip("pyarrow.parquet")
arrow = pytest.importorskip("xsaveschema.many.arrow")
batch = pytest.importorskip("xsaveschema.many.batch")

models = st.sampled_from(default_catalog().models())


def stack(rows: list[bytes]) -> Any:
    size = max(map(len, rows))
    return np.stack([np.frombuffer(row.ljust(size, b"\0"), np.uint8) for row in rows])


def number(element: Any) -> int:
    """A register's number from a column's element."""
    return int.from_bytes(np.ascontiguousarray(element).tobytes(), "little")


@settings(max_examples=40)
@given(data=st.data(), model=models)
def test_columns_have_the_registers_of_each_area(data: st.DataObject, model: CpuModel) -> None:
    rows = data.draw(st.lists(areas(model), min_size=1, max_size=6))
    array = stack(rows)
    single = [XsaveArea.parse(row.tobytes(), model) for row in array]
    # Repacked, an area has a place for every register: initial ones have their initial value.
    everything = model.user_mask | model.supervisor_mask
    packed = [
        XsaveArea.parse(to_compacted(row.tobytes(), model, xcomp_bv=everything).data, model)
        for row in array
    ]
    names = sorted({name for area in packed for name in area.registers})
    found = batch.decode(array, model, names)
    assert found.errors == {}
    assert set(found.columns) == {"xstate_bv", "xcomp_bv", *names}
    for index, (area, full) in enumerate(zip(single, packed, strict=True)):
        assert found.columns["xstate_bv"][index] == area.xstate_bv
        assert found.columns["xcomp_bv"][index] == area.xcomp_bv
        for name in names:
            seen = number(found.columns[name][index])
            if name.startswith("tmm"):
                if name in area.registers and area.in_use("tiledata"):
                    start = area.layout["tiledata"].offset + 1024 * int(name[3:])
                    stored = bytes(area.buffer[start : start + 1024])
                    assert seen == int.from_bytes(stored, "little")
                else:
                    assert seen == 0
            else:
                assert seen == full.registers[name], name
                if name in area.registers:
                    assert seen == area.registers[name], name


def test_a_register_is_read_as_far_as_it_has_a_place() -> None:
    """An area of a program that uses AVX alone, on a processor that has AVX-512."""
    model = load_model("zen4")
    area = XsaveArea.new(model)
    area.registers["ymm3"] = 9 << 200
    packed = to_compacted(bytes(area), model, xcomp_bv=7).data
    for data in (packed, bytes(area)[:832]):
        found = batch.decode(stack([bytes(data)]), model).columns
        assert number(found["zmm3"][0]) == 9 << 200


def test_the_widest_names_are_decoded_unless_others_are_named() -> None:
    model = load_model("skylake-server")
    area = XsaveArea.new(model)
    area.registers["zmm3"] = 0x33 << 300
    found = batch.decode(stack([bytes(area)]), model).columns
    assert {"zmm0", "zmm31", "k7", "st0", "mxcsr", "pkru", "bnd0"} <= set(found)
    assert not {"xmm0", "ymm31", "mm0"} & set(found)
    assert found["zmm3"].shape == (1, 8)
    assert found["zmm3"][0, 300 // 64] == 0x33 << 300 % 64
    assert (found["mxcsr"].dtype, found["mxcsr"].tolist()) == (np.dtype("<u4"), [0x1F80])
    assert (found["fcw"].dtype, found["fcw"].tolist()) == (np.dtype("<u2"), [0x37F])
    assert (found["st0"].dtype, found["st0"].shape) == (np.dtype("u1"), (1, 10))
    assert list(batch.decode(stack([bytes(area)]), model, ["k1"]).columns)[2:] == ["k1"]
    with pytest.raises(UnknownComponentError, match="no register 'zmm32'; did you mean"):
        batch.decode(stack([bytes(area)]), model, ["zmm32"])
    sandy = load_model("sandy-bridge")
    assert "ymm0" in batch.decode(np.zeros((1, 832), np.uint8), sandy).columns


def three_areas() -> tuple[CpuModel, Any]:
    """Two areas, and between them one that cannot be read."""
    model = load_model("zen4")
    rows = []
    for value in (1, 2, 3):
        area = XsaveArea.new(model)
        area.registers["k1"] = value
        rows.append(bytearray(bytes(area)))
    rows[1][520] = 1
    return model, stack([bytes(row) for row in rows])


def test_an_area_that_says_nothing_sure_is_named() -> None:
    model, array = three_areas()
    with pytest.raises(batch.BatchError, match="area 1: illegal XSAVE header"):
        batch.decode(array, model)
    found = batch.decode(array, model, ["k1", "mxcsr"], errors="skip")
    assert list(found.errors) == [1]
    assert found.columns["k1"].tolist() == [1, 0, 3]
    assert found.columns["mxcsr"].tolist() == [0x1F80, 0, 0x1F80]
    with pytest.raises(XsaveError, match="errors: pass 'raise', 'skip', not errors='null'"):
        batch.decode(array, model, errors="null")


@pytest.mark.parametrize(
    "make",
    [
        lambda array: pa.array([row.tobytes() for row in array], pa.binary(array.shape[1])),
        lambda array: arrow.array_of(array),
        lambda array: pa.chunked_array([arrow.array_of(array[:1]), arrow.array_of(array[1:])]),
        lambda array: pa.chunked_array([arrow.array_of(array)]),
        lambda array: pa.concat_arrays([arrow.array_of(a) for a in (array[2:], array)])[1:],
        lambda array: arrow.array_of(array[::-1]).take(pa.array([2, 1, 0])),
    ],
    ids=["bytes", "shared", "chunks", "one chunk", "slice", "taken"],
)
def test_arrays_of_arrow_are_areas(make: Any) -> None:
    model, array = three_areas()
    array[1, 520] = 0
    assert np.array_equal(arrow.areas_of(make(array)), array)
    want = batch.to_compacted(array, model).data
    assert np.array_equal(batch.to_compacted(make(array), model).data, want)


def test_an_arrow_array_shares_memory_both_ways() -> None:
    _, array = three_areas()
    assert np.shares_memory(arrow.areas_of(arrow.array_of(array)), array)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array([b"x" * 600, None], pa.binary(600)), "area 1 is null"),
        (pa.array([b"x" * 600]), r"fixed-size binary, not binary.*cast"),
        (pa.array([1, 2]), "not int64"),
        (pa.array([b"x" * 5], pa.binary(5)), "5 bytes"),
        (pa.array([None, None], pa.binary(600)), "area 0 is null, one of 2"),
    ],
)
def test_arrays_that_are_no_areas(column: Any, said: str) -> None:
    with pytest.raises(XsaveError, match=said):
        batch.to_standard(column, load_model("zen4"))


@pytest.mark.parametrize(
    "column", [pa.array([], pa.binary(2440)), pa.chunked_array([], pa.binary(2440))]
)
def test_no_areas(column: Any) -> None:
    model = load_model("zen4")
    assert batch.to_compacted(column, model).data.shape[0] == 0
    assert arrow.to_arrow(column, model).num_rows == 0


@pytest.mark.parametrize("kind", [pa.RecordBatch, pa.Table])
def test_a_conversion_is_a_function_of_a_batch(kind: Any) -> None:
    model, array = three_areas()
    data = kind.from_pydict({"vcpu": pa.array([7, 8, 9]), "area": arrow.array_of(array)})
    convert = arrow.Convert(model, "compacted", errors="null")
    for function in (convert, pickle.loads(pickle.dumps(convert))):
        result = function(data)
        assert type(result) is kind
        assert result.schema == function.schema(data.schema)
        assert result.column("vcpu").to_pylist() == [7, 8, 9]
        converted = result.column("area").to_pylist()
        assert converted[1] is None
        assert converted[::2] == [to_compacted(array[i].data, model).data for i in (0, 2)]
        reasons = result.column("error").to_pylist()
        assert reasons[::2] == [None, None]
        assert "XCOMP_BV" in reasons[1]
    with pytest.raises(batch.BatchError, match="area 1"):
        arrow.Convert(model, "compacted")(data)
    with pytest.raises(XsaveError, match="no column 'xsave'; columns: vcpu, area"):
        arrow.Convert(model, "compacted", column="xsave")(data)


def test_a_limited_model_travels_with_its_masks() -> None:
    model = load_model("zen4").limited(xcr0=0xE7, xss=0)
    there = pickle.loads(pickle.dumps(arrow.Convert(model, "standard", drop=("pkru",))))
    assert (there.model.xcr0, there.model.xss, there.drop) == (0xE7, 0, ("pkru",))


@pytest.mark.parametrize("kind", [pa.RecordBatch, pa.Table])
def test_decoding_is_a_function_of_a_batch(kind: Any) -> None:
    model, array = three_areas()
    data = kind.from_pydict({"vcpu": pa.array([7, 8, 9]), "area": arrow.array_of(array)})
    decode = pickle.loads(pickle.dumps(arrow.Decode(model, ("k1", "zmm0"), errors="null")))
    result = decode(data)
    assert type(result) is kind
    assert result.schema == decode.schema(data.schema)
    names = ["vcpu", "xstate_bv", "xcomp_bv", "k1", "zmm0", "error"]
    assert result.schema.names == names
    assert result.column("k1").to_pylist() == [1, None, 3]
    assert result.column("zmm0").to_pylist() == [bytes(64), None, bytes(64)]
    assert result.column("xcomp_bv").to_pylist() == [0, 1, 0]
    clash = kind.from_pydict({"k1": pa.array([7, 8, 9]), "area": arrow.array_of(array)})
    with pytest.raises(XsaveError, match="k1"):
        decode(clash)


def test_registers_in_a_parquet_file(tmp_path: Path) -> None:
    model = load_model("skylake-server")
    rows, values = [], []
    for index in range(20):
        area = XsaveArea.new(model)
        area.registers["zmm31"] = index << 500
        area.registers["pkru"] = index
        area.registers["st7"] = index << 70
        rows.append(bytes(area))
        values.append(dict(area.registers))
    pq.write_table(arrow.to_arrow(stack(rows), model), tmp_path / "registers.parquet")
    table = pq.read_table(tmp_path / "registers.parquet")
    assert table.num_rows == 20
    assert table.schema.field("pkru").type == pa.uint32()
    assert table.schema.field("zmm31").type == pa.binary(64)
    for name in table.schema.names[2:]:
        for index, value in enumerate(table.column(name).to_pylist()):
            seen = value if isinstance(value, int) else int.from_bytes(value, "little")
            assert seen == values[index][name], name


def test_rows_of_a_flat_buffer(tmp_path: Path) -> None:
    import mmap

    _, array = three_areas()
    (tmp_path / "areas").write_bytes(array.tobytes())
    with (
        (tmp_path / "areas").open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        found = batch.rows(mapped, array.shape[1])
        assert np.array_equal(found, array)
        del found
    for data, size in ((bytes(1153), 576), (bytes(1152), 575), (bytes(100), 0)):
        with pytest.raises(XsaveError, match="whole number of areas"):
            batch.rows(data, size)
    mapping = np.memmap(tmp_path / "areas", np.uint8, "r", shape=array.shape)
    model = load_model("zen4")
    assert list(batch.to_compacted(mapping, model, errors="skip").errors) == [1]


@pytest.mark.parametrize("kind", [pa.RecordBatch, pa.Table])
def test_what_is_not_the_area_stays_as_it_is(kind: Any) -> None:
    model, array = three_areas()
    schema = pa.schema(
        [
            pa.field("vcpu", pa.int8(), nullable=False, metadata={"unit": "index"}),
            pa.field("area", pa.binary(array.shape[1])),
        ],
        metadata={"host": "a"},
    )
    data = kind.from_arrays([pa.array([1, 2, 3], pa.int8()), arrow.array_of(array)], schema=schema)
    for function in (
        arrow.Convert(model, "compacted", errors="null"),
        arrow.Decode(model, errors="null"),
    ):
        found = function(data).schema
        assert found.metadata == {b"host": b"a"}
        assert found.field("vcpu").equals(schema.field("vcpu"), check_metadata=True)


def test_areas_that_are_null_stay_null() -> None:
    """What one conversion has left null, the next one takes."""
    model, array = three_areas()
    data = pa.table({"area": arrow.array_of(array)})
    once = arrow.Convert(model, "compacted", errors="null")(data).drop_columns(["error"])
    twice = arrow.Convert(model, "standard", errors="null")(once)
    assert [area is None for area in twice.column("area").to_pylist()] == [False, True, False]
    assert twice.column("error").to_pylist() == [None, "the area is null", None]
    decoded = arrow.Decode(model, ("k1", "zmm0"), errors="null")(once)
    assert decoded.column("k1").to_pylist() == [1, None, 3]
    assert decoded.column("xstate_bv").to_pylist()[1] is None
    with pytest.raises(XsaveError, match="area 1 is null"):
        arrow.Convert(model, "standard")(once)


def test_columns_are_not_overwritten() -> None:
    model, array = three_areas()
    column = arrow.array_of(array)
    data = pa.table({"area": column, "error": pa.array(["keep me"] * 3)})
    with pytest.raises(XsaveError, match="has a column 'error' already"):
        arrow.Convert(model, "compacted", errors="null")(data)
    with pytest.raises(XsaveError, match="the same name"):
        arrow.Convert(model, "compacted")(
            pa.Table.from_arrays([column, column, column], ["area", "x", "x"])
        )


def test_arguments_are_judged_where_they_are_given() -> None:
    model, array = three_areas()
    for options in ({"format": "standrad"}, {"format": "standard", "xcomp_bv": 7}):
        with pytest.raises(XsaveError):
            arrow.Convert(model, **options)
    for function in (arrow.Decode, lambda *a, **o: arrow.Convert(*a, "standard", **o)):
        with pytest.raises(XsaveError, match="errors: pass 'raise', 'skip'"):
            function(model, errors="collect")
    with pytest.raises(XsaveError, match="Table is no column of areas"):
        batch.to_compacted(pa.table({"area": arrow.array_of(array)}), model)
    with pytest.raises(XsaveError, match="uint8"):
        arrow.array_of(np.zeros((2, 600), np.uint16))


def test_a_model_of_the_users_own_travels_by_name(tmp_path: Path) -> None:
    """To a process that has it; one that has another of the name says so."""
    import os
    import subprocess
    import sys

    text = "model: mine\ntitle: x\nextends: zen4\nconfirmed: false\nsource: x\n"
    for folder in ("here", "there", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.yaml").write_text(text)
    (tmp_path / "other" / "mine.yaml").write_text(text + "components: {pkru: null}\n")
    model = Catalog([tmp_path / "here"]).model("mine")
    (tmp_path / "pickle").write_bytes(pickle.dumps(arrow.Convert(model, "compacted")))
    script = f"import pickle; print(pickle.load(open({str(tmp_path / 'pickle')!r}, 'rb')).model)"

    def load(folder: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "XSAVESCHEMA_PATH": str(tmp_path / folder)}
        command = [sys.executable, "-c", script]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    assert "mine" in load("there").stdout
    assert "was pickled with other components" in load("other").stderr
    assert "XSAVESCHEMA_PATH brings" in load("nowhere").stderr
