"""What a FILE holds: its areas, and the CPU models that wrote them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import click

from xsaveschema.area.lines import Line, names_in_use
from xsaveschema.artefacts import select
from xsaveschema.artefacts.opened import Artefact, opened_stream
from xsaveschema.artefacts.opened import opened as opened_path
from xsaveschema.artefacts.reader import WHOLE, Found, Options
from xsaveschema.catalog import Catalog
from xsaveschema.cli.files import about, named_input, read_some
from xsaveschema.cli.options import (
    area_option,
    assume_option,
    catalog_of,
    json_option,
    model_option,
    note,
    schemas_option,
)
from xsaveschema.cli.output import number, print_json_items, print_lines
from xsaveschema.cli.plain import plain
from xsaveschema.errors import UnknownSampleError, XsaveError
from xsaveschema.header import MASKS, view_of
from xsaveschema.identify import load_model
from xsaveschema.model import COMPACTED, HEADER_OFFSET, CpuModel
from xsaveschema.spans import Slot
from xsaveschema.traces import shown

_T = TypeVar("_T")


@click.command("areas")
@click.argument("source", metavar="FILE")
@area_option
@model_option("The CPU that wrote the areas, where FILE does not say.")
@assume_option
@json_option
@schemas_option
@click.pass_context
def command(
    ctx: click.Context,
    source: str,
    selector: str | None,
    model_name: str | None,
    assume: bool,
    as_json: bool,
    schemas: tuple[str, ...],
) -> None:
    """List the areas of a file: whose each is, how it is laid out, what is in use.

    FILE is a path, - for standard input, pid:N or sample:NAME. An area with an illegal header has
    a row, too. What stands in the first two columns is what --area takes: #5, or 'thread 1234'.
    """
    catalog = catalog_of(ctx, schemas)
    with about(source):
        options = options_of(catalog, model_name, assume, strict=False)
        found = select.selected(opened(source, options).areas(), selector)
        if as_json:
            print_json_items({}, "areas", map(_facts, found))
        else:
            print_lines(listing(named_input(source), [row_of(each) for each in found]))


def _facts(found: Found) -> dict[str, Any]:
    area = found.area
    facts: dict[str, Any] = {
        "index": found.index,
        "label": found.label,
        "model": area.model.name,
        "layout_source": found.layout_source,
        "format": area.format,
        "size": len(area),
        "xstate_bv": number(area.xstate_bv),
        "in_use": names_in_use(area),
        "missing": list(area.missing),
    }
    if area.faults:
        facts["faults"] = [fault.rule for fault in area.faults]
    return facts


class Listed(NamedTuple):
    """What the list tells of an area, without its bytes: there may be many."""

    number: str
    label: str
    model: str
    layout: str
    format: str
    in_use: str


def row_of(found: Found) -> Listed:
    """The row of an area."""
    area = found.area
    in_use = " ".join(names_in_use(area)) or "nothing"
    if area.missing:
        in_use += f" (not in this file: {' '.join(area.missing)})"
    if area.faults:
        in_use += " (the header is at fault)"
    return Listed(
        f"{found.index}",
        found.label,
        called(found),
        found.layout_source,
        f"{area.format}, {len(area)} bytes",
        in_use,
    )


def in_common(rows: Sequence[Listed]) -> dict[str, str]:
    """What all rows say alike of the layout."""
    names = ("model", "layout", "format")
    return {
        name: getattr(rows[0], name)
        for name in names
        if len({getattr(row, name) for row in rows}) == 1
    }


def listing(source: str, rows: Sequence[Listed]) -> list[Line]:
    """The areas as lines: what all have in common stands above, once."""
    common = in_common(rows)
    count = f"{len(rows)} area{'s' * (len(rows) != 1)}"
    lines: list[Line] = [[(plain(f"{source}: {count}"), "bold")]]
    lines += [[(f"  {name:11}", "cyan"), (value, "")] for name, value in common.items()]
    titles = {"number": "#", "label": "area", "in_use": "in use"}
    shown = [name for name in Listed._fields if name not in common and name != "layout"]
    cells = [[getattr(row, name) for name in shown] for row in rows]
    return [*lines, [], *columns([[titles.get(name, name) for name in shown], *cells])]


def columns(table: Sequence[Sequence[str]]) -> Iterator[Line]:
    """Rows below their headings as lines; the numbers in a column # are set right."""
    table = [[plain(cell) for cell in row] for row in table]
    shapes = [
        f"{'>' if column[0] == '#' else ''}{max(map(len, column))}"
        for column in zip(*table, strict=True)
    ]
    for at, row in enumerate(table):
        cells = (f"{cell:{shape}}" for cell, shape in zip(row, shapes, strict=True))
        yield [(f"  {'  '.join(cells)}".rstrip(), "" if at else "bold")]


