# SPDX-License-Identifier: MIT
"""``xsaveschema sigstack``: how much stack a signal takes on a CPU."""

from __future__ import annotations

import click

from xsaveschema.catalog import Catalog
from xsaveschema.cli.options import json_option, mask_option, with_catalog
from xsaveschema.cli.output import print_json, print_lines, terminal_width
from xsaveschema.identify import load_model
from xsaveschema.sigstack import sigstack
from xsaveschema.text import sigstack_lines


@click.command("sigstack")
@click.argument("model_name", metavar="CPU")
@mask_option("--xcr0", "The user components that Linux has enabled; default: the CPU's.")
@click.option(
    "--no-ia32", "ia32", flag_value=False, default=True, help="A kernel without IA32_EMULATION."
)
@json_option
@with_catalog
def command(catalog: Catalog, model_name: str, xcr0: int | None, ia32: bool, as_json: bool) -> None:
    """Tell how much stack a signal takes under Linux, and what MINSIGSTKSZ is there.

    A signal frame holds the XSAVE area of all that XCR0 enables, so the constants 2048 and 8192 of
    signal.h are too small on many CPUs. Each kind of frame is shown by its parts.
    """
    found = sigstack(load_model(model_name, catalog), xcr0, ia32=ia32)
    if as_json:
        print_json(found.to_dict())
    else:
        print_lines(sigstack_lines(found, terminal_width()))
