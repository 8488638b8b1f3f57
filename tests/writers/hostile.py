"""What damaged files look like: cut off, flipped bits, lying numbers."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from xsaveschema.artefacts.reader import Options, Reader
from xsaveschema.errors import XsaveError

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)


def mutations(data: bytes, count: int, seed: int = 0, start: int = 0) -> Iterator[bytes]:
    """``count`` copies with a few bytes changed, from byte ``start`` on."""
    rng = random.Random(seed)
    for _ in range(count):
        copy = bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            at = rng.randrange(start, len(copy))
            match rng.randrange(4):
                case 0:
                    copy[at] ^= 1 << rng.randrange(8)
                case 1:
                    copy[at] = rng.randrange(256)
                case 2:
                    width = rng.choice((1, 2, 4, 8))
                    number = rng.choice(_NUMBERS) & (1 << 8 * width) - 1
                    image = number.to_bytes(width, "little")
                    copy[at : at + width] = image if rng.random() < 0.5 else image[::-1]
                case _:
                    end = min(len(copy), at + rng.randrange(1, 40))
                    if rng.random() < 0.5:
                        del copy[at:end]
                    else:
                        copy[at:at] = copy[at:end]
                    if len(copy) <= start:
                        break
        yield bytes(copy)


def cuts(data: bytes, most: int = 1000) -> Iterator[bytes]:
    """The file cut off at every length, or at ``most`` of them spread over it."""
    step = max(1, len(data) // most)
    for length in (*range(0, len(data), step), len(data) - 1):
        yield data[:length]


def survive(reader: Reader, files: Iterable[bytes], options: Options | None = None) -> int:
    """Read each file; anything but an XsaveError fails. Returns how many were refused."""
    refused = 0
    for data in files:
        view = memoryview(data)
        assert reader.recognises(view) in (True, False)
        try:
            for found in reader.read(view, options or Options()):
                found.area.registers.read(("mxcsr",))
        except XsaveError:
            refused += 1
    return refused
