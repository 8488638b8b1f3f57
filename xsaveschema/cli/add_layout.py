# SPDX-License-Identifier: MIT
"""``xsaveschema add-layout``: give a core the layout note that it lacks."""

from __future__ import annotations

import click

from xsaveschema.artefacts import add_layout
from xsaveschema.cli.files import about, require_one_output
from xsaveschema.cli.inputs import Input, reads_areas
from xsaveschema.cli.output import echo, note
from xsaveschema.errors import plain


@click.command("add-layout")
@click.argument("source", metavar="CORE")
@click.option("-o", "--output", metavar="OUT", help="The file to write.")
@click.option("--in-place", is_flag=True, help="Replace CORE itself, whole or not at all.")
@reads_areas("The CPU that wrote the core; without it, its areas are identified.", area=False)
def command(file: Input, output: str | None, in_place: bool) -> None:
    """Add NT_X86_XSAVE_LAYOUT to an ELF core that lacks it, so that debuggers can read it."""
    require_one_output(file.source, output, in_place)
    said = file.options()
    with about(file.source):
        done = add_layout(
            file.source,
            output,
            said.model,
            in_place=in_place,
            catalog=file.catalog,
            assume=file.assume,
        )
    for text in done.notes:
        note(text)
    echo(f"{plain(str(done.path))}: {done.what} added ({done.layout_source})", err=True)
