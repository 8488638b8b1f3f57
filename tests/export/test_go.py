"""The Go package: formatted, vetted, and run against vectors, captures, the processor's areas."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import captures
import export_areas
import pytest
from export_areas import Sample
from places import ROOT

import xsaveschema as xs
from xsaveschema import export, samples
from xsaveschema.model import CpuModel

EXAMPLE = ROOT / "examples" / "vectors" / "go"
HERE = Path(__file__).parent
EVERY = [model.name for model in xs.Catalog().models()]
SOME = EVERY if os.environ.get("XSAVESCHEMA_EVERY_MODEL") else [*export_areas.DISTINCT]

if shutil.which("go") is None:
    pytest.skip("there is no go", allow_module_level=True)


def go(folder: Path, *words: str) -> str:
    """What the go command says of a module; it must have nothing against it."""
    env = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod", "GOPROXY": "off"}
    done = subprocess.run(
        ["go", *words], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return done.stdout


def written(folder: Path, cpus: Iterable[str | CpuModel]) -> Path:
    (folder / "xsave").mkdir()
    for name, text in export.render("go", cpus).items():
        (folder / "xsave" / name).write_text(text)
    return folder


def test_it_is_formatted_and_vetted(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module example.org/test\n\ngo 1.18\n")
    written(tmp_path, "all")
    for path in (tmp_path, EXAMPLE, HERE / "go"):
        done = subprocess.run(["gofmt", "-d", str(path)], capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ("", "")
    assert go(tmp_path, "vet", "./...") == ""


def test_the_example_of_the_documentation_runs(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "exports.md").read_text()
    (code,) = re.findall(r"^```go\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    note = samples.read("zen4-kernel-core")
    (tmp_path / "note").write_bytes(note)
    (tmp_path / "go.mod").write_text("module example.org/test\n\ngo 1.18\n")
    (tmp_path / "main.go").write_text(MAIN.format(code=code))
    written(tmp_path, ["all"])
    assert go(tmp_path, "run", ".").split() == ["896", "64", "<nil>"]


MAIN = """\
package main

import (
	"fmt"
	"os"

	"example.org/test/xsave"
)

