# SPDX-License-Identifier: MIT
"""``xsaveschema diff``: what differs in meaning between two areas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import click

from xsaveschema.artefacts.reader import Found
from xsaveschema.catalog import Catalog
from xsaveschema.cli.files import about, write_picture
from xsaveschema.cli.inputs import Input
from xsaveschema.cli.options import (
    area_option,
    assume_option,
    json_option,
    listed,
    model_option,
    svg_option,
    with_catalog,
)
from xsaveschema.cli.output import in_colour, number, picked, print_json, print_lines, print_rows
from xsaveschema.diff import ByteDelta, Delta, byte_differences, diff
from xsaveschema.svg import diff_svg
from xsaveschema.text import delta_lines


@click.command("diff")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option(
    "--ignore",
    metavar="NAME",
    multiple=True,
    help="Components or fields to leave out (x87.fip); commas separate, may be repeated.",
)
@click.option("--all", "everything", is_flag=True, help="Also what no restore loads.")
@click.option("--bytes", "raw", is_flag=True, help="Raw bytes instead, with what they belong to.")
@svg_option
@json_option
@model_option("The CPU that wrote A, and B unless --model-b names another.")
@click.option("--model-b", "model_b_name", metavar="CPU", help="The CPU that wrote B.")
@assume_option
@area_option
@click.option("--area-b", "selector_b", metavar="SELECTOR", help="The same of B, if it is another.")
@with_catalog
def command(
    catalog: Catalog,
    first: str,
    second: str,
    ignore: tuple[str, ...],
    everything: bool,
    raw: bool,
    svg: str | None,
    as_json: bool,
    model_name: str | None,
    model_b_name: str | None,
    assume: bool,
    selector: str | None,
    selector_b: str | None,
) -> int:
    """Show what differs in meaning between the areas A and B.

    Each is a path, - for standard input, pid:N or sample:NAME; formats and CPU models may differ.
    Registers come first, and of wide ones the bits in which they differ. State that is live, but
    not in one of the files, is told as unknown.
    With --area all, or a glob, there is a row for each pair of areas of one label; where A or B is
    one area, it is held against each of the other.
    Exits as diff does: 0 where nothing differs, 1 where something does.
    """
    if first == second == "-":
        raise click.UsageError("standard input holds one area, not two")
    file_a = Input(catalog, first, model_name, assume, selector)
    file_b = Input(catalog, second, model_b_name or model_name, assume, selector_b or selector)

    def differences(a: Found, b: Found) -> list[Delta] | list[ByteDelta]:
        if raw:
            return byte_differences(a.area, b.area)
        return diff(a.area, b.area, ignore=listed(ignore), everything=everything)

    if file_a.plural or file_b.plural:
        if svg is not None:
            raise click.UsageError("--svg draws one pair of areas: select one of each")
        held = (
            _Pair(a, b, differences(a, b) if a and b else []) for a, b in _pairs(file_a, file_b)
        )
        differ = print_rows(
            held,
            as_json,
            lambda pair: _pair_facts(pair, raw),
            ["A", "B", "differs in"],
            _row,
            lambda pair: pair.differ,
        )
        return 1 if differ else 0
    (a,), (b,) = _areas(file_a), _areas(file_b)
    found = differences(a, b)
    if svg is not None:
        write_picture(svg, diff_svg(found, a.area, b.area), as_json, first, second)
    elif as_json:
        print_json(_facts(found, raw))
    else:
        deltas = [each for each in found if isinstance(each, Delta)]
        runs = [[(str(run), "")] for run in found if isinstance(run, ByteDelta)]
        print_lines([*delta_lines(deltas, a.area, b.area, marks=not in_colour()), *runs])
    return 1 if found else 0


class _Pair(NamedTuple):
    """What is held against what; None: there is no such area."""

    a: Found | None
    b: Found | None
    found: list[Delta] | list[ByteDelta]

    @property
    def differ(self) -> bool:
        return bool(self.found) or not (self.a and self.b)


def _areas(file: Input) -> Iterator[Found]:
    options = file.options()
    with about(file.source), file.opened(options) as artefact:
        if file.plural:
            yield from file.areas(artefact)
        else:
            yield file.one(artefact)


def _pairs(file_a: Input, file_b: Input) -> Iterator[tuple[Found | None, Found | None]]:
    """Areas of one label, or one area against each of the others."""
    a, b = _areas(file_a), _areas(file_b)
    if not (file_a.plural and file_b.plural):
        single = next(b if file_a.plural else a)
        yield from (
            ((each, single) for each in a) if file_a.plural else ((single, each) for each in b)
        )
        return
    others: dict[str, list[Found]] = {}
    for found in b:
        others.setdefault(found.label, []).append(found)
    for found in a:
        same = others.get(found.label)
        yield found, same.pop(0) if same else None
    for left in others.values():
        yield from ((None, found) for found in left)


def _name(found: Found | None) -> str:
    return "-" if found is None else f"{found.label} (#{found.index})"


def _row(pair: _Pair) -> list[str]:
    if not (pair.a and pair.b):
        said = "only in B" if pair.a is None else "only in A"
    elif not pair.found:
        said = "nothing"
    else:
        owners = (
            each.component if isinstance(each, Delta) else each.owner_a or each.owner_b
            for each in pair.found
        )
        said = f"{', '.join(dict.fromkeys(owners))} ({len(pair.found)})"
    return [_name(pair.a), _name(pair.b), said]


def _pair_facts(pair: _Pair, raw: bool) -> dict[str, Any]:
    ends = {
        side: None if found is None else {"index": found.index, "label": found.label}
        for side, found in (("a", pair.a), ("b", pair.b))
    }
    return ends | _facts(pair.found, raw)


def _facts(found: list[Delta] | list[ByteDelta], raw: bool) -> dict[str, Any]:
    told = [delta_facts(each) if isinstance(each, Delta) else _run(each) for each in found]
    return {"bytes" if raw else "deltas": told}


def delta_facts(delta: Delta) -> dict[str, Any]:
    """A difference as ``--json`` tells it: ``a`` is the old value, ``b`` the new one."""
    values = ((side, getattr(delta, side)) for side in ("a", "b"))
    return {
        **picked(delta, "component", "path", "kind"),
        **{side: None if value is None else number(value) for side, value in values},
        "bits": [bit._asdict() for bit in delta.bits],
    }


def _run(run: ByteDelta) -> dict[str, Any]:
    return {
        "offset": run.offset,
        "a": run.a.hex(),
        "b": run.b.hex(),
        **picked(run, "owner_a", "owner_b", "live"),
    }
