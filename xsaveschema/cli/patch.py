# SPDX-License-Identifier: MIT
"""``xsaveschema patch``: set registers in a file's area, or in a live thread."""

from __future__ import annotations

import re

import click

from xsaveschema.artefacts import Edited, patch
from xsaveschema.artefacts.opened import PID
from xsaveschema.cli.diff import delta_facts
from xsaveschema.cli.files import about, require_one_output
from xsaveschema.cli.inputs import Input, reads_areas
from xsaveschema.cli.options import json_option
from xsaveschema.cli.output import echo, in_colour, note, print_json, print_lines
from xsaveschema.errors import plain
from xsaveschema.text import delta_lines
from xsaveschema.values import TYPES


@click.command("patch")
@click.argument("source", metavar="FILE")
@click.argument("settings", metavar="NAME=VALUE...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="OUT", help="The file to write.")
@click.option("--in-place", is_flag=True, help="Replace FILE itself, whole or not at all.")
@json_option
@reads_areas("The CPU that wrote the areas, where the file does not say.")
def command(
    file: Input, settings: tuple[str, ...], output: str | None, in_place: bool, as_json: bool
) -> None:
    """Set registers or fields in an area, and show what has changed.

    FILE is a core or another file that holds whole areas, which is written anew, or pid:N: a live
    process, or one thread of it, whose registers are written where they are. A thread is stopped
    for that and goes on; what the kernel refuses, or a processor would not load as it stands, is
    refused, and what was written is read back.

    NAME is a register (zmm17, mxcsr) or a field (sse.mxcsr). VALUE is an integer (0x1fa0); a type
    and all lanes of it, lowest first (f32:1.0,2.5,...; decode --as has the types), f80:1.5 for an
    x87 register; or hex: and bytes as they stand in memory (hex:00ff...).
    """
    if not file.source.startswith(PID):
        require_one_output(file.source, output, in_place)
    elif in_place or output is not None:
        raise click.UsageError("a live thread is written to where it is: no -o and no --in-place")
    registers: dict[str, int | bytes | str] = {}
    for name, value in map(_setting, settings):
        if name in registers:
            raise click.UsageError(f"{name} is set twice")
        registers[name] = value
    said = file.options()
    with about(file.source):
        try:
            done = patch(
                file.source,
                output,
                registers,
                file.selector,
                in_place=in_place,
                model=said.model,
                catalog=file.catalog,
                assume=file.assume,
            )
        except (KeyboardInterrupt, SystemExit) as interrupted:
            for text in getattr(interrupted, "__notes__", ()):
                note(text)
            raise
    if as_json:
        print_json(_facts(done))
    else:
        _show(done)


def _show(done: Edited) -> None:
    for text in done.notes:
        note(text)
    said = f"{plain(str(done.path))}: {done.what} patched ({done.layout_source})"
    deltas = done.deltas
    echo(said if deltas else f"{said}; nothing differs from what was there", err=True)
    if done.before is not None and done.after is not None:
        print_lines(delta_lines(deltas, done.before, done.after, marks=not in_colour()))


def _facts(done: Edited) -> dict[str, object]:
    return {
        "file": str(done.path),
        "area": done.what,
        "layout_source": done.layout_source,
        "notes": done.notes,
        "deltas": [delta_facts(each) for each in done.deltas],
    }


def _setting(text: str) -> tuple[str, int | bytes | str]:
    name, sign, value = text.partition("=")
    if sign and value.startswith("hex:") and re.fullmatch(r"([0-9a-fA-F]{2})+", value[4:]):
        return name, bytes.fromhex(value[4:])
    if sign and value.partition(":")[0] in (*TYPES, "f80") and ":" in value:
        return name, value
    if not sign or not re.fullmatch(r"0x[0-9a-fA-F]{1,128}|[0-9]{1,150}", value):
        raise click.UsageError(
            f"{text!r} is no setting: write mxcsr=0x1fa0, xmm0=f32:1.0,2.5,0,0 or tmm0=hex:00ff..."
        )
    return name, int(value, 16 if value.startswith("0x") else 10)
