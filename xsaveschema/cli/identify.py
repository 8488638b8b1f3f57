"""``xsaveschema identify``: which CPU models fit an area, a CPUID dump, or this machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import click

from xsaveschema.artefacts import select
from xsaveschema.artefacts.opened import Artefact
from xsaveschema.artefacts.reader import WHOLE, Found
from xsaveschema.catalog import Catalog
from xsaveschema.cli.areas import (
    columns,
    looked_ahead,
    opened,
    options_of,
    slot_facts,
    until_fault,
)
from xsaveschema.cli.dumps import is_gathered
from xsaveschema.cli.files import about, named_input
from xsaveschema.cli.options import area_option, catalog_of, json_option, note, schemas_option
from xsaveschema.cli.output import (
    console,
    echo,
    number,
    print_json,
    print_json_items,
    print_lines,
    table,
)
from xsaveschema.cli.plain import plain
from xsaveschema.cpuid.files import MAX_BYTES
from xsaveschema.errors import XsaveError, hex_mask
from xsaveschema.identify.match import Match, identify
from xsaveschema.identify.named import HOST
from xsaveschema.layout import places
from xsaveschema.model import CpuModel

if TYPE_CHECKING:
    from xsaveschema.cpuid import CpuidRecord

_Facts = dict[str, Any]
_HEAD: Final = 1 << 16
_SHOWN: Final = 32
"""Kinds of core that text tells: hybrid CPUs have two or three, a dump may claim thousands."""


@click.command("identify")
@click.argument("source", metavar="FILE|CPU")
@area_option
@json_option
@schemas_option
@click.pass_context
def command(
    ctx: click.Context,
    source: str,
    selector: str | None,
    as_json: bool,
    schemas: tuple[str, ...],
) -> int:
    """Tell which CPU models fit an area, a CPUID dump, a model or this machine.

    The best comes first. FILE holds areas or a CPUID dump: a path, - for standard input, pid:N or
    sample:NAME. CPU is host, which is this machine, or a model's name. Exits with 1 where no model
    of the catalogue fits.
    """
    catalog = catalog_of(ctx, schemas)
    if source in catalog:
        return _records(catalog, [_record_of(catalog.model(source))], source, as_json)
    from xsaveschema import cpuid

    if source == HOST:
        return _records(catalog, [cpuid.host()], "this machine", as_json)
    if is_gathered(source):
        return _records(catalog, list(cpuid.read(source)), named_input(source), as_json)
    options = replace(options_of(catalog, None), look=False)
    with about(source), opened(source, options) as artefact:
        # An area or a dump: the content says which. What comes by a pipe is read once.
        data = artefact.unmarked
        if data is None or not cpuid.is_dump(bytes(data[:_HEAD])):
            return _areas(catalog, source, artefact, selector, as_json)
        data = data[: MAX_BYTES + 1]
    name = named_input(source)
    return _records(catalog, list(cpuid.read_bytes(data, name)), name, as_json)


def _record_of(model: CpuModel) -> CpuidRecord:
    """What the CPU of a model would say."""
    from xsaveschema.cpuid import CpuidRecord, signature_of

    signature = signature_of(model.signatures[0]) if model.signatures else None
    return CpuidRecord(model.vendor, signature, dict(model.cpuid_leaf_0xd()))


def _areas(
    catalog: Catalog, source: str, artefact: Artefact, selector: str | None, as_json: bool
) -> int:
    several = select.is_plural(selector)
    data = artefact.bare(selector)
    areas = iter([(0, WHOLE, data)]) if data is not None else None
    if areas is None:
        more, found = looked_ahead(select.selected(artefact.areas(), selector))
        several = several or more
        areas = ((each.index, each.label, _bytes(each)) for each in found)
    if several:
        return _rows(catalog, areas, as_json)
    ((*_, data),) = areas
    return _area(catalog, source, data, as_json)


def _bytes(found: Found) -> bytes:
    if found.origin == "assembled":
        raise XsaveError("holds registers and no offsets: that tells of no CPU model")
    return bytes(found.area)


def _rows(catalog: Catalog, areas: Iterable[tuple[int, str, bytes]], as_json: bool) -> int:
    """A row for each area; what fits one of them is told in full where it alone is named."""
    unknown = 0

    def matched() -> Iterator[tuple[int, str, Match]]:
        nonlocal unknown
        for index, label, data in areas:
            match = identify(data, catalog=catalog)
            unknown += not match.candidates
            yield index, label, match

    if as_json:
        keys = ("index", "label", "candidates", "components")
        told = ((at, label, _candidates(match), _agreed(match)) for at, label, match in matched())
        print_json_items({}, "areas", (dict(zip(keys, each, strict=True)) for each in told))
    else:
        rows, fault = until_fault(
            [str(at), label, _fitting(match), match.candidates[0].by if match.candidates else ""]
            for at, label, match in matched()
        )
        print_lines(columns([["#", "area", "model", "by"], *rows]))
        if fault is not None:
            raise fault
    if unknown:
        raise XsaveError(f"no model of the catalogue has an area like {unknown} of these")
    return 0


def _fitting(match: Match) -> str:
    """The best candidate, and how many others fit."""
    if not match.candidates:
        return "none"
    more = len(match.candidates) - 1
    text = match.candidates[0].model + (f", or {more} other{'s' * (more != 1)}" if more else "")
    layouts = len({places(layout) for layout in match.layouts})
    return text + (f", in {layouts} layouts" if layouts > 1 else "")


def _area(catalog: Catalog, source: str, data: bytes, as_json: bool) -> int:
    """What fits one area."""
    match = identify(data, catalog=catalog)
    if as_json:
        print_json({"candidates": _candidates(match), "components": _agreed(match)})
    else:
        print_lines([[(f"{source}: {match.shown}", "bold")]])
        _show(match, catalog)
    if not match.candidates:
        raise XsaveError("no model of the catalogue has an area like this")
    return 0


def _candidates(match: Match) -> list[_Facts]:
    return [{"model": candidate.model, "by": candidate.by} for candidate in match.candidates]


def _agreed(match: Match) -> list[_Facts]:
    """The components that sit at the same place whichever candidate is the right one."""
    if not match.layouts:
        return []
    first, *others = match.layouts
    return [
        slot_facts(slot)
        for slot in first
        if all(
            slot.name in other and places([other[slot.name]]) == places([slot]) for other in others
        )
    ]


def _show(match: Match, catalog: Catalog) -> None:
    if not match.candidates:
        return
    out = console()
    groups = list(dict.fromkeys(places(layout) for layout in match.layouts))
    rows = table(out, ("model", "left"), ("by", "left"), ("title", "left"))
    rows.columns[-1].no_wrap = False
    if len(groups) > 1:
        rows.add_column("layout", justify="right", no_wrap=True)
    # Where the CPU's own signature says which model it is, the others are told by name alone.
    signed = [candidate for candidate in match.candidates if "signature" in candidate.by]
    others = [candidate.model for candidate in match.candidates if candidate not in signed]
    for candidate, layout in zip(match.candidates, match.layouts, strict=True):
        if signed and candidate not in signed:
            continue
        group = groups.index(places(layout)) + 1
        title = catalog.model(candidate.model).title
        rows.add_row(candidate.model, candidate.by, title, *([str(group)] if groups[1:] else []))
    out.print(rows)
    if signed and others:
        said = f"of the same layout, under these masks: {', '.join(others)}"
        print_lines([[], [(said, "dim")]])
    if len(groups) > 1:
        said = f"{len(groups)} different layouts, by number: what is here does not tell them apart"
        print_lines([[], [(said, "")]])


def _records(catalog: Catalog, records: Sequence[CpuidRecord], name: str, as_json: bool) -> int:
    found = []
    for index, record in enumerate(records):
        for warning in record.warnings if index < _SHOWN else ():
            note(f"{plain(record.label or name)}: {plain(warning)}")
        match = identify(
            leaf_0xd=record.leaf_0xd,
            signature=record.signature,
            vendor=record.vendor or None,
            catalog=catalog,
        )
        found.append((record, match))
    if as_json:
        facts = [_record_facts(catalog, record, match) for record, match in found]
        first = {key: facts[0][key] for key in ("candidates", "components")}
        print_json({**first, "records": facts})
    else:
        for index, (record, match) in enumerate(found[:_SHOWN]):
            if index:
                echo("")
            _show_record(catalog, record, match, name)
        if len(found) > _SHOWN:
            note(f"and {len(found) - _SHOWN} more kinds of core; --json has all of them")
    if not all(match.candidates for _, match in found):
        raise XsaveError(f"{name}: no model of the catalogue has this layout")
    return 0


def _record_facts(catalog: Catalog, record: CpuidRecord, match: Match) -> _Facts:
    return {
        "label": record.label,
        "vendor": record.vendor,
        "signature": None if record.signature is None else number(record.signature),
        "xcr0": number(record.xcr0),
        "xss": None if record.xss is None else number(record.xss),
        "candidates": _candidates(match),
        "components": _leaf_facts(catalog, record),
        "warnings": list(record.warnings),
    }


def _leaf_facts(catalog: Catalog, record: CpuidRecord) -> list[_Facts]:
    """The extended components as leaf 0xD enumerates them; supervisor components have no offset."""
    names = {number: name for name, number in catalog.component_names().items()}
    return [
        {
            "number": number,
            "name": names.get(number, f"component{number}"),
            "offset": None if ecx & 1 else ebx,
            "size": eax,
            "supervisor": bool(ecx & 1),
            "align64": bool(ecx & 2),
        }
        for number, (eax, ebx, ecx, _) in record.components.items()
    ]


def _show_record(catalog: Catalog, record: CpuidRecord, match: Match, name: str) -> None:
    from xsaveschema.cpuid import signature_parts

    out = console()
    print_lines([[(f"{name}: {record.label}".rstrip(": "), "bold")]])
    who = record.vendor or "vendor unknown"
    if record.signature is not None:
        family, model, stepping = signature_parts(record.signature)
        who += f", family {family:02X} model {model:02X} stepping {stepping:X}"
        who += f" (leaf 1 EAX {record.signature:#010x})"
    xss = "unknown" if record.xss is None else hex_mask(record.xss)
    masks = f"  XCR0 {hex_mask(record.xcr0)}, IA32_XSS {xss}"
    print_lines([[(f"  {who}", "")], [(masks, "")], []])
    rows = table(out, ("#", "right"), ("component", "left"), ("offset", "right"), ("size", "right"))
    for facts in _leaf_facts(catalog, record):
        offset = "supervisor" if facts["offset"] is None else str(facts["offset"])
        rows.add_row(str(facts["number"]), facts["name"], offset, str(facts["size"]))
    out.print(rows)
    out.print()
    _show(match, catalog)
