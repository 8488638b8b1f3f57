# SPDX-License-Identifier: MIT
"""``xsaveschema debugger``: commands for GDB and LLDB, as one file."""

from __future__ import annotations

import click

import xsaveschema
from xsaveschema.catalog import Catalog
from xsaveschema.cli.files import write_area
from xsaveschema.cli.options import with_catalog
from xsaveschema.debuggers import NAMES, Name, script


@click.command("debugger")
@click.argument("name", metavar="DEBUGGER", type=click.Choice(NAMES))
@click.option("-o", "--output", metavar="OUT", default="-", help="The file to write.")
@with_catalog
def command(catalog: Catalog, name: Name, output: str) -> None:
    r"""Write commands for a debugger, gdb or lldb, as one file that needs no other.

    The file has the layouts of the catalogue, and needs nothing but the debugger's own Python.

    \b
    (gdb)  source OUT                  info xsave, xsave set, $xsave("zmm17", "f32")
    (lldb) command script import OUT   xsave, for cores
    """
    write_area(output, script(name, xsaveschema.__version__, catalog).encode())
