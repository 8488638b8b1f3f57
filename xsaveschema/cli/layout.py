# SPDX-License-Identifier: MIT
"""``xsaveschema layout``: where each state component sits."""

from __future__ import annotations

from typing import Any

import click

from xsaveschema.area.lines import folded
from xsaveschema.catalog import Catalog
from xsaveschema.cli.files import write_picture
from xsaveschema.cli.inputs import presented
from xsaveschema.cli.options import json_option, mask_option, svg_option, with_catalog
from xsaveschema.cli.output import (
    in_ascii,
    in_colour,
    number,
    picked,
    print_json,
    print_lines,
    terminal_width,
)
from xsaveschema.cli.picture import gap_mark, picture
from xsaveschema.errors import MaskError, hex_mask
from xsaveschema.identify import load_model
from xsaveschema.identify.match import alike
from xsaveschema.layout import Layout
from xsaveschema.model import CpuModel
from xsaveschema.spans import Slot, Span
from xsaveschema.svg import layout_svg
from xsaveschema.text import columns, layout_lines, layout_title


@click.command("layout")
@click.argument("model_name", metavar="CPU")
@mask_option("--xcr0", "The user components that are enabled; default: the model's.")
@mask_option("--xss", "The supervisor components that are enabled; asks for the compacted format.")
@mask_option(
    "--xcomp-bv", "The components that have a place in the compacted format; bit 63 is optional."
)
@click.option("--compacted", is_flag=True, help="The compacted format with all that is enabled.")
@click.option("--fields", is_flag=True, help="Every byte: what it is, and by which name.")
@svg_option
@json_option
@with_catalog
def command(
    catalog: Catalog,
    model_name: str,
    xcr0: int | None,
    xss: int | None,
    xcomp_bv: int | None,
    compacted: bool,
    fields: bool,
    svg: str | None,
    as_json: bool,
) -> None:
    """Show where each state component of a CPU model sits.

    Without --xss, --xcomp-bv and --compacted the standard format is shown. A MASK is a number, or
    components' names with commas: 0x207, or x87,sse,avx,pkru.
    """
    model = load_model(model_name, catalog)
    if xcomp_bv is not None:
        layout = _compacted(model, xcr0, xss, xcomp_bv)
    elif xss is not None or compacted:
        layout = model.limited(xcr0, xss).compacted_layout()
    else:
        layout = model.standard_layout(xcr0)
    others = alike(layout, catalog) if model.host else None
    if svg is not None:
        write_picture(svg, layout_svg(layout), as_json)
    elif as_json:
        host = {"laid_out_as": model.name, "others": others} if model.host else {}
        print_json(
            {
                "model": model.label,
                **host,
                "format": layout.format,
                "mask": number(layout.mask),
                "size": layout.size,
                "components": [slot_facts(slot) for slot in layout],
                **({"spans": [*map(_span_facts, layout.spans())]} if fields else {}),
            }
        )
    elif fields:
        rows = [
            (f"{s.offset}", f"{s.offset:#x}", f"{s.size}", s.kind, s.path) for s in layout.spans()
        ]
        title = layout_title(layout, presented(model, others), terminal_width())
        print_lines([*title, [], *columns([("offset", "hex", "size", "kind", "path"), *rows])])
    else:
        _show(layout, others)


def _compacted(model: CpuModel, xcr0: int | None, xss: int | None, xcomp_bv: int) -> Layout:
    layout = model.compacted_layout(xcomp_bv)
    if xcr0 is not None or xss is not None:
        enabled = model.limited(xcr0, xss)
        if beyond := layout.mask & ~(enabled.xcr0 | enabled.xss):
            raise MaskError(
                f"XCOMP_BV {hex_mask(xcomp_bv)}: {', '.join(model.names_of(beyond))} not in "
                f"XCR0 {hex_mask(enabled.xcr0)} or IA32_XSS {hex_mask(enabled.xss)}",
                xcomp_bv,
            )
    return layout


def _show(layout: Layout, others: int | None) -> None:
    terminal, ascii_only = terminal_width(), in_ascii()
    width = min(terminal, 120)
    scale = (
        f"about {max(1, round(layout.size / width))} bytes a cell, at least one cell each; "
        f"h: header, {gap_mark(ascii_only)}: no component"
    )
    print_lines(
        [
            *layout_title(layout, presented(layout.model, others), terminal),
            [],
            *layout_lines(layout, "-" if ascii_only else "─"),
            [],
            *folded([(scale, "dim")], terminal),
            *picture(layout, width, ascii_only=ascii_only, colour=in_colour()),
        ]
    )


def _span_facts(span: Span) -> dict[str, Any]:
    return picked(span, "offset", "size", "kind", "path")


def slot_facts(slot: Slot) -> dict[str, Any]:
    """A component's place as ``--json`` tells it."""
    place = picked(slot, "number", "name", "offset", "size")
    return place | picked(slot.component, "supervisor", "align64")
