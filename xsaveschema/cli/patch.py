"""``xsaveschema patch``: set registers in a core's or another file's area."""

from __future__ import annotations

import re

import click

from xsaveschema.artefacts import patch
from xsaveschema.cli.areas import options_of
from xsaveschema.cli.files import about, named
from xsaveschema.cli.options import (
    area_option,
    assume_option,
    catalog_of,
    model_option,
    note,
    schemas_option,
)
from xsaveschema.cli.output import echo


@click.command("patch")
@click.argument("source", metavar="FILE")
@click.argument("settings", metavar="NAME=VALUE...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="OUT", help="The file to write.")
@click.option("--in-place", is_flag=True, help="Replace FILE itself, whole or not at all.")
@area_option
@model_option("The CPU that wrote the areas, where the file does not say.")
@assume_option
@schemas_option
@click.pass_context
def command(
    ctx: click.Context,
    source: str,
    settings: tuple[str, ...],
    output: str | None,
    in_place: bool,
    selector: str | None,
    model_name: str | None,
    assume: bool,
    schemas: tuple[str, ...],
) -> None:
    """Set registers or fields in an area of a core, and write the file anew.

    NAME is a register (zmm17, mxcsr) or a field (sse.mxcsr), VALUE an integer (0x1fa0), or hex: and
    bytes for a tile.
    """
    if (output is None) == (not in_place):
        raise click.UsageError("give one of -o OUT and --in-place")
    registers = dict(map(_setting, settings))
    catalog = catalog_of(ctx, schemas)
    model = options_of(catalog, model_name, assume).model
    with about(source):
        done = patch(
            source,
            output,
            registers,
            selector,
            in_place=in_place,
            model=model,
            catalog=catalog,
            assume=assume,
        )
    for text in done.notes:
        note(text)
    echo(f"{named(str(done.path))}: {done.what} patched ({done.layout_source})", err=True)


def _setting(text: str) -> tuple[str, int | bytes]:
    name, sign, value = text.partition("=")
    if sign and value.startswith("hex:") and re.fullmatch(r"([0-9a-fA-F]{2})+", value[4:]):
        return name, bytes.fromhex(value[4:])
    if not sign or not re.fullmatch(r"0x[0-9a-fA-F]{1,128}|[0-9]{1,150}", value):
        raise click.UsageError(f"{text!r} is no setting: write mxcsr=0x1fa0, or tmm0=hex:00ff...")
    return name, int(value, 16 if value.startswith("0x") else 10)
