# SPDX-License-Identifier: MIT
"""The YAML documents as types: what a component, a model and the registers file may say.

These classes are the one definition of the language. msgspec reads documents by them and exports
the JSON Schemas for editors from them; :mod:`xsaveschema.language.validate` finds every fault by
the same schema. The lines ``key: text`` of their docstrings are the schema's descriptions.

A text or a list that is left out is empty, as none that is given may be; what else may be left out
is UNSET. Annotations are no text here (no ``from __future__ import annotations``): msgspec would
compile each of them anew in every process.
"""

import inspect
import re
from functools import cache
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from xsaveschema.model import MAX_EXTENT, POPULARITY
from xsaveschema.rules import Illegal

T = TypeVar("T")
U = TypeVar("U")
Maybe: TypeAlias = T | UnsetType

FieldType = Literal["u8", "u16", "u32", "u64", "u80", "u128", "u256", "u512", "bytes"]
Predicate = Literal["tilecfg"]
Instruction = Literal["xsaveopt", "xsavec", "xgetbv1", "xsaves", "xfd"]

# `(?!\n)$`: in Python `$` also matches before a last line feed, in an editor's ECMAScript not.
_NAME: Final = r"^[a-z][a-z0-9_]*(?!\n)$"


def _text(pattern: str, description: str, longest: int | None = None) -> Meta:
    return Meta(pattern=pattern, max_length=longest, description=description)


def _number(least: int, most: int | None = MAX_EXTENT, description: str | None = None) -> Meta:
    return Meta(ge=least, le=most, description=description)


_SOME: Final = Meta(min_length=1)
_DIFFERENT: Final = Meta(min_length=1, extra_json_schema={"uniqueItems": True})

ComponentName = Annotated[
    str, _text(_NAME, "A component's name: lower-case letters, digits and _", 64)
]
FieldName = Annotated[
    str, _text(_NAME, "A name: lower-case letters, digits and _, a letter first", 64)
]
ModelName = Annotated[
    str,
    _text(
        r"^[a-z0-9]+(-[a-z0-9]+)*(?!\n)$",
        "A model's name: lower-case letters and digits, with hyphens between words",
        64,
    ),
]
Number = Annotated[int, _number(0, 62, "The component's number: its bit in XCR0 or IA32_XSS")]
Size = Annotated[int, _number(1, description="Size in bytes")]
Bytes = Annotated[int, _number(1)]
Offset = Annotated[int, _number(0)]
Natural = Annotated[int, _number(0, None)]
Bit = Annotated[int, _number(0, 511, "A bit number")]
Bits = Annotated[
    str,
    _text(r"^[0-9]{1,3}:[0-9]{1,3}(?!\n)$", 'A range of bits in quotes, high before low: "9:8"'),
]
ByteRange = Annotated[
    str,
    _text(r"^[0-9]{1,7}:[0-9]{1,7}(?!\n)$", 'A range of bytes in quotes, first and last: "72:127"'),
]
FeatureWord = Annotated[
    str,
    _text(r"^[a-z0-9]+([.-][a-z0-9]+)*(?!\n)$", "A CPUID feature's name in hypervisors", 64),
]
Text = Annotated[str, _SOME]
Title = Annotated[str, Meta(min_length=1, description="What it is, in a few words for people")]
Vendor = Annotated[
    str,
    Meta(
        min_length=12,
        max_length=12,
        description="The vendor string of CPUID leaf 0, 12 characters: GenuineIntel",
    ),
]
PieceDoc = Annotated[
    str,
    Meta(
        min_length=1,
        description="component.field, or component.field[high:low] for a slice of whole bytes",
    ),
]


def given(value: Maybe[T], otherwise: U) -> T | U:
    """A key's value, or what stands for it where the key was left out."""
    return otherwise if value is UNSET else value


