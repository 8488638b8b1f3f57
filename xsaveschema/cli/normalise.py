# SPDX-License-Identifier: MIT
"""``xsaveschema normalise``: areas in canonical form, in a file that is else as it was."""

from __future__ import annotations

import click

from xsaveschema.artefacts import normalise
from xsaveschema.cli.files import about, require_one_output
from xsaveschema.cli.inputs import Input, reads_areas
from xsaveschema.cli.output import echo, note
from xsaveschema.errors import plain


@click.command("normalise")
@click.argument("source", metavar="FILE")
@click.option("-o", "--output", metavar="OUT", help="The file to write.")
@click.option("--in-place", is_flag=True, help="Replace FILE itself, whole or not at all.")
@reads_areas("The CPU that wrote the areas, where the file does not say.")
def command(file: Input, output: str | None, in_place: bool) -> None:
    """Put areas into canonical form: equal state gives equal bytes.

    The file is written anew, and what a restore loads stays the same. Components with initial
    values alone are no longer in use, and stale bytes, gaps and reserved bytes become zero;
    software's bytes are kept. Every area of FILE is meant, or those that --area selects.
    """
    require_one_output(file.source, output, in_place)
    said = file.options()
    with about(file.source):
        done = normalise(
            file.source,
            output,
            file.selector,
            in_place=in_place,
            model=said.model,
            catalog=file.catalog,
            assume=file.assume,
        )
    for text in dict.fromkeys(text for each in done for text in each.notes):
        note(text)
    what = done[0].what if len(done) == 1 else f"{len(done)} areas"
    sources = ", ".join(dict.fromkeys(each.layout_source for each in done))
    echo(f"{plain(str(done[0].path))}: {what} in canonical form ({sources})", err=True)
