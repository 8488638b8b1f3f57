"""What all hosts can take; judged by the CPUs' leaves 0xD and the manual's rules."""

from __future__ import annotations

import copy
import json
import os
import pickle
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import fails, run, tell
from places import DATA, ROOT

import xsaveschema as xs
from xsaveschema import Catalog, CpuModel, baseline, cpuid, load_model
from xsaveschema.cli import fleet
from xsaveschema.cli.fleet import load_fleet
from xsaveschema.cpuid import CpuidRegisters
from xsaveschema.errors import WrongTypeError
from xsaveschema.layout import legal_part, places, takes_xcr0
from xsaveschema.model import bits_of
from xsaveschema.sigstack import sigstack

DUMPS = DATA / "cpuid"
Leaf = dict[int, CpuidRegisters]


def leaves() -> dict[str, tuple[CpuModel, Leaf]]:
    """Every model with the leaf that it implies, every dump with what stands in it."""
    found = {m.name: (m, dict(m.cpuid_leaf_0xd())) for m in Catalog().models()}
    for path in sorted(DUMPS.iterdir()):
        model = load_fleet([str(path)], Catalog()).cpus[str(path)]
        # What a dump lacks is what all models have that fit it; else it is refused.
        found[path.name] = model, model.cpuid_leaf_0xd() | next(cpuid.read(path)).leaf_0xd
    return found


ALL = leaves()


def judged(group: list[Leaf]) -> tuple[int, int]:
    """XCR0 and IA32_XSS that all take, by CPUID alone (SDM vol. 1, 13.3, and vol. 2, CPUID)."""
    xcr0 = xss = (1 << 64) - 1
    for leaf in group:
        xcr0 &= leaf[0][3] << 32 | leaf[0][0]
        announced, _, ecx, edx = leaf.get(1, (0, 0, 0, 0))
        xss &= (edx << 32 | ecx) if announced & 8 else 0
    alike = {0, 1}
    for number in range(2, 63):
        told = [leaf.get(number, (0, 0, 0, 0)) for leaf in group]
        rows = {(eax, ebx, ecx & 3) for eax, ebx, ecx, _ in told}
        if len(rows) == 1:
            alike.add(number)
    mask = sum(1 << number for number in alike)
    xcr0, xss = xcr0 & mask, xss & mask
    avx512, mpx, amx = 7 << 5, 3 << 3, 3 << 17
    if not xcr0 & 2:
        xcr0 &= ~4
    for whole in (avx512, mpx, amx):
        if xcr0 & whole != whole:
            xcr0 &= ~whole
    if not xcr0 & 4:
        xcr0 &= ~avx512
    return xcr0, xss


def laid_out(leaf: Leaf, xcr0: int, xss: int) -> tuple[list[tuple[int, int, int]], ...]:
    """(number, offset, size) in the standard and in the compacted format, by a CPU's own leaf."""
    numbers = [n for n in range(2, 63) if (xcr0 | xss) >> n & 1]
    standard = sorted((leaf[n][1], n, leaf[n][0]) for n in numbers if xcr0 >> n & 1)
    compacted, end = [], 576
    for n in numbers:
        end = (end + 63) // 64 * 64 if leaf[n][2] & 2 else end
        compacted.append((n, end, leaf[n][0]))
        end += leaf[n][0]
    return [(n, offset, size) for offset, n, size in standard], compacted


