"""What debuggers run stands alone: Python 3.6, the standard library, no name that meets another."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import xsaveschema
from xsaveschema.debuggers import NAMES, SHARED, Name, script

ROOT = Path(xsaveschema.__file__).parent
FRONTS = tuple(f"debuggers/{name}" for name in NAMES)


def tree(module: str) -> ast.Module:
    return ast.parse((ROOT / f"{module}.py").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_python_3_6_runs_the_file(name: Name, tmp_path: Path) -> None:
    pytest.importorskip("vermin", reason="vermin is not installed")
    path = tmp_path / "xsave.py"
    path.write_text(script(name, "1.2"))
    done = subprocess.run(
        [
            *(sys.executable, "-c", "import vermin; vermin.main()"),
            *("-t=3.6-", "--violations", str(path)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("module", [*SHARED, *FRONTS])
def test_they_import_the_standard_library_and_what_stands_before_them(module: str) -> None:
    before = SHARED[: SHARED.index(module)] if module in SHARED else SHARED
    for node in ast.walk(tree(module)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            assert not any(alias.asname for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module
            assert node.module != "__future__"
            assert not any(alias.asname for alias in node.names)
            names = [node.module]
        for name in names:
            own = name.removeprefix("xsaveschema.").replace(".", "/")
            top = name.partition(".")[0]
            assert own in before or top in sys.stdlib_module_names or top == "lldb", name


def bound(module: str) -> Iterator[str]:
    """The names that a module gives something of its own; what it imports from others is theirs."""
    for node in tree(module).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                yield from (each.id for each in ast.walk(target) if isinstance(each, ast.Name))


def borrowed(module: str) -> set[str]:
    """The names that a module has from the standard library, with where they are from."""
    return {
        f"{getattr(node, 'module', '')}.{alias.name}"
        for node in tree(module).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if not (getattr(node, "module", None) or "").startswith("xsaveschema.")
    }


@pytest.mark.parametrize("front", FRONTS)
def test_no_name_is_another_modules_too(front: str) -> None:
    """In the file they all share one namespace."""
    modules = (*SHARED, front)
    count = Counter(name for module in modules for name in bound(module))
    count.update(whole.rpartition(".")[2] for whole in set().union(*(map(borrowed, modules))))
    assert [name for name, often in count.items() if often > 1] == []
