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

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, Protocol

from xsaveschema.artefacts import json_text
from xsaveschema.artefacts.assemble import LEGACY, assemble
from xsaveschema.artefacts.reader import ArtefactError, Data, Found, Options, Struct
from xsaveschema.catalog import default_catalog
from xsaveschema.model import X87

MAX_DESCRIPTION: Final = 1 << 24
"""The longest description that is read, in bytes: QEMU writes some 10,000 for each vCPU."""

_PADDING: Final = 2 << 20
"""Zeros behind the description that are no part of it: up to a cluster of a disk image."""

_MAGIC: Final = Struct(">4sI")
_MARK: Final = Struct("B")
_SECTION: Final = Struct(">BI")  # the header before the name, and the footer
_IDENT: Final = Struct(">II")  # the header behind the name: instance, version
_LENGTH: Final = Struct(">I")
_SECTION_FULL, _SUBSECTION, _DESCRIPTION, _FOOTER, _EOF = 4, 5, 6, 0x7E, 0
_MAX_DEVICES: Final = 1 << 16
_MAX_DEPTH: Final = 32
_TOP: Final = 11

_GAP: Final = re.compile(r"[ \t\r\n]*")


class _Wanted(NamedTuple):
    """A field that is read: the size of an element in bytes, and how many there may be."""

    size: int
    counts: tuple[int, ...] = (1,)


_WANTED: Final = {
    "env.fpuc": _Wanted(2),
    "env.fpus_vmstate": _Wanted(2),
    "env.fptag_vmstate": _Wanted(2),
    "env.fpregs_format_vmstate": _Wanted(2),
    "env.fpop": _Wanted(2),
    "env.fpip": _Wanted(8),
    "env.fpdp": _Wanted(8),
    "env.mxcsr": _Wanted(4),
    "env.xcr0": _Wanted(8),
    "env.xstate_bv": _Wanted(8),
    "env.bndcs_regs.cfgu": _Wanted(8),
    "env.bndcs_regs.sts": _Wanted(8),
    "env.opmask_regs": _Wanted(8, (8,)),
    "env.pkru": _Wanted(4),
    "env.msr_xfd": _Wanted(8),
    "env.xtilecfg": _Wanted(1, (64,)),
    "env.xtiledata": _Wanted(1, (8192,)),
    # The rest of an array whose first part is a field of the section itself, by the same name.
    "cpu/apx env.regs": _Wanted(8, (16,)),
    # Arrays of structs, by the name of the struct: the field's own name is not unique.
    "fpreg": _Wanted(10, (8,)),
    "xmm_reg": _Wanted(16, (8, 16)),
    "ymmh_reg": _Wanted(16, (8, 16)),
    "zmmh_reg": _Wanted(32, (8, 16)),
    "hi16_zmm_reg": _Wanted(64, (16,)),
    "bnd_regs": _Wanted(16, (4,)),
}
_NEEDED: Final = ("env.fpuc", "env.fpus_vmstate", "env.fptag_vmstate", "env.mxcsr")
_NEEDED_STRUCTS: Final = ("fpreg", "xmm_reg")

_WORDS: Final = {
    "ymmh_reg": "avx",
    "bnd_regs": "bndregs",
    "env.opmask_regs": "opmask",
    "zmmh_reg": "zmm_hi256",
    "hi16_zmm_reg": "hi16_zmm",
    "cpu/apx env.regs": "apx",
}
"""Fields of 64-bit words, and the state component that they make up."""
_BYTES: Final = {"env.xtilecfg": "tilecfg", "env.xtiledata": "tiledata"}
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


