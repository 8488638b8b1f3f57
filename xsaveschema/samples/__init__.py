# SPDX-License-Identifier: MIT
"""What processors, Linux and an emulator wrote, to try things on: ``sample:zen4-sigframe``.

Each is the file ``NAME.bin`` beside this one, byte for byte as it was captured; of the core, the
notes of its threads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from xsaveschema.errors import UnknownSampleError

SAMPLES: Final = {
    "zen4-kernel-core": "AMD Zen 4, standard: NT_X86_XSTATE of a core dump by Linux 6.18",
    "zen4-sigframe": "AMD Zen 4, standard: a signal frame of Linux 6.18, both magic words",
    "zen4-xsave": "AMD Zen 4, standard: XSAVE64 under XCR0 0xE7; name it: --model zen4",
    "zen4-xsavec": "AMD Zen 4, compacted: XSAVEC64 left ZMM_Hi256 initial, stale bytes 0xA5 there",
    "zen4-bad-header": "AMD Zen 4, XCOMP_BV 0x4 without bit 63: --lenient --model zen4",
    "avx512-core": "Intel with AVX-512, standard: a core of three threads by Linux 6.18",
    "amx-xsavec": "Intel with AMX, compacted: XSAVEC64 of every register, tiles among them",
    "tiger-lake-xsave": "Intel Tiger Lake (Bochs), standard: XSAVE; name it: --model tiger-lake",
    "tiger-lake-xsaves": "Intel Tiger Lake (Bochs), compacted: XSAVES with CET_U and CET_S",
}
"""What there is, by name: the CPU, the format, who wrote it."""


def read(name: str) -> bytes:
    """The bytes of a sample. UnknownSampleError for a name that SAMPLES does not have."""
    return path(name).read_bytes()


def path(name: str) -> Path:
    """The file of a sample. UnknownSampleError for a name that SAMPLES does not have."""
    if name not in SAMPLES:
        raise UnknownSampleError(f"there is no sample {name!r}; the samples are\n{listing()}", name)
    return Path(__file__).with_name(f"{name}.bin")


def listing() -> str:
    """The samples with their descriptions, one a line."""
    width = max(map(len, SAMPLES))
    return "\n".join(f"  sample:{name:{width}}  {text}" for name, text in SAMPLES.items())
