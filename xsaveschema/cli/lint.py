# SPDX-License-Identifier: MIT
"""``xsaveschema lint``: every fault in schema files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from xsaveschema.authoring.lint import report
from xsaveschema.cli.options import json_option
from xsaveschema.cli.output import fault_lines, picked, print_json, print_lines

_FACTS: Final = ("file", "line", "column", "rule", "path", "message", "hint")


@click.command("lint")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@json_option
def command(paths: tuple[str, ...], as_json: bool) -> int:
    """Report every fault in schema files.

    PATH is a file or a folder of them. Each fault is told as file:line:column, with the line and,
    where there is one, a hint. Exits with 1 where there is a fault; a warning is none.
    """
    faults, warnings = report([Path(path) for path in paths])
    if as_json:
        kinds = {"faults": faults, "warnings": warnings} if warnings else {"faults": faults}
        print_json(
            {kind: [picked(fault, *_FACTS) for fault in found] for kind, found in kinds.items()}
        )
    else:
        marked = [replace(found, message=f"warning: {found.message}") for found in warnings]
        told = sorted([*faults, *marked])
        lines = [line for each in told for line in fault_lines(each, warning=each in marked)]
        files = len({fault.file for fault in faults})
        said = _count(len(faults), "fault") + (f" in {_count(files, 'file')}" if files else "")
        said += f", {_count(len(warnings), 'warning')}" if warnings else ""
        print_lines([*lines, [(said, "bold red" if faults else "bold green")]])
    return 1 if faults else 0


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"
