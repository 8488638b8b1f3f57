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
from xsaveschema.artefacts.layouts import Entry, Known, of_area, told
from xsaveschema.artefacts.reader import ArtefactError, Data, Found, Options, Struct
from xsaveschema.artefacts.source import MAX_AREA
from xsaveschema.catalog import Catalog, default_catalog
from xsaveschema.errors import XsaveError
from xsaveschema.header import MASKS
from xsaveschema.identify.from_leaf import model_from_leaf
from xsaveschema.identify.match import identify
from xsaveschema.kept import kept
from xsaveschema.model import (
    COMPACTED,
    EXTENDED_OFFSET,
    HEADER_OFFSET,
    HEADER_SIZE,
    LEGACY_SIZE,
    MXCSR_OFFSET,
    SSE,
    X87,
    CpuModel,
    bits_of,
)
from xsaveschema.traces import mxcsr_mask_of

_HEADER: Final = Struct("<4sIIIIIQ")  # signature, version, streams, directory RVA, …
_VERSION: Final = 0xA793
_ENTRY: Final = Struct("<III")  # stream type, size, RVA
_LOCATION: Final = Struct("<II")  # size, RVA
_COUNT: Final = Struct("<I")
_THREAD_SIZE: Final = 48
_THREAD_CONTEXT: Final = 40
_EXCEPTION_CONTEXT: Final = 160
_CONTEXT_EX: Final = Struct("<iIiIiI")  # All, Legacy, XState: offset from CONTEXT_EX, length
_XSTATE_DATA: Final = 832  # MINIDUMP_MISC_INFO_5.XStateData
_XSTATE_CONFIG: Final = Struct("<IIQ")  # SizeOfInfo, ContextSize, EnabledFeatures
_FEATURES: Final = 64

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

_Streams = dict[int, list[tuple[int, int]]]
"""(size, offset) of the streams of each type; of several only where they are exceptions."""


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


class MinidumpReader:
    """Reads Windows minidumps, and says where an edited area goes."""

    name = "minidump"
    title = "Windows minidump"

    def recognises(self, data: Data) -> bool:
        """Whether this is a minidump: its signature and version."""
        if len(data) < _HEADER.size or bytes(data[:4]) != b"MDMP":
            return False
        return bool(_HEADER.unpack_from(data)[1] & 0xFFFF == _VERSION)

    def read(self, data: Data, options: Options) -> Iterator[Found]:
        """The contexts of the thread list, then those of exceptions.

        ``offset`` is that of the legacy region; the XState chunk stands elsewhere. A context that
        cannot be read does not keep the others from being: its error is raised behind the last
        one, or told in that one's notes where not strict.
        """
        if not self.recognises(data):
            raise ArtefactError("no minidump: it does not begin with MDMP, version 0xA793", 0)
        streams = _streams(data)
        shape = _shape(data, streams)
        rows = _rows(data, streams)
        if _THREADS not in streams and _EXCEPTION not in streams:
            raise ArtefactError("the dump has neither a thread list nor an exception", 0)
        last: Found | None = None
        errors: list[XsaveError] = []
        failed = 0
        for label, size, at in _contexts(data, streams):
            try:
                found = _found(data, label, size, at, shape, rows, options)
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
        if not errors:
            yield last
        elif options.strict:
            yield last
            raise errors[0]
        else:
            said = "; ".join(f"{error.__notes__[-1]}: {error}" for error in errors)
            yield replace(last, notes=(*last.notes, f"{failed} contexts left out: {said}"))

    def replace(self, data: Data, found: Found, area: XsaveArea) -> Iterable[tuple[int, bytes]]:
        """Where the legacy region, MxCsr and the XState chunk of an edited area go."""
        streams = _streams(data)
        shape = _shape(data, streams)
        for label, size, at in _contexts(data, streams):
            if label != found.label:
                continue
            _part(data, at, size, f"the context of {label}")
            used = shape or _guessed(data, size, at)
            if used and at + used.legacy == found.offset:
                return _patches(data, size, at, used, area)
        raise ArtefactError(f"the dump has no context of {found.label}", found.offset)


READER: Final = MinidumpReader()


