"""Areas, layouts and results are values: they pickle, copy deeply, compare, and show themselves."""

from __future__ import annotations

import copy
import operator
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import places
import pytest

import xsaveschema as xs
from xsaveschema import artefacts, batch, cpuid, samples

MODEL = xs.load_model("zen4")
DATA = samples.read("zen4-kernel-core")
CHANGED = DATA[:700] + bytes([DATA[700] ^ 1]) + DATA[701:]
BAD = samples.read("zen4-bad-header")
ROWS = np.frombuffer(DATA + CHANGED, np.uint8).reshape(2, -1)
MIXED = np.concatenate([ROWS, ROWS])
MIXED[1, 528] = MIXED[2, 519] = 0xFF
DUMP = places.DATA / "cpuid" / "aida64.txt"
LEAF = {0: (0x100007, 0, 0, 0), 1: (0xF, 0, 0, 0), 2: (256, 600, 0, 0), 20: (64, 856, 2, 0)}


def built() -> xs.CpuModel:
    return xs.identify(leaf_0xd=LEAF, signature=0xA06A1, vendor="GenuineIntel").model


MADE: dict[str, Callable[[], Any]] = {
    "area": lambda: xs.XsaveArea.parse(DATA),
    "area, writable": lambda: xs.XsaveArea.parse(bytearray(DATA), MODEL),
    "area, lenient": lambda: xs.XsaveArea.parse(BAD, MODEL, strict=False),
    "area, missing": lambda: xs.XsaveArea.partial(
        bytes(xs.XsaveArea.new(MODEL, xcr0=7)), MODEL, {9: "pkru"}
    ),
    "area of a leaf": lambda: xs.XsaveArea.new(built()),
    "model": lambda: MODEL.limited(xcr0=7),
    "model of a leaf": built,
    "model of a leaf, limited": lambda: built().limited(xcr0=7),
    "component": lambda: MODEL.component("pkru"),
    "field": lambda: MODEL.component("sse").fields[0],
    "standard layout": MODEL.standard_layout,
    "compacted layout": lambda: MODEL.compacted_layout(0x207),
    "slot": lambda: MODEL.standard_layout()["avx"],
    "span": lambda: MODEL.standard_layout().spans()[3],
    "conversion": lambda: xs.to_compacted(DATA, MODEL),
    "conversion, out=": lambda: xs.to_compacted(DATA, MODEL, out=bytearray(5000)),
    "mended": lambda: xs.mend(BAD, MODEL),
    "fault": lambda: xs.check(BAD, MODEL)[0],
    "deltas": lambda: xs.diff(DATA, CHANGED, MODEL),
    "sigstack": lambda: xs.sigstack(MODEL),
    "baseline": lambda: xs.baseline([MODEL, xs.load_model("haswell")]),
    "comparison": lambda: xs.compare(MODEL, xs.load_model("haswell")),
    "match": lambda: xs.identify(DATA),
    "match of a leaf": lambda: xs.identify(leaf_0xd=MODEL.cpuid_leaf_0xd()),
    "match of none": lambda: xs.identify(leaf_0xd=LEAF),
    "found": lambda: next(artefacts.open("sample:zen4-kernel-core")),
    "record": lambda: next(cpuid.read(DUMP)),
    "batch": lambda: batch.to_compacted(ROWS, MODEL),
    "batch, some refused": lambda: batch.to_compacted(MIXED, MODEL, errors="skip", xcomp_bv=3),
    "batch, some dropped": lambda: batch.to_standard(
        ROWS, MODEL, xcr0=3, drop=("avx", "opmask", "zmm_hi256", "hi16_zmm")
    ),
    "decoded": lambda: batch.decode(MIXED, MODEL, errors="skip"),
}
MUTABLE = ("area", "conversion", "found", "batch", "decoded", "deltas")


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize(
    "twin",
    [
        pytest.param(lambda value: pickle.loads(pickle.dumps(value)), id="pickle"),
        pytest.param(copy.deepcopy, id="deepcopy"),
        pytest.param(copy.copy, id="copy"),
    ],
)
def test_a_twin_is_equal(name: str, twin: Callable[[Any], Any]) -> None:
    value = MADE[name]()
    other = twin(value)
    assert other == value
    assert not operator.ne(other, value)
    assert value != "something else"
    assert repr(other) == repr(value)


@pytest.mark.parametrize("name", MADE)
def test_made_twice_is_equal(name: str) -> None:
    assert MADE[name]() == MADE[name]()


@pytest.mark.parametrize("name", MADE)
def test_what_cannot_change_has_a_hash(name: str) -> None:
    value = MADE[name]()
    if name.split(",")[0].split(" of")[0] in MUTABLE:
        with pytest.raises(TypeError):
            hash(value)
    else:
        assert hash(value) == hash(pickle.loads(pickle.dumps(value)))


