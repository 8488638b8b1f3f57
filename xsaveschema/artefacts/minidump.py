# SPDX-License-Identifier: MIT
"""Windows minidumps (MDMP): the CONTEXT of every thread, and of the exception.

An own reader: the minidump packages of PyPI stop at the legacy CONTEXT, and five structures are
all that is needed. Sources: minidumpapiset.h and winnt.h of the Windows SDK (win32metadata), Wine's
ntdll (RtlInitializeExtendedContext2, RtlLocateExtendedFeature2), Crashpad's minidump writer, and
dumps that Windows wrote of a program with AVX and CET_U state, for x64 and for x86.

A CONTEXT with CONTEXT_XSTATE is followed by a CONTEXT_EX that says where the XState chunk stands:
an XSAVE area without its first 512 bytes, in either format. Windows leaves bits 0 and 1 out of the
chunk's mask; x87 and SSE state are always in the CONTEXT, so both are taken to be in use. It sets
the flag in the exception's CONTEXT too, but writes no more than the structure: the chunk is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple

from xsaveschema.area import XsaveArea
from xsaveschema.artefacts.assemble import assemble, joined, meant_legacy
from xsaveschema.artefacts.elf_notes import row_faults
from xsaveschema.artefacts.layouts import Entry, layout_of, of_rows, told
from xsaveschema.artefacts.reader import ArtefactError, Data, Found, Options, Struct
from xsaveschema.artefacts.source import MAX_AREA, part, require
from xsaveschema.catalog import Catalog, default_catalog
from xsaveschema.errors import XsaveError
from xsaveschema.header import MASKS
from xsaveschema.model import (
    COMPACTED,
    EXTENDED_OFFSET,
    HEADER_OFFSET,
    HEADER_SIZE,
    LEGACY_SIZE,
    MXCSR_OFFSET,
    SSE,
    X87,
    bits_of,
)

_HEADER: Final = Struct("<4sIIIIIQ")  # signature, version, streams, directory RVA, …
_VERSION: Final = 0xA793
_ENTRY: Final = Struct("<III")  # stream type, size, RVA
_U16: Final = Struct("<H")
_U32: Final = Struct("<I")
_THREAD: Final = Struct("<I36xII")  # number, …; size and RVA of the context
_EXCEPTION_STREAM: Final = Struct("<I156xII")
_CONTEXT_EX: Final = Struct("<16xiI")  # All, Legacy, XState: offset from CONTEXT_EX, length
_XSTATE_DATA: Final = 832  # MINIDUMP_MISC_INFO_5.XStateData
_XSTATE_CONFIG: Final = Struct("<I4xQ")  # SizeOfInfo, ContextSize, EnabledFeatures
_FEATURE: Final = Struct("<II")  # offset, size
_CONFIG_SIZE: Final = _XSTATE_CONFIG.size + 64 * _FEATURE.size

_THREADS, _EXCEPTION, _SYSTEM_INFO, _MISC_INFO = 3, 6, 7, 15
_WANTED: Final = {
    _THREADS: "thread list",
    _EXCEPTION: "exception",
    _SYSTEM_INFO: "system info",
    _MISC_INFO: "misc info",
}
_LIMIT: Final = 1 << 20  # a layout that is no nonsense ends before it
_MAX_STREAMS: Final = 1 << 16
_XSTATE_FLAG: Final = 0x40
_PROCESSORS: Final = 0x07FF_0000  # the bits of ContextFlags that say whose CONTEXT it is
_RAISED: Final = "exception in thread "
_TOLD_MAX: Final = 8  # contexts that could not be read, in a note
_LEGACY: Final = X87 | SSE

_Place = tuple[int, int]
"""The size and the offset of a part of the file."""
_Streams = dict[int, list[_Place]]
"""The streams of each type; of several only where they are exceptions."""


class _Shape(NamedTuple):
    """A CONTEXT structure: its size, its flags, and where its FXSAVE image stands."""

    size: int
    flags: int
    own: int
    legacy: int
    legacy_flag: int
    mxcsr: int | None


_SHAPES: Final = {  # by PROCESSOR_ARCHITECTURE
    9: _Shape(0x4D0, 0x30, 0x0010_0000, 0x100, 0x08, 0x34),  # AMD64
    0: _Shape(0x2CC, 0x00, 0x0001_0000, 0xCC, 0x20, None),  # x86
}


class _Context(NamedTuple):
    """A context of the dump that has been looked at: where it stands, and its ContextFlags."""

    label: str
    size: int
    at: int
    shape: _Shape
    flags: int

    @property
    def legacy(self) -> int:
        """Where the legacy region stands."""
        return self.at + self.shape.legacy


class MinidumpReader:
    """Reads Windows minidumps, and says where an edited area goes."""

    name = "minidump"
    title = "Windows minidump"

    def recognises(self, data: Data) -> bool:
        """Whether this is a minidump: its signature and version."""
        if len(data) < _HEADER.size:
            return False
        signature, version, *_ = _HEADER.unpack_from(data)
        return bool(signature == b"MDMP" and version & 0xFFFF == _VERSION)

    def read(self, data: Data, options: Options) -> Iterator[Found]:
        """The contexts of the thread list, then those of exceptions.

        ``offset`` is that of the legacy region; the XState chunk stands elsewhere. A context that
        cannot be read does not keep the others from being: its error is raised behind the last
        one, or told in that one's notes where not strict.
        """
        if not self.recognises(data):
            raise ArtefactError("no minidump: it does not begin with MDMP, version 0xA793", 0)
        streams = _streams(data)
        shapes = _shapes(data, streams)
        rows = _rows(data, streams)
        if _THREADS not in streams and _EXCEPTION not in streams:
            raise ArtefactError("the dump has neither a thread list nor an exception", 0)
        last: Found | None = None
        errors: list[XsaveError] = []
        failed = 0
        for label, size, at in _contexts(data, streams):
            try:
                found = _found(data, _context(data, shapes, label, size, at), rows, options)
            except XsaveError as error:
                failed += 1
                if len(errors) < _TOLD_MAX:
                    if label not in getattr(error, "__notes__", ()):
                        error.add_note(label)
                    errors.append(error)
                continue
            if found is not None:
                if last is not None:
                    yield last
                last = replace(found, exception=label.startswith(_RAISED))
        if last is None:
            raise errors[0] if errors else ArtefactError("no context has x87 and SSE registers", 0)
        if errors and not options.strict:
            said = "; ".join(f"{error.__notes__[-1]}: {error}" for error in errors)
            last = replace(last, notes=(*last.notes, f"{failed} contexts left out: {said}"))
        yield last
        if errors and options.strict:
            raise errors[0]

    def replace(self, data: Data, found: Found, area: XsaveArea) -> Iterable[tuple[int, bytes]]:
        """Where the legacy region, MxCsr and the XState chunk of an edited area go."""
        streams = _streams(data)
        shapes = _shapes(data, streams)
        for label, size, at in _contexts(data, streams):
            if label == found.label and found.offset in range(at, at + size):
                return [*_patches(data, _context(data, shapes, label, size, at), area)]
        raise ArtefactError(f"the dump has no context of {found.label}", found.offset)


READER: Final = MinidumpReader()


def _patches(data: Data, context: _Context, area: XsaveArea) -> Iterator[tuple[int, bytes]]:
    legacy = meant_legacy(area)
    chunk = None if len(area) == EXTENDED_OFFSET else _chunk(data, context)
    if chunk is not None:
        start, length = chunk
        body = bytes(area.buffer[HEADER_OFFSET:])
        mask, compaction = MASKS.unpack(data[start : start + MASKS.size])
        if len(body) != length or (area.xcomp_bv ^ compaction) & ~_LEGACY:
            raise ArtefactError(
                f"the area has {len(body)} bytes behind its legacy region and XCOMP_BV "
                f"{area.xcomp_bv:#x}; its place has {length} and {compaction:#x}",
                start,
            )
        masks = MASKS.pack(area.xstate_bv & ~_LEGACY | mask & _LEGACY, compaction)
        yield start, masks + body[MASKS.size :]
    elif area.xstate_bv & ~_LEGACY:
        raise ArtefactError("the context has no XState chunk for extended components", context.at)
    yield context.legacy, legacy
    if context.shape.mxcsr is not None:
        yield context.at + context.shape.mxcsr, legacy[MXCSR_OFFSET : MXCSR_OFFSET + 4]


def _streams(data: Data) -> _Streams:
    """The streams that matter here. LLDB writes an exception stream for every thread."""
    _, _, count, directory, *_ = _HEADER.unpack_from(data)
    if count > _MAX_STREAMS:
        raise ArtefactError(f"{count} streams are more than a minidump has", 8)
    entries = part(data, directory, count * _ENTRY.size, "the stream directory")
    found: _Streams = {}
    for index, (kind, size, at) in enumerate(_ENTRY.iter_unpack(entries)):
        if kind not in _WANTED:
            continue
        if kind in found and kind != _EXCEPTION:
            where = directory + index * _ENTRY.size
            raise ArtefactError(f"a second {_WANTED[kind]} stream", where)
        require(data, at, size, f"the {_WANTED[kind]} stream")
        found.setdefault(kind, []).append((size, at))
    return found


def _shapes(data: Data, streams: _Streams) -> list[_Shape]:
    """The CONTEXT structure of the dump's processor; all of them where the dump does not say."""
    if _SYSTEM_INFO not in streams:
        return [*_SHAPES.values()]
    ((size, at),) = streams[_SYSTEM_INFO]
    if size < _U16.size:
        raise ArtefactError("the system info stream is empty", at)
    (architecture,) = _U16.unpack_from(data, at)
    if architecture not in _SHAPES:
        raise ArtefactError(f"the processor architecture is {architecture}, not x86 or AMD64", at)
    return [_SHAPES[architecture]]


