# SPDX-License-Identifier: MIT
"""Commands for debuggers, as one file without dependencies: ``xsaveschema debugger gdb``.

The file is put together from modules of the package that stand alone, the debugger's front end
and the tables of the catalogue. GDB runs every script in one namespace, so all of it is inside a
function there.
"""

from __future__ import annotations

import ast
from importlib.resources import files
from itertools import chain
from textwrap import indent
from typing import Final, Literal

from xsaveschema.catalog import Catalog, default_catalog

Name = Literal["gdb", "lldb"]
NAMES: Final[tuple[Name, ...]] = ("gdb", "lldb")

SHARED: Final = (
    "words",
    "values",
    "reading",
    "area/rows",
    "area/lines",
    "artefacts/elf_notes",
    "artefacts/ptrace",
    "cpuid/instruction",
    "debuggers/areas",
    "debuggers/commands",
)
"""The modules that stand alone, each behind those that it imports."""

_HEAD: Final = {
    "gdb": '''\
# SPDX-License-Identifier: MIT
"""XSAVE state for GDB: info xsave, xsave set and $xsave(), for cores and processes of Linux.

Load it with: source THIS-FILE. It needs nothing but GDB's own Python.

Made by xsaveschema {version}.
"""


''',
    "lldb": '''\
# SPDX-License-Identifier: MIT
"""XSAVE state for LLDB: the command xsave, for cores of Linux.

Load it with: command script import THIS-FILE. It needs nothing but LLDB's own Python.

Made by xsaveschema {version}.
"""

''',
}
# GDB runs all scripts in one namespace: names of this one must not meet those of others.
_GDB: Final = """\
def _xsave():
    import gdb

{body}
    install(gdb, TABLES)


_xsave()
del _xsave
"""
_LLDB: Final = """\
{body}

def __lldb_init_module(debugger, _):
    install(debugger, __name__, TABLES)
"""


def script(name: Name, version: str, catalog: Catalog | None = None) -> str:
    """The file for a debugger, with the layouts of a catalogue (default: the shipped one).

    ``version`` is the package's, for the file to say.
    """
    from xsaveschema.debuggers.tables import literal, tables

    modules = [_alone(path) for path in (*SHARED, f"debuggers/{name}")]
    found = literal(tables(catalog or default_catalog()))
    body = "\n\n".join([*modules, f"TABLES = {found}\n"])
    head = _HEAD[name].replace("{version}", version)
    if name == "gdb":
        return head + _GDB.replace("{body}", indent(body, "    "))
    return head + _LLDB.replace("{body}", body)


def _alone(path: str) -> str:
    """The source of a module from behind its docstring, without imports from the package."""
    source = files("xsaveschema").joinpath(f"{path}.py").read_text("utf-8")
    lines = source.splitlines(keepends=True)
    docstring, *rest = ast.parse(source).body
    dropped = [range(docstring.end_lineno or 1)]
    dropped += (
        range(node.lineno - 1, node.end_lineno or node.lineno)
        for node in rest
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("xsaveschema.")
    )
    for at in chain.from_iterable(dropped):
        lines[at] = ""
    return f"# {path}\n\n" + "".join(lines).strip() + "\n"
