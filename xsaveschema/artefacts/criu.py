"""CRIU's core-N.img: the FPU registers of a task, as protobuf fields; and crit's JSON of it.

An own reader of the wire format, thirty lines: the ``protobuf`` package would need descriptors
built at run time (CRIU ships none apart from its own Python package) and a compiled dependency for
one message of integers. Sources: CRIU's ``images/core-x86.proto`` and the message descriptors
inside the criu 3.17.1 binary, which agree, and a core image that criu 3.17.1 wrote of a process
with x87, SSE and AVX state in use. The fields of MPX, PKRU and CET are
**not yet seen from a real producer**.

CRIU copies XSTATE_BV as it stands, but has no field for AMX and APX, and in old versions none for
more than AVX: what is in use there is missing. So it is in a core image that criu 4.2 wrote of a
process with tiles.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from xsaveschema.artefacts import json_text
from xsaveschema.artefacts.assemble import LEGACY, assemble
from xsaveschema.artefacts.reader import ArtefactError, Data, Found, Options, Struct
from xsaveschema.model import SSE, X87

MAX_SIZE: Final = 1 << 20
"""The longest image that is read, in bytes; a core image has a few thousand."""

_SIZE: Final = Struct("<I")
_MAGIC: Final = Struct("<II")
_COMMON_MAGIC: Final = 0x5456_4319
_CORE_MAGIC: Final = 0x5505_3847
_JSON: Final = re.compile(rb'\s*\{\s*"magic"\s*:\s*"CORE"')
_X86_64: Final = 1


class _Field(NamedTuple):
    """A field of a message: its name in the .proto, what it counts in, and how many there are.

    ``bits`` is 0 for a message; ``most`` None for one value, else the most of a repeated one.
    """

    name: str
    bits: int
    most: int | None = None
    message: Mapping[int, _Field] | None = None


_CET: Final = {1: _Field("cet", 64), 2: _Field("ssp", 64)}
_XSAVE: Final = {
    1: _Field("xstate_bv", 64),
    2: _Field("ymmh_space", 32, 64),
    3: _Field("bndreg_state", 64, 8),
    4: _Field("bndcsr_state", 64, 8),
    5: _Field("opmask_reg", 64, 8),
    6: _Field("zmm_upper", 64, 64),
    7: _Field("hi16_zmm", 64, 128),
    8: _Field("pkru", 32, 2),
    9: _Field("cet", 0, None, _CET),
}
_FPREGS: Final = {
    1: _Field("cwd", 16),
    2: _Field("swd", 16),
    3: _Field("twd", 8),
    4: _Field("fop", 16),
    5: _Field("rip", 64),
    6: _Field("rdp", 64),
    7: _Field("mxcsr", 32),
    8: _Field("mxcsr_mask", 32),
    9: _Field("st_space", 32, 32),
    10: _Field("xmm_space", 32, 64),
    13: _Field("xsave", 0, None, _XSAVE),
}
_THREAD_INFO: Final = {3: _Field("fpregs", 0, None, _FPREGS)}
_CORE: Final = {
    1: _Field("mtype", 64),
    2: _Field("thread_info", 0, None, _THREAD_INFO),
}

_COMPONENTS: Final = {
    "ymmh_space": ("avx", 4),
    "bndreg_state": ("bndregs", 8),
    "bndcsr_state": ("bndcsr", 8),
    "opmask_reg": ("opmask", 8),
    "zmm_upper": ("zmm_hi256", 8),
    "hi16_zmm": ("hi16_zmm", 8),
    "pkru": ("pkru", 4),
}
"""The state component of each repeated field of the xsave entry, and its values' size in bytes."""

_Message = dict[str, Any]


class CriuReader:
    """Reads CRIU core images, binary or as ``crit decode`` prints them."""

    name = "criu"
    title = "CRIU core image (core-N.img, or crit's JSON)"

    def recognises(self, data: Data) -> bool:
        """Whether this is a core image: its magic words, or crit's ``"magic": "CORE"``."""
        return _start(data) is not None or _is_json(data)

    def read(self, data: Data, options: Options) -> Iterator[Found]:
        """The area of each core entry that has FPU registers. No entry says which task it is."""
        if len(data) > MAX_SIZE:
            raise ArtefactError(f"{len(data)} bytes are no core image; at most {MAX_SIZE} are read")
        found = False
        for index, (at, core) in enumerate(_entries(data)):
            if core.get("mtype") not in (_X86_64, "X86_64"):
                raise ArtefactError(f"core entry {index} is not x86-64's: {core.get('mtype')}", at)
            fpregs = core.get("thread_info", {}).get("fpregs")
            if fpregs:
                found = True
                yield _found(fpregs, f"core entry {index}" if index else "task", at, options)
        if not found:
            raise ArtefactError("the core image holds no FPU registers")


READER: Final = CriuReader()


