"""What callers pass wrongly: masks are judged alike everywhere, and types are told what to be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from places import DATA

import xsaveschema
from xsaveschema import artefacts, cpuid
from xsaveschema import batch as batches
from xsaveschema.errors import MaskError, StateLossError, WrongTypeError

# No type checker would let pass what is passed here.
xs: Any = xsaveschema
batch: Any = batches
MODEL = xs.load_model("zen4")
AREA = bytes(xs.XsaveArea.new(MODEL))
ROWS = np.frombuffer(AREA, np.uint8).reshape(1, -1)
DUMP = (DATA / "cpuid" / "aida64.txt").read_bytes()

Call = Callable[[Any], Any]

MASKS: dict[str, Call] = {
    "limited xcr0": lambda mask: MODEL.limited(xcr0=mask),
    "limited xss": lambda mask: MODEL.limited(xss=mask),
    "standard_layout": lambda mask: MODEL.standard_layout(mask),
    "compacted_layout": lambda mask: MODEL.compacted_layout(mask),
    "cpuid_leaf_0xd xcr0": lambda mask: MODEL.cpuid_leaf_0xd(xcr0=mask),
    "cpuid_leaf_0xd xss": lambda mask: MODEL.cpuid_leaf_0xd(xss=mask),
    "new xcr0": lambda mask: xs.XsaveArea.new(MODEL, xcr0=mask),
    "new xcomp_bv": lambda mask: xs.XsaveArea.new(MODEL, "compacted", xcomp_bv=mask),
    "to_standard": lambda mask: xs.to_standard(AREA, MODEL, xcr0=mask),
    "to_compacted": lambda mask: xs.to_compacted(AREA, MODEL, xcomp_bv=mask),
    "relayout xcr0": lambda mask: xs.relayout(AREA, source=MODEL, target=MODEL, xcr0=mask),
    "relayout xcomp_bv": lambda mask: xs.relayout(
        AREA, source=MODEL, target=MODEL, format="compacted", xcomp_bv=mask
    ),
    "batch.to_standard": lambda mask: batch.to_standard(ROWS, MODEL, xcr0=mask),
    "batch.to_compacted": lambda mask: batch.to_compacted(ROWS, MODEL, xcomp_bv=mask),
    "check xcr0": lambda mask: xs.check(AREA, MODEL, xcr0=mask),
    "check xss": lambda mask: xs.check(AREA, MODEL, xss=mask),
    "check rfbm": lambda mask: xs.check(AREA, MODEL, rfbm=mask),
    "check xfd": lambda mask: xs.check(AREA, MODEL, xfd=mask),
    "check mxcsr_mask": lambda mask: xs.check(AREA, MODEL, mxcsr_mask=mask),
    "mend rfbm": lambda mask: xs.mend(AREA, MODEL, rfbm=mask),
    "batch.check rfbm": lambda mask: batch.check(ROWS, MODEL, rfbm=mask),
}


@pytest.mark.parametrize(
    "mask", [-1, 1 << 64, (1 << 64) | 7, "7", 7.0, b"7", [7]], ids=lambda mask: repr(mask)
)
@pytest.mark.parametrize("entry", MASKS)
def test_no_mask(entry: str, mask: Any) -> None:
    with pytest.raises(MaskError, match=r"a mask (is an integer|has (64|32) bits)"):
        MASKS[entry](mask)


def test_mxcsr_mask_has_32_bits() -> None:
    assert xs.check(AREA, MODEL, mxcsr_mask=0xFFFFFFFF) == []
    with pytest.raises(MaskError, match="MXCSR_MASK 0x100000000: a mask has 32 bits"):
        xs.check(AREA, MODEL, mxcsr_mask=1 << 32)


@pytest.mark.parametrize("mask", [7, 7 | 1 << 63])
def test_bit_63_of_xcomp_bv_is_optional(mask: int) -> None:
    assert xs.to_compacted(AREA, MODEL, xcomp_bv=mask).layout.mask == 7


A_MODEL = 'pass a CpuModel, as load_model("zen4") gives one, not '
NO_MODEL: dict[str, Call] = {
    "parse": lambda model: xs.XsaveArea.parse(AREA, model),
    "parse with a mask": lambda model: xs.XsaveArea.parse(AREA[:464] + b"\xe7" + AREA[465:], model),
    "new": lambda model: xs.XsaveArea.new(model),
    "to_standard": lambda model: xs.to_standard(AREA, model),
    "to_standard xcr0": lambda model: xs.to_standard(AREA, model, xcr0=7),
    "to_compacted": lambda model: xs.to_compacted(AREA, model),
    "to_compacted xcomp_bv": lambda model: xs.to_compacted(AREA, model, xcomp_bv=7),
    "relayout source": lambda model: xs.relayout(AREA, source=model, target=MODEL),
    "relayout target": lambda model: xs.relayout(AREA, source=MODEL, target=model),
    "check": lambda model: xs.check(AREA, model),
    "mend": lambda model: xs.mend(AREA, model),
    "diff a": lambda model: xs.diff(AREA, AREA, model),
    "diff b": lambda model: xs.diff(AREA, AREA, MODEL, model),
    "sigstack": lambda model: xs.sigstack(model),
    "normalise": lambda model: xs.normalise(AREA, model),
    "baseline": lambda model: xs.baseline([MODEL, model]),
    "compare a": lambda model: xs.compare(model, MODEL),
    "compare b": lambda model: xs.compare(MODEL, model),
    "batch": lambda model: batch.to_compacted(ROWS, model),
    "artefacts": lambda model: artefacts.read_bytes(AREA, model),
}


@pytest.mark.parametrize("model", ["zen4", "", 7, b"zen4", type(MODEL)], ids=lambda m: repr(m)[:9])
@pytest.mark.parametrize("entry", NO_MODEL)
def test_no_model(entry: str, model: Any) -> None:
    with pytest.raises(WrongTypeError) as caught:
        NO_MODEL[entry](model)
    assert A_MODEL in str(caught.value)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, xs.XsaveError)


def test_a_message_names_the_argument_and_what_was_passed() -> None:
    with pytest.raises(WrongTypeError, match=r"^source: pass a CpuModel.* not str 'x'$"):
        xs.relayout(AREA, source="x", target=MODEL)


NO_BUFFER: dict[str, Call] = {
    "parse": lambda data: xs.XsaveArea.parse(data, MODEL),
    "partial": lambda data: xs.XsaveArea.partial(data, MODEL),
    "to_standard": lambda data: xs.to_standard(data, MODEL),
    "to_compacted out": lambda data: xs.to_compacted(AREA, MODEL, out=data),
    "check": lambda data: xs.check(data, MODEL),
    "mend": lambda data: xs.mend(data, MODEL),
    "diff": lambda data: xs.diff(data, 6, MODEL),
    "identify": lambda data: xs.identify(data),
    "artefacts": lambda data: artefacts.read_bytes(data),
    "cpuid": lambda data: cpuid.read_bytes(data, "dump"),
}


@pytest.mark.parametrize(
    "data", [5, "text", [1, 2], object()], ids=lambda data: type(data).__name__
)
@pytest.mark.parametrize("entry", NO_BUFFER)
def test_no_buffer(entry: str, data: Any) -> None:
    with pytest.raises(WrongTypeError, match=r"pass .*bytes.*, not (int|str|a value of)"):
        NO_BUFFER[entry](data)


@pytest.mark.parametrize(
    "path", [5, None, b"core", bytearray(576), [1, 2]], ids=lambda path: type(path).__name__
)
@pytest.mark.parametrize("read", [artefacts.open, cpuid.read, artefacts.open_stream])
def test_no_path(read: Call, path: Any) -> None:
    with pytest.raises(WrongTypeError, match=r"^pass .*, not (int|None|bytes|a value of)"):
        read(path)


@pytest.mark.parametrize("entry", sorted(NO_BUFFER.keys() - {"cpuid"}))
@pytest.mark.parametrize("step", [2, -1])
def test_a_view_with_steps_is_to_be_copied_first(entry: str, step: int) -> None:
    strided = memoryview(bytearray(AREA * 2))[::step]
    with pytest.raises(xs.XsaveError, match=r"not contiguous in memory: copy it first"):
        NO_BUFFER[entry](strided)


@pytest.mark.parametrize("view", [memoryview, bytearray, lambda data: memoryview(data * 2)[::1]])
def test_a_dump_may_be_any_buffer(view: Callable[[bytes], Any]) -> None:
    (record,) = cpuid.read_bytes(view(DUMP)[: len(DUMP)], "dump")
    spread = bytearray(2 * len(DUMP))
    spread[::2] = DUMP
    (other,) = cpuid.read_bytes(memoryview(spread)[::2], "dump")
    assert record == other


@pytest.mark.parametrize(
    ("drop", "dropped"),
    [
        pytest.param(np.array([2, 9]), ("avx", "pkru"), id="numbers"),
        pytest.param(np.array(["avx", "pkru"]), ("avx", "pkru"), id="names"),
        pytest.param(np.array([np.int64(9), 2]), ("avx", "pkru"), id="numbers of numpy"),
        pytest.param({"avx": 1, "pkru": 2}, ("avx", "pkru"), id="keys"),
        pytest.param((name for name in ("avx", "pkru")), ("avx", "pkru"), id="generator"),
    ],
)
def test_what_drop_may_be(drop: Any, dropped: tuple[str, ...]) -> None:
    area = xs.XsaveArea.new(MODEL)
    area.registers["pkru"] = 4
    area["avx"]["ymm_hi128"] = [1] * 16
    assert xs.to_standard(bytes(area), MODEL, xcr0=3, drop=drop).dropped == dropped
    area.registers["pkru"] = 0
    assert xs.to_standard(bytes(area), MODEL, xcr0=0x203, drop=np.int64(2)).dropped == ("avx",)
    with pytest.raises(StateLossError):
        xs.to_standard(bytes(area), MODEL, xcr0=3, drop=np.array([], np.int64))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: xs.to_standard(AREA, MODEL, drop=5.0), "drop: pass names or numbers"),
        (lambda: xs.to_standard(AREA, MODEL, drop=np.array(5)), "drop: pass names or numbers"),
        (lambda: xs.to_standard(AREA, MODEL, drop=np.zeros((2, 2))), "there is no component"),
        (lambda: xs.to_standard(AREA, MODEL, software="drop"), "software: pass 'keep' or 'zero'"),
        (lambda: xs.to_standard(AREA, MODEL, software=[]), "software: pass 'keep' or 'zero'"),
        (lambda: batch.to_standard(ROWS, MODEL, software="x"), "software: pass 'keep' or 'zero'"),
        (lambda: batch.to_standard(ROWS, MODEL, threads="x"), "threads: pass a number"),
        (lambda: batch.to_standard(ROWS, MODEL, out=b"x"), "out=: pass an array of uint8"),
        (lambda: xs.check(AREA, MODEL, address=7.0), "address: pass an integer of 64 bits"),
        (lambda: xs.check(AREA, MODEL, address=-64), "address: pass an integer of 64 bits"),
        (lambda: xs.check(AREA, MODEL, address=1 << 64), "address: pass an integer of 64 bits"),
        (lambda: xs.check(AREA, MODEL, target=np.array(["x", "y"])), "is no target"),
        (lambda: xs.diff(AREA, AREA, MODEL, ignore=5), "ignore: pass names of components"),
        (lambda: xs.diff(AREA, AREA, MODEL, ignore=[5]), "ignore: pass names of components"),
        (lambda: xs.XsaveArea.partial(AREA, MODEL, 5), "missing: pass {number: name}"),
        (lambda: xs.identify(AREA, catalog="x"), "catalog: pass a Catalog, as Catalog(paths)"),
        (lambda: xs.identify(layout=5), "layout: pass (component, size, offset)"),
        (lambda: xs.identify(layout=[5]), "layout: pass (component, size, offset)"),
        (lambda: xs.identify(layout=[("2", 1, 1)]), "layout: pass (component, size, offset)"),
        (lambda: xs.identify(leaf_0xd={0: (7, 0, 0, 0)}, signature="x"), "signature: pass CPUID"),
        (lambda: xs.identify(leaf_0xd={0: (7, 0, 0, 0)}, vendor=5), "vendor: pass the text"),
        (lambda: xs.identify(layout=[], mxcsr_mask="x"), "MXCSR_MASK: a mask is an integer"),
        (lambda: xs.load_model(None), 'pass a model\'s name, "zen4", not None'),
        (lambda: xs.load_model(b"zen4"), "pass a model's name"),
        (lambda: xs.Catalog(5), "pass paths of schema files, not int 5"),
        (lambda: xs.Catalog([None]), "pass paths of schema files, not None"),
        (lambda: MODEL.construct("standard"), "layout: pass a Layout"),
    ],
)
def test_what_says_what_to_pass(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(xs.XsaveError) as caught:
        call()
    assert message in str(caught.value)
