# SPDX-License-Identifier: MIT
"""Which CPU model wrote this? From an area, from CPUID leaf 0xD, or from a table of offsets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from xsaveschema.catalog import Catalog, require_catalog
from xsaveschema.cpuid.record import signature_parts
from xsaveschema.errors import (
    IdentificationError,
    MaskError,
    WrongTypeError,
    XsaveError,
    described,
    hex_mask,
    items,
)
from xsaveschema.header import MASKS, Buffer, buffer_layout, view_of
from xsaveschema.identify.from_leaf import (
    check_extents,
    check_leaf,
    leaf_instructions,
    leaf_masks,
    model_from_leaf,
)
from xsaveschema.layout import (
    Layout,
    check_mask,
    has_layout,
    lays_out,
    places,
    standard,
    takes_xcr0,
    under,
)
from xsaveschema.model import COMPACTED, HEADER_OFFSET, CpuidRegisters, CpuModel, Leaf0xD, bits_of
from xsaveschema.traces import Shown, credible, mxcsr_mask_word


class Candidate(NamedTuple):
    """A model that fits, by name, and by what it was found."""

    model: str
    by: str


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A leaf 0xD, and whose it is, of which a model can be built."""

    rows: tuple[tuple[int, CpuidRegisters], ...]
    signature: int | None
    vendor: str | None
    catalog: Catalog | None = field(compare=False)

    def __call__(self) -> CpuModel:
        return model_from_leaf(
            dict(self.rows),
            name="cpuid",
            vendor=self.vendor or "",
            signature=None if self.signature is None else signature_parts(self.signature),
            catalog=self.catalog,
        )


@dataclass(frozen=True, slots=True, repr=False)
class Match:
    """The models that fit, best first. ``model`` is the best one, limited to the masks shown.

    Of a leaf 0xD they have the instructions that its sub-leaf 1 announces, where that is there.
    ``shown`` says what the models were held against. Where no model of the catalogue has a leaf
    0xD's layout, ``candidates`` is empty and ``model`` is built from the leaf.
    """

    candidates: tuple[Candidate, ...]
    models: tuple[CpuModel, ...]
    layouts: tuple[Layout, ...]
    shown: str
    build: Callable[[], CpuModel] | None = None
    remedy: str = "name the one that wrote the area (--model)"

    def __repr__(self) -> str:
        names = [candidate.model for candidate in self.candidates] or ["no model"]
        more = f" or {len(names) - 3} more" if len(names) > 3 else ""
        return f"<Match {' or '.join(names[:3])}{more}: {self.shown}>"

    @property
    def model(self) -> CpuModel:
        """The best candidate. IdentificationError where there is none, or their layouts differ."""
        if not self.models:
            if self.build is not None:
                return self.build()
            raise IdentificationError(
                f"no model of the catalogue has an area like this: {self.shown}; "
                "it may be cut off, or another model's: then name one (--model)"
            )
        alike: dict[object, list[str]] = {}
        for candidate, layout in zip(self.candidates, self.layouts, strict=True):
            alike.setdefault(places(layout), []).append(candidate.model)
        if len(alike) > 1:
            groups = "; ".join(", ".join(names) for names in alike.values())
            raise IdentificationError(
                f"several models fit, with different layouts ({self.shown}): {groups}; "
                f"{self.remedy}",
                [candidate.model for candidate in self.candidates],
            )
        return self.models[0]


def identify(
    data: Buffer | None = None,
    *,
    leaf_0xd: Leaf0xD | None = None,
    signature: int | None = None,
    vendor: str | None = None,
    layout: Iterable[tuple[int, int, int]] | None = None,
    mxcsr_mask: int = 0,
    catalog: Catalog | None = None,
) -> Match:
    """Find the models that fit an area's bytes, a CPU's leaf 0xD, or a table of components.

    Give one of ``data`` (an area of either format), ``leaf_0xd`` ({sub-leaf: (EAX, EBX, ECX,
    EDX)}; with ``signature``, CPUID leaf 1 EAX, and ``vendor``) and ``layout`` (component, size,
    offset as in Linux's NT_X86_XSAVE_LAYOUT; with ``mxcsr_mask`` of an area laid out like this, 0
    for none). The candidates come best first, limited to the masks that they were shown; the list
    may be empty.
    """
    given = [source for source in (data, leaf_0xd, layout) if source is not None]
    if len(given) != 1:
        raise XsaveError("identify takes one of data, leaf_0xd= and layout=")
    known = require_catalog(catalog)
    if signature is not None and not (isinstance(signature, int) and 0 <= signature < 1 << 32):
        raise WrongTypeError(f"signature: pass CPUID leaf 1 EAX, not {described(signature)}")
    if vendor is not None and not isinstance(vendor, str):
        raise WrongTypeError(f"vendor: pass the text of CPUID leaf 0, not {described(vendor)}")
    check_mask(mxcsr_mask, "MXCSR_MASK", 32)
    if data is not None:
        return _by_area(data, known)
    if leaf_0xd is not None:
        check_leaf(leaf_0xd)
        match = _by_leaf(leaf_0xd, signature, vendor, known.models())
        if match.candidates:
            return match
        check_extents(leaf_0xd)
        rows = tuple((number, (*leaf_0xd[number],)) for number in sorted(leaf_0xd))
        return replace(match, build=_Leaf(rows, signature, vendor, catalog))
    assert layout is not None  # noqa: S101 - the last of the three
    return _by_layout(_rows(layout), mxcsr_mask, known.models())


