"""The example that leaves a core of this machine: what its threads hold, whatever CPU it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import processor
import ptrace_judge
import pytest
from places import ROOT

from xsaveschema import artefacts, load_model

PROGRAM = ROOT / "examples" / "make_core.py"
pytestmark = pytest.mark.skipif(
    bool(why := processor.real() or ptrace_judge.available()), reason=str(why)
)


def made(folder: Path, *arguments: str) -> str:
    """Run the example; what it prints."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_its_threads_hold_what_it_says(tmp_path: Path) -> None:
    told = made(tmp_path)
    found = list(artefacts.open(tmp_path / "core"))
    assert told == f"core: threads {', '.join(each.label.split()[-1] for each in found)}\n"
    assert len(found) == 3
    host = load_model("host")
    for n, each in enumerate(found, 1):
        registers = each.area.registers
        assert each.layout_source == "NT_X86_XSAVE_LAYOUT"
        assert each.area.layout.size == host.standard_layout().size
        assert registers["mxcsr"] == 0x1F80 | n << 13
        assert registers.lanes("xmm3", "f32") == tuple(100.0 * n + i for i in range(4))
        if host.xcr0 & 4:
            assert registers.lanes("ymm3", "f32") == tuple(100.0 * n + i for i in range(8))
        if host.xcr0 & 0xE0:
            assert registers["k1"] == n
            for name in ("zmm3", "zmm17"):
                assert registers.lanes(name, "f32") == tuple(100.0 * n + i for i in range(16))


def test_a_file_of_another_name(tmp_path: Path) -> None:
    assert made(tmp_path, "mine").startswith("mine: threads ")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_what_cannot_be_written_is_told_and_nobody_stays(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        made(tmp_path, "no/folder")
    assert caught.value.returncode == 1
    assert caught.value.stderr.startswith("make_core.py: ")
    assert "Traceback" not in caught.value.stderr