def _patches(
    data: Data, size: int, at: int, shape: _Shape, area: XsaveArea
) -> list[tuple[int, bytes]]:
    legacy = meant_legacy(area)
    writes = [(at + shape.legacy, legacy)]
    if shape.mxcsr is not None:
        writes.append((at + shape.mxcsr, legacy[MXCSR_OFFSET : MXCSR_OFFSET + 4]))
    chunk = None if len(area) == EXTENDED_OFFSET else _chunk(data, size, at, shape)
    if chunk is None:
        if area.xstate_bv & ~(X87 | SSE):
            raise ArtefactError("the context has no XState chunk for extended components", at)
        return writes
    start, length = chunk
    body = bytes(area.buffer[HEADER_OFFSET:])
    mask, compaction = MASKS.unpack(data[start : start + MASKS.size])
    if len(body) != length or (area.xcomp_bv ^ compaction) & ~(X87 | SSE):
        raise ArtefactError(
            f"the area has {len(body)} bytes behind its legacy region and XCOMP_BV "
            f"{area.xcomp_bv:#x}; its place has {length} and {compaction:#x}",
            start,
        )
    masks = MASKS.pack(area.xstate_bv & ~(X87 | SSE) | mask & (X87 | SSE), compaction)
    writes.append((start, masks + body[MASKS.size :]))
    return writes


def _part(data: Data, at: int, size: int, what: str) -> memoryview:
    """A part of the file; ArtefactError if it is not all there."""
    if at + size > len(data):
        raise ArtefactError(
            f"{what} takes bytes {at:#x}..{at + size:#x}; the file ends at {len(data):#x}", at
        )
    return data[at : at + size]


def _streams(data: Data) -> _Streams:
    """The streams that matter here. LLDB writes an exception stream for every thread."""
    _, _, count, directory, *_ = _HEADER.unpack_from(data)
    if count > _MAX_STREAMS:
        raise ArtefactError(f"{count} streams are more than a minidump has", 8)
    entries = _part(data, directory, count * _ENTRY.size, "the stream directory")
    found: _Streams = {}
    for index, (kind, size, at) in enumerate(_ENTRY.iter_unpack(entries)):
        if kind not in _WANTED:
            continue
        if kind in found and kind != _EXCEPTION:
            where = directory + index * _ENTRY.size
            raise ArtefactError(f"a second {_WANTED[kind]} stream", where)
        _part(data, at, size, f"the {_WANTED[kind]} stream")
        found.setdefault(kind, []).append((size, at))
    return found


def _shape(data: Data, streams: _Streams) -> _Shape | None:
    """The CONTEXT structure of the dump's processor, None where the dump does not say."""
    if _SYSTEM_INFO not in streams:
        return None
    ((size, at),) = streams[_SYSTEM_INFO]
    if size < 2:
        raise ArtefactError("the system info stream is empty", at)
    architecture = int.from_bytes(data[at : at + 2], "little")
    if architecture not in _SHAPES:
        raise ArtefactError(f"the processor architecture is {architecture}, not x86 or AMD64", at)
    return _SHAPES[architecture]


def _guessed(data: Data, size: int, at: int) -> _Shape | None:
    """The CONTEXT structure that a context's own flags tell."""
    for shape in _SHAPES.values():
        if size >= shape.size and _flags(data, at, shape) & _PROCESSORS == shape.own:
            return shape
    return None


def _flags(data: Data, at: int, shape: _Shape) -> int:
    return int.from_bytes(data[at + shape.flags : at + shape.flags + 4], "little")


def _contexts(data: Data, streams: _Streams) -> Iterator[tuple[str, int, int]]:
    """(label, size, offset) of every context that the file claims to hold.

    An exception may share the context of its thread. Contexts that take more bytes than the file
    has overlap otherwise too, and reading them would take longer than any file is worth.
    """
    for found in (_of_threads(data, streams), _of_exceptions(data, streams)):
        left = len(data)
        for label, size, at in found:
            left -= min(size, len(data))
            if left < 0:
                raise ArtefactError("contexts share bytes: together they are longer than all", at)
            yield label, size, at