func main() {{
	note, err := os.ReadFile("note")
	if err != nil {{
		panic(err)
	}}
	{code}
	fmt.Println(offset, len(registers["zmm17"]), err)
}}
"""


# --- by the loop over test vectors that the examples have ---------------------------------------


def looped(folder: Path, cpus: Sequence[str | CpuModel], vectors: str) -> str:
    shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True)
    written(folder, cpus)
    (folder / "testdata").mkdir()
    (folder / "testdata" / "vectors.json").write_text(vectors)
    go(folder, "vet", "./...")
    return go(folder, "test", "-v", "./...")


def test_vectors(tmp_path: Path) -> None:
    said = looped(tmp_path, ["all"], export.render("vectors", SOME)["vectors.json"])
    assert all(f"--- PASS: TestVectors/{name} " in said for name in SOME)


def test_areas_of_processors_and_random_ones(tmp_path: Path) -> None:
    samples = [*export_areas.captured(), *export_areas.own()]
    for name in SOME:
        samples += export_areas.made_up(xs.load_model(name))
    models = {sample.model.label: sample.model for sample in samples}
    told = {"cpus": [_cpu(model, samples) for model in models.values()]}
    said = looped(tmp_path, [*models.values()], json.dumps(told))
    assert said.count("--- PASS: TestVectors/") == len(models)


def _cpu(model: CpuModel, samples: list[Sample]) -> dict[str, Any]:
    return {
        "name": model.label,
        "xcr0": hex(model.xcr0),
        "standard_size": model.standard_layout().size,
        "areas": [_area(sample) for sample in samples if sample.model is model],
    }


def _area(sample: Sample) -> dict[str, Any]:
    area = export_areas.meaning(sample)
    told = None
    if area is not None:
        found = area.registers.read()
        told = {"registers": {name: _text(value) for name, value in found.items()}}
    image = {"size": len(sample.data), "runs": [[0, sample.data.hex()]]}
    return {"name": sample.name, "image": image, "meaning": told}


def _text(value: int | bytes) -> str:
    return hex(value) if isinstance(value, int) else value.hex()


# --- areas that say their layout themselves -----------------------------------------------------


def mirrored() -> CpuModel:
    """A Zen 4 that has opmask behind ZMM_Hi256: as long, and laid out in another way."""
    model = xs.load_model("zen4")
    twisted = {**model.components}
    for name, offset in (("zmm_hi256", 832), ("opmask", 1344)):
        one = twisted[name]
        twisted[name] = type(one)(
            one.number, name, one.size, offset, False, one.align64, one.xfd, None,
            one.load_fields, one.load_rules,
        )  # fmt: skip
    return replace(model, name="mirrored", components=twisted)


def wanted(sample: Sample, cpus: Sequence[CpuModel]) -> dict[str, Any]:
    """What an area of a model says, and which of the models lay it out like this."""
    area = export_areas.meaning(sample)
    assert area is not None
    layout = area.layout
    places = {slot.number: slot.offset for slot in layout}
    alike = []
    for cpu in cpus:
        try:
            if layout.format == "compacted":
                other = cpu.compacted_layout(layout.mask)
            else:
                other = cpu.standard_layout(layout.mask)
        except xs.XsaveError:
            continue
        if {(s.number, s.offset, s.size) for s in other} == {
            (s.number, s.offset, s.size) for s in layout
        }:
            alike.append(cpu.label)
    return {
        "Name": sample.name,
        "Area": sample.data.hex(),
        "Models": alike,
        "Mask": layout.mask,
        "Size": layout.size,
        "Offsets": places,
        "Registers": {k: v.hex() for k, v in export_areas.registers(area).items()},
    }


def refused(name: str, data: bytes, error: str, ambiguous: bool = False) -> dict[str, Any]:
    return {"Name": name, "Area": data.hex(), "Error": error, "Ambiguous": ambiguous}


def checked(folder: Path, cpus: Sequence[CpuModel], told: list[dict[str, Any]]) -> None:
    shutil.copytree(HERE / "go", folder, dirs_exist_ok=True)
    (folder / "go.mod").write_text("module example.org/test\n\ngo 1.18\n")
    (folder / "wanted.json").write_text(json.dumps(told))
    written(folder, cpus)
    go(folder, "vet", "./...")
    go(folder, "test", "./...")


def with_mask(model: CpuModel, mask: int) -> Sample:
    """An area as a core of this CPU holds it."""
    data = bytearray(bytes(xs.XsaveArea.new(model, "standard", xcr0=mask)))
    layout = model.standard_layout(mask)
    for slot in layout:
        for start, end in slot.ranges:
            data[start:end] = bytes((start + 7 * at) & 0xFF for at in range(end - start))
    data[464:472] = data[512:520] = mask.to_bytes(8, "little")
    return Sample(model, f"core of {model.label} with {mask:#x}", bytes(data))


def test_areas_say_their_layout_or_are_refused(tmp_path: Path) -> None:
    cpus = [xs.load_model(name) for name in EVERY]
    samples = [
        with_mask(cpu, mask) for cpu in cpus for mask in {cpu.xcr0, cpu.xcr0 & 0xE7, 7}
        if cpu.xcr0 & mask == mask
    ]  # fmt: skip
    samples += [s for s in export_areas.captured(60) if _says_layout(s)]
    core = captures.image("linux-kernel_core.elf.xstate")
    bad = [
        refused("empty", b"", "0 bytes"),
        refused("no header", core[:575], "575 bytes"),
        refused("a byte more", core + b"\0", "2433 bytes"),
        refused("a byte less", core[:-1], "2431 bytes"),
        refused("no mask", core[:464] + bytes(8) + core[472:], "byte 464"),
        refused("software's own", core[:472] + b"x" + core[473:], "byte 464"),
        refused("a mask without SSE", core[:464] + b"\xe5" + core[465:], "byte 464"),
        refused("live beyond its mask", core[:512] + b"\xe7\x02" + core[514:], "byte 464"),
        refused("nobody's mask", core[:464] + b"\xe7\0\x10" + core[467:], "no CPU model"),
        refused("low bits", core[:520] + b"\xe7" + core[521:], "and not bit 63"),
    ]
    packed = xs.to_compacted(core, xs.load_model("zen4"), xcomp_bv=0xE7).data
    bad.append(refused("compacted, short", bytes(packed)[:-1], "no CPU model"))
    checked(tmp_path, cpus, [*(wanted(sample, cpus) for sample in samples), *bad])


def _says_layout(sample: Sample) -> bool:
    """Compacted, or a core: a processor alone leaves no mask in a standard area."""
    if export_areas.meaning(sample) is None:
        return False
    return bool(sample.data[527] & 0x80) or sample.name.startswith(("kernel", "ptrace"))


def test_an_area_of_two_layouts_names_them(tmp_path: Path) -> None:
    zen4, skylake, other = xs.load_model("zen4"), xs.load_model("skylake-server"), mirrored()
    core = captures.image("linux-kernel_core.elf.xstate")
    told = [
        refused("both", core, "different ways: zen4; mirrored: name the CPU", ambiguous=True),
        wanted(with_mask(zen4, 7), [zen4, skylake, other]),
    ]
    checked(tmp_path, [zen4, skylake, other], told)


def test_a_core_of_a_zen4_has_zmm_hi256_at_896(tmp_path: Path) -> None:
    """Where readers that take Intel's places look at 1152, amid the upper halves of ZMM8."""
    core = captures.image("linux-kernel_core.elf.xstate")
    cpus = [xs.load_model(name) for name in EVERY]
    told = wanted(Sample(xs.load_model("zen4"), "core", core), cpus)
    assert told["Offsets"][6] == 896
    assert told["Models"] == ["zen4", "zen5"]
    checked(tmp_path, cpus, [told])


# --- what one package cannot say ----------------------------------------------------------------


def test_what_cannot_be_one_package() -> None:
    zen4 = xs.load_model("zen4")
    swapped = {**zen4.components}
    one = swapped["avx"]
    swapped["avx"] = type(one)(2, "avx", 256, 576, False, False, False, None, lambda: ())
    other = replace(zen4, name="other", components=swapped)
    with pytest.raises(xs.XsaveError, match="component 2 is avx in one CPU and another avx"):
        export.render("go", [zen4, other])
    with pytest.raises(xs.XsaveError, match="go has no option 'package'"):
        export.render("go", [zen4], package="x")


def test_cpus_whose_names_differ_in_a_hyphen_keep_their_own_tables(tmp_path: Path) -> None:
    cpus = [
        replace(xs.load_model("zen4"), name="lake-2"),
        replace(xs.load_model("skylake-server"), name="lake2"),
    ]
    checked(tmp_path, cpus, [wanted(with_mask(model, 0xE7), cpus) for model in cpus])
