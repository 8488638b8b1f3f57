"""``xsaveschema identify``: which CPU models fit an area, a CPUID dump, or this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import click

from xsaveschema.artefacts.opened import Artefact
from xsaveschema.catalog import Catalog
from xsaveschema.cli.areas import chosen, opened, options_of, slot_facts
from xsaveschema.cli.dumps import read_dump
from xsaveschema.cli.files import about, named_input
from xsaveschema.cli.options import catalog_of, json_option, note, schemas_option
from xsaveschema.cli.output import console, echo, number, print_json, print_lines, table
from xsaveschema.cli.plain import plain
from xsaveschema.cpuid.files import MAX_BYTES
from xsaveschema.errors import XsaveError, hex_mask
from xsaveschema.identify.match import Match, identify
from xsaveschema.layout import places

if TYPE_CHECKING:
    from xsaveschema.cpuid import CpuidRecord

_Facts = dict[str, Any]
_HEAD: Final = 1 << 16
_SHOWN: Final = 32
"""Kinds of core that text tells: hybrid CPUs have two or three, a dump may claim thousands."""


@click.command("identify")
@click.argument("source", metavar="[FILE]", required=False)
@click.option("--cpuid", "dump", metavar="DUMP", help="A CPUID dump, of any known format.")
@click.option("--host", is_flag=True, help="This machine, by its own CPUID.")
@json_option
@schemas_option
@click.pass_context
def command(
    ctx: click.Context,
    source: str | None,
    dump: str | None,
    host: bool,
    as_json: bool,
    schemas: tuple[str, ...],
) -> int:
    """Tell which CPU models fit an area, a CPUID dump or this machine.

    The best comes first. FILE holds an area or a CPUID dump: a path, - for standard input, pid:N
    or sample:NAME. Exits with 1 where no model of the catalogue fits.
    """
    if (source is not None) + (dump is not None) + host != 1:
        raise click.UsageError("give one of FILE, --cpuid DUMP and --host")
    catalog = catalog_of(ctx, schemas)
    if source is not None:
        return _file(catalog, source, as_json)
    from xsaveschema import cpuid

    if dump is not None:
        return _records(catalog, read_dump(dump), named_input(dump), as_json)
    return _records(catalog, [cpuid.host()], "this machine", as_json)


def _file(catalog: Catalog, source: str, as_json: bool) -> int:
    """An area or a dump: the content says which. What comes by a pipe is read once."""
    from xsaveschema import cpuid

    options = replace(options_of(catalog, None), look=False)
    with about(source), opened(source, options) as artefact:
        data = artefact.unmarked
        if data is None or not cpuid.is_dump(bytes(data[:_HEAD])):
            return _area(catalog, source, artefact, as_json)
        data = data[: MAX_BYTES + 1]
    name = named_input(source)
    return _records(catalog, list(cpuid.read_bytes(data, name)), name, as_json)


def _area(catalog: Catalog, source: str, artefact: Artefact, as_json: bool) -> int:
    data = artefact.bare()
    if data is None:
        found = chosen(artefact.areas(), None)
        if found.origin == "assembled":
            raise XsaveError("holds registers and no offsets: that tells of no CPU model")
        data = bytes(found.area)
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
