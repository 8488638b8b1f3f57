"""What a terminal would obey, what would block, and a COLUMNS that no terminal has."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from command import fails, run, tell
from places import DATA

import xsaveschema.cli
from xsaveschema import samples
from xsaveschema.artefacts.opened import Artefact
from xsaveschema.artefacts.reader import Found
from xsaveschema.cli.output import print_lines
from xsaveschema.cli.program import program
from xsaveschema.errors import plain

COMMANDS = Path(xsaveschema.cli.__file__).parent
AREA = samples.read("zen4-kernel-core")
EVIL = "a\u202eb\u2066c\x9b31m\x07\u200fd"
"""Bidirectional overrides and isolates, an escape sequence's C1 form, a bell."""


def model(folder: Path, title: str) -> str:
    """A folder with a model file of this title, whose text YAML takes."""
    (folder / "evil.yaml").write_text(
        f'model: evil\ntitle: "{title}"\nvendor: GenuineIntel\nextends: haswell\n'
        "confirmed: false\nsource: none\n",
        encoding="utf-8",
    )
    return str(folder)


def shown(*args: str, data: bytes | None = None, **env: str) -> str:
    """All that a command prints, where nothing but line breaks may be a control character."""
    text = CliRunner().invoke(program, args, input=data, env=env).output
    assert [c for c in text if not c.isprintable() and c != "\n"] == []
    return text


