"""Areas and artefacts that several tests of readers start from: captured, made up, loaded."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

import captures
import cores
from writers import qemu_stream as w
from writers.state import State

import xsaveschema as xs
from xsaveschema import artefacts
from xsaveschema.identify.named import host_model
from xsaveschema.model import CpuModel

ZEN4 = (captures.FOLDER / "linux-kernel_core.elf.xstate.bin").read_bytes()
ZEN4_LAYOUT = (captures.FOLDER / "linux-kernel_core.elf.layout.bin").read_bytes()
FRAME = (captures.FOLDER / "linux-sigframe.bin").read_bytes()
FRAME_32 = bytes(112) + FRAME[:468] + struct.pack("<I", 2436 + 112) + FRAME[472:]
REGISTERS = (captures.FOLDER / "linux-regs.bin").read_bytes()
QEMU_MASK = 0x2E7
INTEL = [(2, 256, 576), (5, 64, 1088), (6, 512, 1152), (7, 1024, 1664), (9, 8, 2688)]


def read(
    data: bytes, model: str | None = None, strict: bool = True, assume: bool = False
) -> list[artefacts.Found]:
    named = None if model is None else xs.load_model(model)
    return list(artefacts.read_bytes(data, named, strict, assume=assume))


def one(
    data: bytes, model: str | None = None, strict: bool = True, assume: bool = False
) -> artefacts.Found:
    (found,) = read(data, model, strict, assume)
    return found


def zen4_core(*more: bytes, layout: bool = True, areas: Sequence[bytes] = (ZEN4,)) -> bytes:
    notes = cores.threads(areas)
    if layout:
        notes += cores.note(b"LINUX", cores.LAYOUT, ZEN4_LAYOUT)
    return cores.core(notes, *more)


def intel_area(size: int = 2696, mask: int = 0x2E7, mxcsr_mask: int = 0xFFFF) -> bytearray:
    area = bytearray(random.Random(size).randbytes(size))
    struct.pack_into("<HHBBHQQII", area, 0, 0x37F, 0, 0, 0, 0, 0, 0, 0x1F80, mxcsr_mask)
    area[416:576] = bytes(160)
    struct.pack_into("<Q", area, 464, mask)
    struct.pack_into("<Q", area, 512, mask)
    return area


def host_areas(count: int) -> tuple[CpuModel, list[bytes]]:
    """Areas for this machine with every vector register random, each another one."""
    whole = host_model()
    model = whole.limited(xcr0=whole.xcr0 & 0xE7)
    rng = random.Random(count)
    made = []
    for _ in range(count):
        area = xs.XsaveArea.new(model)
        for name in area.registers:
            if name.startswith(("xmm", "ymm", "zmm", "k")):
                area.registers[name] = rng.getrandbits(8 * area.registers.size(name))
        area.registers["mxcsr"] = 0x9FC0
        made.append(bytes(area))
    return model, made


def same_registers(area: xs.XsaveArea, model: CpuModel, loaded: bytes) -> None:
    wanted = xs.XsaveArea.parse(loaded, model).registers
    names = [n for n in wanted if n.startswith(("xmm", "ymm", "zmm", "k")) or n == "mxcsr"]
    assert area.registers.read(names) == wanted.read(names)


def kvm(area: bytes) -> bytes:
    """The area as KVM_GET_XSAVE gives it."""
    return area.ljust(4096, b"\0")


def qemu_stream(*seeds: int, ram: int = 0) -> bytes:
    """A QEMU stream with a vCPU for each state."""
    cpus = {index: w.cpu(State(seed), QEMU_MASK) for index, seed in enumerate(seeds)}
    return w.stream(cpus, ram=bytes(ram))


def require_state(found: artefacts.Found, seed: int) -> None:
    """What a reader made of a vCPU of ``qemu_stream`` has its registers."""
    said = State(seed).registers(QEMU_MASK)
    assert found.area.registers.read(said) == said


MADE_UP = {
    "elf-core": zen4_core(areas=[ZEN4, ZEN4]),
    "signal-frame": FRAME,
    "signal-frame (32-bit)": FRAME_32,
    "kvm-xsave": kvm(ZEN4),
    "raw": ZEN4,
}
"""An artefact of each kind, by its reader's name."""