@pytest.mark.parametrize("seed", range(150))
def test_random_fleets_have_one_layout_and_nothing_more_goes(seed: int) -> None:
    chance = random.Random(seed)
    words = chance.sample(sorted(ALL), chance.choice([1, 2, 2, 3, 3, 4, 6, 12]))
    found = baseline({word: ALL[word][0] for word in words})
    raw = [ALL[word][1] for word in words]
    assert (found.xcr0, found.xss) == judged(raw), words
    wanted = laid_out(raw[0], found.xcr0, found.xss)
    ends = [max([576, *(at + size for _, at, size in rows)]) for rows in wanted]
    assert [found.standard_size, found.compacted_size] == ends
    for word, leaf in zip(words, raw, strict=True):
        assert laid_out(leaf, found.xcr0, found.xss) == wanted
        model = ALL[word][0].limited(xcr0=found.xcr0, xss=found.xss)
        assert takes_xcr0(model, found.xcr0)
        layouts = model.standard_layout(), model.compacted_layout()
        shown = found.model.standard_layout(), found.model.compacted_layout()
        for own, common, rows in zip(layouts, shown, wanted, strict=True):
            assert places(own) == places(common)
            assert [row for row in places(own) if row[0] > 1] == rows
        enabled = model.names_of(ALL[word][0].xcr0 | ALL[word][0].xss)
        kept = model.names_of(found.xcr0 | found.xss)
        assert list(found.lost[word]) == [name for name in enabled if name not in kept]
    shown_leaf = found.model.cpuid_leaf_0xd()
    assert shown_leaf[1][0] == _all([leaf.get(1, (0,))[0] for leaf in raw])
    assert shown_leaf[0][:3] == (found.xcr0 & 0xFFFFFFFF, ends[0], ends[0])
    for number, row in shown_leaf.items():
        if number > 1:
            assert row[:2] == raw[0][number][:2]
            assert row[2] == _all([leaf[number][2] for leaf in raw])


def _all(values: list[int]) -> int:
    common = values[0]
    for value in values:
        common &= value
    return common


def test_pkru_and_avx_512_are_elsewhere_on_amd() -> None:
    found = tell("baseline", "zen4", "ice-lake-server")
    assert list(found)[:7] == [
        *("xcr0", "xss", "standard_size", "compacted_size", "frame_size", "lost", "moved")
    ]
    assert (found["xcr0"], found["xss"]) == ("0x7", "0x0")
    assert (found["standard_size"], found["compacted_size"]) == (832, 832)
    assert found["moved"] == ["opmask", "zmm_hi256", "hi16_zmm", "pkru"]
    assert found["lost"] == {
        "zen4": ["opmask", "zmm_hi256", "hi16_zmm", "pkru", "cet_u", "cet_s"],
        "ice-lake-server": ["opmask", "zmm_hi256", "hi16_zmm", "pt", "pkru"],
    }
    assert found["frame_size"] == sigstack(load_model("haswell")).minsigstksz
    assert {p["offset"]: p["cpus"] for p in found["places"]["pkru"]} == {
        2432: ["zen4"],
        2688: ["ice-lake-server"],
    }


def test_what_is_left_is_legal() -> None:
    """AVX-512's three parts and AMX's two go together; a mask that no CPU takes is cut down."""
    assert legal_part(load_model("zen4"), 0xA7) == 0x7
    assert legal_part(load_model("zen4"), 0xE3) == 0x3
    assert legal_part(load_model("spr"), 0x40007) == 0x7
    assert legal_part(load_model("skylake"), 0x1F) == 0x1F
    assert legal_part(load_model("skylake"), 0xF) == 0x7
    zen4 = load_model("zen4")
    odd = baseline([zen4, zen4.limited(xcr0=0x3, xss=0)])
    assert (odd.xcr0, odd.xss, odd.lost) == (
        *(3, 0),
        {
            "zen4": tuple(zen4.names_of((zen4.xcr0 | zen4.xss) & ~3)),
            "zen4 (2)": (),
        },
    )


def test_without_xsaves_there_is_no_ia32_xss() -> None:
    from dataclasses import replace

    zen4 = load_model("zen4")
    bare = replace(zen4, instructions=zen4.instructions - {"xsaves", "xsavec"})
    found = baseline({"bare": bare, "whole": zen4})
    assert (found.xcr0, found.xss) == (0x2E7, 0)
    assert found.lost == {"bare": ("cet_u", "cet_s"), "whole": ("cet_u", "cet_s")}
    assert found.moved == ()
    assert found.model.cpuid_leaf_0xd()[1] == (0x5, 0, 0, 0)
    assert "no xsaves on bare" in str(found)
    assert "no xsavec on bare" in str(found)


