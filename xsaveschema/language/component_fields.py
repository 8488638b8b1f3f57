# SPDX-License-Identifier: MIT
"""A component document becomes fields: offsets laid out, bit ranges read, rules checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import UNSET

from xsaveschema.language.document import Document, KeyPath
from xsaveschema.language.grammar import ComponentDoc, FieldDoc, given
from xsaveschema.model import MAX_EXTENT, BitRange, Field, leaves
from xsaveschema.rules import NO_LIMITS, Limits

SIZES: Final = {
    "u8": 1,
    "u16": 2,
    "u32": 4,
    "u64": 8,
    "u80": 10,
    "u128": 16,
    "u256": 32,
    "u512": 64,
}
"""Bytes of each number type."""
LEGACY_BYTES: Final = (((0, 24), (32, 160)), ((24, 32), (160, 416)))
"""Where x87 and sse have their fields in the legacy region: MXCSR stands amid x87's bytes."""
MAX_ELEMENTS: Final = 1 << 14
"""Field elements of a component, repeats counted: TILEDATA has 8, LBR 101."""


def build_fields(document: Document, doc: ComponentDoc) -> tuple[Field, ...]:
    """The fields of a component; faults go into ``document``."""
    fields = _level(document, doc.fields, ("fields",))
    if not document.gaps:  # the number may be what was left out
        _check_counts(document, doc.fields, ("fields",), {f.name: f for f in fields})
    if document.faults:
        return fields
    if _elements(fields) > MAX_ELEMENTS:
        message = f"has {_elements(fields)} elements; {MAX_ELEMENTS} is the most"
        document.fault("field-place", ("fields",), message, "give raw memory the type bytes")
    for index, field in enumerate(fields):
        if field.end > MAX_EXTENT:
            message = f"{_range(field)} ends beyond {MAX_EXTENT:#x}"
            document.fault("field-place", ("fields", index), message)
        elif doc.number < 2 and not _in_legacy(field, LEGACY_BYTES[doc.number]):
            there = " and ".join(f"[{at:#x}..{end:#x})" for at, end in LEGACY_BYTES[doc.number])
            message = f"{_range(field)} lies outside {doc.component}'s bytes, {there}"
            document.fault("field-place", ("fields", index), message)
    return fields


def _in_legacy(field: Field, places: tuple[tuple[int, int], ...]) -> bool:
    """Whether every element of a field lies in one of these places."""
    return all(
        any(start <= leaf.offset and leaf.offset + leaf.size <= end for start, end in places)
        for leaf in leaves((field,))
    )


def _check_counts(
    document: Document, docs: Sequence[FieldDoc], place: KeyPath, numbers: Mapping[str, Field]
) -> None:
    """Record a fault for each ``counted_by:`` that is none of ``numbers``, or not on a repeat."""
    for index, doc in document.numbered(place, docs):
        here = (*place, index)
        _check_counts(document, doc.fields, (*here, "fields"), {})
        if not doc.counted_by:
            continue
        if doc.count is UNSET or len(place) > 1:
            message = f"{doc.name} does not repeat" if doc.count is UNSET else "within a group"
            document.fault("field-count", (*here, "counted_by"), message, "remove it", key=True)
            continue
        by = numbers.get(doc.counted_by)
        if by is None or by.type in ("group", "bytes") or by.count is not None:
            message = f"{doc.counted_by} is no number of this component"
            document.fault("field-count", (*here, "counted_by"), message)


def _elements(fields: Sequence[Field]) -> int:
    return sum((f.count or 1) * (_elements(f.fields) if f.fields else 1) for f in fields)


def _level(document: Document, docs: Sequence[FieldDoc], place: KeyPath) -> tuple[Field, ...]:
    fields: list[Field] = []
    placed: list[Field] = []  # those whose offset is known
    names: dict[str, KeyPath] = {}
    expected, end = 0, 0
    known = True  # whether the field before has an end to follow
    for index, doc in document.numbered(place, docs):
        here = (*place, index)
        known = (known and index == expected) or doc.at is not UNSET
        expected = index + 1
        field = _field(document, doc, here, end)
        if field is None:
            known = False
            continue
        if doc.name in names:
            message = f"{doc.name} stands twice, first at line {document.line(names[doc.name])}"
            document.fault("field-name", (*here, "name"), message)
        names.setdefault(doc.name, (*here, "name"))
        if known:
            at = (*here, "at") if doc.at is not UNSET else (*here, "name")
            _check_overlap(document, field, placed, at)
            placed.append(field)
        fields.append(field)
        end = field.end
    return tuple(fields)


def _check_overlap(document: Document, field: Field, placed: list[Field], place: KeyPath) -> None:
    for other in placed:
        if field.offset < other.end and other.offset < field.end and not _interleaved(field, other):
            message = f"{_range(field)} and {_range(other)} overlap"
            document.fault("field-overlap", place, message)
            return  # the first is enough to mend


def _interleaved(a: Field, b: Field) -> bool:
    """Whether one lies between the elements of the other, without sharing a byte."""
    if a.count is None:
        a, b = b, a
    if a.count is None or (b.count is not None and a.stride != b.stride):
        return False
    phase = (b.offset - a.offset) % a.stride
    return a.size <= phase <= a.stride - b.size


def _range(field: Field) -> str:
    return f"{field.name} [{field.offset:#x}..{field.end:#x})"


