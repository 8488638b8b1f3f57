"""Which CPU model laid out an area, and how that is known.

What the artefact itself says comes first, then the catalogue, then the model that the user named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from xsaveschema.artefacts.reader import Found, Options, Origin, area_of
from xsaveschema.catalog import Catalog, default_catalog
from xsaveschema.errors import EvidenceError, hex_mask
from xsaveschema.evidence import contradictions, hints, seen_under, shown_in
from xsaveschema.header import view_of
from xsaveschema.identify.from_leaf import model_from_leaf
from xsaveschema.identify.match import Match, alike, identify
from xsaveschema.layout import Layout, places, standard, under
from xsaveschema.model import EXTENDED_OFFSET, MXCSR_MASK, CpuModel
from xsaveschema.traces import mxcsr_mask_of, mxcsr_mask_word

Entry = tuple[int, int, int]
"""A component's number, size and standard offset."""


class Known(NamedTuple):
    """A model, in words how it is known to have laid out the area, and what else to tell.

    ``others`` and ``origin`` are those of :class:`Found`; ``assumed`` where the user insists on the
    model against what the file says.
    """

    model: CpuModel
    source: str
    notes: tuple[str, ...] = ()
    others: int | None = None
    origin: Origin = "told"
    assumed: bool = False

    def found(
        self, data: memoryview, options: Options, label: str, offset: int | None = None
    ) -> Found:
        """The area in ``data``, at byte ``offset`` of the artefact; errors of XsaveArea.parse."""
        area = area_of(data, self.model, options, label, self.assumed)
        return Found(label, area, self.source, offset, self.notes, self.others, self.origin)


def of_area(data: memoryview, options: Options) -> Known:
    """How the area in ``data`` is laid out, where the artefact says nothing of it.

    By the model that the user named, limited to the XCR0 in the area: EvidenceError where the area
    says that another CPU wrote it. Else by the catalogue: IdentificationError where no model fits,
    or several do that differ in layout.
    """
    view = view_of(data)
    if options.model is not None:
        return named(view, options.model, options)
    return best(identify(view, catalog=options.catalog), options.catalog)


def named(view: memoryview, model: CpuModel, options: Options, *, guest: bool = False) -> Known:
    """A named model, limited to the mask that its system left in the area.

    EvidenceError where the area says that another CPU wrote it, unless the user insists. ``guest``
    is for areas by KVM, whose mask is the host's and no limit.
    """
    against = contradictions(view, model, options.catalog, guest=guest)
    if against:
        return assumed(model, against, options)
    shown = None if guest else shown_in(view, model, options.catalog)
    seen = seen_under(model, shown)
    source = f"model {model.label}"
    if shown is not None and seen is not model:
        source += f" limited to XCR0 {hex_mask(seen.xcr0)} at byte {shown.at}"
    return Known(seen, source, () if guest else hints(view, model, shown))


def assumed(model: CpuModel, against: Sequence[str], options: Options) -> Known:
    """The user's model against what the file says: EvidenceError unless the user insists."""
    if not options.assume:
        raise EvidenceError(model.label, against)
    return Known(model, f"model {model.label}, assumed", tuple(against), assumed=True)


def told(
    known: Known, options: Options, view: memoryview, what: str, origin: Origin = "told"
) -> Known:
    """A layout that the artefact itself tells (``what`` says where), under the user's model.

    ``known`` has the model that the artefact tells of, ``view`` is the area. The user's model names
    the CPU where it has the layout; EvidenceError where it has another one.
    """
    layout = standard(known.model, known.model.xcr0)
    given = options.model
    if given is None:
        return known._replace(others=alike(layout, options.catalog), origin=origin)
    against = [f"{what} is not {given.label}'s layout"] if not has_places(given, layout) else []
    if mask := mxcsr_mask_of(view, given, options.catalog) & ~given.mxcsr_mask:
        against.append(f"MXCSR_MASK has bits {hex_mask(mask)}, which {given.label}'s lacks")
    if against:
        return assumed(given, against, options)
    return known._replace(model=under(given, known.model.xcr0), others=None, origin=origin)


def has_places(model: CpuModel, layout: Layout) -> bool:
    """Whether a model lays the components of a standard layout out in the same way."""
    return not layout.mask & ~model.user_mask and (
        places(standard(model, layout.mask)) == places(layout)
    )


def best(match: Match, catalog: Catalog | None = None) -> Known:
    """The best candidate. IdentificationError as :attr:`Match.model` raises it."""
    model = match.model
    by = match.candidates[0].by
    notes: tuple[str, ...] = ()
    if by.endswith("MXCSR_MASK") and model.mxcsr_mask == MXCSR_MASK:
        notes = (
            f"MXCSR_MASK {hex_mask(MXCSR_MASK)} alone speaks for this layout; an emulated AMD CPU "
            "writes it, too: then name the CPU",
        )
    others = alike(match.layouts[0], catalog)
    return Known(model, f"identified by {by}", notes, others, "identified")


def of_rows(rows: list[Entry], view: memoryview, origin: str, catalog: Catalog | None) -> Known:
    """The model with these components: the catalogue's where one has them, else one built.

    ``origin`` names the table, for the built model. The rows have no :func:`row_faults`.
    """
    match = identify(layout=rows, mxcsr_mask=mxcsr_mask_word(view), catalog=catalog)
    if match.models:
        return best(match, catalog)._replace(source=origin, origin="told")
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
        mxcsr_mask=mxcsr_mask_of(view, built, catalog) or built.mxcsr_mask,
        source=origin,
    )
    return Known(built, origin)