def _of_threads(data: Data, streams: _Streams) -> Iterator[tuple[str, int, int]]:
    for size, at in streams.get(_THREADS, ()):
        if size < _COUNT.size:
            raise ArtefactError("the thread list has no count", at)
        (count,) = _COUNT.unpack_from(data, at)
        room = size - count * _THREAD_SIZE
        if room < _COUNT.size:
            raise ArtefactError(f"{count} threads do not fit in {size} bytes", at)
        first = at + (8 if room == 8 else _COUNT.size)  # some writers align the array to 8 bytes
        for index in range(count):
            thread = first + index * _THREAD_SIZE
            (ident,) = _COUNT.unpack_from(data, thread)
            size, where = _LOCATION.unpack_from(data, thread + _THREAD_CONTEXT)
            if size:
                yield f"thread {ident}", size, where


def _of_exceptions(data: Data, streams: _Streams) -> Iterator[tuple[str, int, int]]:
    for size, at in streams.get(_EXCEPTION, ()):
        if size < _EXCEPTION_CONTEXT + _LOCATION.size:
            raise ArtefactError(f"the exception stream has {size} bytes, 168 are needed", at)
        (ident,) = _COUNT.unpack_from(data, at)
        size, where = _LOCATION.unpack_from(data, at + _EXCEPTION_CONTEXT)
        if size:
            yield f"{_RAISED}{ident}", size, where


def _found(
    data: Data,
    label: str,
    size: int,
    at: int,
    shape: _Shape | None,
    rows: list[Entry],
    options: Options,
) -> Found | None:
    _part(data, at, size, f"the context of {label}")
    shape = shape or _guessed(data, size, at)
    if shape is None:
        raise ArtefactError(f"the context of {label} is neither AMD64's nor x86's", at)
    if size < shape.size:
        raise ArtefactError(f"the context of {label} has {size} of {shape.size} bytes", at)
    flags = _flags(data, at, shape)
    if flags & _PROCESSORS != shape.own:
        raise ArtefactError(f"ContextFlags {flags:#x} are of another processor", at + shape.flags)
    legacy_at = at + shape.legacy
    legacy = data[legacy_at : legacy_at + LEGACY_SIZE]
    live = X87 | SSE if flags & shape.legacy_flag else 0
    notes: tuple[str, ...] = ()
    if not live:
        notes = ("ContextFlags say that the x87 and SSE registers are not there",)
    try:
        chunk = _chunk(data, size, at, shape)
    except ArtefactError as error:  # the legacy region is whole all the same
        chunk, notes = None, (*notes, str(error))
    if chunk is None:
        if not live:
            return None
        area, _ = assemble(legacy, {}, live, options, label)
        source = "no XState: the legacy region alone"
        return Found(label, area, source, legacy_at, notes, origin="assembled")
    start, length = chunk
    mask, compaction = MASKS.unpack(data[start : start + MASKS.size])
    image = joined(
        legacy,
        data[start + MASKS.size : start + length],
        mask | live,
        compaction | X87 | SSE if compaction & COMPACTED else compaction,
    )
    view = memoryview(image)
    if rows:
        catalog = options.catalog or default_catalog()
        rows = [*rows, *_untold(rows, compaction | mask, catalog)]
        model, source = _described(catalog, tuple(rows), mxcsr_mask_of(view, catalog=catalog))
        known = told(Known(model, source), options, view, "the dump's MISC_INFO_5")
    else:
        known = of_area(view, options)
    known = known._replace(notes=(*notes, *known.notes))
    return known.found(view, options, label, legacy_at)


def _chunk(data: Data, size: int, at: int, shape: _Shape) -> tuple[int, int] | None:
    """The offset and length of a context's XState chunk; None where it has none."""
    if not _flags(data, at, shape) & _XSTATE_FLAG:
        return None
    extra = at + shape.size
    if size < shape.size + _CONTEXT_EX.size:
        raise ArtefactError(
            "ContextFlags promise XState, but the context is cut off before its CONTEXT_EX: state "
            "beyond SSE is not in the file",
            extra,
        )
    *_, offset, length = _CONTEXT_EX.unpack_from(data, extra)
    start = extra + offset
    if not extra + _CONTEXT_EX.size <= start <= start + length <= at + size:
        raise ArtefactError(
            f"the XState chunk ({length} bytes at {offset:+d}) is not within its context", extra
        )
    if length < HEADER_SIZE:
        raise ArtefactError(f"the XState chunk has {length} bytes, its header 64", start)
    if length > MAX_AREA:
        raise ArtefactError(f"the XState chunk has {length} bytes, more than any area", start)
    return start, length


