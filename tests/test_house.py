"""Who may import whom: data flows one way, and the tests hold module-level imports to it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import xsaveschema

ROOT = Path(xsaveschema.__file__).parent
ENGINE = {"structs", "area", "fields", "registers", "convert", "restore", "diff", "compare"}
ENGINE |= {"batch", "header", "qemu", "legality", "testing", "stream", "arrow", "parquet", "dask"}
ENGINE |= {"evidence", "loaded", "restore_rules", "spans", "plan"}

# A module's layer: it may import its own layer and those below.
LAYERS: list[set[str]] = [
    {"errors", "kept"},
    {"io", "rules"},
    {"model"},
    {"layout"},
    {"traces"},
    ENGINE,
    {"catalog", "cpuid"},
    {"artefacts", "export", "samples"},
    {"cli", "__main__"},
]
# catalog and cpuid read data; they stand beside the engine and may see of it only the header.
SIDE = {"catalog": {"errors", "kept", "io", "rules", "model", "layout", "traces", "header"}}
SIDE["catalog"] |= {"catalog"}
SIDE["cpuid"] = {"errors", "io", "model", "layout", "cpuid"}


def layer(name: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if name in names)


def module_imports(path: Path) -> set[str]:
    """The parts of the package that a file imports when it is itself imported."""
    found = set()
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""]
            if node.module == "xsaveschema":
                names = [f"xsaveschema.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {n.split(".")[1] for n in names if n.startswith("xsaveschema.")}
    return found


FILES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_flow_one_way(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for other in module_imports(path):
        if own in SIDE:
            assert other in SIDE[own], f"{own} imports {other}"
        else:
            assert layer(other) <= layer(own), f"{own} imports {other}"
            if own in ENGINE:
                assert other not in SIDE, f"{own} imports {other}"


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
        _ = xsaveschema.no_such_name


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
    [("batch", "numpy", "batch"), ("arrow", "pyarrow", "arrow"), ("parquet", "pyarrow", "arrow")],
)
def test_a_module_without_its_extra_says_how_to_get_it(module: str, needs: str, extra: str) -> None:
    code = f"import sys; sys.modules[{needs!r}] = None\nimport xsaveschema.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"xsaveschema.{module} needs {needs}: pip install 'xsaveschema[{extra}]'" in done.stderr
