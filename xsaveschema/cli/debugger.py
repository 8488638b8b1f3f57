"""``xsaveschema debugger``: commands for GDB and LLDB, as one file."""

from __future__ import annotations

import click

import xsaveschema
from xsaveschema.cli.files import write_area
from xsaveschema.cli.options import catalog_of, schemas_option
from xsaveschema.debuggers import NAMES, Name, script


@click.command("debugger")
@click.argument("name", metavar="DEBUGGER", type=click.Choice(NAMES))
@click.option("-o", "--output", metavar="OUT", default="-", help="The file to write.")
@schemas_option
@click.pass_context
def command(ctx: click.Context, name: Name, output: str, schemas: tuple[str, ...]) -> None:
    r"""Write commands for a debugger, gdb or lldb, as one file that needs no other.

    The file has the layouts of the catalogue, and needs nothing but the debugger's own Python.

    \b
    (gdb)  source OUT                  info xsave, xsave set, $xsave("zmm17", "f32")
    (lldb) command script import OUT   xsave, for cores
    """
    write_area(output, script(name, xsaveschema.__version__, catalog_of(ctx, schemas)).encode())