class Stretch(Protocol):
    """The bytes of a stream, wherever they stand: a view, or the clusters of a disk image."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice, /) -> bytes | memoryview: ...


class QemuStreamReader:
    """Reads QEMU migration streams of x86 machines."""

    name = "qemu-migration"
    title = "QEMU migration stream"

    def recognises(self, data: Data) -> bool:
        """Whether this is a migration stream: QEVM, version 3."""
        return bytes(data[:8]) == b"QEVM\0\0\0\3"

    def read(self, data: Data, options: Options) -> Iterator[Found]:
        """The state of every vCPU, by instance of its section."""
        yield from vcpus(data, options)


def vcpus(data: Stretch, options: Options, whose: str = "") -> Iterator[Found]:
    """The state of every vCPU of a stream; ``whose`` stands before their labels.

    ArtefactError where it is no whole stream of an x86 machine.
    """
    if bytes(data[: _MAGIC.size]) != _MAGIC.pack(b"QEVM", 3):
        raise ArtefactError("no migration stream: it does not begin with QEVM, version 3", 0)
    text, end = _description(data)
    json_text.require_few(text)
    cpus = _sections(data, end, _devices(text, end))
    if not cpus:
        raise ArtefactError("the stream has no section of an x86 vCPU")
    for instance, start, described in cpus:
        fields, subsections = _fields(data, start, json.loads(text[described]))
        yield _found(data, f"{whose}vCPU {instance}", start, fields, subsections, options)


READER: Final = QemuStreamReader()


class _Device(NamedTuple):
    """A device of the description: ``size`` is that of its section's data in bytes.

    ``described`` is where a vCPU's description stands in the text: parsed, many of them would not
    be small.
    """

    name: str
    instance: int
    size: int
    described: slice | None


def _description(data: Stretch) -> tuple[str, int]:
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


def _devices(text: str, at: int) -> Iterator[_Device]:
    """The devices of a description, parsed one at a time. ``at`` is its offset in the file."""
    decode = json.JSONDecoder().raw_decode

    def value(position: int) -> tuple[Any, int]:
        try:
            return decode(text, _GAP.match(text, position).end())  # type: ignore[union-attr]
        except RecursionError:
            raise ArtefactError("the description is nested too deeply", at + position) from None
        except ValueError as error:
            raise ArtefactError(f"the description is no JSON: {error}", at + position) from None

    def mark(position: int, marks: str) -> tuple[str, int]:
        position = _GAP.match(text, position).end()  # type: ignore[union-attr]
        found = text[position : position + 1]
        if not found or found not in marks:
            raise ArtefactError(f"the description lacks one of {marks}", at + position)
        return found, position + 1

    found, position = mark(0, "{")
    while found != "}":
        key, position = value(position)
        _, position = mark(position, ":")
        if key == "devices":
            break
        _, position = value(position)
        found, position = mark(position, ",}")
    else:
        raise ArtefactError("the description has no devices", at)
    found, position = mark(position, "[")
    for _ in range(_MAX_DEVICES):
        start = _GAP.match(text, position).end()  # type: ignore[union-attr]
        node, position = value(start)
        yield _device(node, at + start, slice(start, position))
        found, position = mark(position, ",]")
        if found == "]":
            return
    raise ArtefactError(f"more than {_MAX_DEVICES} devices", at)


def _device(node: Any, at: int, text: slice) -> _Device:
    if not isinstance(node, dict):
        raise ArtefactError("the description has a device that is no object", at)
    name, instance = node.get("name"), node.get("instance_id")
    if not isinstance(name, str) or not name.isascii() or not 0 < len(name) < 256:
        raise ArtefactError(f"the description has a device named {name!r:.40}", at)
    if not isinstance(instance, int) or not 0 <= instance < 1 << 32:
        raise ArtefactError(f"{name} has the instance {instance!r:.40}", at)
    vcpu = name == "cpu" and node.get("vmsd_name") == "cpu"
    return _Device(name, instance, _size(node, at), text if vcpu else None)


def _size(node: Mapping[str, Any], at: int, depth: int = 0) -> int:
    """The size in bytes of a section's or subsection's data, its own subsections included."""
    if depth > _MAX_DEPTH:
        raise ArtefactError("the description has subsections without end", at)
    size = sum(_extent(field, at) for field in _list(node, "fields", at))
    for inner in _list(node, "subsections", at):
        size += 6 + len(_name(inner, at)) + _size(inner, at, depth + 1)
    return size


def _extent(field: Mapping[str, Any], at: int) -> int:
    size, count = field.get("size"), field.get("array_len", 1)
    for number in (size, count):
        if type(number) is not int or not 0 <= number < 1 << 40:
            raise ArtefactError(f"the field {field.get('name')!r:.40} has no sound size", at)
    return int(size) * int(count)  # type: ignore[arg-type]


def _list(node: Mapping[str, Any], key: str, at: int) -> list[Mapping[str, Any]]:
    found = node.get(key, [])
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ArtefactError(f"the description's {key} are no list of objects", at)
    return found


def _name(node: Mapping[str, Any], at: int) -> str:
    name = node.get("vmsd_name")
    if not isinstance(name, str) or not name.isascii() or len(name) > 255:
        raise ArtefactError(f"the description has a subsection named {name!r:.40}", at)
    return name


def _sections(
    data: Stretch, description: int, devices: Iterator[_Device]
) -> list[tuple[int, int, slice]]:
    """(instance, offset of the data, description) of every vCPU's section.

    ``description`` is the offset of the JSON: a type byte and a length stand before it, the
    stream's EOF byte before them, and the last section before that.
    """
    known = list(devices)
    end = description - 6
    if end < 0 or _taken(data, end, _MARK)[0] != _EOF:
        raise ArtefactError("no end mark before the description", max(end, 0))
    left = sum(device.described is not None for device in known)
    footers = end >= _SECTION.size and _taken(data, end - _SECTION.size, _SECTION)[0] == _FOOTER
    found: list[tuple[int, int, slice]] = []
    seen = set()
    for device in reversed(known):
        if not left:
            break
        data_end = end - _SECTION.size if footers else end
        name = device.name.encode()
        start = data_end - device.size
        head = start - _IDENT.size - len(name) - 1 - _SECTION.size
        if head < _MAGIC.size:
            raise ArtefactError(f"the section of {device.name} would begin before the file", 0)
        kind, section = _taken(data, head, _SECTION)
        named = head + _SECTION.size
        good = (
            kind == _SECTION_FULL
            and bytes(data[named : named + 1 + len(name)]) == bytes([len(name)]) + name
        )
        good = good and _taken(data, start - _IDENT.size, _IDENT)[0] == device.instance
        if footers:
            good = good and _taken(data, data_end, _SECTION) == (_FOOTER, section)
        if not good:
            raise ArtefactError(
                f"the section of {device.name} is not where the description has it", head
            )
        if device.described is not None:
            if device.instance in seen:
                raise ArtefactError(f"a second section of vCPU {device.instance}", head)
            seen.add(device.instance)
            found.append((device.instance, start, device.described))
            left -= 1
        end = head
    found.reverse()
    return found


_Place = tuple[int, int]
"""The offset of a field in the file, and the number of its elements."""


def _fields(
    data: Stretch, start: int, described: Mapping[str, Any]
) -> tuple[dict[str, _Place], list[str]]:
    """The fields that are read, by name or by the name of their struct, and the subsections."""
    found: dict[str, _Place] = {}
    subsections: list[str] = []

    def walk(node: Mapping[str, Any], at: int, inside: str = "") -> int:
        for field in _list(node, "fields", at):
            extent = _extent(field, at)
            struct = field.get("struct")
            key = struct.get("vmsd_name") if isinstance(struct, dict) else field.get("name")
            if f"{inside} {key}" in _WANTED:
                key = f"{inside} {key}"
            wanted = _WANTED.get(key) if isinstance(key, str) else None
            if isinstance(key, str) and wanted is not None:
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
            at += extent
        for inner in _list(node, "subsections", at):
            name = _name(inner, at).encode()
            head = bytes([_SUBSECTION, len(name)]) + name
            if bytes(data[at : at + len(head)]) != head:
                raise ArtefactError(f"no subsection {name.decode()} here", at)
            subsections.append(name.decode())
            at = walk(inner, at + len(head) + _LENGTH.size, name.decode())
        return at

    walk(described, start)
    return found, subsections


def _taken(data: Stretch, at: int, form: Struct) -> tuple[Any, ...]:
    """The numbers that stand at byte ``at``."""
    part = data[at : at + form.size]
    if len(part) < form.size:
        raise ArtefactError(f"the stream ends within {form.size} bytes", at)
    return form.unpack(part)


def _found(
    data: Stretch,
    label: str,
    start: int,
    fields: Mapping[str, _Place],
    subsections: list[str],
    options: Options,
) -> Found:
    for name in (*_NEEDED, *_NEEDED_STRUCTS):
        if name not in fields:
            raise ArtefactError(f"the section of {label} has no {name}", start)

    def number(name: str) -> int:
        if name not in fields:
            return 0
        at = fields[name][0]
        return int.from_bytes(data[at : at + _WANTED[name].size], "big")

    if number("env.fpregs_format_vmstate"):
        raise ArtefactError("the x87 registers are in a format of old QEMU versions", start)
    xstate_bv, top = number("env.xstate_bv"), number("env.fpus_vmstate") >> _TOP & 7
    at, count = fields["fpreg"]
    stack = [_x87(data, at + 10 * index) for index in range(count)]
    notes = []
    if top and not xstate_bv & X87:
        stack = [stack[(top + index) & 7] for index in range(count)]
        notes.append("the x87 registers are taken to be in TCG's order: XSTATE_BV lacks x87")
    ftw = number("env.fptag_vmstate")
    if ftw > 0xFF:
        raise ArtefactError(f"the x87 tag word {ftw:#x} has more than 8 bits", start)
    legacy = LEGACY.pack(
        number("env.fpuc"),
        number("env.fpus_vmstate"),
        ftw,
        number("env.fpop"),
        number("env.fpip"),
        number("env.fpdp"),
        number("env.mxcsr"),
        0,
        b"".join(stack),
        _swapped(data, fields["xmm_reg"], 16),
    )
    images = {
        component: _swapped(data, fields[name], _WANTED[name].size)
        for name, component in _WORDS.items()
        if name in fields
    }
    for name, component in _BYTES.items():
        if name in fields:
            at, count = fields[name]
            images[component] = bytes(data[at : at + count])
    if "env.bndcs_regs.cfgu" in fields:
        pair = number("env.bndcs_regs.cfgu"), number("env.bndcs_regs.sts")
        images["bndcsr"] = b"".join(word.to_bytes(8, "little") for word in pair)
    if "env.pkru" in fields:
        images["pkru"] = number("env.pkru").to_bytes(4, "little")
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


def _x87(data: Stretch, at: int) -> bytes:
    """One x87 register as an area holds it: 10 bytes and 6 of padding."""
    return bytes(data[at : at + 8])[::-1] + bytes(data[at + 8 : at + 10])[::-1] + bytes(6)


def _swapped(data: Stretch, place: _Place, size: int) -> bytes:
    """64-bit words, big-endian in the stream, as an area holds them."""
    at, count = place
    words = _taken(data, at, Struct(f">{count * size // 8}Q"))
    return Struct(f"<{len(words)}Q").pack(*words)