def test_a_bit_that_is_a_users_here_and_a_supervisors_there() -> None:
    from dataclasses import replace

    zen4 = load_model("zen4")
    user = replace(zen4.components["cet_u"], supervisor=False, offset=4096)
    other = replace(
        zen4,
        components=dict(zen4.components) | {"cet_u": user},
        xcr0=zen4.xcr0 | user.bit,
        xss=zen4.xss & ~user.bit,
    )
    found = baseline({"a": zen4, "b": other})
    assert (found.xcr0, found.xss) == (0x2E7, 0x1000)
    assert found.moved == ("cet_u",)


def test_mxcsr_and_xfd_are_what_all_have() -> None:
    found = baseline([load_model("zen4"), load_model("haswell")])
    assert found.model.mxcsr_mask == 0xFFFF
    assert found.model.vendor == ""
    spr = baseline([load_model("spr"), load_model("granite-rapids")])
    assert (spr.xfd, "xfd" in spr.instructions) == (("tiledata",), True)
    assert baseline([load_model("spr"), load_model("zen4")]).xfd == ()


@pytest.mark.parametrize("models", ["zen4", 7, [load_model("zen4"), "zen4"], {"a": "zen4"}])
def test_what_is_no_models(models: object) -> None:
    with pytest.raises(WrongTypeError):
        baseline(models)  # type: ignore[arg-type]


def test_none_one_and_the_same_twice() -> None:
    with pytest.raises(xs.XsaveError, match="none is named"):
        baseline([])
    model = load_model("spr")
    one = baseline([model, model])
    assert (list(one.cpus), one.xcr0, one.xss) == (["sapphire-rapids"], model.xcr0, model.xss)
    assert not any(one.lost.values())
    for twin in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one)):
        assert twin.to_dict() == one.to_dict()


# The command.


def test_folders_of_dumps(tmp_path: Path) -> None:
    shutil.copytree(DUMPS, tmp_path / "hosts")
    (tmp_path / "hosts" / "README").write_text("no dump")
    (tmp_path / "hosts" / "my.yaml").write_text("model: x")
    os.mkfifo(tmp_path / "hosts" / "pipe")
    (tmp_path / "hosts" / "deeper").mkdir()
    folder = f"{tmp_path}/hosts"
    found = tell("baseline", folder)
    assert [Path(word).name for word in found["lost"]] == sorted(p.name for p in DUMPS.iterdir())
    passed = [Path(path).name for path in found["passed_over"]]
    assert passed == ["README", "deeper", "my.yaml", "pipe"]
    assert "passed over" in run("baseline", folder).stderr
    (tmp_path / "hosts" / "broken.txt").write_text(
        (DUMPS / "cpuid-r.txt").read_text().replace("0x0000001f", "0x0000001d", 1)
    )
    leaf = dict(load_model("zen2").cpuid_leaf_0xd())
    del leaf[9]
    (tmp_path / "hosts" / "cut.txt").write_text(
        cpuid.format_cpuid_r(cpuid.CpuidRecord("AuthenticAMD", None, leaf))
    )
    (tmp_path / "hosts" / "gone").symlink_to("nowhere")
    said = fails("baseline", folder)
    assert said.startswith(f"{folder}: 3 of {len([*DUMPS.iterdir()]) + 3} dumps cannot be used")
    refused = said.splitlines()[1:]
    assert [line.split(":")[0] for line in refused] == [
        f"  {folder}/broken.txt",
        f"  {folder}/cut.txt",
        f"  {folder}/gone",
    ]
    assert "lacks sub-leaf 9: name the CPU's model in its place" in refused[1]
    assert "--model" not in said, "there is no such option here"
    (tmp_path / "none").mkdir()
    assert "no file in this folder" in fails("baseline", f"{tmp_path}/none")


def test_a_folder_or_a_dump_that_is_named_as_a_model_would_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(DUMPS, "many")
    assert fails("baseline", "many").startswith("a path is said with a slash, ./many: there is no")
    assert "slash" not in fails("baseline", "much")
    assert tell("baseline", "./many")