@pytest.mark.parametrize("colour", ["", "1"])
@pytest.mark.parametrize(
    "args",
    [
        pytest.param(["models"], id="models"),
        pytest.param(["models", "--json"], id="models-json"),
        pytest.param(["layout", "evil"], id="layout"),
    ],
)
def test_titles_of_models(
    args: Sequence[str], colour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model(tmp_path, "a\u202eb\u2066c\u200fd\\nmore")
    monkeypatch.setenv("FORCE_COLOR", colour)
    monkeypatch.setenv("COLUMNS", "250")
    result = run("--schemas", folder, *args).stdout.replace("\x1b", "")
    assert [c for c in result if not c.isprintable() and c != "\n"] == []
    assert "\\u202e" in result
    assert "\\nmore" in result, "a title has one line"


@pytest.mark.parametrize(
    "args",
    [
        pytest.param(["decode", "{}"], id="no such file"),
        pytest.param(["check", "{file}"], id="check"),
        pytest.param(["identify", "{file}"], id="identify"),
        pytest.param(["identify", "{file}", "--json"], id="identify-json"),
        pytest.param(["identify", "{file}"], id="no dump"),
        pytest.param(["identify", "{dump}"], id="dump"),
        pytest.param(["identify", "{dump}", "--json"], id="dump-json"),
        pytest.param(["decode", "{file}"], id="decode"),
        pytest.param(["decode", "{file}", "--json"], id="decode-json"),
        pytest.param(["decode", "{file}", "--area", "{}"], id="area"),
        pytest.param(["decode", "{file}", "--registers", "{}"], id="register"),
        pytest.param(["convert", "{file}", "-o", "{file}-out"], id="convert"),
        pytest.param(["convert", "{file}", "-o", "/no/folder/{}"], id="out"),
        pytest.param(["layout", "{}"], id="model"),
        pytest.param(["lint", "{file}"], id="lint"),
        pytest.param(["--schemas", "{}", "models"], id="schemas"),
        pytest.param(["new", "{}", "host"], id="new"),
        pytest.param(["new", "mine", "{dump}", "--core", "{}"], id="core"),
        pytest.param(["{}"], id="command"),
        pytest.param(["models", "--{}"], id="option"),
        pytest.param(["decode", "sample:{}"], id="sample"),
        pytest.param(["decode", "{file}", "--drop", "{}"], id="wrong option"),
        pytest.param(["diff", "{file}", "{}"], id="diff"),
        pytest.param(["diff", "{file}", "sample:zen4-xsavec", "--ignore", "{}"], id="ignore"),
        pytest.param(["compare", "zen4", "{}"], id="compare"),
        pytest.param(["patch", "{file}", "{}=1", "-o", "{}"], id="patch"),
        pytest.param(["add-layout", "{file}", "-o", "{}"], id="add-layout"),
        pytest.param(["check", "{file}", "--cpu", "{}"], id="cpu"),
        pytest.param(["convert", "{file}", "--drop", "{}", "-o", "{file}-2"], id="drop"),
        pytest.param(
            ["convert", "{file}", "--model", "zen4", "--batch", "-o", "{file}-3"], id="batch"
        ),
        pytest.param(["models", "{}"], id="pattern"),
        pytest.param(["models", "--vendor", "{}"], id="vendor"),
        pytest.param(["models", "--with", "{}"], id="with"),
        pytest.param(["gdb-script", "{}"], id="gdb-script"),
    ],
)
def test_names_that_a_terminal_would_obey(args: Sequence[str], tmp_path: Path) -> None:
    file, dump = tmp_path / f"{EVIL}\n.bin", tmp_path / f"{EVIL}\n.txt"
    file.write_bytes(AREA)
    dump.write_bytes((DATA / "cpuid/aida64.txt").read_bytes())
    text = shown(*(arg.format(EVIL, file=file, dump=dump) for arg in args))
    assert text
    for line in text.splitlines():
        assert not line.startswith((".bin", ".txt")), "a name has one line"


@pytest.mark.parametrize("colour", ["", "1"])
@pytest.mark.parametrize(
    "args",
    [
        ["decode", "{}"],
        ["decode", "{}", "--json"],
        ["check", "{}"],
        ["check", "{}", "--cpu", "evil"],
        ["diff", "{}", "sample:zen4-xsavec"],
        ["convert", "{}", "-o", "{}-out"],
        ["convert", "{}", "--cpu", "evil", "--drop", "5-12", "-o", "{}-out"],
        ["identify", "{}"],
        ["compare", "evil", "zen4"],
        ["decode", "{}", "--area", "nobody"],
    ],
    ids=" ".join,
)
def test_labels_notes_and_titles_of_files(
    args: Sequence[str], colour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a reader finds in a file, and a schema file says."""

    def evil(_: Artefact, found: Found) -> Found:
        return replace(found, label=EVIL, layout_source=EVIL, notes=(EVIL,), others=0)

    monkeypatch.setattr(Artefact, "_labelled", evil)
    monkeypatch.setattr(Artefact, "bare", lambda *_: None)
    monkeypatch.setenv("FORCE_COLOR", colour)
    monkeypatch.setenv("TERM", "xterm")
    folder = model(tmp_path, "a\u202eb\u2066c\u200fd\\nmore")
    file = tmp_path / "area"
    file.write_bytes(AREA)
    result = CliRunner().invoke(program, ["--schemas", folder, *(a.format(file) for a in args)])
    text = re.sub(r"\x1b\[[0-9;]*m", "", result.output)
    assert [c for c in text if not c.isprintable() and c != "\n"] == []
    assert isinstance(result.exception, SystemExit | None)


def test_faults_in_yaml_show_the_line_without_what_it_hides(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(f"model: [\u202e{EVIL[0]}\u2066]\n", encoding="utf-8")
    assert "model" in shown("lint", str(tmp_path))
    assert "model" in shown("--schemas", str(tmp_path), "models")


def test_plain() -> None:
    assert plain("zen4 ä 漢") == "zen4 ä 漢"
    assert plain("a\n\u202e\x1b\ud800") == "a\\n\\u202e\\x1b\\ud800"


def test_lines_in_parts_are_plain_too(capsys: pytest.CaptureFixture[str]) -> None:
    print_lines([[("a\u202e", "bold"), ("\nb", "")], [("c", "")]])
    assert capsys.readouterr().out == "a\\u202e\\nb\nc\n"


def test_commands_print_by_the_functions_that_look_at_the_text() -> None:
    """click.echo, print and rich's own console are for the modules that these live in."""
    for path in sorted(COMMANDS.glob("*.py")):
        if path.stem in {"output", "program"}:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            said = ast.unparse(node)
            static = said == "click.echo(gdb_script(), nl=False)"
            called = ast.unparse(node.func)
            assert static or called not in {"click.echo", "print", "Console", "Table"}, (
                f"{path.name}:{node.lineno}"
            )


@pytest.mark.parametrize("given", ["path", "folder"])
def test_a_fifo_among_the_schema_files_is_refused_by_name(given: str, tmp_path: Path) -> None:
    fifo = tmp_path / "x.yaml"
    os.mkfifo(fifo)
    path = str(fifo if given == "path" else tmp_path)
    said = f"{fifo}: cannot be read: is no regular file"
    assert said in fails("--schemas", path, "models")
    assert said in run("lint", path, code=1).stdout
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XSAVESCHEMA_PATH", path)
        assert said in fails("models")


def test_a_device_among_the_schema_files_is_refused_by_name() -> None:
    assert "/dev/null: cannot be read: is no regular file" in fails(
        "--schemas", os.devnull, "models"
    )


@pytest.mark.parametrize("columns", ["0", "-5", "9" * 5000, "x", "", "²", "٣", "1", "1000000000"])
@pytest.mark.parametrize(
    "args", [["layout", "zen4"], ["models"], ["decode", "sample:zen4-kernel-core"], ["--help"]]
)
def test_columns_that_no_terminal_has(columns: str, args: list[str]) -> None:
    assert run(*args, COLUMNS=columns).stdout
    assert max(map(len, run(*args, COLUMNS="0").stdout.splitlines())) <= 120 or args == ["models"]


def test_a_dump_of_thousands_of_kinds_of_core_is_bounded(tmp_path: Path) -> None:
    leaf = {
        "0x00000000 0x00": (0xD, 0x756E6547, 0x6C65746E, 0x49656E69),
        "0x0000000d 0x00": (7, 0x340, 0x340, 0),
        "0x0000000d 0x01": (0, 0, 0, 0),
        "0x0000000d 0x02": (0x100, 0x240, 0, 0),
    }
    rows = []
    for index in range(200):
        rows.append(f"CPU {index}:")
        for name, values in {**leaf, "0x00000001 0x00": (0x50650 + index, 0, 0, 0)}.items():
            registers = zip(("eax", "ebx", "ecx", "edx"), values, strict=True)
            rows.append(f"   {name}: " + " ".join(f"{r}={v:#010x}" for r, v in registers))
    path = tmp_path / "dump.txt"
    path.write_text("\n".join(rows))
    shown = run("identify", str(path))
    assert shown.stdout.count("GenuineIntel, family") == 32
    assert "and 168 more kinds of core; --json has all of them" in shown.stderr
    assert len(tell("identify", str(path))["records"]) == 200