_COMPACT: Final = {"xsavec", "xsaves"}
"""The instructions without which no processor writes a compacted area."""


class _Fit(NamedTuple):
    """A candidate with what orders the candidates: smaller is better.

    ``rank`` is what was found, ``near`` how close the masks are to the model's own: a hint, which
    does not make up for a CPU that hardly anybody has.
    """

    rank: tuple[int, ...]
    near: tuple[int, ...]
    by: str
    model: CpuModel
    layout: Layout


def _match(fits: list[_Fit], said: str) -> Match:
    fits.sort(
        key=lambda fit: (
            *(*fit.rank, not fit.model.popularity, *fit.near),
            *(-fit.model.popularity, not fit.model.confirmed, fit.model.name),
        )
    )
    return Match(
        tuple(Candidate(fit.model.name, fit.by) for fit in fits),
        tuple(fit.model for fit in fits),
        tuple(fit.layout for fit in fits),
        said,
    )


def _by_area(data: Buffer, catalog: Catalog) -> Match:
    models = catalog.models()
    view = view_of(data)
    length = len(view)
    xstate_bv, xcomp_bv = MASKS.unpack_from(view, HEADER_OFFSET)
    said = f"{length} bytes, XSTATE_BV {hex_mask(xstate_bv)}, XCOMP_BV {hex_mask(xcomp_bv)}"
    if not xcomp_bv & COMPACTED:
        xcomp_bv = 0  # what else stands there is for the reader to judge
    fits = []
    mask = None if xcomp_bv & COMPACTED else credible(view, xstate_bv, catalog)
    if mask is not None:
        said += f", XCR0 {hex_mask(mask.mask)} at byte {mask.at}"
        models = [model for model in models if has_layout(model, mask.mask)]
    for model in models:
        seen = model if mask is None else under(model, mask.mask)
        try:
            layout = buffer_layout(seen, xstate_bv, xcomp_bv, length)
        except XsaveError:
            continue
        fit = (
            _compacted_fit(model, layout, length)
            if xcomp_bv & COMPACTED
            else _standard_fit(model, seen, layout, length, mask)
        )
        if fit:
            fits.append(fit)
    if fits:
        # Where some models explain the whole length, the others are no candidates.
        best = min(fit.rank[0] for fit in fits)
        fits = [fit for fit in fits if fit.rank[0] == best]
    if xcomp_bv & COMPACTED:
        # Unless none of them can compact, or none says what it can.
        fits = [fit for fit in fits if fit.model.instructions & _COMPACT] or fits
    same = _by_mxcsr_mask(fits, mxcsr_mask_word(view))
    if len(same) < len(fits):
        said += f", MXCSR_MASK {hex_mask(mxcsr_mask_word(view))}"
    return _match(same, said)


def _by_mxcsr_mask(fits: list[_Fit], mask: int) -> list[_Fit]:
    """Those with the area's MXCSR_MASK: it tells AMD's processors from Intel's."""
    same = [fit for fit in fits if fit.model.mxcsr_mask == mask]
    if not same:
        return fits
    if len({places(fit.layout) for fit in fits}) > len({places(fit.layout) for fit in same}):
        same = [fit._replace(by=f"{fit.by} and MXCSR_MASK") for fit in same]
    return same


def _compacted_fit(model: CpuModel, layout: Layout, length: int) -> _Fit:
    enabled = model.xcr0 | model.xss
    exact = layout.size == length
    rank = not exact, layout.mask & ~enabled != 0
    near = layout.mask != enabled, _spare(enabled, layout.mask)
    return _Fit(rank, near, "XCOMP_BV and size" if exact else "XCOMP_BV", model, layout)


