# SPDX-License-Identifier: MIT
"""The rules that look at several values of a model document at once."""

from __future__ import annotations

from collections.abc import Sequence

from xsaveschema.errors import MaskError, SchemaError, hex_mask
from xsaveschema.language.document import Document, KeyPath, quoted
from xsaveschema.language.grammar import ModelDoc, given
from xsaveschema.layout import check_xcr0
from xsaveschema.model import CpuModel


def check_repeats(document: Document, doc: ModelDoc) -> None:
    """Record a fault for each value that stands twice in a list of different values."""
    for key in ("aliases", "instructions", "confirmed_by"):
        check_unlike(document, (key,), given(getattr(doc, key), ()))
    for index, signature in document.numbered(("signatures",), doc.signatures):
        check_unlike(document, ("signatures", index, "models"), signature.models)
        check_unlike(document, ("signatures", index, "steppings"), signature.steppings)


def check_unlike(
    document: Document,
    place: KeyPath,
    items: Sequence[str | int],
    beside: Sequence[str | int] = (),
) -> None:
    """Record a fault for each value of the list at ``place`` that stands twice, or ``beside``."""
    seen: set[str | int] = set(beside)
    for index, item in document.numbered(place, items):
        if item in seen:
            shown = hex_mask(item) if isinstance(item, int) else quoted(item)
            document.fault("repeated", (*place, index), f"{shown} stands twice", "remove one")
        seen.add(item)


def check_provenance(document: Document, doc: ModelDoc) -> None:
    """Record a fault where a document does not say where it is from."""
    place: KeyPath = ("confirmed",)
    if doc.confirmed_by:
        if doc.confirmed is False:
            message = "false contradicts confirmed_by:"
            document.fault("provenance", place, message, "keep one of the two")
    elif doc.confirmed is not False:
        message = "nothing says where this layout is from"
        hint = (
            "add confirmed_by: with the CPUID dumps that show it, or confirmed: false and source:"
        )
        document.fault("provenance", place, message, hint)
    elif not doc.source:
        message = "an unconfirmed model names no source"
        document.fault("provenance", place, message, "add source:")


def check_default_mask(document: Document, model: CpuModel) -> bool:
    """Whether the processor would take the default mask as XCR0."""
    try:
        check_xcr0(model, model.xcr0)
    except MaskError as error:
        document.fault("default-mask", ("components",), str(error), key=True)
        return False
    except SchemaError:
        return False  # reported where it stands
    return True
