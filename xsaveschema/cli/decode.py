# SPDX-License-Identifier: MIT
"""``xsaveschema decode``: the header, the components and the registers of an area."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import click

from xsaveschema import samples
from xsaveschema.area import XsaveArea
from xsaveschema.area.loaded import as_restored
from xsaveschema.area.registers import unknown
from xsaveschema.area.rows import View, laned, lanes_told, stem
from xsaveschema.artefacts.opened import SAMPLE
from xsaveschema.artefacts.reader import Found
from xsaveschema.catalog import Catalog
from xsaveschema.cli import decode_text
from xsaveschema.cli.files import about, named_input
from xsaveschema.cli.inputs import Input, limits, looked_ahead, noted, reads_areas
from xsaveschema.cli.options import json_option, listed
from xsaveschema.cli.output import echo, number, picked, print_json_items
from xsaveschema.errors import NoPlaceError, UnknownComponentError, XsaveError
from xsaveschema.model import HEADER_OFFSET, HEADER_SIZE, CpuModel
from xsaveschema.values import TYPES

_T = TypeVar("_T")


@click.command("decode")
@click.argument("source", metavar="FILE")
@click.option(
    "--registers",
    metavar="NAME",
    multiple=True,
    help="Show just these registers, separated by commas; zmm means all of zmm0, zmm1, ...; "
    "may be repeated.",
)
@click.option(
    "--as",
    "type",
    type=click.Choice(TYPES),
    metavar="TYPE",
    help="Show vectors and tiles in lanes of a type, lowest first: " + ", ".join(TYPES) + ".",
)
@click.option(
    "--all",
    "show_all",
    is_flag=True,
    help="Show initial state too, and ymm, xmm, mm; and tiles without leaving columns out.",
)
@click.option(
    "--lenient",
    is_flag=True,
    help="Show an area with an illegal header too, with its faults, and exit with 0.",
)
@json_option
@reads_areas(
    "The CPU that wrote the area; without it, the area is identified. It is limited to the mask "
    "that its system left at byte 464, where one stands there."
)
def command(
    file: Input,
    registers: tuple[str, ...],
    type: str | None,
    show_all: bool,
    lenient: bool,
    as_json: bool,
) -> None:
    """Show the header, components and registers of an area in a file.

    FILE is a path (a core, minidump, VM snapshot or bare area; the content says which), - for
    standard input, pid:N for a live process, or sample:NAME; sample: lists the samples that come
    with the package. Of several areas the text has a list, and the thread that got the signal;
    --area shows others, --registers tells those registers of all of them, --json has everything.
    Components in their initial state have initial values, whatever stands there. Shown are the
    registers of components in use, the widest name of each.
    """
    if file.source == SAMPLE:
        echo(samples.listing())
        return
    words = listed(registers)
    if registers and not words:
        raise click.UsageError("--registers names no register")
    if type and words and not any(map(laned, words)):
        raise click.UsageError(f"--as is for vectors and tiles, and {', '.join(words)} is none")
    options = file.options(strict=not lenient)
    with about(file.source):
        several, found = looked_ahead(file.areas(file.opened(options)))
        asked = Asked(words, several, file.catalog)
        if as_json:
            facts = (_facts(each, asked, lenient, type) for each in found)
            print_json_items({"source": file.source}, "areas", asked.had_by_some(facts))
            return
        title, view = named_input(file.source), View(show_all, type)
        told = noted(found, several, lambda each: [*_notes(each), *_otherwise(each.area, asked)])
        if registers:
            decode_text.show_registers(asked.had_by_some(told), asked.of, several, view)
        elif not several:
            for each in told:
                decode_text.show(title, each, view)
        elif file.selector is None:
            decode_text.show_list(title, told, view)
        else:
            decode_text.show_each(title, told, view)


class Asked:
    """The registers that ``--registers`` names; of several areas, some may lack some.

    A name of a family means all of it.
    """

    def __init__(self, words: list[str], several: bool, catalog: Catalog):
        self._words = words
        self._several = several
        self._known = {part for name in catalog.registers() for part in (name, stem(name))}
        self._had: set[str] = set()
        self._lacking: dict[str, XsaveError] = {}

    def of(self, area: XsaveArea) -> dict[str, XsaveError | None]:
        """The registers by name, and why this area has none of that name."""
        told: dict[str, XsaveError | None] = {}
        for word in self._words:
            try:
                for name in _wanted(area.model, word):
                    area.registers.size(name)
                    told[name] = None
                    self._had |= {name, word}
            except (NoPlaceError, UnknownComponentError) as error:
                if not self._several or word not in self._known:
                    raise
                told[word] = self._lacking.setdefault(word, error)
        return told

    def had_by_some(self, areas: Iterable[_T]) -> Iterator[_T]:
        """What is made of the areas; an error behind the last where none has a register."""
        yield from areas
        for word, error in self._lacking.items():
            if word not in self._had:
                raise error

    def __bool__(self) -> bool:
        return bool(self._words)


def _notes(found: Found) -> list[str]:
    return [*limits(found), *found.notes, *_header_notes(found.area)]


def _otherwise(area: XsaveArea, asked: Asked) -> Iterator[str]:
    """Which of the registers asked for a restore loads otherwise than they are stored."""
    restored, reasons = as_restored(area) if asked else (area, {})
    if not reasons:
        return
    why = "; ".join(reasons.values())
    for name in (name for name, lacking in asked.of(area).items() if not lacking):
        stored, loaded = area.registers[name], restored.registers[name]
        if stored != loaded:
            yield f"{name}: {number(loaded)} is loaded in place of {number(stored)}: {why}"


def _header_notes(area: XsaveArea) -> Iterator[str]:
    """What is wrong with a header that says all the same where state sits."""
    reserved = area.buffer[HEADER_OFFSET + 16 : HEADER_OFFSET + HEADER_SIZE]
    at = next((at for at, byte in enumerate(reserved, 16) if byte), None)
    if at is not None and not area.faults:
        yield f"header byte {at} is not 0 ({reserved[at - 16]:#04x}); check says what that means"


def _facts(found: Found, asked: Asked, lenient: bool, type: str | None) -> dict[str, Any]:
    area = found.area
    whole = area.registers
    names = [name for name, lacking in asked.of(area).items() if not lacking] if asked else whole
    facts: dict[str, Any] = {
        "index": found.index,
        "label": found.label,
        "model": area.model.name,
        "layout_source": found.layout_source,
        "format": area.format,
        "xstate_bv": number(area.xstate_bv),
        "xcomp_bv": number(area.xcomp_bv),
    }
    if not asked:
        facts["components"] = _components(area)
    facts["registers"] = {
        name: lanes_told(area, name, type) if type and laned(name) else number(whole[name])
        for name in names
    }
    if area.assumed:
        facts["assumed"] = True
    if notes := [*found.notes, *_header_notes(area), *_otherwise(area, asked)]:
        facts["notes"] = notes
    if found.others is not None:
        facts["others"] = found.others
    if lenient:
        facts["faults"] = [picked(fault, "rule", "offset", "message") for fault in area.faults]
    return facts


def _components(area: XsaveArea) -> dict[str, Any]:
    facts: dict[str, Any] = {
        slot.name: {
            "number": slot.number,
            "in_use": area.in_use(slot.name),
            **picked(slot, "offset", "size"),
            "fields": field_facts(area, slot.name),
        }
        for slot in area.layout
    }
    for index, name in area.missing_by_number.items():
        facts[name] = {"number": index, "missing": True}
    restored, reasons = as_restored(area)
    for name, reason in reasons.items():
        facts[name] |= {"loaded": field_facts(restored, name), "loaded_reason": reason}
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


def _wanted(model: CpuModel, word: str) -> list[str]:
    """The register of this name; a family's name means all of it."""
    if word in model.registers:
        return [word]
    family = [name for name in model.registers if stem(name) == word]
    if not family:
        raise unknown(model, word)
    return family
