"""``xsaveschema add-layout``: give a core the layout note that it lacks."""

from __future__ import annotations

import click

from xsaveschema.artefacts import add_layout
from xsaveschema.cli.areas import options_of
from xsaveschema.cli.files import about, named
from xsaveschema.cli.options import (
    assume_option,
    catalog_of,
    model_option,
    note,
    schemas_option,
)
from xsaveschema.cli.output import echo


@click.command("add-layout")
@click.argument("source", metavar="CORE")
@click.option("-o", "--output", metavar="OUT", help="The file to write.")
@click.option("--in-place", is_flag=True, help="Replace CORE itself, whole or not at all.")
@model_option("The CPU that wrote the core; without it, its areas are identified.")
@assume_option
@schemas_option
@click.pass_context
def command(
    ctx: click.Context,
    source: str,
    output: str | None,
    in_place: bool,
    model_name: str | None,
    assume: bool,
    schemas: tuple[str, ...],
) -> None:
    """Add NT_X86_XSAVE_LAYOUT to an ELF core that lacks it, so that debuggers can read it."""
    if (output is None) == (not in_place):
        raise click.UsageError("give one of -o OUT and --in-place")
    catalog = catalog_of(ctx, schemas)
    model = options_of(catalog, model_name, assume).model
    with about(source):
        done = add_layout(source, output, model, in_place=in_place, catalog=catalog, assume=assume)
    for text in done.notes:
        note(text)
    echo(f"{named(str(done.path))}: {done.what} added ({done.layout_source})", err=True)
