"""``xsaveschema compare``: which state moves between two CPU models, and which is lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import click

from xsaveschema.area.lines import Line
from xsaveschema.cli.options import (
    catalog_of,
    json_option,
    mask_option,
    schemas_option,
)
from xsaveschema.cli.output import print_json, print_lines
from xsaveschema.compare import Comparison, compare
from xsaveschema.identify import load_model

_STYLES: Final = {"lost": "red", "resized": "yellow", "moved": "yellow", "new": "dim"}


@click.command("compare")
@click.argument("model_a", metavar="CPU_A")
@click.argument("model_b", metavar="CPU_B")
@mask_option("--xcr0", "The guest's XCR0 on A; default: all that A has.")
@mask_option("--xss", "The guest's IA32_XSS on A; default: all that A has.")
@json_option
@schemas_option
@click.pass_context
def command(
    ctx: click.Context,
    model_a: str,
    model_b: str,
    xcr0: int | None,
    xss: int | None,
    as_json: bool,
    schemas: tuple[str, ...],
) -> int:
    """Tell whether a host CPU_B can take the state of a guest that ran on CPU_A.

    Which components move, which are lost, which sit elsewhere or change size. Exits with 1 where
    state would be lost.
    """
    catalog = catalog_of(ctx, schemas)
    a, b = load_model(model_a, catalog), load_model(model_b, catalog)
    if xcr0 is not None or xss is not None:
        a = a.limited(xcr0=xcr0, xss=xss)
    found = compare(a, b)
    if as_json:
        print_json(found.to_dict())
    else:
        print_lines(_lines(found))
    return 0 if found.restorable else 1


def _lines(found: Comparison) -> Iterator[Line]:
    """The comparison's own text: a verdict, a table, what else there is to say."""
    verdict, heading, *more = str(found).split("\n")
    yield [(verdict, "bold green" if found.restorable else "bold red")]
    yield [(heading, "bold")]
    for line, row in zip(more, found.components, strict=False):
        yield [(line, "red" if row.lossy else _STYLES.get(row.state, ""))]
    yield from ([(line, "")] for line in more[len(found.components) :])
