# SPDX-License-Identifier: MIT
"""CRIU's core-N.img: the FPU registers of a task, as protobuf fields; and crit's JSON of it.

A dump is a folder with one such image for each task, N its thread's number.

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

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from xsaveschema.artefacts import json_text
from xsaveschema.artefacts.assemble import LEGACY, assemble
from xsaveschema.artefacts.reader import ArtefactError, Data, Found, Options, Struct
from xsaveschema.artefacts.source import Source, require
from xsaveschema.errors import XsaveError
from xsaveschema.model import SSE, X87

MAX_SIZE: Final = 1 << 20
"""The longest image that is read, in bytes; a core image has a few thousand."""

_SIZE: Final = Struct("<I")
_MAGIC: Final = Struct("<II")
_COMMON_MAGIC: Final = 0x5456_4319
_CORE_MAGIC: Final = 0x5505_3847
_JSON: Final = re.compile(rb'\s*\{\s*"magic"\s*:\s*"CORE"')
_X86_64: Final = 1
_IMAGE: Final = re.compile(r"core-([0-9]{1,10})\.img")
_MOST_IMAGES: Final = 1 << 16
"""Images of a folder: as many as Linux lets a process have threads by default, and more."""
_TASK: Final = "task"


class _Field(NamedTuple):
    """A field of a message: its name in the .proto, what it counts in, and how many there are.

    ``bits`` is 0 for a message; ``most`` None for one value, else the count of a repeated one.
    ``component`` is the state component that a field is, which the task's CPU may lack.
    """

    name: str
    bits: int
    most: int | None = None
    component: str = ""
    message: Mapping[int, _Field] | None = None


_CET: Final = {1: _Field("cet", 64), 2: _Field("ssp", 64)}
_XSAVE: Final = {
    1: _Field("xstate_bv", 64),
    2: _Field("ymmh_space", 32, 64, "avx"),
    3: _Field("bndreg_state", 64, 8, "bndregs"),
    4: _Field("bndcsr_state", 64, 8, "bndcsr"),
    5: _Field("opmask_reg", 64, 8, "opmask"),
    6: _Field("zmm_upper", 64, 64, "zmm_hi256"),
    7: _Field("hi16_zmm", 64, 128, "hi16_zmm"),
    8: _Field("pkru", 32, 2, "pkru"),
    9: _Field("cet", 0, message=_CET),
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
    13: _Field("xsave", 0, message=_XSAVE),
}
_THREAD_INFO: Final = {3: _Field("fpregs", 0, message=_FPREGS)}
_CORE: Final = {
    1: _Field("mtype", 64),
    2: _Field("thread_info", 0, message=_THREAD_INFO),
}

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
                yield _found(fpregs, f"core entry {index}" if index else _TASK, at, options)
        if not found:
            raise ArtefactError("the core image holds no FPU registers")


READER: Final = CriuReader()


def read_folder(path: str | os.PathLike[str], options: Options) -> Iterator[Found]:
    """The area of each task, by number. ArtefactError for a folder without core images."""
    images: dict[int, Path] = {}
    with os.scandir(path) as entries:
        for entry in entries:
            if match := _IMAGE.fullmatch(entry.name):
                images[int(match[1])] = Path(entry.path)
                if len(images) > _MOST_IMAGES:
                    raise ArtefactError(f"has more than {_MOST_IMAGES} core images")
    if not images:
        raise ArtefactError("is a folder, and has no core-N.img of CRIU")
    return _of_images(images, options)


def _of_images(images: dict[int, Path], options: Options) -> Iterator[Found]:
    for number, image in sorted(images.items()):
        try:
            with Source(image) as source:
                for found in READER.read(source.data, options):
                    entry = "" if found.label == _TASK else f", {found.label}"
                    yield replace(found, label=f"thread {number}{entry}")
        except XsaveError as error:
            error.add_note(image.name)
            raise


def _found(fpregs: _Message, label: str, at: int | None, options: Options) -> Found:
    _require_whole(fpregs, _FPREGS, f"fpregs of {label}", at)
    head = (fpregs[_FPREGS[number].name] for number in range(1, 9))
    spaces = (_image(fpregs[_FPREGS[number].name], 32) for number in (9, 10))
    legacy = LEGACY.pack(*head, *spaces)
    xsave = fpregs.get("xsave")
    if xsave is None:
        notes = ("the image has no xsave entry",)
        return assemble(legacy, {}, X87 | SSE, options, label, notes=notes)
    _require_whole(xsave, _XSAVE, f"xsave of {label}", at)
    images = {
        field.component: _image(xsave[field.name], field.bits)
        for field in _XSAVE.values()
        if field.component and xsave.get(field.name)
    }
    live = []
    if (cet := xsave.get("cet")) is not None:
        _require_whole(cet, _CET, f"cet of {label}", at)
        images["cet_u"] = _image((cet["cet"], cet["ssp"]), 64)
        live = ["cet_u"] if any(images["cet_u"]) else []
    return assemble(legacy, images, xsave["xstate_bv"], options, label, live=live)


def _require_whole(
    message: _Message, fields: Mapping[int, _Field], called: str, at: int | None
) -> None:
    """ArtefactError where a value is missing, or a repeated one has not its count."""
    for field in fields.values():
        if field.most is not None:
            there = len(message.get(field.name, ()))
            if there != field.most and (there or not field.component):
                raise ArtefactError(
                    f"{called}: {field.name} has {there} of {field.most} values", at
                )
        elif field.message is None and field.name not in message:
            raise ArtefactError(f"{called}: there is no {field.name}", at)


def _image(values: Iterable[int], bits: int) -> bytes:
    return b"".join(value.to_bytes(bits // 8, "little") for value in values)


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
        (size,) = _SIZE.read(data, at, "the size of an entry")
        start = at + _SIZE.size
        require(data, start, size, "the entry")
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
        require(data, at, size, f"field {number}", end)
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
                number = json_text.number(item)
                if number is None:
                    raise ArtefactError(f"{field.name} has a value that is no number")
                _keep(found, field, number, None)
    return found
