# SPDX-License-Identifier: MIT
"""Xen: the XSAVE records of a saved HVM or PV domain, alone or in an ``xl save`` file.

A domain's HVM context is a chain of records {u16 typecode, u16 instance, u32 length} that begins
with HEADER (1) and ends with END (0); CPU_XSAVE (16) holds {u64 xfeature_mask, u64 xcr0, u64
xcr0_accum} and an area in the standard format, as long as XCR0_ACCUM makes it on the host. An
``xl save`` file wraps the chain into a libxc stream (record HVM_CONTEXT), in a libxl stream. A PV
domain has one libxc record (X86_PV_VCPU_XSAVE) for each vCPU: {u64 xcr0, u64 xcr0_accum} and the
area. Sources: Xen's ``public/arch-x86/hvm/save.h``, ``hvm_save_cpu_xsave_states``, and the
documents ``libxc-migration-stream`` and ``libxl-migration-stream``. **Not yet seen from a real
producer**: the tests' files are built from those structures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from xsaveschema.artefacts.layouts import Known, assumed
from xsaveschema.artefacts.reader import ArtefactError, Data, Found, InPlace, Options, Struct
from xsaveschema.artefacts.source import MAX_AREA, require
from xsaveschema.catalog import Catalog, default_catalog
from xsaveschema.cpuid.record import signature_parts
from xsaveschema.errors import IdentificationError, hex_mask
from xsaveschema.evidence import contradictions, lacks
from xsaveschema.identify.match import alike
from xsaveschema.kept import kept
from xsaveschema.layout import has_layout, places, standard, under
from xsaveschema.model import EXTENDED_OFFSET, CpuModel

_RECORD: Final = Struct("<HHI")  # HVM: typecode, instance, length
_HEADER: Final = Struct("<I12xI4x")  # magic, version, changeset, CPUID leaf 1 EAX, TSC kHz
_HVM_MAGIC: Final = 0x5438_1286
_END, _HEADER_CODE, _XSAVE_CODE = 0, 1, 16
_XSAVE: Final = Struct("<8xQQ")  # xfeature_mask, xcr0, xcr0_accum
_PV_XSAVE: Final = Struct("<I4xQQ")  # vCPU, reserved, xcr0, xcr0_accum

_XL_MAGIC: Final = b"Xen saved domain, xl format\n \0 \r"
_LIBXL_MAGIC: Final = b"LibxlFmt"
_LIBXC_MAGIC: Final = b"\xff" * 8 + b"XENF"  # marker, id
_XL: Final = Struct("<32xI8xI")  # magic, byte order, two sets of flags, optional data's length
_XL_BYTE_ORDER: Final = 0x0102_0304
_LIBXL: Final = Struct(">12xI")  # ident, version, options
_LIBXC: Final = Struct(">12s4xH22x")  # marker and id, version, options; the header of the domain
_STREAM_RECORD: Final = Struct("<II")  # type, length; bodies are padded to 8 bytes
_LIBXC_CONTEXT: Final = 1
_PV_VCPU_XSAVE, _HVM_CONTEXT = 6, 9

_MAX_RECORDS: Final = 1 << 22
"""Four million records of at most 4 MiB of memory each are 16 TiB of guest."""


class XenReader(InPlace):
    """Reads HVM contexts, libxc and libxl streams and ``xl save`` files."""

    name = "xen"
    title = "Xen saved domain (HVM context, libxc or libxl stream, xl save)"

    def recognises(self, data: Data) -> bool:
        """Whether this is any of the four, by its first bytes."""
        return _is_context(data) or _is_stream(data)

    def read(self, data: Data, options: Options) -> Iterator[Found]:
        """The area of every vCPU, in the file's order."""
        context = _is_context(data)
        if not context and not _is_stream(data):
            raise ArtefactError("no saved Xen domain: other first bytes", 0)
        seen: set[str] = set()
        for found in _hvm(data, 0, len(data), options) if context else _stream(data, options):
            if found.label in seen:
                raise ArtefactError(f"a second XSAVE record of {found.label}", found.offset)
            seen.add(found.label)
            yield found
        if not seen:
            raise ArtefactError("the saved domain has no XSAVE record")


READER: Final = XenReader()


def _is_context(data: Data) -> bool:
    """Whether this is an HVM context: its first record is a HEADER with the magic number."""
    if len(data) < _RECORD.size + _HEADER.size:
        return False
    code, magic = _RECORD.unpack_from(data)[0], _HEADER.unpack_from(data, _RECORD.size)[0]
    return (code, magic) == (_HEADER_CODE, _HVM_MAGIC)


def _is_stream(data: Data) -> bool:
    """Whether this is a stream, by what wraps it."""
    head = bytes(data[:32])
    return len(head) == 32 and (head == _XL_MAGIC or head.startswith((_LIBXL_MAGIC, _LIBXC_MAGIC)))


def _records(
    data: Data, at: int, end: int, form: Struct, what: str, align: int = 1
) -> Iterator[tuple[list[int], int, int]]:
    """A chain of records: what else than the length stands in their heads, and where bodies are.

    ``form`` is that of a head, the body's length last. Ends where the caller knows the last one.
    """
    for _ in range(_MAX_RECORDS):
        *kind, length = form.read(data, at, f"a record of {what}", end)
        at += form.size
        require(data, at, length, f"a record of type {kind[0]:#x}", end)
        yield kind, at, at + length
        at += length + align - 1 & -align
    raise ArtefactError(f"{what} has records without end", at)