class FieldDoc(Struct, frozen=True, forbid_unknown_fields=True):
    """A field: a number of a type, raw bytes, or a group of fields.

    size: Bytes of a field of type bytes
    at: Offset in bytes from the component's start (x87 and sse: from the area's); left out, the
        field follows the one before it
    count: How many times the field repeats
    counted_by: The number in the component that says how many elements are in use; a CPU may have
        fewer elements than count
    stride: Bytes from one repeat to the next; else the size
    initial: The value in the initial state; else 0
    bits: Named bits: a number, or a range in quotes, "high:low"
    reserved: Bits that must be 0: a number, a range in quotes, or a list
    canonical: An address that must be canonical, of 57 bits
    at_most: The largest value that is legal
    multiple_of: What divides every legal value
    fields: The fields of a group
    """

    name: FieldName
    type: Maybe[FieldType] = UNSET
    size: Maybe[Bytes] = UNSET
    at: Maybe[Offset] = UNSET
    count: Maybe[Annotated[int, _number(1, 4096)]] = UNSET
    counted_by: FieldName = ""
    stride: Maybe[Bytes] = UNSET
    initial: Maybe[Natural] = UNSET
    title: Title = ""
    bits: dict[FieldName, Bit | Bits] = {}
    reserved: Maybe[Bit | Bits | Annotated[tuple[Bit | Bits, ...], _SOME]] = UNSET
    canonical: Maybe[bool] = UNSET
    at_most: Maybe[Natural] = UNSET
    multiple_of: Maybe[Annotated[int, _number(2, None)]] = UNSET
    fields: Annotated[tuple["FieldDoc", ...], _SOME] = ()


class ComponentDoc(Struct, frozen=True, forbid_unknown_fields=True):
    """components/NN-name.yaml: the fields of one state component, on every CPU model.

    source: Where this is from
    needs: The components without which XCR0 may not enable this one
    with: The components that XCR0 enables with this one or not at all
    reserved_bytes: Bytes that no field names and that must be 0
    predicate: A rule of several fields that the package knows by name
    illegal: What a value against the rules does: fault (the default of a supervisor component), or
        initial: the initial state is loaded without one
    features: The CPUID features that need this state, as QEMU and libvirt call them
    qemu_features: Those that only QEMU has a name for
    """

    component: ComponentName
    number: Number
    title: Title
    source: Text = ""
    needs: Annotated[tuple[ComponentName, ...], _DIFFERENT] = ()
    together: Annotated[tuple[ComponentName, ...], _DIFFERENT] = msgspec.field(
        default=(), name="with"
    )
    reserved_bytes: Annotated[tuple[ByteRange, ...], _SOME] = ()
    predicate: Maybe[Predicate] = UNSET
    illegal: Maybe[Illegal] = UNSET
    features: Annotated[tuple[FeatureWord, ...], _DIFFERENT] = ()
    qemu_features: Annotated[tuple[FeatureWord, ...], _DIFFERENT] = ()
    fields: tuple[FieldDoc, ...] = ()


class SignatureDoc(Struct, frozen=True, forbid_unknown_fields=True):
    """CPUs by family, models and steppings; without steppings every stepping.

    family: Display family: with the extended family added
    models: Display models: with the extended model nibble in families 6, 7 and 15
    """

    family: Annotated[int, _number(0, 0x10E)]
    models: Annotated[tuple[Annotated[int, _number(0, 0xFF)], ...], _DIFFERENT]
    steppings: Annotated[tuple[Annotated[int, _number(0, 15)], ...], _DIFFERENT] = ()
    vendor: Vendor = ""


class EntryDoc(Struct, frozen=True, forbid_unknown_fields=True):
    """A state component on one CPU model, as CPUID leaf 0xD enumerates it.

    offset: Offset in bytes in the standard format (EBX)
    supervisor: IA32_XSS enables it (ECX bit 0); it has no offset
    align64: The compacted format moves it up to a multiple of 64 (ECX bit 1)
    xfd: Extended feature disable knows it (ECX bit 2)
    optional: present: some parts lack it. absent: in the table, but not in the default mask
    number: The number of a component that has no file: opaque bytes
    """

    size: Size
    offset: Maybe[Offset] = UNSET
    supervisor: bool = False
    align64: bool = False
    xfd: bool = False
    optional: Maybe[Literal["present", "absent"]] = UNSET
    number: Maybe[Number] = UNSET


class SizesDoc(Struct, frozen=True, forbid_unknown_fields=True):
    """Self-check against CPUID, for the default masks.

    standard: Leaf 0xD, sub-leaf 0, ECX: the standard format
    compacted: Leaf 0xD, sub-leaf 1, EBX with every default component enabled (XCR0 | IA32_XSS);
        left out where the CPU has no XSAVEC
    """

    standard: Bytes
    compacted: Maybe[Bytes] = UNSET


