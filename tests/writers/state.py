"""Register values that the writers put into files, and what a reader must say of them."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field

INTEL = {
    2: 576,
    3: 960,
    4: 1024,
    5: 1088,
    6: 1152,
    7: 1664,
    9: 2688,
    17: 2752,
    18: 2816,
}
"""Where the user components of Intel's server CPUs stand in the standard format (SDM 13.5)."""
ZEN4 = {2: 576, 5: 832, 6: 896, 7: 1408, 9: 2432}
SIZES = {2: 256, 3: 64, 4: 64, 5: 64, 6: 512, 7: 1024, 9: 8, 11: 16, 17: 64, 18: 8192, 19: 128}
ALIGNED = (17, 18)


@dataclass
class State:
    """The registers of one thread: plain numbers, different for every seed."""

    seed: int = 0
    fcw: int = 0x27F
    fsw: int = 0x3000  # TOP is 6: two registers were pushed
    ftw: int = 0xC0
    fop: int = 0x123
    fip: int = 0x7F12_3456_789A
    fdp: int = 0x7FFE_DCBA_9876
    mxcsr: int = 0x1FA0
    mxcsr_mask: int = 0xFFFF
    pkru: int = 0x5555_5550
    bndcfgu: int = 0x1001
    bndstatus: int = 0x2345
    u_cet: int = 3
    ssp: int = 0x7FFF_0000_1238
    st: list[int] = field(default_factory=list)
    zmm: list[int] = field(default_factory=list)
    k: list[int] = field(default_factory=list)
    bnd: list[tuple[int, int]] = field(default_factory=list)
    tiles: bytes = b""
    egprs: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = random.Random(self.seed)
        self.st = [rng.getrandbits(79) | 1 << 63 for _ in range(8)]
        self.zmm = [rng.getrandbits(512) | 1 for _ in range(32)]
        self.k = [rng.getrandbits(64) for _ in range(8)]
        self.bnd = [(rng.getrandbits(64), rng.getrandbits(64)) for _ in range(4)]
        self.tiles = rng.randbytes(8192)
        self.egprs = [rng.getrandbits(64) for _ in range(16)]

    def zmm_words(self, first: int, count: int, low: int, words: int) -> list[int]:
        """64-bit words ``low`` .. of the registers from ``first`` on."""
        return [
            self.zmm[first + register] >> 64 * (low + word) & (1 << 64) - 1
            for register in range(count)
            for word in range(words)
        ]

    def component(self, number: int) -> bytes:
        """The bytes of an extended component, little-endian."""
        words: list[int]
        match number:
            case 2:
                words = self.zmm_words(0, 16, 2, 2)
            case 3:
                words = [bound for pair in self.bnd for bound in pair]
            case 4:
                words = [self.bndcfgu, self.bndstatus]
            case 5:
                words = self.k
            case 6:
                words = self.zmm_words(0, 16, 4, 4)
            case 7:
                words = self.zmm_words(16, 16, 0, 8)
            case 9:
                words = [self.pkru]
            case 11:
                words = [self.u_cet, self.ssp]
            case 19:
                words = self.egprs
            case 17:
                # palette 1, and tile 0 of 16 rows of 64 bytes
                palette = bytes([1]) + bytes(15) + struct.pack("<H", 64) + bytes(30) + bytes([16])
                return palette.ljust(64, b"\0")
            case _:
                return self.tiles
        return struct.pack(f"<{len(words)}Q", *words).ljust(SIZES[number], b"\0")

    def st_image(self) -> bytes:
        return b"".join(value.to_bytes(16, "little") for value in self.st)

    def xmm_image(self) -> bytes:
        return struct.pack("<32Q", *self.zmm_words(0, 16, 0, 2))

    def legacy(self) -> bytes:
        """The 512 bytes of FXSAVE64."""
        head = struct.pack(
            "<HHBxHQQII",
            *(self.fcw, self.fsw, self.ftw, self.fop, self.fip, self.fdp),
            *(self.mxcsr, self.mxcsr_mask),
        )
        return (head + self.st_image() + self.xmm_image()).ljust(512, b"\0")

    def standard(self, mask: int, places: dict[int, int], live: int | None = None) -> bytes:
        """An area in the standard format with the components in ``mask``."""
        numbers = [number for number in places if mask >> number & 1]
        end = max((places[number] + SIZES[number] for number in numbers), default=576)
        area = bytearray(self.legacy().ljust(end, b"\0"))
        struct.pack_into("<Q", area, 512, mask if live is None else live)
        for number in numbers:
            area[places[number] : places[number] + SIZES[number]] = self.component(number)
        return bytes(area)

    def compacted(self, mask: int, live: int | None = None) -> bytes:
        """An area in the compacted format with the components in ``mask``."""
        area = bytearray(self.legacy())
        area += struct.pack("<QQ48x", mask if live is None else live, mask | 1 << 63)
        for number in range(2, 63):
            if mask >> number & 1:
                if number in ALIGNED:
                    area += bytes(-len(area) % 64)
                area += self.component(number)
        return bytes(area)

    def registers(self, mask: int) -> dict[str, int | bytes]:
        """What a reader must say of the registers of the components in ``mask``."""
        said: dict[str, int | bytes] = {"mxcsr": self.mxcsr}
        for name in ("fcw", "fsw", "ftw", "fop", "fip", "fdp"):
            said[name] = getattr(self, name)
        for index, value in enumerate(self.st):
            said[f"st{index}"] = value
        for bit, name, width in ((1, "xmm", 128), (2, "ymm", 256), (6, "zmm", 512)):
            for index, value in enumerate(self.zmm[:16]):
                if mask >> bit & 1:
                    said[f"{name}{index}"] = value & (1 << width) - 1
        for index, value in enumerate(self.zmm[16:], 16):
            if mask >> 7 & 1:
                said[f"zmm{index}"] = value
        for index, value in enumerate(self.k):
            if mask >> 5 & 1:
                said[f"k{index}"] = value
        for index, (lower, upper) in enumerate(self.bnd):
            if mask >> 3 & 1:
                said[f"bnd{index}"] = lower | upper << 64
        if mask >> 4 & 1:
            said |= {"bndcfgu": self.bndcfgu, "bndstatus": self.bndstatus}
        if mask >> 9 & 1:
            said["pkru"] = self.pkru
        if mask >> 18 & 1:
            said["tmm0"] = self.tiles[:1024]
        for index, value in enumerate(self.egprs, 16):
            if mask >> 19 & 1:
                said[f"r{index}"] = value
        return said
