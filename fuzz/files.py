"""Good files of every kind that carries areas, to mutate: the tests' writers make them."""

from __future__ import annotations

import gzip
import sys
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
_MASK: Final = 0x2E7


@cache
def files() -> dict[str, list[bytes]]:
    """By the module of the reader that takes them."""
    if str(ROOT / "tests") not in sys.path:
        sys.path.insert(0, str(ROOT / "tests"))
    import cores
    from artefact_areas import FRAME, FRAME_32, ZEN4, ZEN4_LAYOUT, intel_area, kvm, zen4_core
    from writers import cloud_hypervisor, criu, minidump, qcow2, qemu_stream, xen
    from writers.state import INTEL, State

    area = State().standard(_MASK, INTEL)
    rows = [(2, 256, 576), (5, 64, 1088), (6, 512, 1152), (7, 1024, 1664), (9, 8, 2688)]
    stream = qemu_stream.stream({0: qemu_stream.cpu(State(1), _MASK)}, ram=bytes(64))
    fields = criu.fields(State(), 0xE7, live=0x600E7)
    context = xen.hvm(xen.xsave(0, area, _MASK))
    contexts = [(1, minidump.context(area)), (2, minidump.context(area))]
    libvirt = b"LibvirtQemudSave" + (2).to_bytes(4, "little") + (8).to_bytes(4, "little")
    return {
        "elf": [
            zen4_core(areas=[ZEN4, ZEN4]),
            zen4_core(layout=False),
            cores.core(cores.threads([bytes(intel_area())]) + cores.layout_note(rows), bits=32),
            cores.core(cores.prstatus(7) + cores.note(b"CORE", 2, area[:512])),
            cores.core(cores.freebsd_prstatus(5) + cores.note(b"FreeBSD", cores.XSTATE, ZEN4)),
            cores.core(cores.threads([ZEN4]), cores.note(b"LINUX", cores.LAYOUT, ZEN4_LAYOUT)),
        ],
        "minidump": [
            minidump.dump(contexts, misc=minidump.misc_info(rows)),
            minidump.dump(contexts, exception=(1, contexts[0][1])),
        ],
        "criu": [criu.image(criu.core(criu.encode(fields))), criu.as_json(fields)],
        "qemu_stream": [stream],
        "qcow2": [qcow2.image({"one": stream}, disk=0)],
        "libvirt_save": [libvirt + bytes(68) + b"<domain>" + stream],
        "xen": [context, xen.xl_save(xen.libxl(xen.libxc(*xen.hvm_context(context))))],
        "cloud_hypervisor": [cloud_hypervisor.snapshot({"0": cloud_hypervisor.vcpu(area)})],
        "frame": [FRAME, FRAME_32],
        "kvm": [kvm(ZEN4), kvm(bytes(intel_area(2688, 0xE7)))],
        "raw": [ZEN4, area],
        "containers": [gzip.compress(zen4_core(), mtime=0)],
    }
