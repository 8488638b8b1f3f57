"""Who may import whom: data flows one way, and every import is held to it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest
from places import TESTS

import xsaveschema

ROOT = Path(xsaveschema.__file__).parent

# Every module, lowest rank first: it imports what stands before it. Modules of one line may import
# one another, as long as there is no circle.
RANKS = """
words
errors kept values reading
io rules plugins
model
spans members
layout
header
language
cpuid
catalog
traces
identify
evidence
plan
legality
structs area
convert
restore_rules permission
diff restore sigstack normalise
verdict
compare baseline
text
svg
qemu
samples
artefacts
authoring debuggers
many.arrow_rows
many.batch
many.stream many.arrow
many.parquet
many.dask testing
export
cli
"""
UP = {
    # A CpuModel's conveniences and its pickling, each inside the function.
    ("model", "layout"),
    ("model", "cpuid.of_model"),
    ("model", "structs"),
    ("model", "identify"),
    # A model that no file has is pickled as its leaf 0xD.
    ("model", "identify.from_leaf"),
    # str() of a value.
    ("layout", "text"),
    ("area.view", "text"),
    ("compare", "text"),
    ("baseline", "text"),
    ("diff", "text"),
    ("sigstack", "text"),
    # A notebook's picture of one.
    ("layout", "svg"),
    ("area.view", "svg"),
    ("compare", "svg"),
    ("diff", "svg"),
}
"""The only imports of what stands behind: (module, what it imports)."""
EXTRAS = {"numpy", "pyarrow", "distributed", "hypothesis", "zstandard", "lz4"}
"""What a base install lacks, and the only modules that import it when they are imported."""
NEED_EXTRAS = ("many.", "testing")

RANK = {name: rank for rank, line in enumerate(RANKS.split("\n")) for name in line.split()}
FILES = sorted(path for path in ROOT.rglob("*.py"))


class Import(NamedTuple):
    """One import: ``own`` of the package; ``inside`` a function it runs later, ``types`` never."""

    module: str
    own: bool
    inside: bool
    types: bool


def name_of(path: Path) -> str:
    """A module's name within the package; "" for the package itself."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def imports_of(path: Path) -> list[Import]:
    """Everything that a file imports, wherever it does; the package's own by name within it."""
    found: list[Import] = []

    def walk(node: ast.AST, inside: bool, types: bool) -> None:
        for child in ast.iter_child_nodes(node):
            deeper = inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            typed = types or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test))
            names: list[str] = []
            if isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: relative import"
                names = [f"{child.module}.{alias.name}" for alias in child.names]
            elif isinstance(child, ast.Import):
                names = [alias.name for alias in child.names]
            for name in names:
                own = name.removeprefix("xsaveschema.")
                if own == name:
                    found.append(Import(name.split(".")[0], False, inside, types))
                    continue
                while own and own not in MODULES:
                    own = own.rpartition(".")[0]
                found.append(Import(own, True, inside, types))
            walk(child, deeper, typed)

    walk(ast.parse(path.read_text()), False, False)
    return found


def rank_of(name: str) -> int:
    while name not in RANK:
        assert name, "a module without a rank: give it a line in RANKS"
        name = name.rpartition(".")[0]
    return RANK[name]


RANKED = [name for name in MODULES if name not in ("", "__main__", "many")]


@pytest.mark.parametrize("name", RANKED)
def test_imports_flow_one_way(name: str) -> None:
    """Those inside functions and those for types too."""
    for found in imports_of(MODULES[name]):
        if found.own and found.module and (name, found.module) not in UP:
            assert rank_of(found.module) <= rank_of(name), f"{name} imports {found.module}"


@pytest.mark.parametrize("name", RANKED)
def test_nobody_reads_names_off_the_package(name: str) -> None:
    """``xsaveschema.X`` is for others: what is behind it would be no import that is seen."""
    taken = [found for found in imports_of(MODULES[name]) if found.own and not found.module]
    assert not taken or name.startswith("cli"), f"{name} imports the package: name the module"


def test_each_arrow_up_is_needed() -> None:
    real = {
        (name, found.module)
        for name in RANKED
        for found in imports_of(MODULES[name])
        if found.own and found.module and rank_of(found.module) > rank_of(name)
    }
    assert real == UP


def test_there_is_no_circle() -> None:
    graph = {
        name: {
            found.module
            for found in imports_of(MODULES[name])
            if found.own and not found.types and (name, found.module) not in UP
        }
        for name in RANKED
    }
    TopologicalSorter(graph).prepare()  # CycleError names one


@pytest.mark.parametrize("name", RANKED)
def test_a_base_install_imports_no_extra(name: str) -> None:
    outside = {
        found.module
        for found in imports_of(MODULES[name])
        if not (found.own or found.inside or found.types)
    }
    assert name.startswith(NEED_EXTRAS) or not outside & EXTRAS


