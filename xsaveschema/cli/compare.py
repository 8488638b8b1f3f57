# SPDX-License-Identifier: MIT
"""``xsaveschema compare``: which state moves between two CPU models, and which is lost."""

from __future__ import annotations

import click

from xsaveschema.catalog import Catalog
from xsaveschema.cli.files import write_picture
from xsaveschema.cli.options import json_option, mask_option, svg_option, with_catalog
from xsaveschema.cli.output import print_json, print_lines
from xsaveschema.compare import compare
from xsaveschema.identify import load_model
from xsaveschema.svg import comparison_svg
from xsaveschema.text import comparison_lines


@click.command("compare")
@click.argument("model_a", metavar="CPU_A")
@click.argument("model_b", metavar="CPU_B")
@mask_option("--xcr0", "The guest's XCR0 on A; default: all that A has.")
@mask_option("--xss", "The guest's IA32_XSS on A; default: all that A has.")
@svg_option
@json_option
@with_catalog
def command(
    catalog: Catalog,
    model_a: str,
    model_b: str,
    xcr0: int | None,
    xss: int | None,
    svg: str | None,
    as_json: bool,
) -> int:
    """Tell whether a host CPU_B can take the state of a guest that ran on CPU_A.

    Which components move, which are lost, which sit elsewhere or change size. Exits with 1 where
    state would be lost.
    """
    a, b = load_model(model_a, catalog), load_model(model_b, catalog)
    if xcr0 is not None or xss is not None:
        a = a.limited(xcr0=xcr0, xss=xss)
    found = compare(a, b)
    if svg is not None:
        write_picture(svg, comparison_svg(found), as_json)
    elif as_json:
        print_json(found.to_dict())
    else:
        print_lines(comparison_lines(found))
    return 0 if found.restorable else 1