@pytest.mark.parametrize("name", sorted(MADE.keys() - {"field"}))
def test_repr_is_short(name: str) -> None:
    assert len(repr(MADE[name]())) < 250
    assert " at 0x" not in repr(MADE[name]())


def test_all_are_equal_to_what_another_process_unpickled(tmp_path: Path) -> None:
    values = {name: make() for name, make in MADE.items()}
    before, after = tmp_path / "before", tmp_path / "after"
    before.write_bytes(pickle.dumps(values))
    # Pickled anew there, out of the objects that it has made.
    code = f"import pickle; values = pickle.load(open({str(before)!r}, 'rb'))\n"
    code += "print(*map(repr, values.values()), sep='\\n')\n"
    code += f"pickle.dump(values, open({str(after)!r}, 'wb'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [repr(value) for value in values.values()]
    again = pickle.loads(after.read_bytes())
    assert [name for name, value in values.items() if again[name] != value] == []


@pytest.mark.parametrize(
    "name", ["component", "slot", "span", "standard layout", "comparison", "match of none"]
)
def test_a_pickle_does_not_take_the_catalogue_along(name: str) -> None:
    assert len(pickle.dumps(MADE[name]())) < 100_000


def test_models_and_layouts_of_two_catalogues_are_equal() -> None:
    other = xs.Catalog().model("zen4")
    assert other is not MODEL
    assert other == MODEL
    assert hash(other) == hash(MODEL)
    assert other.standard_layout() == MODEL.standard_layout()
    assert len({other.standard_layout(), MODEL.standard_layout()}) == 1
    assert other.component("avx") == MODEL.component("avx")
    assert xs.compare(other, MODEL) == xs.compare(MODEL, other)


def test_what_differs_is_not_equal() -> None:
    zen5, limited = xs.load_model("zen5"), MODEL.limited(xcr0=7)
    assert zen5 != MODEL != limited
    assert MODEL.standard_layout(7) != MODEL.compacted_layout(7)
    assert MODEL.standard_layout(7) != MODEL.standard_layout(3)
    assert MODEL.standard_layout() != zen5.standard_layout()
    assert MODEL.standard_layout(7) == limited.standard_layout()
    assert MODEL.component("avx") != MODEL.component("sse")
    assert MODEL.component("pkru") != xs.load_model("skylake-server").component("pkru")


def test_areas_that_take_other_state_to_be_in_use_are_not_equal() -> None:
    data = bytes(xs.XsaveArea.new(MODEL, "compacted"))
    taken = xs.XsaveArea.parse(data, MODEL, assume_supervisor=True)
    assert taken != xs.XsaveArea.parse(data, MODEL)
    assert copy.deepcopy(taken) == taken


def test_batches_differ_by_each_part() -> None:
    one = batch.to_compacted(ROWS, MODEL)
    assert one != batch.to_compacted(ROWS[::-1], MODEL)
    assert one != batch.to_compacted(ROWS[:1], MODEL)
    assert one != batch.to_compacted(ROWS, MODEL, xcomp_bv=0xE7)
    assert one != replace(one, dropped={"avx": 1})
    assert one != replace(one, errors={0: xs.XsaveError("no")})
    read = batch.decode(ROWS, MODEL)
    assert read != batch.decode(ROWS[::-1], MODEL)
    assert read != batch.decode(ROWS, MODEL, ["k1"])
    assert read == batch.Decoded(dict(reversed(read.columns.items())), {})


def test_a_copy_of_a_conversion_has_bytes_of_its_own() -> None:
    out = bytearray(5000)
    result = xs.to_compacted(DATA, MODEL, out=out)
    twin = copy.deepcopy(result)
    out[0] ^= 0xFF
    assert twin != result
    assert twin == xs.to_compacted(DATA, MODEL)


def test_a_repr_says_what_it_is() -> None:
    assert repr(MADE["comparison"]()).startswith("<Comparison zen4 -> haswell: lost: ")
    assert repr(MADE["match"]()).startswith("<Match zen4 or zen5 or zen6: ")
    assert repr(xs.identify(layout=[])).count(" or ") == 3
    assert repr(MADE["batch, some refused"]()).endswith("0x3: 576 bytes>; 4 refused>")
    assert "; avx dropped in 2" in repr(MADE["batch, some dropped"]())
    assert repr(MADE["decoded"]()).endswith(" columns; 1 refused>")
    assert repr(MADE["deltas"]()[0]).startswith("<Delta avx.ymm_hi128[")


def test_a_strategy_shows_its_model_shortly() -> None:
    """Hypothesis prints every field of a dataclass, and warns where that is much."""
    testing = pytest.importorskip("xsaveschema.testing", reason="the extra test is not installed")
    assert len(repr(testing.illegal_areas(built()))) < 150
