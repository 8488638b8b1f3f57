# SPDX-License-Identifier: MIT
"""cloud-hypervisor snapshots: the ``kvm_xsave`` of every vCPU in ``state.json``.

A vCPU's state has ``xsave: {region: [u32, ...], extra: [u32, ...]}`` (``extra``: what
KVM_GET_XSAVE2 gives beyond 4096 bytes; older versions lack it) and beside it ``cpuid``, the vCPU's
CPUID table, whose leaf 0xD is the layout. The states stand in a tree of snapshots: as JSON, as a
string of JSON, or, in older versions, as a list of its bytes. Sources: cloud-hypervisor's
``hypervisor/src/arch/x86``, ``hypervisor/src/kvm`` and ``vm-migration``. **Not yet seen from a real
producer**: the tests' files are built from those structures.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final

from xsaveschema.artefacts import json_text
from xsaveschema.artefacts.kvm import guest_layout
from xsaveschema.artefacts.layouts import Known, told
from xsaveschema.artefacts.reader import ArtefactError, Data, Found, Options
from xsaveschema.identify.match import identify
from xsaveschema.model import CpuidRegisters, CpuModel

MAX_SIZE: Final = 32 << 20
"""The longest state.json that is read, in bytes: it is parsed in memory."""

_MAX_DEPTH: Final = 64
_REGION: Final = 1024
_MOST: Final = 1 << 16
"""u32 words of a whole area; the largest known has 2752."""

_NUMBERED: Final = re.compile(r"(?:v?cpu)?[-_ ]?([0-9]{1,6})", re.IGNORECASE)
_INNER: Final = "region"
_MARK: Final = re.compile(rb'region\\*"\s*:\s*\[|114,\s*101,\s*103,\s*105,\s*111,\s*110,')
"""The inner list as a key, or as the bytes of a list."""
_CPUS_MAX: Final = 64
"""Different CPUID tables that are looked up; the vCPUs of a machine mostly share one."""

_Cpuid = tuple[tuple[tuple[int, CpuidRegisters], ...], int | None, str | None]


class CloudHypervisorReader:
    """Reads cloud-hypervisor's state.json."""

    name = "cloud-hypervisor"
    title = "cloud-hypervisor snapshot (state.json)"

    def recognises(self, data: Data) -> bool:
        """Whether this is JSON that has a ``region`` list somewhere."""
        if len(data) > MAX_SIZE or bytes(data[:1]) not in (b"{", b"[", b" ", b"\n", b"\r", b"\t"):
            return False
        return _MARK.search(data[:]) is not None

    def read(self, data: Data, options: Options) -> Iterator[Found]:
        """The area of every vCPU, in the file's order."""
        if len(data) > MAX_SIZE:
            raise ArtefactError(f"{len(data)} bytes of JSON; at most {MAX_SIZE} are read")
        models: dict[_Cpuid, CpuModel] = {}
        found = False
        parsed = json_text.parse(bytes(data[:]))
        for index, (path, holder, xsave) in enumerate(_walk(parsed, (), 0)):
            found = True
            label = f"vCPU {_number(path, index)}"
            view = memoryview(_area(xsave, label))
            leaf, signature, vendor = _cpuid(holder)
            if leaf:
                key = tuple(leaf.items()), signature, vendor
                if key not in models:
                    if len(models) >= _CPUS_MAX:
                        raise ArtefactError(f"vCPUs of more than {_CPUS_MAX} different CPUs")
                    models[key] = identify(
                        leaf_0xd=leaf, signature=signature, vendor=vendor, catalog=options.catalog
                    ).model
                model = models[key]
                source = f"the vCPU's own CPUID leaf 0xD (model {model.name})"
                known = told(Known(model, source), options, view, "the vCPU's CPUID leaf 0xD")
            else:
                known = guest_layout(view, options)
            yield known.found(view, options, label)
        if not found:
            raise ArtefactError("the JSON has no object with a region of 1024 words")


READER: Final = CloudHypervisorReader()


def _walk(
    node: Any, path: tuple[str, ...], depth: int, holder: Mapping[str, Any] | None = None
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any], Mapping[str, Any]]]:
    """(path, the object around it, the object) of every object with a ``region``."""
    if depth > _MAX_DEPTH:
        raise ArtefactError(f"the JSON is nested more than {_MAX_DEPTH} deep")
    if isinstance(node, dict):
        region = node.get("region")
        if isinstance(region, list) and all(isinstance(word, int) for word in region[:1]):
            yield path, holder or {}, node
            return
        for key, child in node.items():
            if isinstance(child, dict | list | str):
                yield from _walk(child, (*path, key), depth + 1, node)
    elif isinstance(node, list):
        if (inner := _bytes_of(node)) is not None:
            yield from _walk(json_text.parse(inner), path, depth + 1)
            return
        for index, child in enumerate(node):
            if isinstance(child, dict | list):
                yield from _walk(child, (*path, str(index)), depth + 1)
    elif isinstance(node, str) and _INNER in node and node.lstrip()[:1] == "{":
        yield from _walk(json_text.parse(node), path, depth + 1)


def _bytes_of(node: list[Any]) -> bytes | None:
    """The JSON text that a list of byte values holds, None if it is another list."""
    if len(node) < _REGION or node[0] != 0x7B:
        return None
    try:
        text = bytes(node)
    except (TypeError, ValueError):
        return None
    return text if _INNER.encode() in text else None


def _number(path: tuple[str, ...], index: int) -> int:
    """The vCPU's number: that of the nearest key that is one, else its place in the file."""
    for key in reversed(path):
        if match := _NUMBERED.fullmatch(key):
            return int(match[1])
    return index


def _area(xsave: Mapping[str, Any], label: str) -> bytes:
    region, extra = xsave["region"], xsave.get("extra") or []
    if len(region) != _REGION:
        raise ArtefactError(f"the region of {label} has {len(region)} words, not {_REGION}")
    if not isinstance(extra, list) or len(extra) > _MOST:
        raise ArtefactError(f"the extra words of {label} are no list, or more than {_MOST}")
    words = (*region, *extra)
    for word in words:
        if type(word) is not int or not 0 <= word <= 0xFFFF_FFFF:
            raise ArtefactError(f"the region of {label} has a word that is no u32: {word!r:.40}")
    return struct.pack(f"<{len(words)}I", *words)


def _cpuid(holder: Mapping[str, Any]) -> tuple[dict[int, CpuidRegisters], int | None, str | None]:
    """Leaf 0xD by sub-leaf, the signature and the vendor from a vCPU's CPUID table."""
    entries = holder.get("cpuid")
    leaf: dict[int, CpuidRegisters] = {}
    signature = vendor = None
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict):
            continue
        words = [_word(entry.get(key)) for key in ("function", "index", "eax", "ebx", "ecx", "edx")]
        function, index, eax, ebx, ecx, edx = words
        if function == 0xD and index <= 62 and index not in leaf and (index < 2 or eax):
            leaf[index] = eax, ebx, ecx, edx
        elif function == 1:
            signature = eax
        elif function == 0:
            vendor = struct.pack("<III", ebx, edx, ecx).decode("latin-1")
    if 0 not in leaf or not leaf[0][0]:
        return {}, None, None
    return leaf, signature, vendor


def _word(value: Any) -> int:
    """A register of a CPUID table; 0 for what is none."""
    number = json_text.number(value) or 0
    return number if number <= 0xFFFF_FFFF else 0
