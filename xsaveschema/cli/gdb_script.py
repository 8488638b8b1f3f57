"""``xsaveschema gdb-script``: a command and a function for GDB."""

from __future__ import annotations

import click

from xsaveschema.artefacts import gdb_script


@click.command("gdb-script")
def command() -> None:
    """Print a Python script for GDB: ``info xsave`` and ``$xs("zmm17")``.

    Load it with: xsaveschema gdb-script > xsave.py; gdb -x xsave.py PROGRAM CORE
    """
    click.echo(gdb_script(), nl=False)
