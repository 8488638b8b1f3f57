"""A component document becomes the component's rules."""

from __future__ import annotations

from collections.abc import Collection

from msgspec import UNSET, UnsetType

from xsaveschema.catalog.checks import check_unlike
from xsaveschema.catalog.conform import near
from xsaveschema.catalog.document import Document, Place
from xsaveschema.catalog.documents import ComponentDoc
from xsaveschema.model import Rules


def build_rules(document: Document, doc: ComponentDoc) -> Rules:
    """The rules of a component; faults go into ``document``."""
    for key, names in (("needs", doc.needs), ("with", doc.together)):
        check_unlike(document, (key,), _listed(names))
    return Rules(needs=_listed(doc.needs), together=_listed(doc.together))


def check_companions(document: Document, doc: ComponentDoc, known: Collection[str]) -> None:
    """Record a fault for each name in ``needs:`` and ``with:`` that is no other component's.

    ``known`` are the components that have a file.
    """
    for key, names in (("needs", _listed(doc.needs)), ("with", _listed(doc.together))):
        for index, name in document.numbered((key,), names):
            place: Place = (key, index)
            if name == doc.component:
                message = f"{name} is the component itself"
                document.fault("component-companion", place, message, "remove it")
            elif name not in known:
                likely = near(name, known)
                hint = f"did you mean {likely}?" if likely else ""
                message = f"no component file defines {name}"
                document.fault("component-companion", place, message, hint)


def _listed(names: list[str] | UnsetType) -> tuple[str, ...]:
    return () if names is UNSET else tuple(names)