def _standard_fit(
    model: CpuModel, seen: CpuModel, layout: Layout, length: int, mask: Shown | None
) -> _Fit | None:
    full = standard(seen, seen.xcr0).size
    spare = _spare(model.xcr0, layout.mask)
    if mask is not None:
        if full > length or mask.size not in (None, full):
            return None  # the mask says that there would be more
        exact = full in (length, mask.size)
        by = f"XCR0 mask at byte {mask.at}" + (" and size" if exact else "")
        return _Fit((not exact,), (mask.mask != model.xcr0, spare), by, seen, layout)
    if full <= length:
        by = "size" if full == length else "XSTATE_BV"
        return _Fit((0 if full == length else 2,), (spare,), by, seen, layout)
    # Shorter than all that the model has enabled: an XCR0 that leaves the last components out?
    if layout.size != length or not takes_xcr0(model, layout.mask):
        return None
    seen = model.limited(xcr0=layout.mask)
    return _Fit((1,), (spare,), "XSTATE_BV and size", seen, layout)


def _spare(enabled: int, used: int) -> int:
    """How many components a model has enabled that the area says nothing of."""
    return (enabled & ~used).bit_count()


def _by_leaf(
    leaf: Leaf0xD,
    signature: int | None,
    vendor: str | None,
    models: list[CpuModel],
) -> Match:
    xcr0, xss = leaf_masks(leaf)
    parts = None if signature is None or vendor is None else (vendor, *signature_parts(signature))
    announced = leaf_instructions(leaf)
    rows = {}
    unknown = 0
    for number in bits_of((xcr0 | xss) & ~3):
        size, offset, flags, _ = leaf.get(number, (0, 0, 0, 0))
        if size:
            rows[number] = (size, offset, flags & 7, 0)
        else:
            unknown |= 1 << number
    fits = []
    for model in models:
        named = parts is not None and any(sig.matches(*parts) for sig in model.signatures)
        own = model.by_number
        if any(number not in own or own[number].sub_leaf != row for number, row in rows.items()):
            continue
        try:
            seen = model.limited(xcr0=xcr0, xss=xss)
        except MaskError:
            continue
        if announced is not None and announced != seen.instructions:
            seen = replace(seen, instructions=announced)
        same_vendor = vendor is None or vendor == model.vendor
        by = "signature and layout" if named else "layout"
        if unknown:
            by += f" ({', '.join(model.names_of(unknown))} not in the dump)"
        near = (
            (xcr0, xss) != (model.xcr0, model.xss),
            _spare(model.xcr0 | model.xss, xcr0 | xss),
        )
        fits.append(_Fit((not named, not same_vendor), near, by, seen, seen.standard_layout()))
    match = _match(fits, f"XCR0 {hex_mask(xcr0)}, IA32_XSS {hex_mask(xss)}")
    lacking = ", ".join(f"sub-leaf {number}" for number in bits_of(unknown))
    return replace(match, remedy=f"the dump lacks {lacking}: name the CPU's model in its place")


def _rows(layout: Iterable[object]) -> list[tuple[int, int, int]]:
    """The rows of a table; WrongTypeError unless each has three integers."""
    said = "layout: pass (component, size, offset) of each component"
    rows = items(layout, said)
    for row in rows:
        if not (
            isinstance(row, tuple | list)
            and len(row) == 3
            and all(isinstance(each, int) for each in row)
        ):
            raise WrongTypeError(f"{said}, not {row!r:.60}")
    return [(number, size, offset) for number, size, offset in rows]


def _by_layout(rows: list[tuple[int, int, int]], mxcsr_mask: int, models: list[CpuModel]) -> Match:
    """From (component, size, offset) rows of the extended components of an enabled XCR0."""
    mask = 3
    for number, _, _ in rows:
        if not 0 <= number <= 62:
            raise XsaveError(f"identify: there is no state component {number}")
        mask |= 1 << number
    fits = []
    for model in models:
        if not takes_xcr0(model, mask):
            continue
        layout = standard(model, mask)
        if all((layout[n].size, layout[n].offset) == (size, at) for n, size, at in rows if n > 1):
            seen = model.limited(xcr0=mask)
            near = mask != model.xcr0, _spare(model.xcr0, mask)
            fits.append(_Fit((model.mxcsr_mask != mxcsr_mask,), near, "layout", seen, layout))
    return _match(fits, f"components {', '.join(str(number) for number, _, _ in rows)}")


def alike(layout: Layout, catalog: Catalog | None = None) -> int:
    """How many other models of the catalogue lay these components out in the same way."""
    others = (m for m in require_catalog(catalog).models() if m.name != layout.model.name)
    return sum(lays_out(model, layout) for model in others)
