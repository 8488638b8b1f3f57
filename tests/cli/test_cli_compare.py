"""``compare``: a guest's areas, or a CPU, against one host or several."""

from __future__ import annotations

import shutil
from pathlib import Path

import cores
import pytest
from command import fails, run, tell
from places import TESTS

from xsaveschema import Catalog, XsaveArea, cpuid, load_model

SAMPLE = "sample:zen4-kernel-core"
DUMPS = TESTS / "data" / "cpuid"


@pytest.fixture(name="core")
def _core(tmp_path: Path) -> str:
    """A core of three threads on a Zen 4; the second has AVX-512 in use, the third PKRU."""
    model = load_model("zen4")
    areas = []
    for name in ("avx", "opmask", "pkru"):
        area = XsaveArea.new(model)
        area.write(area.layout[name], area.layout[name].origin, b"\1")
        areas.append(bytes(area))
    rows = [(s.number, s.size, s.offset) for s in model.standard_layout() if s.number > 1]
    path = tmp_path / "core"
    path.write_bytes(cores.core(cores.threads(areas) + cores.layout_note(rows)))
    return str(path)


def test_what_the_areas_have_in_use_counts(core: str) -> None:
    result = run("compare", core, "zen3", code=1)
    first, second, third = result.stdout.splitlines()[:3]
    assert first.startswith(f"{core}: 3 areas of zen4")
    assert second == "zen4 -> zen3: lost: opmask"
    assert third == "in 1 of 3 areas: thread 101"
    found = tell("compare", core, "zen3", code=1)
    assert (found["restorable"], found["lost"], found["areas"]) == (False, ["opmask"], 3)
    assert found["in_use"] == ["avx", "opmask", "pkru"]
    assert [each["label"] for each in found["failing"]] == ["thread 101"]
    assert tell("compare", core, "zen3", "--area", "100")["as_it_is"] is True
    assert (
        "zen3 restores the area as it stands"
        in run(*("compare", core, "zen3", "--area", "100")).stdout
    )


def test_many_hosts_have_a_row_each(core: str) -> None:
    result = run("compare", core, "zen3", "zen5", "ice-lake-server", code=1)
    assert result.stdout.splitlines()[1:] == [
        "zen4 -> 3 CPUs: nothing is lost on 2",
        "  CPU              areas    result",
        "  zen3             -        lost: opmask",
        "  zen5             same     nothing is lost",
        "  ice-lake-server  convert  nothing is lost",
    ]
    found = tell("compare", core, "zen5", "ice-lake-server")["comparisons"]
    assert [(each["b"], each["restorable"]) for each in found] == [
        ("zen5", True),
        ("ice-lake-server", True),
    ]
    # A pair has the shape of a pair.
    assert tell("compare", core, "zen5")["b"] == "zen5"


def test_rows_of_the_whole_catalogue_fit_a_terminal() -> None:
    lines = run("compare", "sapphire-rapids", "*", code=1).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) > 50


def test_globs_mean_models_as_for_the_list_of_them() -> None:
    listed = tell("models", "zen*")
    found = tell("compare", "zen4", "zen3", "zen*", "zen3", code=1)["comparisons"]
    names = [each["b"] for each in found]
    assert names[0] == "zen3"
    assert sorted(names) == sorted(model["name"] for model in listed), "each once"
    assert fails("compare", "zen4", "q*").startswith("q*: no model of the catalogue is like that")


def test_a_row_has_the_word_by_which_a_host_was_named(tmp_path: Path) -> None:
    """Dumps have the name of a model that is laid out alike, two hosts maybe the same one."""
    (tmp_path / "hosts").mkdir()
    for name, xcr0 in {"a": 0x2E7, "b": 0x2E7, "c": 0x7}.items():
        leaf = dict(load_model("zen4").limited(xcr0=xcr0, xss=0).cpuid_leaf_0xd())
        record = cpuid.CpuidRecord("AuthenticAMD", None, leaf)
        (tmp_path / "hosts" / name).write_text(cpuid.format_cpuid_r(record))
    words = [f"{tmp_path}/hosts/{name}" for name in "abc"]
    for named in ([f"{tmp_path}/hosts"], words):
        rows = run("compare", "zen4", *named, code=1).stdout.splitlines()[2:]
        assert [row.split()[0] for row in rows if "lost: " in row] == words[2:]
        assert [row.split()[0] for row in rows if row.strip().startswith("/")] == words
        found = tell("compare", "zen4", *named, code=1)["comparisons"]
        assert [(each["cpu"], each["restorable"]) for each in found] == [
            *((word, True) for word in words[:2]),
            (words[2], False),
        ]
    found = tell("compare", "zen4", "all", code=1)["comparisons"]
    assert {each["cpu"] for each in found} == set(Catalog())


