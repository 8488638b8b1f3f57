"""``xsaveschema layout``: where each state component sits."""

from __future__ import annotations

import click

from xsaveschema.cli.areas import slot_facts
from xsaveschema.cli.options import (
    catalog_of,
    json_option,
    mask_option,
    schemas_option,
)
from xsaveschema.cli.output import console, number, print_json, table
from xsaveschema.cli.plain import plain
from xsaveschema.errors import MaskError, hex_mask
from xsaveschema.identify import load_model
from xsaveschema.layout import Layout
from xsaveschema.model import CpuModel


@click.command("layout")
@click.argument("model_name", metavar="CPU")
@mask_option("--xcr0", "The user components that are enabled; default: the model's.")
@mask_option("--xss", "The supervisor components that are enabled; asks for the compacted format.")
@mask_option(
    "--xcomp-bv", "The components that have a place in the compacted format; bit 63 is optional."
)
@click.option("--compacted", is_flag=True, help="The compacted format with all that is enabled.")
@json_option
@schemas_option
@click.pass_context
def command(
    ctx: click.Context,
    model_name: str,
    xcr0: int | None,
    xss: int | None,
    xcomp_bv: int | None,
    compacted: bool,
    as_json: bool,
    schemas: tuple[str, ...],
) -> None:
    """Show where each state component of a CPU model sits.

    Without --xss, --xcomp-bv and --compacted the standard format is shown. A MASK is a number, or
    components' names with commas: 0x207, or x87,sse,avx,pkru.
    """
    model = load_model(model_name, catalog_of(ctx, schemas))
    if xcomp_bv is not None:
        layout = _compacted(model, xcr0, xss, xcomp_bv)
    elif xss is not None or compacted:
        layout = model.limited(xcr0, xss).compacted_layout()
    else:
        layout = model.standard_layout(xcr0)
    if as_json:
        print_json(
            {
                "model": model.name,
                "format": layout.format,
                "mask": number(layout.mask),
                "size": layout.size,
                "components": [slot_facts(slot) for slot in layout],
            }
        )
    else:
        _show(model, layout)


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


def _show(model: CpuModel, layout: Layout) -> None:
    from rich.text import Text

    from xsaveschema.cli.picture import blocks, gap_mark, picture

    out = console()
    mask = f"XCR0 {hex_mask(layout.mask)}"
    if layout.format == "compacted":
        mask = f"XCOMP_BV {hex_mask(layout.xcomp_bv)}"
    out.print(f"{model.name}  {plain(model.title)}", style="bold")
    out.print(f"{layout.format} format, {layout.size} bytes, {mask}\n")
    rows = table(
        out,
        ("", "left"),
        ("#", "right"),
        ("component", "left"),
        ("offset", "right"),
        ("hex", "right"),
        ("size", "right"),
        ("scope", "left"),
        ("flags", "left"),
    )
    for block in blocks(layout):
        place = (str(block.offset), f"{block.offset:#x}", str(block.size))
        if not block.key:
            rows.add_row("", "", block.name, *place, "", "", style="dim")
            continue
        component = layout[block.name].component
        flags = {"align64": component.align64, "xfd": component.xfd}
        rows.add_row(
            Text(f" {block.key} ", style=block.style),
            str(component.number),
            component.name,
            *place,
            "supervisor" if component.supervisor else "user",
            " ".join(name for name, there in flags.items() if there),
        )
    out.print(rows)
    out.print()
    width = min(out.width, 120)
    out.print(
        f"about {max(1, round(layout.size / width))} bytes a cell, at least one cell each; "
        f"h: header, {gap_mark(out.options.ascii_only)}: no component",
        style="dim",
    )
    drawn = picture(
        layout,
        width,
        ascii_only=out.options.ascii_only,
        colour=out.color_system is not None and not out.no_color,
    )
    out.print(drawn, soft_wrap=True)