def _found(fpregs: _Message, label: str, at: int | None, options: Options) -> Found:
    def words(message: _Message, name: str, size: int) -> bytes:
        return b"".join(word.to_bytes(size, "little") for word in message[name])

    for message, fields in ((fpregs, _FPREGS), (fpregs.get("xsave", {}), _XSAVE)):
        for field in fields.values():
            there = len(message.get(field.name, ())) if field.most is not None else None
            needed = (field.most,) if message is fpregs else (field.most, 0)
            if there not in needed:
                raise ArtefactError(
                    f"{field.name} of {label} has {there} values, not {field.most}", at
                )

    for field in _FPREGS.values():
        if field.most is None and field.bits and field.name not in fpregs:
            raise ArtefactError(f"the fpregs of {label} have no {field.name}", at)
    legacy = LEGACY.pack(
        *(fpregs[_FPREGS[number].name] for number in range(1, 9)),
        words(fpregs, "st_space", 4),
        words(fpregs, "xmm_space", 4),
    )
    xsave = fpregs.get("xsave")
    if xsave is not None:
        for message, name, needs in (
            (xsave, "xsave", ("xstate_bv",)),
            (xsave.get("cet", {"cet": 0, "ssp": 0}), "cet", ("cet", "ssp")),
        ):
            if lacks := [field for field in needs if field not in message]:
                raise ArtefactError(f"the {name} of {label} has no {' and no '.join(lacks)}", at)
    if xsave is None:
        area, source = assemble(legacy, {}, X87 | SSE, options, label)
        notes = ("the image has no xsave entry",)
        return Found(label, area, source, None, notes, origin="assembled")
    images = {
        component: words(xsave, name, size)
        for name, (component, size) in _COMPONENTS.items()
        if xsave.get(name)
    }
    live = []
    if cet := xsave.get("cet"):
        images["cet_u"] = words({"cet": [cet["cet"], cet["ssp"]]}, "cet", 8)
        live = ["cet_u"] if any(images["cet_u"]) else []
    area, source = assemble(legacy, images, xsave["xstate_bv"], options, label, live=live)
    return Found(label, area, source, origin="assembled")


def _start(data: Data) -> int | None:
    """Where the first entry of a binary core image begins; None for anything else."""
    if len(data) < _MAGIC.size:
        return None
    first, second = _MAGIC.unpack_from(data)
    if first == _CORE_MAGIC:  # of old versions
        return _SIZE.size
    return _MAGIC.size if (first, second) == (_COMMON_MAGIC, _CORE_MAGIC) else None


def _is_json(data: Data) -> bool:
    """Whether this is what crit makes of a core image."""
    return _JSON.match(data[:256]) is not None


def _entries(data: Data) -> Iterator[tuple[int | None, _Message]]:
    """The offset and the fields of every core entry."""
    if _is_json(data):
        yield from ((None, entry) for entry in _from_json(bytes(data[:])))
        return
    at = _start(data)
    if at is None:
        raise ArtefactError("no CRIU core image: other magic words", 0)
    while at < len(data):
        if at + _SIZE.size > len(data):
            raise ArtefactError("the image ends within the size of an entry", at)
        (size,) = _SIZE.unpack_from(data, at)
        start = at + _SIZE.size
        if size > len(data) - start:
            raise ArtefactError(
                f"the entry takes {size} bytes, {len(data) - start} are left", start
            )
        yield at, _decode(data, start, start + size, _CORE)
        at = start + size


def _varint(data: Data, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise ArtefactError("a protobuf message ends within a number", at)
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise ArtefactError("a protobuf number is longer than ten bytes", at)


def _decode(data: Data, at: int, end: int, fields: Mapping[int, _Field]) -> _Message:
    """The known fields of a message. As in protobuf, the last of a single value counts."""
    found: _Message = {}
    while at < end:
        where = at
        key, at = _varint(data, at, end)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise ArtefactError("there is no field 0 in protobuf", where)
        field = fields.get(number)
        if wire == 0:
            value, at = _varint(data, at, end)
            if field is not None:
                _keep(found, field, value, where)
            continue
        if wire == 2:
            size, at = _varint(data, at, end)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ArtefactError(f"wire type {wire} of field {number} is unknown", where)
        if size > end - at:
            raise ArtefactError(f"field {number} takes {size} bytes, {end - at} are left", where)
        if field is not None:
            if wire != 2:
                raise ArtefactError(f"{field.name} is not stored as a number", where)
            if field.message is not None:
                if field.name in found:
                    raise ArtefactError(f"a second {field.name}", where)
                found[field.name] = _decode(data, at, at + size, field.message)
            else:  # packed
                inner = at
                while inner < at + size:
                    value, inner = _varint(data, inner, at + size)
                    _keep(found, field, value, where)
        at += size
    return found


def _keep(found: _Message, field: _Field, value: int, where: int | None) -> None:
    """Note a value of a field; ArtefactError if it does not fit, or if they are too many."""
    if field.message is not None or value >> field.bits:
        raise ArtefactError(f"{field.name} cannot be {value:#x}", where)
    if field.most is None:
        found[field.name] = value
        return
    values = found.setdefault(field.name, [])
    if len(values) >= field.most:
        raise ArtefactError(f"{field.name} has more than {field.most} values", where)
    values.append(value)


def _from_json(text: bytes) -> Iterator[_Message]:
    """The JSON of crit: the same fields by name; numbers, or text where crit prints hexadecimal."""
    image = json_text.parse(text)
    entries = image.get("entries")
    if not isinstance(entries, list):
        raise ArtefactError("the JSON has no list of entries")
    for entry in entries:
        yield _named(entry, _CORE)


def _named(node: Any, fields: Mapping[int, _Field]) -> _Message:
    if not isinstance(node, dict):
        raise ArtefactError(f"{node!r:.40} stands where a message should")
    found: _Message = {}
    for field in fields.values():
        value = node.get(field.name)
        if value is None:
            continue
        if field.name == "mtype":
            found[field.name] = value
        elif field.message is not None:
            found[field.name] = _named(value, field.message)
        else:
            for item in value if isinstance(value, list) else [value]:
                _keep(found, field, _number(item, field.name), None)
    return found


def _number(value: Any, name: str) -> int:
    if isinstance(value, str):
        try:
            value = int(value[:20], 0)
        except ValueError:
            value = None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ArtefactError(f"{name} has a value that is no number")
    return value
