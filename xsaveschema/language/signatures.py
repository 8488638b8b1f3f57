# SPDX-License-Identifier: MIT
"""CPU signatures of model documents, and which of them are given twice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from xsaveschema.language.document import Document
from xsaveschema.language.grammar import ModelDoc
from xsaveschema.model import Signature

T = TypeVar("T")
Cpu = tuple[str, int, int, int]
"""Vendor, family, model and stepping."""


def signatures_of(
    document: Document, doc: ModelDoc, vendor: str
) -> tuple[tuple[int, Signature], ...]:
    """A document's signatures, each with its index in the file; those without a vendor left out."""
    return tuple(
        (index, Signature(sig.vendor or vendor, sig.family, sig.models, sig.steppings or None))
        for index, sig in document.numbered(("signatures",), doc.signatures)
        if sig.vendor or vendor
    )


def claim(taken: dict[Cpu, T], signature: Signature, owner: T) -> tuple[T, str] | None:
    """Give a signature to an owner; the first one that has a part of it, and that CPU in words."""
    cpus = [
        (signature.vendor, signature.family, model, stepping)
        for model in signature.models
        for stepping in (range(16) if signature.steppings is None else signature.steppings)
    ]
    for cpu in cpus:
        if cpu in taken:
            vendor, family, model, _ = cpu
            return taken[cpu], f"{vendor.strip()} family {family:#04x} model {model:#04x}"
    taken |= dict.fromkeys(cpus, owner)
    return None


def check_signatures(document: Document, signatures: Iterable[tuple[int, Signature]]) -> None:
    """Record a fault for each signature that the document gives twice."""
    taken: dict[Cpu, int] = {}
    for number, signature in signatures:
        if clash := claim(taken, signature, number):
            other, cpu = clash
            message = f"{cpu} is here already, at line {document.line(('signatures', other))}"
            document.fault("signature-repeated", ("signatures", number), message, "remove one")
