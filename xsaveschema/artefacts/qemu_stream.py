"""QEMU migration streams (``migrate file:``): the section "cpu" of every vCPU.

``savevm`` and ``virsh save`` keep such streams within files of their own (qcow2.py,
libvirt_save.py); taken out of a disk image by clusters, one has zeros behind it.

The stream holds no area but the vCPU's fields, big-endian. It ends with a description of itself in
JSON (vmdesc): every device's section in order, every field with its size. So the sections are
found by walking back from the end, one device after the other, each checked against its header and
footer; nothing is searched for in guest memory. Sources: QEMU's ``migration/vmstate.c``,
``target/i386/machine.c`` and ``scripts/analyze-migration.py``; streams that QEMU 7.2 wrote under
TCG, with x87, SSE, AVX, MPX and PKRU state. Streams of KVM, AVX-512 and AMX fields are **not yet
seen from a real producer**.

The x87 registers stand in ST order in a stream of KVM, in physical order in one of TCG; the stream
does not say whose it is. TCG leaves XSTATE_BV 0, KVM cannot do so where TOP is not 0: that tells.

QEMU leaves the subsections of MPX, AVX-512 and PKRU out where all their fields are zero (their
``needed`` functions in machine.c), and a destination takes them for zero: so does this reader. Any
other component in XSTATE_BV without its field is missing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from xsaveschema.artefacts import json_text
from xsaveschema.artefacts.assemble import LEGACY, assemble
from xsaveschema.artefacts.reader import ArtefactError, Data, Found, Options, Struct
from xsaveschema.catalog import default_catalog
from xsaveschema.model import X87

MAX_DESCRIPTION: Final = 1 << 24
"""The longest description that is read, in bytes: QEMU writes some 10,000 for each vCPU."""

_PADDING: Final = 2 << 20
"""Zeros behind the description that are no part of it: up to a cluster of a disk image."""

_MAGIC: Final = b"QEVM\0\0\0\3"
_SECTION: Final = Struct(">BI")  # the header before the name, and the footer
_IDENT: Final = Struct(">II")  # the header behind the name: instance, version
_LENGTH: Final = Struct(">I")
_SECTION_FULL, _SUBSECTION, _DESCRIPTION, _FOOTER, _EOF = 4, 5, 6, 0x7E, 0
_MAX_DEVICES: Final = 1 << 16
_MAX_DEPTH: Final = 32
_TOP: Final = 11
_FPREG: Final = Struct(">QH")
_ST: Final = Struct("<QH6x")


class _Wanted(NamedTuple):
    """A field that is read: the size of an element in bytes, and how many there may be.

    ``component`` is the state component that it makes up, with other fields of that name.
    """

    size: int
    counts: tuple[int, ...] = (1,)
    component: str = ""


_HEAD: Final = (
    "env.fpuc",
    "env.fpus_vmstate",
    "env.fptag_vmstate",
    "env.fpop",
    "env.fpip",
    "env.fpdp",
    "env.mxcsr",
)
"""What the legacy region begins with."""
_WANTED: Final = {
    **dict(zip(_HEAD, map(_Wanted, (2, 2, 2, 2, 8, 8, 4)), strict=True)),
    "env.fpregs_format_vmstate": _Wanted(2),
    "env.xcr0": _Wanted(8),
    "env.xstate_bv": _Wanted(8),
    "env.msr_xfd": _Wanted(8),
    "env.bndcs_regs.cfgu": _Wanted(8, (1,), "bndcsr"),
    "env.bndcs_regs.sts": _Wanted(8, (1,), "bndcsr"),
    "env.opmask_regs": _Wanted(8, (8,), "opmask"),
    "env.pkru": _Wanted(4, (1,), "pkru"),
    "env.xtilecfg": _Wanted(1, (64,), "tilecfg"),
    "env.xtiledata": _Wanted(1, (8192,), "tiledata"),
    # The rest of an array whose first part is a field of the section itself, by the same name.
    "cpu/apx env.regs": _Wanted(8, (16,), "apx"),
    # Arrays of structs, by the name of the struct: the field's own name is not unique.
    "fpreg": _Wanted(10, (8,)),
    "xmm_reg": _Wanted(16, (8, 16)),
    "ymmh_reg": _Wanted(16, (8, 16), "avx"),
    "zmmh_reg": _Wanted(32, (8, 16), "zmm_hi256"),
    "hi16_zmm_reg": _Wanted(64, (16,), "hi16_zmm"),
    "bnd_regs": _Wanted(16, (4,), "bndregs"),
}
_NEEDED: Final = ("env.fpuc", "env.fpus_vmstate", "env.fptag_vmstate", "env.mxcsr")
_NEEDED_STRUCTS: Final = ("fpreg", "xmm_reg")
_ZERO_WITHOUT: Final = {
    "bndregs": "cpu/mpx",
    "bndcsr": "cpu/mpx",
    "opmask": "cpu/avx512",
    "zmm_hi256": "cpu/avx512",
    "hi16_zmm": "cpu/avx512",
    "pkru": "cpu/pkru",
}
"""Components that are zero where their subsection was not needed."""
_ELSEWHERE: Final = {
    "cpu/arch_lbr": "the LBR MSRs",
    "cpu/cet": "the CET MSRs",
}
"""Subsections with registers that XSAVES could hold; a stream keeps them as MSRs."""

_Node = Mapping[str, Any]


class QemuStreamReader:
    """Reads QEMU migration streams of x86 machines."""

    name = "qemu-migration"
    title = "QEMU migration stream"

    def recognises(self, data: Data) -> bool:
        """Whether this is a migration stream: QEVM, version 3."""
        return bytes(data[: len(_MAGIC)]) == _MAGIC

    def read(self, data: Data, options: Options) -> Iterator[Found]:
        """The state of every vCPU, by instance of its section."""
        yield from vcpus(data, options)


READER: Final = QemuStreamReader()


def vcpus(data: Data, options: Options, whose: str = "") -> Iterator[Found]:
    """The state of every vCPU of a stream; ``whose`` stands before their labels.

    ArtefactError where it is no whole stream of an x86 machine.
    """
    if not READER.recognises(data):
        raise ArtefactError("no migration stream: it does not begin with QEVM, version 3", 0)
    text, at = _description(data)
    cpus = _sections(data, at, _devices(json_text.parse(text, at), at))
    if not cpus:
        raise ArtefactError("the stream has no section of an x86 vCPU")
    for instance, start, described in cpus:
        yield _found(data, f"{whose}vCPU {instance}", start, described, options)


def _description(data: Data) -> tuple[str, int]:
    """The JSON at the end, and the offset of its first byte."""
    tail_at = max(0, len(data) - MAX_DESCRIPTION - 5 - _PADDING)
    tail = bytes(data[tail_at : len(data)]).rstrip(b"\0")
    # Text has no NUL, and a length below 16 MiB begins with one.
    last = tail.rfind(b"\0")
    for brace in range(last + 1, last + 5) if last > 0 else ():
        start = brace - 5
        if (
            start >= 0
            and tail[brace : brace + 1] == b"{"
            and tail[start] == _DESCRIPTION
            and _LENGTH.unpack_from(tail, start + 1)[0] == len(tail) - brace
        ):
            try:
                return tail[brace:].decode("ascii"), tail_at + brace
            except UnicodeDecodeError as error:
                raise ArtefactError(
                    "the stream's description is not ASCII", tail_at + brace + error.start
                ) from None
    raise ArtefactError(
        "the stream does not end with its own description (vmdesc): it is cut off, compressed or "
        "encrypted, or the machine has suppress-vmdesc=on",
        len(data),
    )


def _devices(described: _Node, at: int) -> list[tuple[str, int, _Node]]:
    """(name, instance, description) of the devices of a description at byte ``at``."""
    if "devices" not in described:
        raise ArtefactError("the description has no devices", at)
    nodes = _list(described, "devices", at)
    if len(nodes) > _MAX_DEVICES:
        raise ArtefactError(f"more than {_MAX_DEVICES} devices", at)
    devices = []
    for node in nodes:
        name, instance = _name(node, "name", at), node.get("instance_id")
        if not isinstance(instance, int) or not 0 <= instance < 1 << 32:
            raise ArtefactError(f"{name} has the instance {instance!r:.40}", at)
        devices.append((name, instance, node))
    return devices


def _name(node: _Node, key: str, at: int) -> str:
    name = node.get(key)
    if not isinstance(name, str) or not name.isascii() or not 0 < len(name) < 256:
        what = "device" if key == "name" else "subsection"
        raise ArtefactError(f"the description has a {what} named {name!r:.40}", at)
    return name


def _list(node: _Node, key: str, at: int) -> list[_Node]:
    found = node.get(key, [])
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ArtefactError(f"the description's {key} are no list of objects", at)
    return found


def _size(node: _Node, at: int, depth: int = 0) -> int:
    """The size in bytes of a section's or subsection's data, its own subsections included."""
    if depth > _MAX_DEPTH:
        raise ArtefactError("the description has subsections without end", at)
    size = sum(_extent(field, at) for field in _list(node, "fields", at))
    for inner in _list(node, "subsections", at):
        size += 6 + len(_name(inner, "vmsd_name", at)) + _size(inner, at, depth + 1)
    return size


def _extent(field: _Node, at: int) -> int:
    size, count = field.get("size"), field.get("array_len", 1)
    for number in (size, count):
        if type(number) is not int or not 0 <= number < 1 << 40:
            raise ArtefactError(f"the field {field.get('name')!r:.40} has no sound size", at)
    return int(size) * int(count)  # type: ignore[arg-type]


def _sections(
    data: Data, description: int, devices: list[tuple[str, int, _Node]]
) -> list[tuple[int, int, _Node]]:
    """(instance, offset of the data, description) of every vCPU's section.

    ``description`` is the offset of the JSON: a type byte and a length stand before it, the
    stream's EOF byte before them, and the last section before that.
    """
    end = description - 6
    if end < 0 or data[end] != _EOF:
        raise ArtefactError("no end mark before the description", max(end, 0))
    footer = _SECTION.size if end >= _SECTION.size and data[end - _SECTION.size] == _FOOTER else 0
    found: dict[int, tuple[int, int, _Node]] = {}
    cpus = [node.get("vmsd_name") == name == "cpu" for name, _, node in devices]
    first = cpus.index(True) if any(cpus) else len(cpus)
    for (name, instance, node), is_cpu in reversed([*zip(devices, cpus, strict=True)][first:]):
        behind = end - footer
        start = behind - _size(node, description)
        named = bytes([len(name)]) + name.encode()
        head = start - _IDENT.size - len(named) - _SECTION.size
        if head < len(_MAGIC):
            raise ArtefactError(f"the section of {name} would begin before the file", 0)
        kind, section = _SECTION.unpack_from(data, head)
        if (
            kind != _SECTION_FULL
            or bytes(data[head + _SECTION.size : start - _IDENT.size]) != named
            or _IDENT.unpack_from(data, start - _IDENT.size)[0] != instance
            or (footer and _SECTION.unpack_from(data, behind) != (_FOOTER, section))
        ):
            raise ArtefactError(f"the section of {name} is not where the description has it", head)
        if is_cpu:
            if instance in found:
                raise ArtefactError(f"a second section of vCPU {instance}", head)
            found[instance] = instance, start, node
        end = head
    return [*found.values()][::-1]


_Place = tuple[int, int]
"""The offset of a field in the file, and the number of its elements."""


def _fields(data: Data, start: int, described: _Node) -> tuple[dict[str, _Place], list[str]]:
    """The fields that are read, by name or by the name of their struct, and the subsections."""
    found: dict[str, _Place] = {}
    subsections: list[str] = []

    def walk(node: _Node, at: int, inside: str = "") -> int:
        for field in _list(node, "fields", at):
            kind = field.get("struct")
            name = kind.get("vmsd_name") if isinstance(kind, dict) else field.get("name")
            key = f"{inside} {name}" if f"{inside} {name}" in _WANTED else f"{name}"
            if wanted := _WANTED.get(key):
                count = field.get("array_len", 1)
                if key in found:
                    raise ArtefactError(f"a second field {key}", at)
                if field["size"] != wanted.size or count not in wanted.counts:
                    raise ArtefactError(
                        f"{key} is {count} times {field['size']} bytes; "
                        f"{wanted.counts[-1]} times {wanted.size} were expected",
                        at,
                    )
                found[key] = at, count
            at += _extent(field, at)
        for inner in _list(node, "subsections", at):
            name = _name(inner, "vmsd_name", at)
            head = bytes([_SUBSECTION, len(name)]) + name.encode()
            if bytes(data[at : at + len(head)]) != head:
                raise ArtefactError(f"no subsection {name} here", at)
            subsections.append(name)
            at = walk(inner, at + len(head) + _LENGTH.size, name)
        return at

    walk(described, start)
    return found, subsections


def _found(data: Data, label: str, start: int, described: _Node, options: Options) -> Found:
    fields, subsections = _fields(data, start, described)
    for name in (*_NEEDED, *_NEEDED_STRUCTS):
        if name not in fields:
            raise ArtefactError(f"the section of {label} has no {name}", start)

    def image(name: str) -> bytes:
        """A field as an area holds it: in the stream its words are big-endian. Zeros for none."""
        size = _WANTED[name].size
        if name not in fields:
            return bytes(size)
        at, count = fields[name]
        letter = {1: "B", 2: "H", 4: "I"}.get(size, "Q")
        form = f"{count * size // struct.calcsize(letter)}{letter}"
        return struct.pack("<" + form, *Struct(">" + form).read(data, at, f"{name} of {label}"))

    def number(name: str) -> int:
        return int.from_bytes(image(name), "little")

    if number("env.fpregs_format_vmstate"):
        raise ArtefactError("the x87 registers are in a format of old QEMU versions", start)
    xstate_bv, top = number("env.xstate_bv"), number("env.fpus_vmstate") >> _TOP & 7
    at, count = fields["fpreg"]
    stack = [_ST.pack(*_FPREG.read(data, at + 10 * index, label)) for index in range(count)]
    notes = []
    if top and not xstate_bv & X87:
        stack = [*stack[top:], *stack[:top]]
        notes.append("the x87 registers are taken to be in TCG's order: XSTATE_BV lacks x87")
    ftw = number("env.fptag_vmstate")
    if ftw > 0xFF:
        raise ArtefactError(f"the x87 tag word {ftw:#x} has more than 8 bits", start)
    legacy = LEGACY.pack(*map(number, _HEAD), 0, b"".join(stack), image("xmm_reg"))
    there = {wanted.component for name, wanted in _WANTED.items() if name in fields} - {""}
    images = dict.fromkeys(there, b"")
    for name, wanted in _WANTED.items():
        if wanted.component in there:
            images[wanted.component] += image(name)
    if xfd := number("env.msr_xfd"):
        notes.append(f"IA32_XFD is {xfd:#x}")
    notes += [
        f"{what} are in the stream, not in this area"
        for name, what in _ELSEWHERE.items()
        if name in subsections
    ]
    numbers = (options.catalog or default_catalog()).component_names()
    for name, subsection in _ZERO_WITHOUT.items():
        if xstate_bv >> numbers[name] & 1 and subsection not in subsections:
            images[name] = b""
    # Every stream has the upper halves of YMM, also of a vCPU without AVX.
    if not any(images.get("avx", b"")) and not xstate_bv >> numbers["avx"] & 1:
        images.pop("avx", None)
    area, source = assemble(
        legacy, images, xstate_bv, options, label, enabled=number("env.xcr0"), infer=True
    )
    if inferred := area.model.names_of(area.xstate_bv & ~xstate_bv):
        notes.append(f"not in the stream's XSTATE_BV, but not initial: {', '.join(inferred)}")
    return Found(label, area, source, None, tuple(notes), origin="assembled")