def _contexts(data: Data, streams: _Streams) -> Iterator[tuple[str, int, int]]:
    """(label, size, offset) of every context that the file claims to hold.

    An exception may share the context of its thread. Contexts that take more bytes than the file
    has overlap otherwise too, and reading them would take longer than any file is worth.
    """
    for whose, found in (
        ("thread ", _of_threads(data, streams)),
        (_RAISED, _of_exceptions(data, streams)),
    ):
        left = len(data)
        for number, size, at in found:
            left -= min(size, len(data))
            if left < 0:
                raise ArtefactError("contexts share bytes: together they are longer than all", at)
            if size:
                yield f"{whose}{number}", size, at


def _of_threads(data: Data, streams: _Streams) -> Iterator[tuple[int, int, int]]:
    for size, at in streams.get(_THREADS, ()):
        if size < _U32.size:
            raise ArtefactError("the thread list has no count", at)
        (count,) = _U32.unpack_from(data, at)
        room = size - count * _THREAD.size
        if room < _U32.size:
            raise ArtefactError(f"{count} threads do not fit in {size} bytes", at)
        first = at + (8 if room == 8 else _U32.size)  # some writers align the array to 8 bytes
        for index in range(count):
            yield _THREAD.unpack_from(data, first + index * _THREAD.size)


