"""``xsaveschema decode``: the header, the components and the registers of an area."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from xsaveschema import samples
from xsaveschema.area import XsaveArea
from xsaveschema.area.loaded import as_restored
from xsaveschema.artefacts.opened import SAMPLE
from xsaveschema.artefacts.reader import Found
from xsaveschema.cli.areas import opened, options_of
from xsaveschema.cli.files import about
from xsaveschema.cli.options import (
    assume_option,
    catalog_of,
    json_option,
    listed,
    model_option,
    note,
    schemas_option,
)
from xsaveschema.cli.output import echo, number, print_json_items
from xsaveschema.errors import UnknownComponentError, meant
from xsaveschema.model import HEADER_OFFSET, HEADER_SIZE, CpuModel


@click.command("decode")
@click.argument("source", metavar="FILE")
@model_option(
    "The CPU that wrote the area; without it, the area is identified. It is limited to the mask "
    "that its system left at byte 464, where one stands there."
)
@assume_option
@click.option(
    "--registers",
    metavar="NAME",
    multiple=True,
    help="Show just these registers, separated by commas; zmm means all of zmm0, zmm1, ...; "
    "may be repeated.",
)
@click.option("--all", "show_all", is_flag=True, help="Show initial state too, and ymm, xmm, mm.")
@click.option(
    "--lenient",
    is_flag=True,
    help="Show an area with an illegal header too, with its faults, and exit with 0.",
)
@json_option
@schemas_option
@click.pass_context
def command(
    ctx: click.Context,
    source: str,
    model_name: str | None,
    assume: bool,
    registers: tuple[str, ...],
    show_all: bool,
    lenient: bool,
    as_json: bool,
    schemas: tuple[str, ...],
) -> None:
    """Show the header, components and registers of every area in a file.

    FILE is a path (a core, minidump, VM snapshot or bare area; the content says which), - for
    standard input, pid:N for a live process, or sample:NAME; sample: lists the samples that come
    with the package. Components in their initial state have initial values, whatever stands there.
    The text shows the registers of components in use, the widest name of each; --json has all.
    """
    if source == SAMPLE:
        echo(samples.listing())
        return
    catalog = catalog_of(ctx, schemas)
    with about(source):
        options = options_of(catalog, model_name, assume, strict=not lenient)
        found = opened(source, options).areas()
        if as_json:
            facts = (_facts(each, registers, lenient) for each in found)
            print_json_items({"source": source}, "areas", facts)
            return
        from xsaveschema.cli import decode_text

        for each in found:
            if " limited to " in each.layout_source:
                note(each.layout_source)
            for text in (*each.notes, *_header_notes(each.area)):
                note(f"{each.label}: {text}")
            names = _wanted(each.area.model, registers)
            decode_text.show(source, each, names, show_all)


def _header_notes(area: XsaveArea) -> Iterator[str]:
    """What is wrong with a header that says all the same where state sits."""
    reserved = area.buffer[HEADER_OFFSET + 16 : HEADER_OFFSET + HEADER_SIZE]
    at = next((at for at, byte in enumerate(reserved, 16) if byte), None)
    if at is not None and not area.faults:
        yield f"header byte {at} is not 0 ({reserved[at - 16]:#04x}); check says what that means"


def _facts(found: Found, registers: tuple[str, ...], lenient: bool) -> dict[str, Any]:
    area = found.area
    whole = area.registers
    names = _wanted(area.model, registers) or whole
    facts: dict[str, Any] = {
        "label": found.label,
        "model": area.model.name,
        "layout_source": found.layout_source,
        "format": area.format,
        "xstate_bv": number(area.xstate_bv),
        "xcomp_bv": number(area.xcomp_bv),
        "components": {
            slot.name: {
                "number": slot.number,
                "in_use": area.in_use(slot.name),
                "offset": slot.offset,
                "size": slot.size,
                "fields": field_facts(area, slot.name),
            }
            for slot in area.layout
        }
        | {
            name: {"number": index, "missing": True}
            for index, name in area.missing_by_number.items()
        },
        "registers": {name: number(whole[name]) for name in names},
    }
    if area.assumed:
        facts["assumed"] = True
    if notes := [*found.notes, *_header_notes(area)]:
        facts["notes"] = notes
    restored, reasons = as_restored(area)
    for name, reason in reasons.items():
        told = {"loaded": field_facts(restored, name), "loaded_reason": reason}
        facts["components"][name] |= told
    if found.others is not None:
        facts["others"] = found.others
    if lenient:
        facts["faults"] = [
            {"rule": fault.rule, "offset": fault.offset, "message": fault.message}
            for fault in area.faults
        ]
    return facts


def field_facts(area: XsaveArea, component: str) -> dict[str, Any]:
    """A component's fields as ``--json`` tells them; repeats are lists."""
    return {name: _tell(value) for name, value in area[component].items()}


def _tell(value: Any) -> Any:
    if isinstance(value, int | bytes):
        return number(value)
    if hasattr(value, "items"):
        return {name: _tell(part) for name, part in value.items()}
    return [_tell(part) for part in value]


def _wanted(model: CpuModel, registers: tuple[str, ...]) -> list[str]:
    """The registers that ``--registers`` names; a family's name means all of it."""
    names: list[str] = []
    for name in listed(registers):
        if name in model.registers:
            names.append(name)
            continue
        family = [r for r in model.registers if r.rstrip("0123456789") == name]
        if not family:
            raise UnknownComponentError(_unknown(model, name), name)
        names += family
    return list(dict.fromkeys(names))


def _unknown(model: CpuModel, name: str) -> str:
    return f"{model.label} has no register {name!r}; {meant(name, model.registers)}".rstrip("; ")
