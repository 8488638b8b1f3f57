"""The YAML documents as types: what a component, a model and the registers file may say.

These classes are the one definition of the language. msgspec reads documents by them and exports
the JSON Schemas for editors from them; :mod:`xsaveschema.language.validate` finds every fault by
the same schema.

Annotations are no text here (no ``from __future__ import annotations``): msgspec would compile each
of them anew in every process.
"""

import re
from functools import cache
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from xsaveschema.model import MAX_EXTENT
from xsaveschema.rules import Illegal

FieldType = Literal["u8", "u16", "u32", "u64", "u80", "u128", "u256", "u512", "bytes"]
Predicate = Literal["tilecfg"]
Instruction = Literal["xsaveopt", "xsavec", "xgetbv1", "xsaves", "xfd"]

# `(?!\n)$`: in Python `$` also matches before a last line feed, in an editor's ECMAScript not.
_NAME: Final = r"^[a-z][a-z0-9_]*(?!\n)$"
_UNIQUE: Final = {"uniqueItems": True}

ComponentName = Annotated[
    str,
    Meta(
        pattern=_NAME,
        max_length=64,
        description="A component's name: lower-case letters, digits and _",
    ),
]
FieldName = Annotated[
    str,
    Meta(
        pattern=_NAME,
        max_length=64,
        description="A name: lower-case letters, digits and _, a letter first",
    ),
]
ModelName = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9]+(-[a-z0-9]+)*(?!\n)$",
        max_length=64,
        description="A model's name: lower-case letters and digits, with hyphens between words",
    ),
]
Number = Annotated[
    int, Meta(ge=0, le=62, description="The component's number: its bit in XCR0 or IA32_XSS")
]
Size = Annotated[int, Meta(ge=1, le=MAX_EXTENT, description="Size in bytes")]
Offset = Annotated[int, Meta(ge=0, le=MAX_EXTENT)]
Bit = Annotated[int, Meta(ge=0, le=511, description="A bit number")]
Bits = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{1,3}:[0-9]{1,3}(?!\n)$",
        description='A range of bits in quotes, high before low: "9:8"',
    ),
]
ByteRange = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{1,7}:[0-9]{1,7}(?!\n)$",
        description='A range of bytes in quotes, first and last: "72:127"',
    ),
]
Text = Annotated[str, Meta(min_length=1)]
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


class FieldDoc(Struct, frozen=True, forbid_unknown_fields=True):
    """A field: a number of a type, raw bytes, or a group of fields."""

    name: FieldName
    type: FieldType | UnsetType = UNSET
    size: (
        Annotated[int, Meta(ge=1, le=MAX_EXTENT, description="Bytes of a field of type bytes")]
        | UnsetType
    ) = UNSET
    at: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=MAX_EXTENT,
                description="Offset in bytes from the component's start (x87 and sse: from the "
                "area's); left out, the field follows the one before it",
            ),
        ]
        | UnsetType
    ) = UNSET
    count: (
        Annotated[int, Meta(ge=1, le=4096, description="How many times the field repeats")]
        | UnsetType
    ) = UNSET
    counted_by: (
        Annotated[
            FieldName,
            Meta(
                description="The number in the component that says how many elements are in use; "
                "a CPU may have fewer elements than count"
            ),
        ]
        | UnsetType
    ) = UNSET
    stride: (
        Annotated[
            int,
            Meta(
                ge=1, le=MAX_EXTENT, description="Bytes from one repeat to the next; else the size"
            ),
        ]
        | UnsetType
    ) = UNSET
    initial: (
        Annotated[int, Meta(ge=0, description="The value in the initial state; else 0")] | UnsetType
    ) = UNSET
    title: Title | UnsetType = UNSET
    bits: (
        Annotated[
            dict[FieldName, Bit | Bits],
            Meta(description='Named bits: a number, or a range in quotes, "high:low"'),
        ]
        | UnsetType
    ) = UNSET
    reserved: (
        Annotated[
            Bit | Bits | Annotated[list[Bit | Bits], Meta(min_length=1)],
            Meta(description="Bits that must be 0: a number, a range in quotes, or a list"),
        ]
        | UnsetType
    ) = UNSET
    canonical: (
        Annotated[bool, Meta(description="An address that must be canonical, of 57 bits")]
        | UnsetType
    ) = UNSET
    at_most: (
        Annotated[int, Meta(ge=0, description="The largest value that is legal")] | UnsetType
    ) = UNSET
    multiple_of: (
        Annotated[int, Meta(ge=2, description="What divides every legal value")] | UnsetType
    ) = UNSET
    fields: (
        Annotated[list["FieldDoc"], Meta(min_length=1, description="The fields of a group")]
        | UnsetType
    ) = UNSET