def _of_exceptions(data: Data, streams: _Streams) -> Iterator[tuple[int, int, int]]:
    for size, at in streams.get(_EXCEPTION, ()):
        if size < _EXCEPTION_STREAM.size:
            raise ArtefactError(f"the exception stream has {size} bytes, 168 are needed", at)
        yield _EXCEPTION_STREAM.unpack_from(data, at)


def _context(data: Data, shapes: list[_Shape], label: str, size: int, at: int) -> _Context:
    """A context of one of these structures: its own flags tell which."""
    require(data, at, size, f"the context of {label}")
    faults = []
    for shape in shapes:
        flags_at = at + shape.flags
        if size < shape.size:
            said = f"the context of {label} has {size} of {shape.size} bytes"
            faults.append(ArtefactError(said, at))
            continue
        (flags,) = _U32.unpack_from(data, flags_at)
        if flags & _PROCESSORS == shape.own:
            return _Context(label, size, at, shape, flags)
        said = f"ContextFlags {flags:#x} are of another processor"
        faults.append(ArtefactError(said, flags_at))
    if len(faults) == 1:
        raise faults[0]
    raise ArtefactError(f"the context of {label} is neither AMD64's nor x86's", at)


def _found(data: Data, context: _Context, rows: list[Entry], options: Options) -> Found | None:
    label, at = context.label, context.legacy
    legacy = data[at : at + LEGACY_SIZE]
    live = _LEGACY if context.flags & context.shape.legacy_flag else 0
    notes: tuple[str, ...] = ()
    if not live:
        notes = ("ContextFlags say that the x87 and SSE registers are not there",)
    try:
        chunk = _chunk(data, context)
    except ArtefactError as error:  # the legacy region is whole all the same
        chunk, notes = None, (*notes, str(error))
    if chunk is None:
        if not live:
            return None
        found = assemble(legacy, {}, live, options, label, offset=at, notes=notes)
        return replace(found, layout_source="no XState: the legacy region alone")
    start, length = chunk
    mask, compaction = MASKS.unpack(data[start : start + MASKS.size])
    image = joined(
        legacy,
        data[start + MASKS.size : start + length],
        mask | live,
        compaction | _LEGACY if compaction & COMPACTED else compaction,
    )
    view = memoryview(image)
    if rows:
        catalog = options.catalog or default_catalog()
        rows = [*rows, *_untold(rows, compaction | mask, catalog)]
        known = of_rows(rows, view, "MISC_INFO_5", catalog)
        known = told(known, options, view, "the dump's MISC_INFO_5")
    else:
        known = layout_of(view, options)
    known = known._replace(notes=(*notes, *known.notes))
    return known.found(view, options, label, at)