def test_a_folder_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "MAX_FILES", 3)
    for number in range(4):
        (tmp_path / f"{number}").touch()
    assert "more than 3 files" in fails("baseline", f"{tmp_path}/")


def test_globs_vendors_and_all() -> None:
    names = set(Catalog())
    assert set(tell("baseline", "all")["lost"]) == names
    zens = set(tell("baseline", "zen?")["lost"])
    assert zens >= {"zen2", "zen3", "zen4", "zen5"}
    assert zens < names
    amd = set(tell("baseline", "--vendor", "amd", "spr")["lost"])
    assert amd == {m.name for m in Catalog().models() if m.vendor == "AuthenticAMD"} | {"spr"}
    assert "no model of the catalogue" in fails("baseline", "nothing*")
    assert "there is no 'acme'" in fails("baseline", "--vendor", "acme", code=2)
    assert "name the CPUs" in fails("baseline", code=2)
    assert "--as writes" in fails("baseline", "zen4", "--as", "qemu", "--json", code=2)


def test_two_dumps_of_one_model_do_not_collide() -> None:
    words = [str(DUMPS / "cpuid-r.txt"), str(DUMPS / "table.txt"), "host-of-none"]
    assert list(tell("baseline", *words[:2])["lost"]) == words[:2]
    assert fails("baseline", *words)


def test_a_dumps_instructions_are_its_own(tmp_path: Path) -> None:
    """The model whose layout it has announces more."""
    leaf = dict(load_model("zen4").cpuid_leaf_0xd())
    leaf[1] = (0x7, *leaf[1][1:])
    (tmp_path / "guest").write_text(
        cpuid.format_cpuid_r(cpuid.CpuidRecord("AuthenticAMD", None, leaf))
    )
    found = tell("baseline", "zen4", f"{tmp_path}/guest")
    assert found["instructions"] == ["xsaveopt", "xsavec", "xgetbv1"]
    assert (found["xcr0"], found["xss"]) == ("0x2e7", "0x0")
    assert found["features"]["qemu"]["off"] == ["cet-ss", "cet-ibt", "xsaves"]


def test_a_dump_that_is_cut_off_has_no_instructions_and_that_is_told(tmp_path: Path) -> None:
    leaf = dict(load_model("zen4").cpuid_leaf_0xd())
    del leaf[1]
    (tmp_path / "cut").write_text(
        cpuid.format_cpuid_r(cpuid.CpuidRecord("AuthenticAMD", None, leaf))
    )
    words = "baseline", "zen4", f"{tmp_path}/cut"
    assert f"sub-leaf 1 is not in {words[2]}: taken for CPUs without" in run(*words).stderr
    found = tell(*words)
    assert (found["instructions"], found["xss"]) == ([], "0x0")
    assert found["cut_off"] == [words[2]]


def test_optional_components_of_named_models_are_told() -> None:
    done = run("baseline", "haswell", "broadwell")
    assert "some parts of broadwell, haswell lack avx" in done.stderr
    assert tell("baseline", "haswell")["optional"] == {"haswell": ["avx"]}
    assert tell("baseline", str(DUMPS / "cpuid-r.txt"))["optional"] == {}


def test_what_the_guest_sees_is_a_dump(tmp_path: Path) -> None:
    dump = tmp_path / "guest.txt"
    dump.write_text(run("baseline", "zen3", "spr", "--as", "cpuid").stdout)
    guest = load_model(dump)
    assert (guest.xcr0, guest.xss) == (0x7, 0x1800)
    assert tell("baseline", "zen3", "spr", str(dump))["xss"] == "0x1800"


