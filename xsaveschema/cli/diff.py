"""``xsaveschema diff``: what differs in meaning between two areas."""

from __future__ import annotations

from typing import Any

import click

from xsaveschema.area import XsaveArea
from xsaveschema.cli import diff_text
from xsaveschema.cli.areas import one, options_of
from xsaveschema.cli.files import about
from xsaveschema.cli.options import (
    area_option,
    assume_option,
    catalog_of,
    json_option,
    listed,
    model_option,
    schemas_option,
)
from xsaveschema.cli.output import number, print_json, print_lines
from xsaveschema.diff import ByteDelta, Delta, byte_differences, diff


@click.command("diff")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@model_option("The CPU that wrote A, and B unless --model-b names another.")
@click.option("--model-b", "model_b_name", metavar="CPU", help="The CPU that wrote B.")
@assume_option
@click.option(
    "--ignore",
    metavar="NAME",
    multiple=True,
    help="Components or fields to leave out (x87.fip); commas separate, may be repeated.",
)
@click.option("--all", "everything", is_flag=True, help="Also what no restore loads.")
@click.option("--bytes", "raw", is_flag=True, help="Raw bytes instead, with what they belong to.")
@area_option
@click.option("--area-b", "label_b", metavar="LABEL", help="Which area of B, if it is another.")
@json_option
@schemas_option
@click.pass_context
def command(
    ctx: click.Context,
    first: str,
    second: str,
    model_name: str | None,
    model_b_name: str | None,
    assume: bool,
    ignore: tuple[str, ...],
    everything: bool,
    raw: bool,
    label: str | None,
    label_b: str | None,
    as_json: bool,
    schemas: tuple[str, ...],
) -> int:
    """Show what differs in meaning between the areas A and B.

    Each is a path, - for standard input, pid:N or sample:NAME; formats and CPU models may differ.
    Registers come first, and of wide ones the bits in which they differ. State that is live, but
    not in one of the files, is told as unknown.
    Exits as diff does: 0 where nothing differs, 1 where something does.
    """
    if first == second == "-":
        raise click.UsageError("standard input holds one area, not two")
    catalog = catalog_of(ctx, schemas)

    def area(source: str, name: str | None, label: str | None) -> XsaveArea:
        with about(source):
            return one(source, options_of(catalog, name, assume), label).area

    a = area(first, model_name, label)
    b = area(second, model_b_name or model_name, label_b or label)
    if raw:
        runs = byte_differences(a, b)
        if as_json:
            print_json({"bytes": [_run(run) for run in runs]})
        else:
            print_lines([[(str(run), "")] for run in runs])
        return 1 if runs else 0
    deltas = diff(a, b, ignore=listed(ignore), everything=everything)
    if as_json:
        print_json({"deltas": [_delta(delta) for delta in deltas]})
    else:
        print_lines(diff_text.lines(deltas, a, b))
    return 1 if deltas else 0


def _delta(delta: Delta) -> dict[str, Any]:
    return {
        "component": delta.component,
        "path": delta.path,
        "kind": delta.kind,
        "a": None if delta.a is None else number(delta.a),
        "b": None if delta.b is None else number(delta.b),
        "bits": [{"name": bit.name, "a": bit.a, "b": bit.b} for bit in delta.bits],
    }


def _run(run: ByteDelta) -> dict[str, Any]:
    return {
        "offset": run.offset,
        "a": run.a.hex(),
        "b": run.b.hex(),
        "owner_a": run.owner_a,
        "owner_b": run.owner_b,
        "live": run.live,
    }
