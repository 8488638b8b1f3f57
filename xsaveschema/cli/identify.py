# SPDX-License-Identifier: MIT
"""``xsaveschema identify``: which CPU models fit an area, a CPUID dump, or this machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import click

from xsaveschema import cpuid
from xsaveschema.area.lines import Line
from xsaveschema.artefacts.reader import WHOLE, Found, Options
from xsaveschema.catalog import Catalog
from xsaveschema.cli.files import about, named_input
from xsaveschema.cli.inputs import Input, dump_of, is_dump_folder
from xsaveschema.cli.layout import slot_facts
from xsaveschema.cli.options import area_option, json_option, with_catalog
from xsaveschema.cli.output import echo, note, number, print_json, print_lines, print_rows
from xsaveschema.cpuid import CpuidRecord, signature_of, signature_parts
from xsaveschema.errors import XsaveError, hex_mask, plain
from xsaveschema.identify.match import Match, identify
from xsaveschema.identify.named import HOST, load_model
from xsaveschema.language.files import SUFFIXES
from xsaveschema.layout import places
from xsaveschema.model import CpuModel
from xsaveschema.text import columns

_SHOWN: Final = 32
"""Kinds of core that text tells: hybrid CPUs have two or three, a dump may claim thousands."""


@click.command("identify")
@click.argument("source", metavar="FILE|CPU")
@json_option
@area_option
@with_catalog
def command(catalog: Catalog, source: str, selector: str | None, as_json: bool) -> int:
    """Tell which CPU models fit an area, a CPUID dump, a model or this machine.

    The best comes first. FILE holds areas or a CPUID dump: a path, - for standard input, pid:N or
    sample:NAME. CPU is host, which is this machine, a model's name, or its YAML file. Exits with 1
    where no model of the catalogue fits.
    """
    if source in catalog:
        return _records(catalog, [_record_of(catalog.model(source))], source, as_json)
    if source == HOST:
        return _records(catalog, [cpuid.host()], "this machine", as_json)
    name = named_input(source)
    if source.endswith(SUFFIXES):  # a model's file, as wherever a CPU is named
        return _records(catalog, [_record_of(load_model(source, catalog))], name, as_json)
    if is_dump_folder(source):
        return _records(catalog, list(cpuid.read(source)), name, as_json)
    file = Input(catalog, source, selector=selector)
    with about(source), file.opened(Options(catalog=catalog, look=False)) as artefact:
        # An area or a dump: the content says which.
        data = dump_of(artefact)
        if data is None:
            several, areas = file.areas_or_bytes(artefact, artefact.bare(selector))
            if several:
                return _areas(catalog, areas, as_json)
            (area,) = areas
            return _area(catalog, source, area, as_json)
    return _records(catalog, list(cpuid.read_bytes(data, name)), name, as_json)


def _record_of(model: CpuModel) -> CpuidRecord:
    """What the CPU of a model would say."""
    signature = signature_of(model.signatures[0]) if model.signatures else None
    return CpuidRecord(model.vendor, signature, dict(model.cpuid_leaf_0xd()))


def _matched(catalog: Catalog, found: Found | bytes) -> Match:
    if isinstance(found, bytes):
        return identify(found, catalog=catalog)
    if found.origin == "assembled":
        raise XsaveError("holds registers and no offsets: that tells of no CPU model")
    return identify(bytes(found.area), catalog=catalog)


def _areas(catalog: Catalog, areas: Iterable[Found | bytes], as_json: bool) -> int:
    """A row for each area; what fits one of them is told in full where it alone is named."""
    matches = (
        (each.index, each.label, _matched(catalog, each))
        if isinstance(each, Found)
        else (0, WHOLE, _matched(catalog, each))
        for each in areas
    )
    unknown = print_rows(
        matches,
        as_json,
        lambda each: {"index": each[0], "label": each[1], **_facts(each[2])},
        ["#", "area", "model", "by"],
        lambda each: [str(each[0]), each[1], *_fitting(each[2])],
        lambda each: not each[2].candidates,
    )
    if unknown:
        raise XsaveError(f"no model of the catalogue has an area like {unknown} of these")
    return 0


def _fitting(match: Match) -> tuple[str, str]:
    """The best candidate with how many others fit, and by what."""
    if not match.candidates:
        return "none", ""
    more = len(match.candidates) - 1
    text = match.candidates[0].model + (f", or {more} other{'s' * (more != 1)}" if more else "")
    layouts = len({places(layout) for layout in match.layouts})
    return text + (f", in {layouts} layouts" if layouts > 1 else ""), match.candidates[0].by


def _area(catalog: Catalog, source: str, area: Found | bytes, as_json: bool) -> int:
    """What fits one area."""
    match = _matched(catalog, area)
    if as_json:
        print_json(_facts(match))
    else:
        print_lines([[(f"{source}: {match.shown}", "bold")], *_lines(match, catalog)])
    if not match.candidates:
        raise XsaveError("no model of the catalogue has an area like this")
    return 0


def _facts(match: Match) -> dict[str, Any]:
    return {"candidates": _candidates(match), "components": _agreed(match)}


def _candidates(match: Match) -> list[dict[str, Any]]:
    return [{"model": candidate.model, "by": candidate.by} for candidate in match.candidates]


def _agreed(match: Match) -> list[dict[str, Any]]:
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


def _lines(match: Match, catalog: Catalog) -> Iterator[Line]:
    """A row for each model that fits, and what they have in common."""
    if not match.candidates:
        return
    groups = list(dict.fromkeys(places(layout) for layout in match.layouts))
    # Where the CPU's own signature says which model it is, the others are told by name alone.
    signed = [candidate for candidate in match.candidates if "signature" in candidate.by]
    others = [candidate.model for candidate in match.candidates if candidate not in signed]
    table = [["model", "by", *["layout"] * (len(groups) > 1), "title"]]
    for candidate, layout in zip(match.candidates, match.layouts, strict=True):
        if not signed or candidate in signed:
            group = [str(groups.index(places(layout)) + 1)] * (len(groups) > 1)
            title = catalog.model(candidate.model).title
            table.append([candidate.model, candidate.by, *group, title])
    yield from columns(table, right=("layout",))
    if signed and others:
        said = f"of the same layout, under these masks: {', '.join(others)}"
        yield from [[], [(said, "dim")]]
    if len(groups) > 1:
        said = f"{len(groups)} different layouts, by number: what is here does not tell them apart"
        yield from [[], [(said, "")]]


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
            print_lines(_record_lines(catalog, record, match, name))
        if len(found) > _SHOWN:
            note(f"and {len(found) - _SHOWN} more kinds of core; --json has all of them")
    if not all(match.candidates for _, match in found):
        raise XsaveError(f"{name}: no model of the catalogue has this layout")
    return 0


def _record_facts(catalog: Catalog, record: CpuidRecord, match: Match) -> dict[str, Any]:
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


def _leaf_facts(catalog: Catalog, record: CpuidRecord) -> list[dict[str, Any]]:
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


def _record_lines(catalog: Catalog, record: CpuidRecord, match: Match, name: str) -> Iterator[Line]:
    yield [(f"{name}: {record.label}".rstrip(": "), "bold")]
    who = record.vendor or "vendor unknown"
    if record.signature is not None:
        family, model, stepping = signature_parts(record.signature)
        who += f", family {family:02X} model {model:02X} stepping {stepping:X}"
        who += f" (leaf 1 EAX {record.signature:#010x})"
    xss = "unknown" if record.xss is None else hex_mask(record.xss)
    yield [(f"  {who}", "")]
    yield from [[(f"  XCR0 {hex_mask(record.xcr0)}, IA32_XSS {xss}", "")], []]
    table = [["#", "component", "offset", "size"]]
    for facts in _leaf_facts(catalog, record):
        offset = "supervisor" if facts["offset"] is None else str(facts["offset"])
        table.append([str(facts["number"]), facts["name"], offset, str(facts["size"])])
    yield from [*columns(table), []]
    yield from _lines(match, catalog)