def options_of(
    catalog: Catalog, model_name: str | None, assume: bool = False, strict: bool = True
) -> Options:
    """What ``--model``, ``--assume-model`` and ``--lenient`` say of the CPU that wrote FILE."""
    if assume and model_name is None:
        raise click.UsageError("--assume-model insists on what --model says: give that, too")
    model = None if model_name is None else load_model(model_name, catalog)
    return Options(model, strict, catalog, assume)


def opened(source: str, options: Options) -> Artefact:
    """What FILE is: a path, ``-``, ``pid:N`` or ``sample:NAME``; wrong usage for no sample."""
    if source == "-":
        return opened_stream(read_some, options)
    try:
        return opened_path(source, options)
    except UnknownSampleError as error:
        raise click.UsageError(str(error)) from None


def looked_ahead(areas: Iterator[Found]) -> tuple[bool, Iterator[Found]]:
    """Whether there are several areas, and all of them; a fault is raised where it stands."""
    first, fault = until_fault(islice(areas, 2))

    def again() -> Iterator[Found]:
        while first:
            yield first.pop(0)
        if fault is not None:
            raise fault
        yield from areas

    return len(first) + (fault is not None) > 1, again()


def until_fault(items: Iterable[_T]) -> tuple[list[_T], XsaveError | None]:
    """What comes until a fault, and the fault: what is known is shown in front of it."""
    found: list[_T] = []
    try:
        for item in items:
            found.append(item)
    except XsaveError as error:
        return found, error
    return found, None


def noted(
    areas: Iterable[Found], several: bool, notes: Callable[[Found], Iterable[str]]
) -> Iterator[Found]:
    """The areas, each behind what there is to note of it; of several areas, each text once."""
    more: dict[str, int] = {}
    for found in areas:
        for text in notes(found):
            more[text] = more.get(text, -1) + 1
            if not (several and more[text]):
                note(text if found.label == WHOLE else f"{found.label}: {text}")
        yield found
    for text, count in more.items():
        if several and count:
            note(f"{text} (so in {count} more area{'s' * (count != 1)})")


def tells(data: bytes) -> bool:
    """Whether a bare area says which components its writer's system had enabled."""
    view = view_of(data)
    xstate_bv, xcomp_bv = MASKS.unpack_from(view, HEADER_OFFSET)
    return not xcomp_bv & COMPACTED and shown(view, xstate_bv) is not None


def called(found: Found) -> str:
    """The model of an area by name, and how many others it may as well be."""
    return "host" if found.origin == "host" else naming(found.area.model, found.others)


def naming(model: CpuModel, others: int | None) -> str:
    """A model's name, which is a label for a layout that ``others`` have too."""
    if model.host or not others:
        return model.label
    return f"{model.name}, or {others} other{'s' * (others > 1)} laid out alike"


def presented(model: CpuModel, others: int | None) -> str:
    """The same as a heading has it: with the title where the name is more than a label."""
    if model.host and model.file:  # else it was built from the CPU's own leaf
        more = f" or {others} other{'s' * (others > 1)}" if others else ""
        return f"host, laid out as {model.name}{more}"
    name = naming(model, others)
    return name if others else f"{name}  {plain(model.title)}"


def slot_facts(slot: Slot) -> dict[str, Any]:
    """A component's place as ``--json`` tells it."""
    return {
        "number": slot.number,
        "name": slot.name,
        "offset": slot.offset,
        "size": slot.size,
        "supervisor": slot.component.supervisor,
        "align64": slot.component.align64,
    }
