"""``new``: what is written, what is refused, and what people are told."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from drafts import (
    DUMPS,
    EXTENDING,
    FULL,
    NEW,
    NEW_CPU,
    SCHEMA,
    changed,
    dump,
    hold_against_leaf,
)

from xsaveschema import Catalog, cpuid
from xsaveschema.authoring.draft import DraftError, draft, schema_reference, seen_model
from xsaveschema.authoring.lint import lint
from xsaveschema.catalog import default_catalog
from xsaveschema.cli.program import program
from xsaveschema.cpuid import CpuidRecord, CpuidRegisters
from xsaveschema.errors import XsaveError
from xsaveschema.language.files import shipped_directory


def run(*args: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(program, ["new", *map(str, args)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    assert result.exit_code == code, result.output
    if code:
        assert result.stdout == ""
        assert result.stderr.count("error: ") == 1
    return result


@pytest.fixture
def new_cpu(tmp_path: Path) -> Path:
    return dump(tmp_path, NEW_CPU)


def test_the_text_of_a_whole_file(new_cpu: Path, tmp_path: Path) -> None:
    args = ("zen9", new_cpu, "--title", "AMD Zen 9")
    assert run(*args).stdout == EXTENDING
    assert run(*args, "--full").stdout == FULL
    assert run(*args, "--full", "-o", "-").stdout == FULL
    stepping = FULL.replace("[0x11]}  #", "[0x11], steppings: [0]}  #").replace(
        ", stepping 0\n", "\n"
    )
    assert run(*args, "--full", "--stepping").stdout == stepping
    result = run(*args, "-o", tmp_path / "zen9.yaml")
    assert result.stdout == ""
    assert f"note: wrote {tmp_path / 'zen9.yaml'}: extends zen3" in result.stderr
    assert (tmp_path / "zen9.yaml").read_text() == EXTENDING
    assert lint([tmp_path / "zen9.yaml"]) == []
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_without_a_title_the_file_asks_for_one(new_cpu: Path) -> None:
    line = "title: AuthenticAMD family 1Ch model 11h  # say what people call it\n"
    assert line in run("zen9", new_cpu).stdout


def test_a_model_with_this_layout_and_signature_leaves_nothing_to_write() -> None:
    result = run("mine", DUMPS / "cpuid-r.txt", code=1)
    assert "skylake has exactly this layout and this CPU's signature: there is nothing to add" in (
        result.stderr
    )
    text = run("mine", DUMPS / "cpuid-r.txt", "--force").stdout
    assert "extends: skylake\n" in text
    assert "components:" not in text


def test_a_model_with_this_layout_gets_the_signature_instead(tmp_path: Path) -> None:
    path = dump(tmp_path, changed())
    told = run("mine", path, code=1).stderr
    assert "zen3 has exactly this layout: rather than a file, add the signature" in told
    assert f"in {shipped_directory() / 'models' / 'amd' / 'zen3.yaml'}\n" in told
    line = "\n  - {family: 0x1C, models: [0x11]}\n"
    assert line in told
    assert "--force" in told
    # The line is fit to be pasted: with it, the CPU is a Zen 3.
    shipped = (shipped_directory() / "models" / "amd" / "zen3.yaml").read_text()
    mended = tmp_path / "zen3.yaml"
    mended.write_text(shipped.replace("signatures:", f"signatures:{line.rstrip()}"))
    assert lint([mended]) == []
    args = ("mine", path, "--schemas", mended)
    assert "and this CPU's signature: there is nothing to add" in run(*args, code=1).stderr
    assert "extends: zen3\n" in run(*args, "--force").stdout


def test_the_line_to_add_names_a_stepping_or_a_vendor_where_it_must(tmp_path: Path) -> None:
    leaf = default_catalog().model("skylake-server").cpuid_leaf_0xd()
    path = dump(tmp_path, CpuidRecord("GenuineIntel", 0x0005065F, leaf))
    told = run("mine", path, code=1).stderr
    assert "\n  - {family: 0x06, models: [0x55], steppings: [15]}\n" in told
    leaf = default_catalog().model("zhaoxin-shijidadao").cpuid_leaf_0xd()
    path = dump(tmp_path, CpuidRecord("  Shanghai  ", 0x000307F0, leaf))
    told = run("mine", path, code=1).stderr
    assert '\n  - {vendor: "  Shanghai  ", family: 0x07, models: [0x3F]}\n' in told
    text = run("mine", path, "--force").stdout
    assert 'vendor: "  Shanghai  "\n' in text
    path = dump(tmp_path, CpuidRecord("  Shanghai  ", None, leaf))
    assert "(the dump has no leaf 1, which tells it)" in run("mine", path, code=1).stderr


def test_a_model_may_be_replaced_by_its_name(tmp_path: Path) -> None:
    leaf = {**default_catalog().model("zen4").cpuid_leaf_0xd(), 20: (64, 2496, 0, 0)}
    leaf[0] = (0x1002E7, 2560, 2560, 0)
    path = dump(tmp_path, CpuidRecord("AuthenticAMD", 0x00A10F11, leaf))
    result = run("zen5", path)
    assert "zen5 is in the catalogue; where this file is loaded, it replaces" in result.stderr
    assert "extends" not in result.stdout
    # Zen 5 extends Zen 4, and its self-check would fail.
    zen3 = changed(s9=(16, 2432, 0, 0), s0=(0x207, 2448, 2448, 0))
    path = dump(tmp_path, zen3)
    told = run("zen3", path, code=1).stderr
    assert "with this zen3, other models have faults; take another name" in told
    assert "zen4.yaml" in told


def test_components_and_models_of_the_user_are_known(tmp_path: Path, new_cpu: Path) -> None:
    (tmp_path / "20-matrix.yaml").write_text(
        "component: matrix\nnumber: 20\ntitle: made up\nfields:\n  - {name: m, type: u512}\n"
    )
    args = ("zen9", new_cpu, "--schemas", tmp_path / "20-matrix.yaml")
    text = run(*args).stdout
    assert "  matrix:  {size: 64, offset: 2496, align64: true}\n" in text
    result = CliRunner().invoke(program, ["--schemas", str(args[-1]), "new", *map(str, args[:2])])
    assert result.stdout == text


def test_an_opaque_component_keeps_the_name_that_the_base_gives_it(tmp_path: Path) -> None:
    base = tmp_path / "base.yaml"
    base.write_text(FULL.replace("component20", "matrix").replace("model: zen9", "model: zen8"))
    leaf = {**NEW, 20: (128, 2496, 2, 0), 0: (0x100207, 2624, 2624, 0)}
    path = dump(tmp_path, CpuidRecord("AuthenticAMD", 0x00D20F10, leaf))
    text = run("zen9", path, "--schemas", base).stdout
    assert "extends: zen8\n" in text
    assert "  matrix: {number: 20, size: 128, offset: 2496, align64: true}" in text


def test_an_existing_file_is_kept(new_cpu: Path, tmp_path: Path) -> None:
    target = tmp_path / "zen9.yaml"
    target.write_text("mine")
    link = tmp_path / "link.yaml"
    link.symlink_to(tmp_path / "nowhere")
    for path in (target, link):
        told = run("zen9", new_cpu, "-o", path, code=2).stderr
        assert f"{path} exists; --force replaces it" in told
    assert target.read_text() == "mine"
    assert link.is_symlink()
    run("zen9", new_cpu, "-o", target, "--force", "--title", "AMD Zen 9")
    assert target.read_text() == EXTENDING
    shutil.copy(shipped_directory() / "model.schema.json", tmp_path)
    run("zen9", new_cpu, "-o", target, "--force", "--title", "AMD Zen 9")
    assert target.read_text() == f"# yaml-language-server: $schema={SCHEMA}\n{EXTENDING}"


def test_a_refusal_leaves_no_file(tmp_path: Path) -> None:
    target = tmp_path / "mine.yaml"
    run("mine", DUMPS / "cpuid-r.txt", "-o", target, code=1)
    run("mine", DUMPS / "libcpuid.test", "-o", target, code=1)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_shipped_folder_refers_to_its_schema_as_they_do(new_cpu: Path) -> None:
    target = shipped_directory() / "models" / "amd" / f"zen9-{os.getpid()}.yaml"
    seen = seen_model(NEW_CPU, "zen9")
    made = draft(NEW_CPU, seen, None, provenance="d", schema=schema_reference(target))
    assert made.text.startswith("# yaml-language-server: $schema=../../model.schema.json\n")


def hybrid(folder: Path) -> Path:
    """Two kinds of core, the second of which lacks PKRU."""
    text = (DUMPS / "aida64-hybrid.txt").read_text()
    head, mark, tail = text.partition("------[ Logical CPU #2 ]------")
    tail = tail.replace("00000207-00000A88-00000A88", "00000007-00000340-00000340")
    tail = re.sub(r".*\[SL 09\].*\n", "", tail)
    path = folder / "hybrid.txt"
    path.write_text(head + mark + tail)
    return path


def test_cores_that_differ_only_in_type_are_one_model() -> None:
    result = run("mine", DUMPS / "aida64-hybrid.txt")
    assert "  - aida64-hybrid.txt\n" in result.stdout


def test_cores_that_differ_need_a_choice(tmp_path: Path) -> None:
    path = hybrid(tmp_path)
    told = run("mine", path, code=1).stderr
    assert f"{path}: the kinds of core differ; name one (--core): core 0, Intel Core; core 2, " in (
        told
    )
    for label in ("core 2, Intel Atom", "Core 2", "intel atom"):
        text = run("mine", path, "--core", label).stdout
        assert "XCR0 0x7, IA32_XSS 0x1800" in text
        assert "  - hybrid.txt, core 2, Intel Atom\n" in text
    assert "XCR0 0x207," in run("mine", path, "--core", "Intel Core").stdout
    for label in ("core", "core 1", ""):
        told = run("mine", path, "--core", label, code=2).stderr
        assert f"--core: no kind of core is called {label!r}; it has core 0, Intel Core; c" in told


@pytest.mark.parametrize(
    ("record", "message"),
    [
        pytest.param(
            {n: row for n, row in NEW.items() if n not in (9, 20)},
            "does not describe component 9 (pkru), component 20 (component20): unknown, not absent",
            id="components",
        ),
        pytest.param(
            {n: row for n, row in NEW.items() if n != 1},
            "does not describe sub-leaf 1 (the instructions and IA32_XSS)",
            id="sub-leaf 1",
        ),
        pytest.param({0: NEW[0]}, "component 2 (avx), component 9 (pkru), ", id="sub-leaf 0 only"),
    ],
)
def test_an_incomplete_dump_is_refused_by_name(
    record: dict[int, CpuidRegisters], message: str, tmp_path: Path
) -> None:
    path = dump(tmp_path, CpuidRecord("AuthenticAMD", 0x00D10F10, record))
    told = run("mine", path, code=1).stderr
    assert told.startswith(f"xsaveschema: error: {path}: the record does not describe ")
    assert message in told
    assert "Dump every sub-leaf of leaf 0xD, 0 to 63 (cpuid -r), or run this on the machine" in told


def test_a_dump_without_a_vendor_needs_one(tmp_path: Path) -> None:
    path = dump(tmp_path, CpuidRecord("", None, NEW))
    assert "the vendor is unknown; name it (--vendor)" in run(
        "mine", path, code=1
    ).stderr  # fmt: skip
    text = run("mine", path, "--vendor", "HygonGenuine", "--full").stdout
    assert "vendor: HygonGenuine\n" in text
    assert "mxcsr_mask: 0x2FFFF" in text
    assert "title: HygonGenuine CPU  #" in text


def test_a_component_63_cannot_be() -> None:
    record = CpuidRecord("GenuineIntel", None, {**NEW, 0: (7, 832, 832, 1 << 31)})
    with pytest.raises(DraftError, match="a component 63, but bit 63 of XCOMP_BV marks the format"):
        seen_model(record, "mine")


NO_MODEL = "leaf 0xD describes what no model can have: "


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({2: (256, 100, 0, 0)}, "leaf 0xD sub-leaf 2: a user component at 100"),
        ({2: (256, 2400, 0, 0)}, "leaf 0xD contradicts itself: avx"),
        ({2: (1 << 21, 576, 0, 0)}, "leaf 0xD sub-leaf 2: 2097152 bytes cannot be"),
        ({2: (8, 576, 0, 0)}, f"{NO_MODEL}components.avx.size: 8 bytes are too few for the"),
        ({0: (0x20F, 2440, 2440, 0), 3: (64, 960, 0, 0)}, "bndregs without bndcsr"),
    ],
)
def test_a_leaf_that_no_cpu_can_have(
    rows: dict[int, CpuidRegisters], message: str, tmp_path: Path
) -> None:
    path = dump(tmp_path, CpuidRecord("AuthenticAMD", 0x00D10F10, changed().leaf_0xd | rows))
    told = run("mine", path, code=1).stderr
    assert message in told
    assert "/xsaveschema-" not in told


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "Missing argument 'NAME'"),
        (("mine",), "Missing argument 'CPU'"),
        (("mine", "host", "x"), "unexpected extra argument"),
        (("mine", "zen4"), "zen4 is a model of the catalogue"),
        (("mine", "dump"), "'dump' is no CPU: say host, or the path of a CPUID dump with a slash"),
        (("Mine", "host"), "'Mine' is no model name: lower-case letters and digits"),
        (("a_b", "host"), "'a_b' is no model name"),
        (("a\n", "host"), "is no model name"),
        (("", "host"), "'' is no model name"),
        (("host", "host"), "host is this machine, wherever a model is named"),
        (("mine", "host", "--title", " "), "--title: a text of printable characters"),
        (("mine", "host", "--title", "a\nb"), "--title: a text of printable characters"),
        (("mine", "host", "--vendor", "Intel"), "--vendor: 12 ASCII characters"),
        (("mine", "host", "--vendor", "é" * 12), "--vendor: 12 ASCII characters"),
        (
            ("mine", str(DUMPS / "table.txt"), "--vendor", "AuthenticAMD"),
            "--vendor: leaf 0 says 'GenuineIntel'",
        ),
        (
            ("mine", str(DUMPS / "table.txt"), "--core", "core 0"),
            "--core: no kind of core is called 'core 0'; all cores of the dump are alike",
        ),
        (("mine", "--nope"), "No such option"),
    ],
)
def test_wrong_usage(args: tuple[str, ...], message: str) -> None:
    assert message in run(*args, code=2).stderr


def test_files_that_are_no_dumps(tmp_path: Path) -> None:
    assert "No such file" in run("mine", tmp_path / "x", code=1).stderr
    (tmp_path / "x").write_bytes(os.urandom(100))
    assert "not a CPUID dump" in run("mine", tmp_path / "x", code=1).stderr
    assert "no such file or folder of schema files" in run(
        "mine", DUMPS / "table.txt", "--schemas", tmp_path / "y", code=1
    ).stderr  # fmt: skip


def test_a_place_that_cannot_be_written(new_cpu: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "none" / "x.yaml", tmp_path):
        assert str(path) in run("zen9", new_cpu, "-o", path, code=1).stderr
    assert [path.name for path in tmp_path.iterdir()] == [new_cpu.name]


def test_a_dump_with_a_name_that_no_terminal_should_see(tmp_path: Path) -> None:
    path = dump(tmp_path, NEW_CPU, "a\n\x1b[31m.txt")
    result = run("zen9", path)
    assert "\x1b" not in result.output
    assert '  - "a\\\\n\\\\x1b[31m.txt"\n' in result.stdout


def test_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xsaveschema.cpuid.host", lambda: NEW_CPU)
    text = run("zen9", "host").stdout
    assert re.search(r"confirmed_by:\n  - .?host, CPUID leaf 0xD, \d{4}-\d\d-\d\d", text)
    guest = CpuidRecord("AuthenticAMD", 0x00D10F10, NEW, hypervisor=True)
    monkeypatch.setattr("xsaveschema.cpuid.host", lambda: guest)
    result = run("zen9", "host")
    assert "note: the dump was taken in a guest, whose masks may hide components" in result.stderr
    assert "confirmed: false\nsource: " in result.stdout
    assert "--core is for the dump of a hybrid CPU" in run(
        "zen9", "host", "--core", "x", code=2
    ).stderr  # fmt: skip


def test_this_very_machine(tmp_path: Path) -> None:
    try:
        record = cpuid.host()
    except XsaveError as error:
        pytest.skip(f"no leaf 0xD here: {error}")
    target = tmp_path / "this.yaml"
    run("this", "host", "--force", "-o", target)
    hold_against_leaf(Catalog([target]).model("this"), record.leaf_0xd)
    assert lint([target]) == []
