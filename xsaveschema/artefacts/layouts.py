"""Which CPU model laid out an area, and how that is known.

What the artefact itself says comes first, then the catalogue, then the model that the user named.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from struct import Struct
from typing import Final, NamedTuple

from xsaveschema.artefacts.reader import Options
from xsaveschema.catalog import Catalog, default_catalog
from xsaveschema.catalog.identify import (
    FP_XSTATE_MAGIC1,
    Match,
    identify,
    limited_to_shown,
    mxcsr_mask_of,
)
from xsaveschema.catalog.leaf import model_from_leaf
from xsaveschema.errors import hex_mask
from xsaveschema.header import view_of
from xsaveschema.layout import Layout
from xsaveschema.model import EXTENDED_OFFSET, XCR0_OFFSET, CpuModel

_U32: Final = Struct("<I")
Row = tuple[int, int, int]
"""A component's number, size and standard offset."""


class Known(NamedTuple):
    """A model, in words how it is known to have laid out the area, and what else to tell.

    ``others`` is how many more models of the catalogue it may as well be; None where the artefact
    or the user names it.
    """

    model: CpuModel
    source: str
    notes: tuple[str, ...] = ()
    others: int | None = None


def of_area(data: memoryview, options: Options) -> Known:
    """By the model that the user named, limited to the XCR0 in the area, else by the catalogue."""
    view = view_of(data)
    if options.model is not None:
        return named(options.model, view)
    return best(identify(view, catalog=options.catalog), view)


def named(model: CpuModel, view: memoryview) -> Known:
    """A named model, limited to the XCR0 that software left in the area."""
    seen = limited_to_shown(model, view)
    if seen is model:
        return Known(model, f"model {model.name}")
    magic = _U32.unpack_from(view, XCR0_OFFSET)[0] == FP_XSTATE_MAGIC1
    return Known(
        seen,
        f"model {model.name} limited to XCR0 {hex_mask(seen.xcr0)} at byte "
        f"{XCR0_OFFSET + 8 * magic}",
    )


def best(match: Match, view: memoryview) -> Known:
    """The best candidate. IdentificationError as :attr:`Match.model` raises it.

    MXCSR_MASK in the area tells AMD's processors from Intel's, whose layouts differ.
    """
    mask = mxcsr_mask_of(view)
    fits = [
        fit
        for fit in zip(match.candidates, match.models, match.layouts, strict=True)
        if fit[1].mxcsr_mask == mask
    ]
    if not fits:
        by = match.candidates[0].by if match.candidates else "layout"
        return Known(match.model, f"identified by {by}", (), max(0, len(match.candidates) - 1))
    candidates, models, layouts = zip(*fits, strict=True)
    shown = f"{match.shown}, MXCSR_MASK {hex_mask(mask)}"
    model = replace(match, candidates=candidates, models=models, layouts=layouts, shown=shown).model
    by = candidates[0].by
    if len({places(layout) for layout in match.layouts}) > 1:
        by += " and MXCSR_MASK"
    return Known(model, f"identified by {by}", (), len(models) - 1)


def places(layout: Layout) -> tuple[Row, ...]:
    """What two layouts must have in common to be the same: numbers, sizes and offsets."""
    return tuple((slot.number, slot.size, slot.offset) for slot in layout)


def row_faults(rows: Iterable[Row], limit: int) -> str | None:
    """What is absurd in a table of components, which may end at byte ``limit`` at the latest."""
    taken: dict[int, Row] = {}
    for row in rows:
        number, size, offset = row
        if not 2 <= number <= 62:
            return f"component {number}: the extended region has components 2 to 62"
        if number in taken:
            return f"component {number} stands there twice"
        if not size or offset < EXTENDED_OFFSET or offset + size > limit:
            return (
                f"component {number} at [{offset:#x}..{offset + size:#x}) lies outside the "
                f"extended region [{EXTENDED_OFFSET:#x}..{limit:#x})"
            )
        taken[number] = row
    last: Row | None = None
    for row in sorted(taken.values(), key=lambda row: row[2]):
        if last and row[2] < last[1] + last[2]:
            return (
                " and ".join(
                    f"component {number} [{at:#x}..{at + size:#x})"
                    for number, size, at in (last, row)
                )
                + " overlap"
            )
        last = row
    return None


def of_rows(rows: list[Row], view: memoryview, origin: str, catalog: Catalog | None) -> Known:
    """The model with these components: the catalogue's where one has them, else one built.

    ``origin`` names the table, for the built model. The rows have no :func:`row_faults`.
    """
    match = identify(layout=rows, catalog=catalog)
    if match.models:
        return best(match, view)._replace(source=origin)
    library = catalog or default_catalog()
    # The table says nothing of align64 and xfd, which are the same wherever a component is known.
    known = {c.number: c for model in library.models() for c in model.components.values()}
    mask = 3
    end = EXTENDED_OFFSET
    leaf = {}
    for number, size, offset in rows:
        mask |= 1 << number
        end = max(end, offset + size)
        like = known.get(number)
        flags = (like.align64 << 1 | like.xfd << 2) if like else 0
        leaf[number] = (size, offset, flags, 0)
    leaf[0] = (mask & 0xFFFFFFFF, end, end, mask >> 32)
    leaf[1] = (0, 0, 0, 0)
    built = model_from_leaf(leaf, name=origin.lower().replace("_", "-"), catalog=catalog)
    built = replace(
        built,
        title=f"CPU as {origin} describes it",
        mxcsr_mask=mxcsr_mask_of(view) or built.mxcsr_mask,
        source=origin,
    )
    return Known(built, origin)
