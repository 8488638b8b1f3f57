"""``--model`` and ``--cpu`` name a CPU in each way there is."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from command import fails, run, tell

import xsaveschema as xs

DUMPS = Path(__file__).parent.parent / "data" / "cpuid"
SAMPLE = "sample:zen4-xsavec"
MINE = """
model: my-cpu
title: A CPU that nobody has seen
extends: zen4
components:
  pkru: {size: 8, offset: 2440}
sizes: {standard: 2448, compacted: 2480}
confirmed: false
source: an example
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(MINE)
    (tmp_path / "dump.txt").write_bytes((DUMPS / "aida64-hybrid.txt").read_bytes())
    (tmp_path / "text.txt").write_text("no dump")
    return tmp_path


def test_a_yaml_file_wrote_the_area() -> None:
    (area,) = tell("decode", SAMPLE, "--model", "./mine.yaml")["areas"]
    assert area["model"] == "my-cpu"


def test_a_yaml_file_shall_restore_it(here: Path) -> None:
    done = run("convert", SAMPLE, "--model", "zen4", "--cpu", "mine.yaml", "-o", "out")
    # Its own XCOMP_BV, as far as the CPU has it: it stays in its format.
    assert "my-cpu, compacted format, 2112 bytes" in done.output
    assert len((here / "out").read_bytes()) == 2112
    args = ("--format", "compacted", "-o", "out")
    done = run("convert", SAMPLE, "--model", "zen4", "--cpu", "mine.yaml", *args)
    assert "my-cpu, compacted format, 2480 bytes" in done.output
    assert (
        "on my-cpu " in run("check", SAMPLE, "--model", "zen4", "--cpu", "mine.yaml", code=1).output
    )


def test_a_dump_shall_restore_it() -> None:
    said = fails("convert", SAMPLE, "--model", "zen4", "--cpu", "dump.txt", "-o", "out")
    assert "live state would be lost: hi16_zmm (the target, alder-lake compacted" in said
    done = run(
        *("convert", SAMPLE, "--model", "zen4", "--cpu", "dump.txt"),
        *("--drop", "hi16_zmm", "-o", "out"),
    )
    assert "out: alder-lake, compacted format" in done.output
    assert (
        "XRSTOR on alder-lake (XCR0 0x207)"
        in run("check", SAMPLE, "--model", "zen4", "--cpu", "dump.txt", code=1).output
    )


def test_a_dump_is_held_against_the_area() -> None:
    said = fails("decode", SAMPLE, "--model", "dump.txt")
    assert said.startswith(f"{SAMPLE}: model alder-lake did not write this: ")


def test_models_are_shown_of_files() -> None:
    known = Path(xs.load_model("zen4").file)
    assert tell("identify", str(known))["candidates"][0]["model"] == "zen4"
    assert (
        "no model of the catalogue has this layout" in run("identify", "mine.yaml", code=1).stderr
    )
    assert "there is no such file" in fails("identify", "nowhere.yaml")
    assert tell("layout", "./mine.yaml")["size"] == 2448
    assert run("compare", "zen4", "mine.yaml").output.startswith("zen4 -> my-cpu: nothing is lost")


@pytest.mark.parametrize(
    "command",
    [
        ("decode", SAMPLE, "--model"),
        ("convert", SAMPLE, "-o", "out", "--model"),
        ("convert", SAMPLE, "--model", "zen4", "-o", "out", "--cpu"),
        ("check", SAMPLE, "--model"),
        ("check", SAMPLE, "--model", "zen4", "--cpu"),
        ("diff", SAMPLE, SAMPLE, "--model"),
        ("patch", SAMPLE, "mxcsr=0", "-o", "out", "--model"),
        ("layout",),
    ],
    ids=" ".join,
)
def test_errors_name_the_file_that_is_at_fault(command: tuple[str, ...], here: Path) -> None:
    assert fails(*command, "gone.txt").startswith("gone.txt: there is no such file, nor a model")
    assert fails(*command, "./zen4").startswith("./zen4: there is no such file, nor a model")
    assert fails(*command, "text.txt").startswith("text.txt: not a CPUID dump of a known format")
    (here / "bad.yaml").write_text(MINE.replace("size: 8", "size: eight"))
    said = fails(*command, "bad.yaml")
    assert said.startswith("the schema files have faults\nbad.yaml:6:")
    (here / "none.yaml").write_text("component: avx\nnumber: 2\ntitle: AVX\nfields: []\n")
    assert "none.yaml" in fails(*command, "none.yaml")


@pytest.mark.parametrize("format", ["standard", "compacted"])
@pytest.mark.parametrize("batch", [[], ["--batch"]], ids=["one", "batch"])
def test_a_guest_that_has_less_than_the_model_of_its_name(
    tmp_path: Path, format: Literal["standard", "compacted"], batch: list[str]
) -> None:
    """Its dump is called zen4, as the area's writer is, and takes no PKRU all the same."""
    zen4 = xs.load_model("zen4")
    dump, source, out = (str(tmp_path / name) for name in ("dump", "area", "out"))
    leaf = dict(zen4.limited(xcr0=0xE7, xss=0).cpuid_leaf_0xd())
    Path(dump).write_text(xs.cpuid.format_cpuid_r(xs.cpuid.CpuidRecord("AuthenticAMD", None, leaf)))
    assert xs.load_model(dump).name == "zen4"
    xcomp_bv = 0x2E7 if format == "compacted" else None
    area = xs.XsaveArea.new(zen4, format, xcomp_bv=xcomp_bv)
    area.registers["pkru"] = 4
    Path(source).write_bytes(bytes(area))
    words = "convert", source, "--model", "zen4", "--cpu", dump, *batch, "-o", out
    assert "live state would be lost: pkru" in fails(*words)
    run(*words, "--drop", "pkru")
    # 0xE7 of a Zen 4: Hi16_ZMM ends at 2432 in either format.
    assert len(Path(out).read_bytes()) == 2432
