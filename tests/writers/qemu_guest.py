"""A guest that loads a known XSAVE area, and QEMU under TCG that writes its migration stream.

The guest is a 64 KiB BIOS image: it goes to 64-bit mode, sets XCR0 to what the processor and the
area have in common, loads the area by XRSTOR64, says so on port 0xE9, and stays where it is.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from writers.state import INTEL, State

MASK = 0x21F
"""What TCG's processor "max" has of the components: x87, SSE, AVX, MPX, PKRU."""

_AREA = 0x1000
_REAL_MODE = """
    fa 31c0 8ec0            # cli; xor ax, ax; mov es, ax
    bf0010 b90018 fc f3ab   # mov di, 0x1000; mov cx, 0x1800; cld; rep stosw
    26c70600100320          # mov word es:[0x1000], 0x2003: page tables for the first 2 MiB
    26c70600200330          # mov word es:[0x2000], 0x3003
    26c70600308300          # mov word es:[0x3000], 0x83
    2e660f0116ad00          # lgdt cs:[0xad]
    66b820064400 0f22e0     # mov cr4, PAE | OSFXSR | OSXMMEXCPT | OSXSAVE | PKE
    66b800100000 0f22d8     # mov cr3, 0x1000
    66b9800000c0 0f32       # mov ecx, IA32_EFER; rdmsr
    0d0001 0f30             # or ax, LME; wrmsr
    0f20c0 660d03000080     # mov eax, cr0; or eax, PG | MP | PE
    6683e0fb 0f22c0         # and eax, ~EM; mov cr0, eax
    66ea61000f000800        # jmp 8:0xf0061
"""
_LONG_MODE = """
    be00100f00 bf00800000   # mov esi, 0xf1000: the area in the ROM; mov edi, 0x8000
    b900100000 f3a4         # mov ecx, 0x1000; rep movsb
    b80d000000 31c9 0fa2    # mov eax, 0xd; xor ecx, ecx; cpuid
    be00800000              # mov esi, 0x8000
    2386d0010000            # and eax, [rsi+464]: the XCR0 to set
    218600020000            # and [rsi+512], eax: nothing else may be in XSTATE_BV
    31c9 31d2 0f01d1        # xor ecx, ecx; xor edx, edx; xsetbv
    480fae2e                # xrstor64 [rsi]
    b044 e6e9 ebfe          # mov al, 'D'; out 0xe9, al; jmp $
"""
_TABLE = """
    0000000000000000        # GDT: null
    ffff0000009aaf00        # 64-bit code
    0f009d000f00            # its limit, and its address 0xf009d
"""


def _code(text: str) -> bytes:
    return b"".join(bytes.fromhex(line.split("#")[0]) for line in text.splitlines())


def rom(state: State) -> bytes:
    """The BIOS image with the guest and its area."""
    area = bytearray(state.standard(MASK, INTEL))
    area[464:472] = MASK.to_bytes(8, "little")
    image = bytearray(1 << 16)
    code = _code(_REAL_MODE) + _code(_LONG_MODE) + _code(_TABLE)
    image[: len(code)] = code
    image[_AREA : _AREA + len(area)] = area
    image[0xFFF0:0xFFF5] = bytes.fromhex("ea000000f0")  # jmp 0xf000:0, at the reset vector
    return bytes(image)


def migrate(qemu: str, folder: Path, state: State, cpus: int = 2) -> bytes:
    """The stream of a machine whose first vCPU has loaded ``state``. Takes half a second."""
    stream = folder / "stream"
    output = _run(qemu, folder, state, cpus, [f'migrate "exec:cat > {stream}"'])
    if not stream.exists():
        raise RuntimeError(f"QEMU wrote no stream: {output}")
    return stream.read_bytes()


def savevm(qemu: str, folder: Path, state: State, image: Path, names: Sequence[str]) -> None:
    """Snapshots of such a machine in a qcow2 image that is there already."""
    drive = ["-drive", f"file={image},if=none,id=disk,format=qcow2"]
    output = _run(qemu, folder, state, 2, [f"savevm {name}" for name in names], drive)
    if "Error" in output:
        raise RuntimeError(f"QEMU wrote no snapshot: {output}")


def _run(
    qemu: str,
    folder: Path,
    state: State,
    cpus: int,
    script: Sequence[str],
    more: Sequence[str] = (),
) -> str:
    """What QEMU's monitor says to a script, once the guest has loaded its area."""
    (folder / "rom").write_bytes(rom(state))
    said = folder / "said"
    said.unlink(missing_ok=True)
    machine = "microvm,rtc=off,pit=off,pic=off,isa-serial=off"
    command = [qemu, "-accel", "tcg", "-cpu", "max", "-smp", str(cpus), "-m", "1"]
    command += ["-M", machine, "-bios", str(folder / "rom"), *more]
    command += ["-nodefaults", "-display", "none", "-monitor", "stdio"]
    command += ["-chardev", f"file,id=said,path={said}"]
    command += ["-device", "isa-debugcon,chardev=said,iobase=0xe9"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT) as process:
        deadline = time.monotonic() + 30
        while not (said.exists() and said.read_bytes()) and process.poll() is None:
            if time.monotonic() > deadline:
                process.kill()
                raise TimeoutError("the guest did not load its area")
            time.sleep(0.01)
        lines = "\n".join(["stop", *script, "quit", ""])
        output, _ = process.communicate(lines.encode(), timeout=20)
    return output.decode(errors="replace")
