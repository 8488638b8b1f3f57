# SPDX-License-Identifier: MIT
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
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Final, NamedTuple

import msgspec

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
_PREFIX: Final = Struct(">BI")  # of the description: its type and length
_SECTION_FULL, _SUBSECTION, _DESCRIPTION, _FOOTER, _EOF = 4, 5, 6, 0x7E, 0
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
_NEEDED: Final = (*_HEAD[:3], _HEAD[-1], "fpreg", "xmm_reg")
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

_Text = Annotated[str, msgspec.Meta(pattern=r"^[ -~]{1,255}$")]
_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 40)]


class _Struct(msgspec.Struct, frozen=True):
    """What a field of the description is an array of."""

    vmsd_name: str = ""


class _Field(msgspec.Struct):
    """A field of a section, as the description has it: sizes in bytes."""

    size: _Count
    name: str = ""
    array_len: _Count = 1
    struct: _Struct = _Struct()


class _Section(msgspec.Struct):
    """A section, or a subsection of one."""

    vmsd_name: _Text = "-"
    fields: list[_Field] = []
    subsections: list[_Section] = []

    def size(self, at: int, depth: int = 0) -> int:
        """The bytes of its data, its subsections included; ``at`` is the description's offset."""
        if depth > _MAX_DEPTH:
            raise ArtefactError("the description has subsections without end", at)
        own = sum(field.size * field.array_len for field in self.fields)
        return own + sum(
            6 + len(inner.vmsd_name) + inner.size(at, depth + 1) for inner in self.subsections
        )


class _Device(_Section, kw_only=True):
    """A device: a section of its own."""

    name: _Text
    instance_id: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]

    @property
    def is_cpu(self) -> bool:
        """Whether it is a vCPU."""
        return self.name == self.vmsd_name == "cpu"


class _Machine(msgspec.Struct):
    """The description of a stream."""

    devices: Annotated[list[_Device], msgspec.Meta(max_length=1 << 16)]


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
    cpus = _sections(data, at, json_text.parse(text, at, _Machine).devices)
    if not cpus:
        raise ArtefactError("the stream has no section of an x86 vCPU")
    for start, cpu in cpus:
        yield _found(data, f"{whose}vCPU {cpu.instance_id}", start, cpu, options)


def _description(data: Data) -> tuple[bytes, int]:
    """The JSON at the end, and the offset of its first byte."""
    tail_at = max(0, len(data) - MAX_DESCRIPTION - _PREFIX.size - _PADDING)
    tail = bytes(data[tail_at : len(data)]).rstrip(b"\0")
    # Text has no NUL, and a length below 16 MiB begins with one.
    last = tail.rfind(b"\0")
    for brace in range(last + 1, last + 5) if last > 0 else ():
        text, prefix = tail[brace:], tail[max(0, brace - _PREFIX.size) : brace]
        if text[:1] == b"{" and prefix == _PREFIX.pack(_DESCRIPTION, len(text)):
            return text, tail_at + brace
    raise ArtefactError(
        "the stream does not end with its own description (vmdesc): it is cut off, compressed or "
        "encrypted, or the machine has suppress-vmdesc=on",
        len(data),
    )


def _sections(data: Data, at: int, devices: list[_Device]) -> list[tuple[int, _Device]]:
    """The offset of the data of every vCPU's section, and its description.

    ``at`` is the offset of the JSON: a type byte and a length stand before it, the stream's EOF
    byte before them, and the last section before that.
    """
    end = at - _PREFIX.size - 1
    if end < 0 or data[end] != _EOF:
        raise ArtefactError("no end mark before the description", max(end, 0))
    footer = _SECTION.size if end >= _SECTION.size and data[end - _SECTION.size] == _FOOTER else 0
    found: dict[int, tuple[int, _Device]] = {}
    left = sum(device.is_cpu for device in devices)
    for device in reversed(devices):
        if len(found) == left:
            break
        behind = end - footer
        start = behind - device.size(at)
        name = bytes([len(device.name)]) + device.name.encode()
        head = start - _IDENT.size - len(name) - _SECTION.size
        if head < len(_MAGIC):
            raise ArtefactError(f"the section of {device.name} would begin before the file", 0)
        kind, section = _SECTION.unpack_from(data, head)
        if (
            kind != _SECTION_FULL
            or bytes(data[head + _SECTION.size : start - _IDENT.size]) != name
            or _IDENT.unpack_from(data, start - _IDENT.size)[0] != device.instance_id
            or (footer and _SECTION.unpack_from(data, behind) != (_FOOTER, section))
        ):
            raise ArtefactError(
                f"the section of {device.name} is not where the description has it", head
            )
        if device.is_cpu:
            if device.instance_id in found:
                raise ArtefactError(f"a second section of vCPU {device.instance_id}", head)
            found[device.instance_id] = start, device
        end = head
    return [*found.values()][::-1]


_Place = tuple[int, int]
"""The offset of a field in the file, and the number of its elements."""


def _fields(data: Data, start: int, cpu: _Section) -> tuple[dict[str, _Place], list[str]]:
    """The fields that are read, by name or by the name of their struct, and the subsections."""
    found: dict[str, _Place] = {}
    subsections: list[str] = []

    def walk(section: _Section, at: int, inside: str = "") -> int:
        for field in section.fields:
            key = field.struct.vmsd_name or field.name
            key = f"{inside} {key}" if f"{inside} {key}" in _WANTED else key
            if wanted := _WANTED.get(key):
                if key in found:
                    raise ArtefactError(f"a second field {key}", at)
                if field.size != wanted.size or field.array_len not in wanted.counts:
                    raise ArtefactError(
                        f"{key} is {field.array_len} times {field.size} bytes; "
                        f"{wanted.counts[-1]} times {wanted.size} were expected",
                        at,
                    )
                found[key] = at, field.array_len
            at += field.size * field.array_len
        for inner in section.subsections:
            name = inner.vmsd_name
            head = bytes([_SUBSECTION, len(name)]) + name.encode()  # a version of 4 bytes follows
            if bytes(data[at : at + len(head)]) != head:
                raise ArtefactError(f"no subsection {name} here", at)
            subsections.append(name)
            at = walk(inner, at + len(head) + 4, name)
        return at

    walk(cpu, start)
    return found, subsections


def _found(data: Data, label: str, start: int, cpu: _Section, options: Options) -> Found:
    fields, subsections = _fields(data, start, cpu)
    for name in _NEEDED:
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
    enabled = number("env.xcr0")
    found = assemble(legacy, images, xstate_bv, options, label, enabled=enabled, infer=True)
    if inferred := found.area.model.names_of(found.area.xstate_bv & ~xstate_bv):
        notes.append(f"not in the stream's XSTATE_BV, but not initial: {', '.join(inferred)}")
    return replace(found, notes=tuple(notes))