class ComponentDoc(Struct, frozen=True, forbid_unknown_fields=True):
    """components/NN-name.yaml: the fields of one state component, on every CPU model."""

    component: ComponentName
    number: Number
    title: Title
    source: Annotated[str, Meta(min_length=1, description="Where this is from")] | UnsetType = UNSET
    needs: (
        Annotated[
            list[ComponentName],
            Meta(
                min_length=1,
                description="The components without which XCR0 may not enable this one",
                extra_json_schema=_UNIQUE,
            ),
        ]
        | UnsetType
    ) = UNSET
    together: (
        Annotated[
            list[ComponentName],
            Meta(
                min_length=1,
                description="The components that XCR0 enables with this one or not at all",
                extra_json_schema=_UNIQUE,
            ),
        ]
        | UnsetType
    ) = msgspec.field(default=UNSET, name="with")
    reserved_bytes: (
        Annotated[
            list[ByteRange],
            Meta(min_length=1, description="Bytes that no field names and that must be 0"),
        ]
        | UnsetType
    ) = UNSET
    predicate: (
        Annotated[
            Predicate, Meta(description="A rule of several fields that the package knows by name")
        ]
        | UnsetType
    ) = UNSET
    illegal: (
        Annotated[
            Illegal,
            Meta(
                description="What a value against the rules does: fault (the default of a "
                "supervisor component), or initial: the initial state is loaded without one"
            ),
        ]
        | UnsetType
    ) = UNSET
    fields: list[FieldDoc] | UnsetType = UNSET


class SignatureDoc(Struct, frozen=True, forbid_unknown_fields=True):
    """CPUs by family, models and steppings; without steppings every stepping."""

    family: Annotated[
        int, Meta(ge=0, le=0x10E, description="Display family: with the extended family added")
    ]
    models: Annotated[
        list[Annotated[int, Meta(ge=0, le=0xFF)]],
        Meta(
            min_length=1,
            description="Display models: with the extended model nibble in families 6, 7 and 15",
            extra_json_schema=_UNIQUE,
        ),
    ]
    steppings: (
        Annotated[
            list[Annotated[int, Meta(ge=0, le=15)]],
            Meta(min_length=1, extra_json_schema=_UNIQUE),
        ]
        | UnsetType
    ) = UNSET
    vendor: Vendor | UnsetType = UNSET


class EntryDoc(Struct, frozen=True, forbid_unknown_fields=True):
    """A state component on one CPU model, as CPUID leaf 0xD enumerates it."""

    size: Size
    offset: (
        Annotated[
            int,
            Meta(ge=0, le=MAX_EXTENT, description="Offset in bytes in the standard format (EBX)"),
        ]
        | UnsetType
    ) = UNSET
    supervisor: Annotated[
        bool, Meta(description="IA32_XSS enables it (ECX bit 0); it has no offset")
    ] = False
    align64: Annotated[
        bool, Meta(description="The compacted format moves it up to a multiple of 64 (ECX bit 1)")
    ] = False
    xfd: Annotated[bool, Meta(description="Extended feature disable knows it (ECX bit 2)")] = False
    optional: (
        Annotated[
            Literal["present", "absent"],
            Meta(
                description="present: some parts lack it. absent: in the table, but not in the "
                "default mask"
            ),
        ]
        | UnsetType
    ) = UNSET
    number: (
        Annotated[
            int,
            Meta(
                ge=0, le=62, description="The number of a component that has no file: opaque bytes"
            ),
        ]
        | UnsetType
    ) = UNSET


