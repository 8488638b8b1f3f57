"""What a FILE holds: its areas, and the CPU models that wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from xsaveschema.area import XsaveArea
from xsaveschema.catalog import Catalog
from xsaveschema.catalog.identify import FP_XSTATE_MAGIC1, identify, limited_to_shown
from xsaveschema.errors import hex_mask
from xsaveschema.layout import Slot
from xsaveschema.model import XCR0_OFFSET, CpuModel

WHOLE: Final = "area"
"""The label of the area that is the whole file."""


class Found(NamedTuple):
    """An area in a file: ``label`` says which, ``layout_source`` how its layout is known.

    ``others`` is how many more models lay it out alike, None for a model that the user named.
    """

    label: str
    layout_source: str
    area: XsaveArea
    others: int | None = None


def find(data: bytes, catalog: Catalog, model_name: str | None, strict: bool = True) -> list[Found]:
    """The areas of a file: the one that it is. Errors are those of :meth:`XsaveArea.parse`."""
    if model_name is None:
        match = identify(data, catalog=catalog)
        model, source = match.model, f"identified by {match.candidates[0].by}"
        area = XsaveArea.parse(data, model, strict)
        return [Found(WHOLE, source, area, len(match.candidates) - 1)]
    model, source = as_shown(catalog.model(model_name), data)
    return [Found(WHOLE, source, XsaveArea.parse(data, model, strict))]


def as_shown(model: CpuModel, data: bytes) -> tuple[CpuModel, str]:
    """A named model, limited to the XCR0 that software left in the area, and words for it.

    They end in the byte where the XCR0 stands, if that limits the model.
    """
    seen = limited_to_shown(model, data)
    if seen is model:
        return model, f"model {model.name}"
    magic = FP_XSTATE_MAGIC1.to_bytes(4, "little")
    offset = XCR0_OFFSET + 8 * (data[XCR0_OFFSET : XCR0_OFFSET + 4] == magic)
    return seen, f"model {model.name} limited to XCR0 {hex_mask(seen.xcr0)} at byte {offset}"


def slot_facts(slot: Slot) -> dict[str, Any]:
    """A component's place as ``--json`` tells it."""
    return {
        "number": slot.number,
        "name": slot.name,
        "offset": slot.offset,
        "size": slot.size,
        "supervisor": slot.component.supervisor,
        "align64": slot.component.align64,
    }


def places(slots: Sequence[Slot]) -> tuple[tuple[int, int, int], ...]:
    """What two layouts must have in common to be the same: numbers, offsets and sizes."""
    return tuple((slot.number, slot.offset, slot.size) for slot in slots)
