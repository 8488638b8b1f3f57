"""Areas that what is generated must read as we do: made up, captured, and the processor's own."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import captures
import processor

import xsaveschema as xs
from xsaveschema.area import XsaveArea
from xsaveschema.evidence import shown_in
from xsaveschema.layout import under
from xsaveschema.model import CpuModel, bits_of

DISTINCT = ("haswell", "bulldozer", "zen2", "zen4", "skylake", "sapphire-rapids", "diamond-rapids")
"""Models that lay out areas in different ways: some have what others lack."""
_SAVES: tuple[processor.SaveInstruction, ...] = ("xsave64", "xsavec64")


_AMX = 1 << 17 | 1 << 18
_ILLEGAL = ((0, 2), (2, 1), (16, 0), (16, 65), (17, 1), (40, 1), (48, 0), (48, 17), (63, 1))
"""Bytes of a TILECFG that make one illegal that gives tile 0 all rows."""


class Sample(NamedTuple):
    """An area of a CPU, and where it is from."""

    model: CpuModel
    name: str
    data: bytes


def made_up(model: CpuModel, count: int = 12) -> Iterator[Sample]:
    """Areas of random bytes in both formats; some stale, some short, masks of all kinds."""
    rng = random.Random(model.name)
    for number in range(count if "tilecfg" not in model.components else 3 * count):
        packed = number % 2
        whole = (model.xcr0 | model.xss) if packed else model.xcr0
        bits = [1 << bit for bit in bits_of(whole)]
        mask = whole if number < 4 else sum(rng.sample(bits, rng.randint(1, len(bits))))
        if number % 3 == 2:
            mask |= whole & _AMX
        layout = model.compacted_layout(mask) if packed else model.standard_layout(mask | 3)
        live = layout.mask if number in (0, 1) else rng.getrandbits(63) & layout.mask
        data = bytearray(rng.randbytes(layout.size))
        data[464:576] = bytes(112)
        if not packed and number % 4 == 0:
            data[464:472] = layout.mask.to_bytes(8, "little")
        data[512:528] = live.to_bytes(8, "little") + layout.xcomp_bv.to_bytes(8, "little")
        if "tilecfg" in layout and number % 3:
            tilecfg = bytearray(processor.legal_tilecfg(rng))
            if number % 3 == 2:  # illegal: the initial one is loaded
                live |= layout.mask & _AMX
                tilecfg[16:18], tilecfg[48] = b"\x40\0", 16
                at, byte = _ILLEGAL[number // 3 % len(_ILLEGAL)]
                tilecfg[at] = byte
            start = layout["tilecfg"].offset
            data[start : start + 64] = tilecfg
            data[512:520] = live.to_bytes(8, "little")
        if number % 6 == 2:  # standard, and shorter than its layout
            data = data[: max(576, layout.size - rng.randint(1, 8))]
            beyond = sum(slot.component.bit for slot in layout if slot.end > len(data))
            data[512:520] = (live & ~beyond).to_bytes(8, "little")
        yield Sample(model, f"{model.name} {layout.format} {number}", bytes(data))


def captured(count: int = 40) -> Iterator[Sample]:
    """Areas that a Zen 4, an Intel CPU with AMX, Linux and an emulator's CPU wrote."""
    for name, model in (("zen4", "zen4"), ("amx", "sapphire-rapids")):
        rows = [row for row in captures.records(f"{name}-saves") if "off" in row]
        for number, row in enumerate(rows[:: max(1, len(rows) // count)]):
            data = captures.cut(f"{name}-saves", row["off"], row["len"])
            yield Sample(xs.load_model(model), f"{name}-saves {number} {row.get('instr')}", data)
    for name in ("kernel_core.elf.xstate", "ptrace_xstate"):
        yield Sample(xs.load_model("zen4"), name, captures.image(f"linux-{name}"))


def own(count: int = 6) -> Iterator[Sample]:
    """Areas that this machine's processor saves; none where it has no XSAVE."""
    if processor.available():
        return
    host = xs.load_model("host")
    xcr0 = processor.xgetbv(0)
    rng = random.Random(5)
    size = processor.cpuid(0xD)[2]
    for number in range(count):
        state: dict[int, bytes] = {}
        for bit, slot in processor.layout().items():
            if bit in (9, 17, 18) or not xcr0 >> bit & 1 or rng.random() < 0.3:
                continue
            state[bit] = rng.randbytes(slot.stop - slot.start)
        if 0 in state:
            state[0] = b"\x7f\x03" + state[0][2:3] + bytes(29) + state[0][32:]
        area = processor.build_area(state, mxcsr=0x1FA0 if number % 2 else 0x1F80)
        stale = bytes([0xA5 * (number % 2)])
        for instruction in _SAVES if processor.has("xsavec") else _SAVES[:1]:
            # Software's bytes and the header are zero: nothing else writes them.
            data = processor.save(
                instruction,
                area,
                size=size,
                prefill=stale * 416 + bytes(160) + stale * (size - 576),
            )
            if instruction == "xsave64" and not number % 2:
                data = data[:464] + xcr0.to_bytes(8, "little") + data[472:]  # as Linux does
            yield Sample(host, f"own {instruction} {number}", data)


def meaning(sample: Sample) -> XsaveArea | None:
    """The area as we read it, under the mask of its writer's system if it says that; None: none."""
    try:
        area = XsaveArea.parse(sample.data, sample.model)
        seen = shown_in(memoryview(sample.data), sample.model)
        return (
            area if seen is None else XsaveArea.parse(sample.data, under(sample.model, seen.mask))
        )
    except xs.XsaveError:
        return None


def registers(area: XsaveArea) -> dict[str, bytes]:
    """All registers as bytes, the lowest first."""
    found: dict[str, Any] = area.registers.read()
    return {
        name: value
        if isinstance(value, bytes)
        else value.to_bytes(area.registers.size(name), "little")
        for name, value in found.items()
    }