def test_supervisor_state_is_lost_if_the_guest_has_it() -> None:
    found = tell("compare", "zen4", "ice-lake-server")
    assert (found["lost"], found["possible"]) == ([], ["cet_u", "cet_s"])
    found = tell("compare", "zen4", "ice-lake-server", "--xss", "cet_u", code=1)
    assert (found["lost"], found["possible"]) == (["cet_u"], [])
    assert tell("compare", "zen4", "ice-lake-server", "--xss", "0")["possible"] == []


def test_what_the_first_argument_is_the_content_says(
    core: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A dump is a CPU, whatever its name is, and also from a pipe.
    shutil.copy(DUMPS / "aida64.txt", tmp_path / "dump")
    named = tell("compare", str(DUMPS / "aida64.txt"), "skylake-server")
    for source, data in (
        (str(tmp_path / "dump"), None),
        ("-", (tmp_path / "dump").read_bytes()),
        (str(DUMPS / "hwloc"), None),
    ):
        found = tell("compare", source, "skylake-server", data=data)
        assert found["in_use"] is None
        assert found["a"] == named["a"] or source.endswith("hwloc")
    # Areas are areas, from standard input too.
    assert tell("compare", "-", "zen5", data=Path(core).read_bytes())["areas"] == 3
    # A name of the catalogue is a CPU, even where a file is called so; with a slash it is the file.
    monkeypatch.chdir(tmp_path)
    shutil.copy(core, "zen3")
    assert tell("compare", "zen3", "zen4")["in_use"] is None
    assert tell("compare", "./zen3", "zen4")["areas"] == 3
    shutil.copy(core, "guest")
    assert tell("compare", "guest", "zen4")["areas"] == 3


def test_what_is_neither() -> None:
    assert "did you mean zen4" in fails("compare", "zen44", "zen3")
    assert "No such file" in fails("compare", "./zen44", "zen3")
    assert "did you mean zen3" in fails("compare", "zen4", "zen33")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["zen4", "zen3", "--area", "#0"], "zen4 is a CPU"),
        (["zen4", "zen3", "--model", "zen4"], "zen4 is a CPU"),
        ([str(DUMPS / "aida64.txt"), "zen3", "--model", "zen4"], "is a CPU"),
        ([SAMPLE, "zen3", "--xss", "0"], "areas say what is in use"),
        ([SAMPLE, "zen3", "--xcr0", "7"], "areas say what is in use"),
        ([SAMPLE, "zen3", "zen4", "--svg", "-"], "--svg draws one pair"),
        ([SAMPLE, "zen3", "--svg", "-", "--json"], "give one"),
        ([SAMPLE], "Missing argument"),
    ],
)
def test_wrong_usage(more: list[str], said: str) -> None:
    assert said in fails("compare", *more, code=2)


def test_the_evidence_of_the_file_outranks_the_model_that_is_named() -> None:
    assert "zen4" in fails("compare", SAMPLE, "zen4", "--model", "haswell")
    found = tell("compare", SAMPLE, "zen5", "--model", "zen4", "--assume-model")
    assert found["restorable"]


def test_amx_needs_permission_and_larger_buffers() -> None:
    text = run("compare", "sapphire-rapids", "granite-rapids").stdout
    assert text.splitlines()[-3:] == [
        "Linux on granite-rapids gives tiledata to who asks by arch_prctl:",
        "  a VM    ARCH_REQ_XCOMP_GUEST_PERM 18  KVM_GET_XSAVE2: 4096 -> 11008 bytes",
        "  a task  ARCH_REQ_XCOMP_PERM 18        signal frame: 2816 -> 11008 bytes",
    ]
    found = tell("compare", "sapphire-rapids", "granite-rapids")["permission"]
    assert found["numbers"] == [18]
    assert (
        tell("compare", "sapphire-rapids", "granite-rapids", "--xcr0", "0x2e7")["permission"]
        is None
    )


def test_a_stream_of_virtual_cpus_that_fit_different_models() -> None:
    stream = str(TESTS / "data/artefacts/qemu-7.2-tcg.stream.gz")
    found = tell("compare", stream, "comet-lake", "haswell", code=1)["comparisons"]
    assert [(each["areas"], each["restorable"]) for each in found] == [(2, True), (2, False)]
    # It has registers, and tells nothing of the XCR0 that they were saved by.
    assert {each["buffers"] for each in found} == {None}


def test_buffers_that_are_too_small_on_the_other_host() -> None:
    text = run("compare", "skylake-server", "sapphire-rapids", code=1).stdout
    assert "XSAVE of all of XCR0 writes 2696 bytes on skylake-server, 11008 on" in text
    assert "buffers" not in run("compare", "sapphire-rapids", "zen4", code=1).stdout