def _rows(data: Data, streams: _Streams) -> list[Entry]:
    """The layout in MINIDUMP_MISC_INFO_5; empty where the dump has none."""
    needed = _XSTATE_DATA + _XSTATE_CONFIG.size + 8 * _FEATURES
    ((size, at),) = streams.get(_MISC_INFO, [(0, 0)])
    if size < needed:
        return []
    config = at + _XSTATE_DATA
    length, _, enabled = _XSTATE_CONFIG.unpack_from(data, config)
    if length == 0:
        return []  # written by a system without XSAVE
    if length < _XSTATE_CONFIG.size + 8 * _FEATURES:
        raise ArtefactError(f"XSTATE_CONFIG_FEATURE_MSC_INFO has {length} bytes, not 528", config)
    found = []
    for number in bits_of(enabled & ~(X87 | SSE | COMPACTED)):
        where = config + _XSTATE_CONFIG.size + 8 * number
        offset, length = (int.from_bytes(data[p : p + 4], "little") for p in (where, where + 4))
        found.append((number, length, offset))
        # Of a supervisor component only the size can be absurd.
        fault = row_faults([(number, length, offset or EXTENDED_OFFSET)], _LIMIT)
        if fault:
            raise ArtefactError(f"MISC_INFO_5: {fault}", where)
    if fault := row_faults([row for row in found if row[2]], _LIMIT):
        raise ArtefactError(f"MISC_INFO_5: {fault}", config)
    return found


def _untold(rows: list[Entry], mask: int, catalog: Catalog) -> list[Entry]:
    """Supervisor components that a chunk has and the table lacks: CET_U, in dumps of x86 programs.

    Their sizes are the catalogue's, where all models agree.
    """
    lacks = mask & ~(X87 | SSE | COMPACTED) & ~sum(1 << number for number, _, _ in rows)
    sizes: dict[int, set[int]] = {}
    for model in catalog.models() if lacks else ():
        for part in model.components.values():
            if part.supervisor and lacks & part.bit:
                sizes.setdefault(part.number, set()).add(part.size)
    return [(number, min(size), 0) for number, size in sorted(sizes.items()) if len(size) == 1]


@kept(16)
def _described(catalog: Catalog, rows: tuple[Entry, ...], mxcsr_mask: int) -> tuple[CpuModel, str]:
    """The model with this table of components, or one made from it.

    A component without an offset is a supervisor component: CET_U, which Windows shows to users.
    """
    hidden = {number: size for number, size, offset in rows if not offset}
    supervisor = sum(1 << number for number in hidden)
    shown = [row for row in rows if row[2]]
    for model in identify(layout=shown, mxcsr_mask=mxcsr_mask, catalog=catalog).models:
        parts = [model.by_number.get(number) for number in hidden]
        if all(part and part.supervisor and part.size == hidden[part.number] for part in parts):
            return model.limited(xss=supervisor), f"MISC_INFO_5, the layout of {model.name}"
    # The table does not say what is aligned; CPUs do not differ there.
    aligned = {
        part.number
        for model in catalog.models()
        for part in model.components.values()
        if part.align64
    }
    user = X87 | SSE | sum(1 << number for number, _, _ in shown)
    leaf = {
        number: (size, offset, (not offset) | (number in aligned) << 1, 0)
        for number, size, offset in rows
    }
    leaf[0] = user & 0xFFFF_FFFF, 0, 0, user >> 32
    leaf[1] = 0, 0, supervisor & 0xFFFF_FFFF, supervisor >> 32
    return model_from_leaf(leaf, name="minidump", catalog=catalog), "MISC_INFO_5"
