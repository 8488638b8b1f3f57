"""``xsaveschema diff``: what differs in meaning between two areas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import click

from xsaveschema.artefacts import select
from xsaveschema.artefacts.reader import Found
from xsaveschema.cli import diff_text
from xsaveschema.cli.areas import columns, opened, options_of, until_fault
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
from xsaveschema.cli.output import number, print_json, print_json_items, print_lines
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
@click.option(
    "--area-b",
    "selector_b",
    metavar="SELECTOR",
    help="The same of B, if it is another.",
)
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
    selector: str | None,
    selector_b: str | None,
    as_json: bool,
    schemas: tuple[str, ...],
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
    catalog = catalog_of(ctx, schemas)
    selector_b = selector_b or selector

    def areas(source: str, name: str | None, chosen: str | None) -> Iterator[Found]:
        options = options_of(catalog, name, assume)
        with about(source), opened(source, options) as artefact:
            if select.is_plural(chosen):
                yield from select.selected(artefact.areas(), chosen)
            else:
                yield select.one(artefact.areas(), chosen)

    def differences(a: Found, b: Found) -> list[Delta] | list[ByteDelta]:
        if raw:
            return byte_differences(a.area, b.area)
        return diff(a.area, b.area, ignore=listed(ignore), everything=everything)

    of_a = areas(first, model_name, selector)
    of_b = areas(second, model_b_name or model_name, selector_b)
    plural = select.is_plural(selector), select.is_plural(selector_b)
    if any(plural):
        return _rows(_pairs(of_a, of_b, plural), differences, raw, as_json)
    (a,), (b,) = of_a, of_b
    found = differences(a, b)
    if as_json:
        print_json(_facts(found, raw))
    else:
        deltas = [each for each in found if isinstance(each, Delta)]
        runs = [[(str(run), "")] for run in found if isinstance(run, ByteDelta)]
        print_lines([*diff_text.lines(deltas, a.area, b.area), *runs])
    return 1 if found else 0


_Pair = tuple[Found | None, Found | None]


def _pairs(a: Iterator[Found], b: Iterator[Found], plural: tuple[bool, bool]) -> Iterator[_Pair]:
    """What is held against what: areas of one label, or one area against each of the others."""
    if not all(plural):
        single = next(b if plural[0] else a)
        yield from ((each, single) for each in a) if plural[0] else ((single, each) for each in b)
        return
    others: dict[str, list[Found]] = {}
    for found in b:
        others.setdefault(found.label, []).append(found)
    for found in a:
        same = others.get(found.label)
        yield found, same.pop(0) if same else None
    for left in others.values():
        yield from ((None, found) for found in left)


def _rows(
    pairs: Iterator[_Pair],
    differences: Callable[[Found, Found], list[Delta] | list[ByteDelta]],
    raw: bool,
    as_json: bool,
) -> int:
    """A row for each pair; what differs is told of one that is named."""
    differ = 0

    def held() -> Iterator[tuple[Found | None, Found | None, list[Delta] | list[ByteDelta]]]:
        nonlocal differ
        for a, b in pairs:
            found = differences(a, b) if a and b else []
            differ += bool(found) or not (a and b)
            yield a, b, found

    if as_json:
        print_json_items({}, "areas", (_ends(a, b) | _facts(found, raw) for a, b, found in held()))
        return 1 if differ else 0
    rows, fault = until_fault([_name(a), _name(b), _short(a, b, found)] for a, b, found in held())
    print_lines(columns([["A", "B", "differs in"], *rows]))
    if fault is not None:
        raise fault
    return 1 if differ else 0


def _name(found: Found | None) -> str:
    return "-" if found is None else f"{found.label} (#{found.index})"


def _short(a: Found | None, b: Found | None, found: list[Delta] | list[ByteDelta]) -> str:
    if not (a and b):
        return "only in B" if a is None else "only in A"
    if not found:
        return "nothing"
    owners = (d.component if isinstance(d, Delta) else d.owner_a or d.owner_b for d in found)
    return f"{', '.join(dict.fromkeys(map(str, owners)))} ({len(found)})"


def _ends(a: Found | None, b: Found | None) -> dict[str, Any]:
    return {
        side: None if found is None else {"index": found.index, "label": found.label}
        for side, found in (("a", a), ("b", b))
    }


def _facts(found: list[Delta] | list[ByteDelta], raw: bool) -> dict[str, Any]:
    told = [_delta(each) if isinstance(each, Delta) else _run(each) for each in found]
    return {"bytes" if raw else "deltas": told}


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