class ModelDoc(Struct, frozen=True, forbid_unknown_fields=True):
    """models/VENDOR/NAME.yaml: one CPU model.

    aliases: Other names by which people ask for it: spr, milan
    popularity: How likely people meet it, 50 if left out: of models that fit an area alike the most
        popular one is named, one with 0 only where no other fits
    extends: The model from which vendor, instructions, mxcsr_mask and components are taken where
        they are not given here
    instructions: Leaf 0xD, sub-leaf 1, EAX bits 0 to 4
    components: State components beside x87 and sse, by name; null removes one that the extended
        model has
    mxcsr_mask: MXCSR_MASK: 0xFFFF, or 0x2FFFF on many AMD
    confirmed: false: no CPUID dump shows this; then give source
    confirmed_by: CPUID dumps that have exactly this layout
    source: Where this is from
    """

    model: ModelName
    title: Title
    aliases: Annotated[tuple[ModelName, ...], _DIFFERENT] = ()
    popularity: Annotated[int, _number(0, 100)] = POPULARITY
    extends: ModelName = ""
    vendor: Vendor = ""
    signatures: tuple[SignatureDoc, ...] = ()
    instructions: Maybe[
        Annotated[tuple[Instruction, ...], Meta(extra_json_schema={"uniqueItems": True})]
    ] = UNSET
    components: dict[ComponentName, EntryDoc | None] = {}
    sizes: Maybe[SizesDoc] = UNSET
    mxcsr_mask: Maybe[Annotated[int, _number(0, 0xFFFFFFFF)]] = UNSET
    confirmed: Maybe[bool] = UNSET
    confirmed_by: Annotated[tuple[Text, ...], _DIFFERENT] = ()
    source: Text = ""


class ShapeDoc(Struct, frozen=True, forbid_unknown_fields=True):
    """The fields that shape a tile register: its rows, and the bytes of a row."""

    rows: PieceDoc
    colsb: PieceDoc


class RegisterDoc(Struct, frozen=True, forbid_unknown_fields=True):
    """A whole register, or several of them, composed of fields.

    pieces: Low bits first
    first: The number of the first one: zmm16
    count: How many; left out, one of just this name
    top: component.field.bits: register p is element (p - top) & 7
    """

    name: FieldName
    pieces: Annotated[tuple[PieceDoc, ...], _SOME]
    first: Annotated[int, _number(0, 4096)] = 0
    count: Maybe[Annotated[int, _number(1, 64)]] = UNSET
    top: Text = ""
    shape: Maybe[ShapeDoc] = UNSET


class RegistersDoc(Struct, frozen=True, forbid_unknown_fields=True):
    """registers.yaml: whole registers."""

    registers: tuple[RegisterDoc, ...]


KINDS: Final[dict[str, type[Struct]]] = {
    "model": ModelDoc,
    "component": ComponentDoc,
    "registers": RegistersDoc,
}
"""The kinds of document by the key that only they have."""


@cache
def json_schema(kind: str) -> dict[str, Any]:
    """The JSON Schema of a kind of document ("model", "component", "registers"), for editors."""
    schema = msgspec.json.schema(KINDS[kind])
    definitions = schema["$defs"]
    for definition in definitions.values():
        _describe(definition)
    top = definitions.pop(KINDS[kind].__name__)
    found: dict[str, Any] = _readable(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": f"xsaveschema {kind}",
            **top,
            **({"$defs": definitions} if definitions else {}),
        }
    )
    return found


def _describe(definition: dict[str, Any]) -> None:
    """Give the properties the descriptions that the type's docstring has of them."""
    del definition["title"]  # a class name, which an editor would show over the description
    properties = definition["properties"]
    text = inspect.cleandoc(definition.get("description", ""))
    definition["description"], _, rest = text.partition("\n\n")
    for key, text in re.findall(r"^(\w+): (.*(?:\n    .*)*)", rest, re.MULTILINE):
        properties[key]["description"] = re.sub(r"\n +", " ", text)
    for value in properties.values():
        if value.get("default") in ("", (), {}):  # what stands for a key that is not there
            del value["default"]


def _readable(schema: Any) -> Any:
    """A schema with the choices in the order that people list them: u8 before u16."""
    if isinstance(schema, list):
        return [_readable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _readable(value) for key, value in schema.items()}
    if isinstance(choices := found.get("enum"), list):
        found["enum"] = sorted(choices, key=_natural)
    return found


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(d or 0), word) for word, d in re.findall(r"([a-z]+)([0-9]*)", text)]
