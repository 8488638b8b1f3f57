"""``xsaveschema relayout``: an area of one CPU model laid out as another's."""

from __future__ import annotations

import click

from xsaveschema.cli.areas import one
from xsaveschema.cli.convert import limited, permitted, summary
from xsaveschema.cli.files import about, refuse_terminal, write_area
from xsaveschema.cli.options import (
    area_option,
    catalog_of,
    drop_option,
    output_option,
    schemas_option,
)
from xsaveschema.convert import relayout


@click.command("relayout")
@click.argument("source", metavar="FILE")
@click.option(
    "--from", "source_name", metavar="MODEL", required=True, help="The CPU that wrote it."
)
@click.option(
    "--to", "target_name", metavar="MODEL", required=True, help="The CPU that shall read it."
)
@drop_option
@output_option
@area_option
@schemas_option
@click.pass_context
def command(
    ctx: click.Context,
    source: str,
    source_name: str,
    target_name: str,
    drop: tuple[str, ...],
    output: str,
    label: str | None,
    schemas: tuple[str, ...],
) -> None:
    """Move an area from one CPU model's layout to another's.

    The format stays. FILE is a path, - for standard input, pid:N or sample:NAME. State in use is
    never lost silently: what the other CPU has no place for is an error, unless --drop permits it.
    """
    refuse_terminal(output)
    catalog = catalog_of(ctx, schemas)
    writer, target = catalog.model(source_name), catalog.model(target_name)
    with about(source):
        data = one(source, catalog, source_name, label).data
        writer, limits = limited(writer, data)
        target, more = limited(target, data)
        result = relayout(data, source=writer, target=target, drop=permitted(drop))
    write_area(output, result.data)
    summary(output, result, [*limits, *more])