def _chunk(data: Data, context: _Context) -> _Place | None:
    """The offset and length of a context's XState chunk; None where it has none."""
    if not context.flags & _XSTATE_FLAG:
        return None
    extra, end = context.at + context.shape.size, context.at + context.size
    if end - extra < _CONTEXT_EX.size:
        raise ArtefactError(
            "ContextFlags promise XState, but the context is cut off before its CONTEXT_EX: state "
            "beyond SSE is not in the file",
            extra,
        )
    offset, length = _CONTEXT_EX.unpack_from(data, extra)
    start = extra + offset
    if not extra + _CONTEXT_EX.size <= start <= start + length <= end:
        raise ArtefactError(
            f"the XState chunk ({length} bytes at {offset:+d}) is not within its context", extra
        )
    if length < HEADER_SIZE:
        raise ArtefactError(f"the XState chunk has {length} bytes, its header 64", start)
    if length > MAX_AREA:
        raise ArtefactError(f"the XState chunk has {length} bytes, more than any area", start)
    return start, length


def _rows(data: Data, streams: _Streams) -> list[Entry]:
    """The layout in MINIDUMP_MISC_INFO_5; empty where the dump has none.

    A component without an offset is a supervisor component: CET_U, which Windows shows to users.
    """
    ((size, at),) = streams.get(_MISC_INFO, [(0, 0)])
    config = at + _XSTATE_DATA
    if size < _XSTATE_DATA + _CONFIG_SIZE:
        return []
    length, enabled = _XSTATE_CONFIG.unpack_from(data, config)
    if length == 0:
        return []  # written by a system without XSAVE
    if length < _CONFIG_SIZE:
        raise ArtefactError(f"XSTATE_CONFIG_FEATURE_MSC_INFO has {length} bytes, not 528", config)
    rows = []
    for number in bits_of(enabled & ~(_LEGACY | COMPACTED)):
        where = config + _XSTATE_CONFIG.size + number * _FEATURE.size
        offset, length = _FEATURE.unpack_from(data, where)
        rows.append((number, length, offset))
    if fault := row_faults(rows, _LIMIT, supervisor=True):
        raise ArtefactError(f"MISC_INFO_5: {fault}", config)
    return rows


def _untold(rows: list[Entry], mask: int, catalog: Catalog) -> list[Entry]:
    """Supervisor components that a chunk has and the table lacks: CET_U, in dumps of x86 programs.

    Their sizes are the catalogue's, where all models agree.
    """
    lacks = mask & ~(_LEGACY | COMPACTED) & ~sum(1 << number for number, _, _ in rows)
    sizes: dict[int, set[int]] = {}
    for model in catalog.models() if lacks else ():
        for component in model.components.values():
            if component.supervisor and lacks & component.bit:
                sizes.setdefault(component.number, set()).add(component.size)
    return [(number, min(size), 0) for number, size in sorted(sizes.items()) if len(size) == 1]
