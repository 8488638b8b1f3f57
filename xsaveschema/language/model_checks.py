"""The rules that look at several values of a model document at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec import UNSET

from xsaveschema.errors import MaskError, SchemaError, hex_mask
from xsaveschema.language.document import Document, KeyPath, quoted
from xsaveschema.language.grammar import ModelDoc, given
from xsaveschema.language.hints import single_change
from xsaveschema.language.signatures import SignatureIndex, describe
from xsaveschema.layout import check_xcr0, compacted, standard
from xsaveschema.model import CpuModel, Signature


def check_repeats(document: Document, doc: ModelDoc) -> None:
    """Record a fault for each value that stands twice in a list of different values."""
    for key in ("aliases", "instructions", "confirmed_by"):
        check_unlike(document, (key,), given(getattr(doc, key), ()))
    for index, signature in document.numbered(("signatures",), doc.signatures):
        check_unlike(document, ("signatures", index, "models"), signature.models)
        check_unlike(document, ("signatures", index, "steppings"), signature.steppings)


def check_unlike(document: Document, place: KeyPath, items: Sequence[str | int]) -> None:
    """Record a fault for each value that stands twice in the list at ``place``."""
    seen: set[str | int] = set()
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


def check_signatures(document: Document, signatures: Iterable[tuple[int, Signature]]) -> None:
    """Record a fault for each signature that the document gives twice."""
    index: SignatureIndex[int] = SignatureIndex()
    for number, signature in signatures:
        clash = index.add(signature, number)
        if clash:
            other, model = clash
            first = document.line(("signatures", other))
            message = f"{describe(signature, model)} is here already, at line {first}"
            document.fault("signature-repeated", ("signatures", number), message, "remove one")


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


def check_sizes(
    sizes_seen: Callable[[str], set[int]], document: Document, doc: ModelDoc, model: CpuModel
) -> bool:
    """Whether the components end where CPUID says they do; ``sizes_seen`` is for the hint."""
    if doc.sizes is UNSET:
        return True  # inherited ones were checked where they stand
    sizes = doc.sizes
    wanted = given(sizes.compacted, None)
    end = standard(model, model.xcr0).size
    mask = model.xcr0 | model.xss
    size = compacted(model, mask).size
    if end == sizes.standard and wanted in (None, size):
        return True
    change = single_change(sizes_seen, model, sizes.standard, wanted)
    if end != sizes.standard:
        last = max(standard(model, model.xcr0), key=lambda slot: slot.end).name
        what = f"the components of XCR0 {hex_mask(model.xcr0)} end at {end} ({last})"
        what += f", not at {sizes.standard}"
        hint = change or "CPUID D.0.ECX is max(offset + size): see which entry is off"
        document.fault("sizes-standard", ("sizes", "standard"), what, hint)
    if wanted not in (None, size):
        what = f"the compacted layout of {hex_mask(mask)} ends at {size}, not at {wanted}"
        hint = change or "CPUID D.1.EBX with all enabled: see which size or align64 is off"
        document.fault("sizes-compacted", ("sizes", "compacted"), what, hint)
    return False