def _stream(data: Data, options: Options) -> Iterator[Found]:
    """Go through the wrappings of a libxc stream, then through its records."""
    at, end = 0, len(data)
    if bytes(data[:32]) == _XL_MAGIC:
        order, length = _XL.read(data, 0, "the header of xl")
        if order != _XL_BYTE_ORDER:
            raise ArtefactError(f"the byte order mark is {order:#x}, not {_XL_BYTE_ORDER:#x}", 32)
        require(data, _XL.size, length, "the optional data of xl")
        at = _XL.size + length
    if bytes(data[at : at + 8]) == _LIBXL_MAGIC:
        (flags,) = _LIBXL.read(data, at, "the header of libxl")
        if flags & 1:
            raise ArtefactError("the libxl stream is big-endian", at)
        at += _LIBXL.size
        for (kind,), body, _ in _records(data, at, end, _STREAM_RECORD, "libxl", 8):
            at = body
            if kind == _LIBXC_CONTEXT:
                break
            if kind == _END:
                raise ArtefactError("the libxl stream has no libxc context", at)
    magic, flags = _LIBXC.read(data, at, "the header of libxc")
    if magic != _LIBXC_MAGIC:
        raise ArtefactError("no libxc stream stands here: a format of Xen before 4.6?", at)
    if flags & 1:
        raise ArtefactError("the libxc stream is big-endian", at)
    for (kind,), body, stop in _records(data, at + _LIBXC.size, end, _STREAM_RECORD, "libxc", 8):
        if kind == _END:
            return
        if kind == _HVM_CONTEXT:
            yield from _hvm(data, body, stop, options)
        elif kind == _PV_VCPU_XSAVE and stop - body > 8:
            require(data, body, _PV_XSAVE.size + EXTENDED_OFFSET, "a PV XSAVE record", stop)
            vcpu, *masks = _PV_XSAVE.unpack_from(data, body)
            if masks[1]:
                yield _found(data, body + _PV_XSAVE.size, stop, vcpu, masks, None, options)


def _hvm(data: Data, at: int, end: int, options: Options) -> Iterator[Found]:
    """The areas of an HVM context: the chain of records in bytes ``at`` to ``end``."""
    signature = None
    for (code, instance), body, stop in _records(data, at, end, _RECORD, "the HVM context"):
        if (signature is None) != (code == _HEADER_CODE):
            raise ArtefactError("the HVM context does not begin with its one HEADER", body)
        if code == _HEADER_CODE:
            if stop - body < _HEADER.size or _HEADER.unpack_from(data, body)[0] != _HVM_MAGIC:
                raise ArtefactError("the HVM context has another HEADER", body)
            signature = _HEADER.unpack_from(data, body)[1]
        elif code == _END:
            return
        elif code == _XSAVE_CODE:
            require(data, body, _XSAVE.size + EXTENDED_OFFSET, "an XSAVE record", stop)
            masks = _XSAVE.unpack_from(data, body)
            yield _found(data, body + _XSAVE.size, stop, instance, masks, signature, options)


def _found(
    data: Data,
    at: int,
    end: int,
    vcpu: int,
    masks: Sequence[int],
    signature: int | None,
    options: Options,
) -> Found:
    xcr0, accumulated = masks
    if end - at > MAX_AREA:
        raise ArtefactError(f"the XSAVE record of vCPU {vcpu} has {end - at} bytes, no area", at)
    view = data[at:end]
    if options.model is None:
        catalog = options.catalog or default_catalog()
        known = _known(catalog, accumulated, len(view), signature)
    else:
        known = _named(view, options.model, accumulated, options)
    masks_said = f"XCR0 {hex_mask(xcr0)}, ever enabled {hex_mask(accumulated)}"
    known = known._replace(notes=(masks_said, *known.notes))
    return known.found(view, options, f"vCPU {vcpu}", at)


def _named(view: memoryview, model: CpuModel, accumulated: int, options: Options) -> Known:
    """The user's model: an area of Xen is as long as XCR0_ACCUM makes it on the host."""
    against = [*contradictions(view, model, options.catalog)]
    if alien := accumulated & ~model.user_mask:
        why = lacks(model, alien, options.catalog)
        against.append(f"XCR0_ACCUM is {hex_mask(accumulated)}, and {why}")
    elif (size := standard(model, accumulated).size) != len(view):
        against.append(
            f"the area has {len(view)} bytes; {model.name} takes {size} for XCR0_ACCUM "
            f"{hex_mask(accumulated)}"
        )
    if against:
        return assumed(model, against, options)
    source = f"model {model.name}, as named, limited to XCR0_ACCUM {hex_mask(accumulated)}"
    return Known(under(model, accumulated), source)


@kept(64)
def _known(catalog: Catalog, xcr0: int, size: int, signature: int | None) -> Known:
    """The model whose standard format for this XCR0 has this size; best one of this signature."""
    fits = [
        under(model, xcr0)
        for model in catalog.models()
        if has_layout(model, xcr0) and standard(model, xcr0).size == size
    ]
    parts = None if signature is None else signature_parts(signature)
    same = [
        model
        for model in fits
        if parts and any(sig.matches(sig.vendor, *parts) for sig in model.signatures)
    ]
    said = f"XCR0_ACCUM {hex_mask(xcr0)} and size"
    if same:
        said += " and CPUID signature"
    best = sorted(same or fits, key=lambda model: -model.popularity)
    if len({places(standard(model, xcr0)) for model in best}) != 1:
        what = "several models fit, with different layouts" if best else "no model fits"
        raise IdentificationError(
            f"{what}: {size} bytes, {said}; name the one that wrote the area (--model)",
            [model.name for model in best],
        )
    others = alike(standard(best[0], xcr0), catalog)
    return Known(best[0], f"model {best[0].name}, by {said}", others=others, origin="identified")