def test_only_one_module_imports_construct() -> None:
    for path in FILES:
        if "from construct" in path.read_text() and path.name not in {"structs.py", "model.py"}:
            pytest.fail(f"{path} imports construct")


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, xsaveschema; "
        "heavy = {'construct', 'yaml', 'msgspec', 'numpy', 'rich', 'click', 'jsonschema'}; "
        "print(*heavy & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_public_names_are_there() -> None:
    for name in xsaveschema.__all__:
        assert getattr(xsaveschema, name) is not None
    with pytest.raises(AttributeError):
        _ = getattr(xsaveschema, "no_such_name")  # noqa: B009 - types refuse it otherwise


@pytest.mark.parametrize("first", ["import xsaveschema.diff", "import xsaveschema.compare", ""])
def test_functions_are_not_hidden_by_their_modules(first: str) -> None:
    code = f"""
{first}
from xsaveschema.diff import Delta
import xsaveschema as xs
assert xs.diff(bytes(xs.XsaveArea.new(xs.load_model("zen"))), bytes(832), xs.load_model("zen"))
assert xs.compare(xs.load_model("zen"), xs.load_model("zen")).restorable
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_public_names_need_no_extra() -> None:
    """``import *`` and help() read them all."""
    hidden = ["hypothesis", "numpy", "pyarrow", "distributed", "pytest"]
    code = f"import sys; sys.modules.update(dict.fromkeys({hidden}))\n"
    code += "from xsaveschema import *\nimport xsaveschema, inspect\n"
    code += "inspect.getmembers(xsaveschema)\n"
    code += "assert xsaveschema.mend and to_compacted\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("module", "needs", "extra"),
    [
        ("batch", "numpy", "batch"),
        ("arrow", "pyarrow", "arrow"),
        ("parquet", "pyarrow", "arrow"),
        ("testing", "hypothesis", "test"),
    ],
)
def test_a_module_without_its_extra_says_how_to_get_it(module: str, needs: str, extra: str) -> None:
    code = f"import sys; sys.modules[{needs!r}] = None\nfrom xsaveschema import {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"xsaveschema.{module} needs {needs}: pip install 'xsaveschema[{extra}]'" in done.stderr


# Modules without a test file of their name, and the file that tests each through its users.
TESTED_BY = {
    "area.lines": "cli/test_cli_decode",
    "area.rows": "cli/test_cli_decode",
    "artefacts.elf_file": "artefacts/test_elf",
    "artefacts.elf_notes": "artefacts/test_elf",
    "artefacts.ptrace": "artefacts/test_process",
    "cpuid.instruction": "cpuid/test_host",
    "debuggers.commands": "debuggers/test_gdb",
    "debuggers.tables": "debuggers/test_gdb",
    "language.component_fields": "language/test_language",
    "language.document": "language/test_language",
    "language.files": "authoring/test_lint",
    "language.sizes": "authoring/test_lint",
    "language.model_checks": "authoring/test_lint",
    "language.validate": "authoring/test_lint",
    "language.whole_registers": "language/test_language",
    "many.arrow_rows": "many/test_arrow",
    "many.batch.columns": "many/test_arrow",
    "many.batch.rows": "many/test_batch_conversion",
    "many.batch.writers": "identify/test_evidence",
    "many.parquet": "many/test_dask",
    "model": "test_catalog",
    "reading": "area/test_registers",
    "restore_rules": "test_restore",
    "rules": "language/test_component_rules",
    "testing": "laws/test_laws",
    "words": "cli/test_cli_hostile",
}


def test_a_test_of_a_module_is_found_by_its_name() -> None:
    """But for the command line, which is tested by what people do with it: show, write, read."""
    tests = {path.relative_to(TESTS).with_suffix("") for path in TESTS.rglob("test_*.py")}
    without = set()
    for name in RANKED:
        parts = name.split(".")
        room = parts[0] if len(parts) > 1 else ""
        # A module that is no room's may be held by a law, or with the room that it serves.
        stems = {
            test.stem.removeprefix("test_") for test in tests if test.parts[0] == room or not room
        }
        named = {parts[-1], "_".join(parts[-2:])} & stems
        front = MODULES[name].name == "__init__.py"
        if not (named or front or parts[0] == "cli" or name.startswith("cpuid.formats.")):
            without.add(name)
    known = {name for name in TESTED_BY if MODULES[name].name != "__init__.py"}
    assert without == known, "name the file that tests it, or say no more what has a file"
    missing = {by for by in TESTED_BY.values() if Path(*by.split("/")) not in tests}
    assert missing == set()


def test_no_test_is_skipped_for_a_module_that_is_not_here() -> None:
    """importorskip is for extras: under a wrong name of the package's own it would skip always."""
    asked = re.compile(r"importorskip\(\s*\"((?:xsaveschema|benchmarks|fuzz)[.\w]*)\"")
    wanted = {name for path in TESTS.rglob("*.py") for name in asked.findall(path.read_text())}
    assert "xsaveschema.many.batch" in wanted
    places = {name: TESTS.parent.joinpath(*name.split(".")) for name in sorted(wanted)}
    absent = [
        name
        for name, place in places.items()
        if not (place.with_suffix(".py").is_file() or (place / "__init__.py").is_file())
    ]
    assert absent == []