class SizesDoc(Struct, frozen=True, forbid_unknown_fields=True):
    """Self-check against CPUID, for the default masks."""

    standard: Annotated[
        int, Meta(ge=1, le=MAX_EXTENT, description="Leaf 0xD, sub-leaf 0, ECX: the standard format")
    ]
    compacted: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=MAX_EXTENT,
                description="Leaf 0xD, sub-leaf 1, EBX with every default component enabled "
                "(XCR0 | IA32_XSS); left out where the CPU has no XSAVEC",
            ),
        ]
        | UnsetType
    ) = UNSET


class ModelDoc(Struct, frozen=True, forbid_unknown_fields=True):
    """models/VENDOR/NAME.yaml: one CPU model."""

    model: ModelName
    title: Title
    aliases: (
        Annotated[
            list[ModelName],
            Meta(
                min_length=1,
                description="Other names by which people ask for it: spr, milan",
                extra_json_schema=_UNIQUE,
            ),
        ]
        | UnsetType
    ) = UNSET
    popularity: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=100,
                description="How likely people meet it, 0 if left out: of models that fit an area "
                "alike, the most popular one is named",
            ),
        ]
        | UnsetType
    ) = UNSET
    extends: (
        Annotated[
            ModelName,
            Meta(
                description="The model from which vendor, instructions, mxcsr_mask and components "
                "are taken where they are not given here"
            ),
        ]
        | UnsetType
    ) = UNSET
    vendor: Vendor | UnsetType = UNSET
    signatures: list[SignatureDoc] | UnsetType = UNSET
    instructions: (
        Annotated[
            list[Instruction],
            Meta(
                description="Leaf 0xD, sub-leaf 1, EAX bits 0 to 4",
                extra_json_schema=_UNIQUE,
            ),
        ]
        | UnsetType
    ) = UNSET
    components: (
        Annotated[
            dict[ComponentName, EntryDoc | None],
            Meta(
                description="State components beside x87 and sse, by name; null removes one that "
                "the extended model has"
            ),
        ]
        | UnsetType
    ) = UNSET
    sizes: SizesDoc | UnsetType = UNSET
    mxcsr_mask: (
        Annotated[
            int,
            Meta(ge=0, le=0xFFFFFFFF, description="MXCSR_MASK: 0xFFFF, or 0x2FFFF on many AMD"),
        ]
        | UnsetType
    ) = UNSET
    confirmed: (
        Annotated[bool, Meta(description="false: no CPUID dump shows this; then give source")]
        | UnsetType
    ) = UNSET
    confirmed_by: (
        Annotated[
            list[Text],
            Meta(
                min_length=1,
                description="CPUID dumps that have exactly this layout",
                extra_json_schema=_UNIQUE,
            ),
        ]
        | UnsetType
    ) = UNSET
    source: Annotated[str, Meta(min_length=1, description="Where this is from")] | UnsetType = UNSET


class ShapeDoc(Struct, frozen=True, forbid_unknown_fields=True):
    """The fields that shape a tile register: its rows, and the bytes of a row."""

    rows: PieceDoc
    colsb: PieceDoc


class RegisterDoc(Struct, frozen=True, forbid_unknown_fields=True):
    """A whole register, or several of them, composed of fields."""

    name: FieldName
    pieces: Annotated[list[PieceDoc], Meta(min_length=1, description="Low bits first")]
    first: Annotated[int, Meta(ge=0, le=4096, description="The number of the first one: zmm16")] = 0
    count: (
        Annotated[int, Meta(ge=1, le=64, description="How many; left out, one of just this name")]
        | UnsetType
    ) = UNSET
    top: (
        Annotated[
            str,
            Meta(
                min_length=1,
                description="component.field.bits: register p is element (p - top) & 7",
            ),
        ]
        | UnsetType
    ) = UNSET
    shape: ShapeDoc | UnsetType = UNSET


class RegistersDoc(Struct, frozen=True, forbid_unknown_fields=True):
    """registers.yaml: whole registers."""

    registers: list[RegisterDoc]


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
    top = definitions.pop(KINDS[kind].__name__)
    for definition in (top, *definitions.values()):
        definition.pop(
            "title", None
        )  # a class name, which an editor would show over the description
    found: dict[str, Any] = _readable(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": f"xsaveschema {kind}",
            **top,
            **({"$defs": definitions} if definitions else {}),
        }
    )
    return found


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