def _field(document: Document, doc: FieldDoc, here: KeyPath, follows: int) -> Field | None:
    group = bool(doc.fields)
    if group == (doc.type is not UNSET):
        both = "has both type: and fields:" if group else "has neither type: nor fields:"
        document.fault("field-kind", here, f"{doc.name} {both}", "give one of the two")
        return None
    before = len(document.faults)
    inner = _level(document, doc.fields, (*here, "fields"))
    sound = len(document.faults) == before and not any(
        gap[: len(here)] == here and "bits" not in gap for gap in document.gaps
    )
    size = _size(document, doc, here, inner, sound=sound)
    if size is None:
        return None
    stride = given(doc.stride, size)
    if doc.stride is not UNSET and (doc.count is UNSET or stride < size):
        why = "stands without count:" if doc.count is UNSET else f"is less than the size, {size}"
        document.fault("field-stride", (*here, "stride"), f"stride {why}")
        stride = max(stride, size)
    bits, initial, limits = _number(document, doc, here, size)
    return Field(
        name=doc.name,
        type=given(doc.type, "group"),
        offset=given(doc.at, follows),
        size=size,
        count=given(doc.count, None),
        stride=stride,
        initial=initial,
        title=doc.title,
        bits=bits,
        fields=inner,
        limits=limits,
        counted_by=doc.counted_by,
    )


def _size(
    document: Document, doc: FieldDoc, here: KeyPath, inner: tuple[Field, ...], *, sound: bool
) -> int | None:
    """The bytes of one element; None where they are not to be known."""
    if doc.type == "bytes":
        if doc.size is UNSET:
            document.fault("field-size", here, f"{doc.name} is bytes without size:", "add size: N")
            return None
        return doc.size
    if doc.type is UNSET:
        if not sound:
            return None
        least = max((field.end for field in inner), default=0)
        if doc.size is not UNSET and doc.size < least:
            message = f"size {doc.size} is too small for the group's fields, which end at {least}"
            document.fault("field-size", (*here, "size"), message)
            return least
        return given(doc.size, least)
    size = SIZES[doc.type]
    if doc.size is not UNSET:
        message = f"a {doc.type} has {size} bytes"
        document.fault("field-size", (*here, "size"), message, "leave size: out")
    return size


def _number(
    document: Document, doc: FieldDoc, here: KeyPath, size: int
) -> tuple[tuple[BitRange, ...], int, Limits]:
    """What only a number has: its bits, its initial value and its limits."""
    initial = given(doc.initial, 0)
    limits = [key for key in Limits.__struct_fields__ if getattr(doc, key) is not UNSET]
    if doc.type is UNSET or doc.type == "bytes":
        if doc.initial is not UNSET:
            message = "only a number has an initial value"
            document.fault("field-initial", (*here, "initial"), message)
        if doc.bits:
            document.fault("field-bits", (*here, "bits"), "only a number has bits", key=True)
        if limits:
            place = (*here, limits[0])
            document.fault("field-limits", place, "only a number has limits", key=True)
        return (), 0, NO_LIMITS
    if initial >> (8 * size):
        message = f"{initial:#x} does not fit a {doc.type}"
        document.fault("field-initial", (*here, "initial"), message)
        initial = 0
    bits = _bits(document, doc, doc.type, here)
    return bits, initial, _limits(document, doc, doc.type, here, bits) if limits else NO_LIMITS


def _bits(document: Document, doc: FieldDoc, kind: str, here: KeyPath) -> tuple[BitRange, ...]:
    ranges: list[BitRange] = []
    taken = 0
    for name, spec in doc.bits.items():
        place = (*here, "bits", name)
        found = _range_of_bits(document, name, spec, kind, place)
        if found is None:
            continue
        if found.mask & taken:
            other = next(other.name for other in ranges if found.mask & other.mask)
            document.fault("field-bits", place, f"{name} and {other} share bits")
        taken |= found.mask
        ranges.append(found)
    return tuple(ranges)


def _range_of_bits(
    document: Document, name: str, spec: int | str, kind: str, place: KeyPath
) -> BitRange | None:
    """The bits that a number or "high:low" means in a field of a type; None with a fault."""
    width = 8 * SIZES[kind]
    high, low = (spec, spec) if isinstance(spec, int) else map(int, spec.split(":"))
    if high < low:
        hint = f'write high:low, "{low}:{high}"'
        document.fault("field-bits", place, f"{high}:{low} is empty", hint)
        return None
    if high >= width:
        message = f"bit {high} lies outside a {kind} of {width} bits"
        document.fault("field-bits", place, message)
        return None
    return BitRange(name, low, high - low + 1)


def _limits(
    document: Document, doc: FieldDoc, kind: str, here: KeyPath, bits: tuple[BitRange, ...]
) -> Limits:
    reserved, width = 0, 8 * SIZES[kind]
    specs = given(doc.reserved, ())
    listed = isinstance(specs, tuple)
    for index, spec in enumerate(specs if isinstance(specs, tuple) else [specs]):
        place = (*here, "reserved", index) if listed else (*here, "reserved")
        if found := _range_of_bits(document, "reserved", spec, kind, place):
            if reserved & found.mask:
                document.fault("field-bits", place, "bits are reserved twice", "remove one")
            elif other := next((named for named in bits if named.mask & found.mask), None):
                document.fault("field-bits", place, f"reserved bits and {other.name} share bits")
            reserved |= found.mask
    canonical = doc.canonical is True
    if canonical and kind != "u64":
        message = f"an address has 64 bits, a {kind} has {width}"
        document.fault("field-limits", (*here, "canonical"), message)
    for key in ("at_most", "multiple_of"):
        limit = getattr(doc, key)
        if limit is not UNSET and limit >> width:
            message = f"{limit:#x} does not fit a {kind}"
            document.fault("field-limits", (*here, key), message)
    limits = Limits(reserved, canonical, given(doc.at_most, None), given(doc.multiple_of, 1))
    if doc.initial is not UNSET and (broken := next(limits.broken_by(doc.initial), "")):
        message = f"the initial value is {doc.initial:#x}: {broken}"
        document.fault("field-limits", (*here, "initial"), message)
    return limits
