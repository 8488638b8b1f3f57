# SPDX-License-Identifier: MIT
"""Which CPU model laid out an area, and how that is known.

What the artefact itself says comes first, then the catalogue, then the model that the user named.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from xsaveschema.area import XsaveArea
from xsaveschema.artefacts.reader import WHOLE, Found, Options, Origin
from xsaveschema.catalog import Catalog, default_catalog
from xsaveschema.errors import EvidenceError, XsaveError, hex_mask
from xsaveschema.evidence import contradictions, hints, seen_under, shown_in
from xsaveschema.header import view_of
from xsaveschema.identify.from_leaf import model_from_leaf
from xsaveschema.identify.match import Match, alike, identify
from xsaveschema.kept import kept
from xsaveschema.layout import lays_out, standard, under
from xsaveschema.model import MXCSR_MASK, CpuModel
from xsaveschema.traces import mxcsr_mask_of

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
        """The area in ``data``, at byte ``offset`` of the artefact.

        Errors of XsaveArea.parse, with the label as their note.
        """
        # Copied, as it outlives the file, which may be cut off while it is looked at. Whether the
        # model wrote it was judged when it became known: a file's word outranks what an area says.
        try:
            area = XsaveArea.parse(bytes(data), self.model, options.strict, assume=True)
        except XsaveError as error:
            if label != WHOLE:
                error.add_note(label)
            raise
        area.assumed = self.assumed
        return Found(label, area, self.source, offset, self.notes, self.others, self.origin)


def layout_of(data: memoryview, options: Options) -> Known:
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
    against = [f"{what} is not {given.label}'s layout"] if not lays_out(given, layout) else []
    if mask := mxcsr_mask_of(view, given, options.catalog) & ~given.mxcsr_mask:
        against.append(f"MXCSR_MASK has bits {hex_mask(mask)}, which {given.label}'s lacks")
    if against:
        return assumed(given, against, options)
    return known._replace(model=under(given, known.model.xcr0), others=None, origin=origin)


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


def of_rows(rows: Iterable[Entry], view: memoryview, origin: str, catalog: Catalog | None) -> Known:
    """The model with these components: the catalogue's where one has them, else one built.

    ``origin`` names the table. The rows have no :func:`row_faults`; one without an offset is a
    supervisor component's.
    """
    catalog = catalog or default_catalog()
    return _of_rows(catalog, tuple(rows), mxcsr_mask_of(view, catalog=catalog), origin)


@kept(64)
def _of_rows(catalog: Catalog, rows: tuple[Entry, ...], mxcsr_mask: int, origin: str) -> Known:
    shown = [row for row in rows if row[2]]
    hidden = {number: size for number, size, offset in rows if not offset}
    supervisor = sum(1 << number for number in hidden)
    for model in identify(layout=shown, mxcsr_mask=mxcsr_mask, catalog=catalog).models:
        parts = [model.by_number.get(number) for number in hidden]
        if all(part and part.supervisor and part.size == hidden[part.number] for part in parts):
            return Known(model.limited(xss=supervisor) if hidden else model, origin)
    # The table says nothing of align64 and xfd, which are the same wherever a component is known.
    alike = {c.number: c for model in catalog.models() for c in model.components.values()}
    user = 3 | sum(1 << number for number, _, _ in shown)
    leaf = {
        0: (user & 0xFFFF_FFFF, 0, 0, user >> 32),
        1: (0, 0, supervisor & 0xFFFF_FFFF, supervisor >> 32),
    }
    for number, size, offset in rows:
        like = alike.get(number)
        flags = (like.align64 << 1 | like.xfd << 2) if like else 0
        leaf[number] = (size, offset, flags | (not offset), 0)
    built = model_from_leaf(leaf, name=origin.lower().replace("_", "-"), catalog=catalog)
    title = f"CPU as {origin} describes it"
    mxcsr_mask = mxcsr_mask or built.mxcsr_mask
    return Known(replace(built, title=title, mxcsr_mask=mxcsr_mask, source=origin), origin)
