# SPDX-License-Identifier: MIT
"""``xsaveschema areas``: what a FILE holds, and the CPU models that wrote it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from xsaveschema.area.lines import Line, names_in_use
from xsaveschema.artefacts.reader import Found
from xsaveschema.cli.files import about, named_input
from xsaveschema.cli.inputs import Input, called, reads_areas
from xsaveschema.cli.options import json_option
from xsaveschema.cli.output import number, print_json_items, print_lines
from xsaveschema.text import columns


@click.command("areas")
@click.argument("source", metavar="FILE")
@json_option
@reads_areas("The CPU that wrote the areas, where FILE does not say.")
def command(file: Input, as_json: bool) -> None:
    """List the areas of a file: whose each is, how it is laid out, what is in use.

    FILE is a path, - for standard input, pid:N or sample:NAME. An area with an illegal header has
    a row, too. What stands in the first two columns is what --area takes: #5, or 'thread 1234'.
    """
    options = file.options(strict=False)
    with about(file.source):
        found = file.areas(file.opened(options))
        if as_json:
            print_json_items({}, "areas", map(_facts, found))
        else:
            print_lines(listing(named_input(file.source), [row_of(each) for each in found]))


def _facts(found: Found) -> dict[str, Any]:
    area = found.area
    facts: dict[str, Any] = {
        "index": found.index,
        "label": found.label,
        "model": area.model.name,
        "layout_source": found.layout_source,
        "format": area.format,
        "size": len(area),
        "xstate_bv": number(area.xstate_bv),
        "in_use": names_in_use(area),
        "missing": list(area.missing),
    }
    return facts | ({"faults": [fault.rule for fault in area.faults]} if area.faults else {})


def row_of(found: Found) -> dict[str, str]:
    """What the list tells of an area, without its bytes: there may be many."""
    area = found.area
    in_use = " ".join(names_in_use(area)) or "nothing"
    if area.missing:
        in_use += f" (not in this file: {' '.join(area.missing)})"
    if area.faults:
        in_use += f" (at fault: {' '.join(fault.rule for fault in area.faults)})"
    return {
        "#": str(found.index),
        "area": found.label,
        "model": called(found),
        "layout": found.layout_source,
        "format": f"{area.format}, {len(area)} bytes",
        "in use": in_use,
    }


def in_common(rows: Sequence[dict[str, str]]) -> dict[str, str]:
    """What all rows say alike of the layout."""
    told = {name: {row[name] for row in rows} for name in ("model", "layout", "format")}
    return {name: values.pop() for name, values in told.items() if len(values) == 1}


def listing(source: str, rows: Sequence[dict[str, str]]) -> list[Line]:
    """The areas as lines: what all have in common stands above, once."""
    common = in_common(rows)
    count = f"{len(rows)} area{'s' * (len(rows) != 1)}"
    lines: list[Line] = [[(f"{source}: {count}", "bold")]]
    lines += [[(f"  {name:11}", "cyan"), (value, "")] for name, value in common.items()]
    names = ("#", "area", "model", "format", "in use")
    shown = [name for name in names if name not in common]
    return [*lines, [], *columns([shown, *([row[name] for name in shown] for row in rows)])]
