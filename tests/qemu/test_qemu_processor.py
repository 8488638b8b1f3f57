"""The known differences before the machine's own processor."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import processor
import pytest
from qemu_areas import (
    COMPACTED,
    Leaf,
    compact,
    decompact,
    masks,
    put,
)

from xsaveschema import CpuModel, to_compacted, to_standard
from xsaveschema.identify.named import host_model

REASON = processor.real() or (None if processor.has("xsavec") else "the processor has no XSAVEC")
on_processor = pytest.mark.skipif(
    REASON is not None, reason=f"the processor cannot judge: {REASON}"
)
GP = 13


class Machine(NamedTuple):
    model: CpuModel
    leaf: Leaf
    size: int


@pytest.fixture(scope="module")
def machine() -> Machine:
    """x87, SSE and, where there is one, AVX of this machine."""
    model = host_model().limited(xcr0=processor.xgetbv(0) & 7, xss=0)
    leaf = {number: processor.cpuid(0xD, number) for number in range(63)}
    return Machine(model, leaf, model.standard_layout().size)


def saved(machine: Machine, prefill: int | bytes = 0, **state: Any) -> bytes:
    """What XSAVEC wrote over ``prefill``."""
    plain = processor.build_area({}, **state)
    return processor.save("xsavec64", plain, 7, size=machine.size, prefill=prefill)


def fault(data: bytes | bytearray | memoryview) -> int:
    """The vector of the fault that XRSTOR of x87, SSE and AVX raises; 0 for none."""
    return processor.restore(bytes(data), 7).trap


def mxcsr_after(data: bytes | bytearray | memoryview) -> int:
    result = processor.restore(bytes(data), 7)
    assert not result.faulted
    return int.from_bytes(result.after[24:28], "little")


@on_processor
def test_the_processor_refuses_low_xcomp_bv_bits(machine: Machine) -> None:
    packed = saved(machine)
    got = decompact(packed, machine.leaf, machine.model.xcr0, size=machine.size)
    assert fault(got) == GP
    assert fault(put(got, 520, bytes(8))) == 0, "XCOMP_BV was what it refused"
    assert fault(to_standard(packed, machine.model).data) == 0


@on_processor
def test_the_processor_refuses_reserved_header_bytes(machine: Machine) -> None:
    packed = saved(machine, prefill=bytes(528) + b"\xa5" * 48)
    assert packed[528:576] == b"\xa5" * 48, "XSAVEC does not write them"
    got = put(decompact(packed, machine.leaf, 7, size=machine.size), 520, bytes(8))
    assert fault(got) == GP
    assert fault(put(got, 528, bytes(8))) == 0, "the standard form looks at bytes 16..23"
    assert fault(to_standard(packed, machine.model).data) == 0
    got, _ = compact(got, machine.leaf, machine.model.xcr0)
    assert fault(got) == GP, "the compacted form looks at bytes 24..63 too"


@on_processor
def test_the_processor_loads_a_stale_mxcsr(machine: Machine) -> None:
    packed = saved(machine, prefill=bytes(24) + struct.pack("<I", 0x9FC0))
    assert masks(packed)[0] & 2 == 0
    got = put(decompact(packed, machine.leaf, 7, size=machine.size), 520, bytes(8))
    assert mxcsr_after(got) == 0x9FC0
    assert mxcsr_after(to_standard(packed, machine.model).data) == 0x1F80
    packed = saved(machine, prefill=b"\xff" * 28)
    got = put(decompact(packed, machine.leaf, 7, size=machine.size), 520, bytes(8))
    assert fault(got) == GP


@on_processor
def test_the_processor_loses_mxcsr(machine: Machine) -> None:
    plain = processor.build_area({}, mxcsr=0x9FC0)
    assert mxcsr_after(plain) == 0x9FC0
    assert mxcsr_after(compact(plain, machine.leaf, machine.model.xcr0)[0]) == 0x1F80
    assert mxcsr_after(to_compacted(plain, machine.model).data) == 0x9FC0


@on_processor
def test_the_processor_refuses_xstate_bv_beyond_xcomp_bv(machine: Machine) -> None:
    plain = processor.build_area({1: b"\x5a" * 256})
    got, _ = compact(plain, machine.leaf, 1)
    assert masks(got) == (2, COMPACTED | 1)
    assert fault(got) == GP
    assert fault(to_compacted(plain, machine.model, xcomp_bv=1, drop=["sse"]).data) == 0


@on_processor
def test_the_processor_restores_zeros_where_xcr0_was_cleared(machine: Machine) -> None:
    if not machine.model.xcr0 & 4:
        pytest.skip("the processor or its system has no AVX")
    plain = processor.build_area({2: b"\x5a" * 256})
    avx = slice(576, 832)
    got, _ = compact(plain, machine.leaf, 7, xcr0=3)
    result = processor.restore(bytes(got), 7)
    assert not result.faulted
    assert result.after[avx] == bytes(256)
    right = to_compacted(plain, machine.model).data
    assert processor.restore(bytes(right), 7).after[avx] == b"\x5a" * 256
