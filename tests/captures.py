"""Areas that real processors, Linux and the Bochs emulator wrote: tests/data/captures.

A capture is ``NAME.jsonl``, one record a line, and ``NAME.bin``, the bytes that the records'
offsets point into; packed by gzip or, where areas repeat over more than its window, by xz. Masks
are hexadecimal text, offsets and lengths bytes. ``zen4-`` is an AMD Zen 4 (XCR0 0xE7; an area has
4096 bytes), ``amx-`` an Intel CPU with AMX (XCR0 0x600E7, MXCSR_MASK 0xFFFF, standard 11008 bytes,
compacted 10688; a record says ``len`` = 11264: what lies beyond the instruction's reach keeps the
prefill), both guests under Linux that hide PKRU; ``bochs-`` two of the emulator's Intel models, the
first record of which is the CPU.

A record of ``saves`` is one execution: ``instr``, ``rfbm``, ``prefill`` (the byte the memory was
filled with before), ``xinuse`` (XGETBV(1) just before), ``state`` and ``seed`` (what was loaded),
``off`` and ``len`` of the area after. ``amx-saves``: ``base`` 1 is XSAVE64 of everything over
zeros, one for each state and seed; ``xfd`` 1: TILEDATA's extended feature disable was armed.

``restores``, an XRSTOR64 (``amx-`` only): ``src_off`` the area, ``xrstor_rfbm``, ``prior_regs_off``
the registers before; ``after_off`` XSAVE64 of everything then, ``after_regs_off`` the registers as
plain instructions read them (``tiles_stored`` 0: TILESTORED met #UD).

``faults``, an XRSTOR64: ``case`` says what was changed, ``in_off`` the area, ``xrstor_rfbm``,
``signal`` 0 where it was accepted (``after_off`` is the state then) and 11 where not. In
``amx-faults``: ``trapno`` is 13 for #GP and 14 for #PF, where ``fault_at`` is the byte of the area
that was missed; ``signal`` 4 is SIGILL, XFD's #NM; ``xfd`` 1 where it was armed; ``offset`` the
area's distance from a 64-byte boundary; ``avail`` the bytes of memory before an unmapped page, 0
where none was near.

``amx-extras``, without bytes, by ``kind``: ``ldtilecfg`` (``tilecfg`` before and after,
``signal``), ``xinuse``, ``memory needed`` (``bytes`` that an instruction touches), ``save into
memory that ends``, ``fault order``, ``x87 normalised`` (the first 24 bytes ``before`` a restore and
``after``), ``sse bit after a restore``, ``xsaveopt after xrstor of the same area, …``.

A register image: zmm[32] × 64, k[8] × 8 at 2048, MXCSR u32 at 2112, load flags u32 at 2116, an
FRSTOR image at 2176; of ``amx-`` (``regs_len`` 10560) also TILECFG at 2304 and tmm[8] × 1024 at
2368, zero outside the shape that is configured. Load flags: 1 zmm0–15, 2 zmm16–31, 4 k, 8 mxcsr,
16 x87, 32 LDTILECFG, 64 TILELOADD, 128 xmm0–15, 256 ymm0–15; ``then`` is what ran after the loads.
"""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "data" / "captures"

Record = dict[str, Any]


OPEN: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.decompress,
    ".xz": lzma.decompress,
}


def _unpacked(name: str) -> bytes:
    for suffix, unpack in OPEN.items():
        path = FOLDER / f"{name}{suffix}"
        if path.exists():
            return unpack(path.read_bytes())
    raise FileNotFoundError(f"no {name} in {FOLDER}")


@cache
def records(name: str) -> list[Record]:
    """The records of a capture (``zen4-saves``, or an absolute path); masks stay text."""
    return [json.loads(line) for line in _unpacked(f"{name}.jsonl").splitlines()]


@cache
def image(name: str) -> bytes:
    """The bytes that the records' offsets point into."""
    return _unpacked(f"{name}.bin")


def cut(name: str, offset: int, length: int) -> bytes:
    """A record's bytes."""
    return image(name)[offset : offset + length]
