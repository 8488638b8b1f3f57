"""CPU signatures of model documents, and which of them are given twice."""

from __future__ import annotations

from typing import Generic, TypeVar

from xsaveschema.language.document import Document
from xsaveschema.language.grammar import ModelDoc
from xsaveschema.model import Signature

T = TypeVar("T")


def signatures_of(
    document: Document, doc: ModelDoc, vendor: str
) -> tuple[tuple[int, Signature], ...]:
    """A document's signatures, each with its index in the file; those without a vendor left out."""
    return tuple(
        (index, Signature(sig.vendor or vendor, sig.family, sig.models, sig.steppings or None))
        for index, sig in document.numbered(("signatures",), doc.signatures)
        if sig.vendor or vendor
    )


def describe(signature: Signature, model: int) -> str:
    """One CPU of a signature in words: ``GenuineIntel family 0x06 model 0x55``."""
    return f"{signature.vendor.strip()} family {signature.family:#04x} model {model:#04x}"


class SignatureIndex(Generic[T]):
    """Who has which signature. ``T`` says who."""

    def __init__(self) -> None:
        self._owners: dict[tuple[str, int, int], list[tuple[tuple[int, ...] | None, T]]] = {}

    def add(self, signature: Signature, owner: T) -> tuple[T, int] | None:
        """Give a signature to an owner; the first one that has a part of it, and the model."""
        clash: tuple[T, int] | None = None
        for model in dict.fromkeys(signature.models):
            owners = self._owners.setdefault((signature.vendor, signature.family, model), [])
            for steppings, other in owners:
                if clash is None and _share(steppings, signature.steppings):
                    clash = other, model
            if clash is None:  # one is enough: the list stays as short as a legal one
                owners.append((signature.steppings, owner))
        return clash


def _share(a: tuple[int, ...] | None, b: tuple[int, ...] | None) -> bool:
    return a is None or b is None or not set(a).isdisjoint(b)