def test_words_for_hypervisors() -> None:
    off = run("baseline", "zen4", "zen3", "--as", "qemu").stdout.strip().split(",")
    assert off[0] == "avx512f=off"
    assert all(word.startswith(("avx512", "avx10")) and word.endswith("=off") for word in off)
    done = run("baseline", "zen4", "zen", "--as", "libvirt")
    assert "<feature policy='disable' name='pku'/>" in done.stdout.splitlines()
    assert "libvirt has no word for cet_u, cet_s" in done.stderr
    assert "cet-ss=off,cet-ibt=off" in run("baseline", "zen3", "zen", "--as", "qemu").stdout
    spr = run("baseline", "zen4", "spr", "--as", "qemu")
    assert "there is no word for pasid, uintr" in spr.stderr
    assert spr.stdout.strip().endswith("xfd=off"), "of leaf 0xD.1"
    nothing = run("baseline", "zen4", "--as", "qemu")
    assert nothing.stdout == ""
    with pytest.raises(xs.XsaveError, match="qemu and libvirt"):
        baseline([load_model("zen4")]).features("xen")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "words", [["zen4", "spr", "skylake"], ["all"], ["--vendor", "intel", "--places"]]
)
def test_text_fits_a_terminal(words: list[str]) -> None:
    for line in run("baseline", *words, COLUMNS="80").stdout.splitlines():
        assert len(line) <= 80, line
    places_of = run("baseline", "--vendor", "amd", "--places").stdout
    assert re.search(r"^  8 bytes at 2432 +5: zen3 zen3-plus zen4 zen5 zen6$", places_of, re.M)


@pytest.mark.skipif(
    not (shutil.which("qemu-x86_64") and shutil.which("qemu-system-x86_64")),
    reason="needs qemu-x86_64 (qemu-user), and qemu-system-x86_64 for its list of words",
)
def test_qemu_shows_no_more_with_these_words(tmp_path: Path) -> None:
    """Its own CPU beside one that has less: switched off, its leaf 0xD is the baseline's."""
    dump = tmp_path / "max.txt"
    dump.write_text(_emulated("max"))
    said = subprocess.run(["qemu-system-x86_64", "-cpu", "help"], capture_output=True, text=True)
    known = said.stdout.partition("CPUID flags:")[2].split()
    for name, level in {"tremont": [], "haswell": [], "penryn": ["level=13"]}.items():
        found = baseline({"max": load_model(dump), name: load_model(name)})
        assert found.lost["max"], "there is something to switch off"
        assert bool(level) == (not found.instructions)
        off = [f"{word}=off" for word in found.features("qemu").off if word in known]
        (tmp_path / "guest.txt").write_text(_emulated(",".join(["max", *off, *level])))
        record = next(cpuid.read(tmp_path / "guest.txt"))
        assert (record.xcr0, record.xss) == (found.xcr0, found.xss)
        announced = found.model.cpuid_leaf_0xd()[1][0]
        assert record.leaf_0xd[1][0] & ~announced == 0


def _emulated(cpu: str) -> str:
    code = "from xsaveschema import cpuid; print(cpuid.format_cpuid_r(cpuid.host()))"
    command = ["qemu-x86_64", "-cpu", cpu, sys.executable, "-c", code]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.shared
def test_real_dumps_have_one_layout(shared: Path) -> None:
    """All dumps of a format together, and of a hundred pairs."""
    models = {}
    for path in sorted((shared / "cpuid" / "raw" / "cpuid-r").rglob("*"))[:60]:
        if path.is_file() and cpuid.is_dump(path.read_bytes()[: 1 << 16]):
            try:
                models[path.name] = load_model(path)
            except xs.XsaveError:
                continue  # cut off, or of kinds of core that differ: refused, as elsewhere
    chance = random.Random(1)
    for group in [[*models], *(chance.sample([*models], 2) for _ in range(100))]:
        found = baseline({word: models[word] for word in group})
        limited = [models[word].limited(xcr0=found.xcr0, xss=found.xss) for word in group]
        assert len({places(model.standard_layout()) for model in limited}) == 1
        assert len({places(model.compacted_layout()) for model in limited}) == 1
        assert json.dumps(found.to_dict())
        assert all(bit in found.model.by_number for bit in bits_of(found.xcr0 | found.xss))
