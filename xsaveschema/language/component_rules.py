# SPDX-License-Identifier: MIT
"""A component document becomes the component's rules."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from msgspec import UNSET

from xsaveschema.errors import meant
from xsaveschema.language.document import Document, KeyPath
from xsaveschema.language.grammar import ComponentDoc, given
from xsaveschema.language.model_checks import check_unlike
from xsaveschema.model import MAX_EXTENT, Field, leaves
from xsaveschema.rules import Rules


def build_rules(document: Document, doc: ComponentDoc, fields: tuple[Field, ...]) -> Rules:
    """The rules of a component with these fields; faults go into ``document``."""
    for key, names in (("needs", doc.needs), ("with", doc.together), ("features", doc.features)):
        check_unlike(document, (key,), names)
    check_unlike(document, ("qemu_features",), doc.qemu_features, beside=doc.features)
    if doc.predicate is not UNSET and doc.illegal is UNSET:
        message = "nothing says what an illegal value does"
        hint = "add illegal: fault, or illegal: initial"
        document.fault("component-illegal", ("predicate",), message, hint)
    return Rules(
        needs=doc.needs,
        together=doc.together,
        reserved_bytes=tuple(_reserved_bytes(document, doc, fields)),
        predicate=given(doc.predicate, ""),
        illegal=given(doc.illegal, ""),
        features=doc.features,
        qemu_features=doc.qemu_features,
    )


def _reserved_bytes(
    document: Document, doc: ComponentDoc, fields: tuple[Field, ...]
) -> Iterator[tuple[int, int]]:
    if document.faults or document.gaps:
        fields = ()  # they may stand elsewhere than their file means
    end = 0
    for index, text in document.numbered(("reserved_bytes",), doc.reserved_bytes):
        place: KeyPath = ("reserved_bytes", index)
        first, last = map(int, text.split(":"))
        # Between and within the elements of a field there may be bytes that have no name.
        named = leaves(fields)
        taken = next((f for f in named if f.offset <= last and first < f.offset + f.size), None)
        if not end <= first <= last < MAX_EXTENT:
            message = f"{text} is empty, out of order or beyond {MAX_EXTENT:#x}"
            document.fault("component-bytes", place, message, "write first:last, low ones first")
        elif taken is not None:
            message = f"bytes {text} and {taken.path} overlap"
            document.fault("component-bytes", place, message, "a field's bits have reserved:")
        else:
            end = last + 1
            yield first, end


def check_companions(document: Document, doc: ComponentDoc, known: Collection[str]) -> None:
    """Record a fault for each name in ``needs:`` and ``with:`` that is no other component's.

    ``known`` are the components that have a file.
    """
    for key, names in (("needs", doc.needs), ("with", doc.together)):
        for index, name in document.numbered((key,), names):
            place: KeyPath = (key, index)
            if name == doc.component:
                message = f"{name} is the component itself"
                document.fault("component-companion", place, message, "remove it")
            elif name not in known:
                message, hint = f"no component file defines {name}", meant(name, known, 1)
                document.fault("component-companion", place, message, hint)
