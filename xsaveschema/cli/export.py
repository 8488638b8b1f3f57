# SPDX-License-Identifier: MIT
"""``xsaveschema export``: tables of layouts for other people's builds."""

from __future__ import annotations

from pathlib import Path

import click

from xsaveschema.catalog import Catalog
from xsaveschema.cli.files import write_area
from xsaveschema.cli.options import json_option, with_catalog
from xsaveschema.cli.output import print_json, print_lines
from xsaveschema.errors import XsaveError, plain
from xsaveschema.export import render, targets
from xsaveschema.export.exporter import MARK
from xsaveschema.io import read_regular, write_folder
from xsaveschema.text import columns

_HEAD = 2000  # bytes of a file within which the mark stands


@click.command("export")
@click.argument("target", required=False)
@click.argument("cpus", metavar="CPU...", nargs=-1)
@click.option(
    "-o",
    "--output",
    metavar="FOLDER",
    help="The folder to write to, made where it is missing; - is standard output, for one file.",
)
@click.option("--list", "listing", is_flag=True, help="List the targets.")
@click.option("--force", is_flag=True, help="Replace files that were not generated, too.")
@json_option
@with_catalog
def command(
    catalog: Catalog,
    target: str | None,
    cpus: tuple[str, ...],
    output: str | None,
    listing: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Write tables of layouts for other people's builds, test vectors, and the atlas.

    CPU is a model's name, host, a CPUID dump, a model's YAML file, or all. What is written is
    deterministic, and may be taken into any project (MIT-0). Either all files are written, or none.
    """
    if listing:
        return _list(as_json)
    if target is None:
        raise click.UsageError("name a target; --list has them")
    if as_json:
        raise click.UsageError("--json goes with --list")
    if not output:
        raise click.UsageError("name the folder to write to (-o FOLDER), or -o - for one file")
    files = render(target, cpus, catalog=catalog)
    if output != "-":
        _write(Path(output), files, force)
    elif len(files) > 1:
        raise XsaveError(f"{target} has {len(files)} files for these CPUs: write a folder (-o)")
    else:
        write_area("-", "".join(files.values()).encode())
    return None


def _list(as_json: bool) -> None:
    rows = [(each.target, each.suffix, each.title) for each in targets()]
    if as_json:
        names = ("target", "suffix", "title")
        print_json({"targets": [dict(zip(names, row, strict=True)) for row in rows]})
        return
    print_lines(columns([("target", "files", "what"), *rows]))


def _write(folder: Path, files: dict[str, str], force: bool) -> None:
    for name in files if not force else ():
        path = folder / name
        if path.is_file() and MARK.encode() not in read_regular(path, _HEAD):
            raise XsaveError(f"{plain(str(path))} was not generated; --force replaces it")
    write_folder(folder, {name: text.encode() for name, text in files.items()})
