"""Schema files as text: hostile bytes, YAML's traps, and the place of what is wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from mutants import GOOD, judge, original

from xsaveschema import Catalog
from xsaveschema.errors import SchemaError
from xsaveschema.language import source
from xsaveschema.language.document import mark_of
from xsaveschema.language.files import shipped_directory

NESTED = {
    "flow": b"[" * 130_000,
    "flow, closed": b"[" * 120_000 + b"]" * 120_000,
    "sequence": b"- " * 100_000,
    "sequence, closed": b"- " * 100_000 + b"x",
    "mapping": b"{a: " * 60_000,
    "mapping, closed": b"{a: " * 50_000 + b"1" + b"}" * 50_000,
    "keys": b"? " * 100_000,
    "flow keys": b"[? " * 80_000,
    "indented": b"\n".join(b" " * i + b"a:" for i in range(700)),
    "under model": b"model: x\ncomponents: " + b"[" * 130_000,
}


HOSTILE = NESTED | {
    "long list": b"[" + b"a," * 130_000 + b"]",
    "many keys": b"{" + b",".join(b"k%d: 1" % i for i in range(20_000)) + b"}",
    "unknown keys": b"model: x\n" + b"".join(b"k%d:\n" % i for i in range(2_400)),
    "long key": b"model: x\n" + b"k" * 200_000 + b": 1\n",
    "long value": b"model: '" + b"v" * 200_000 + b"'\n",
    "big number": b"model: x\nmxcsr_mask: " + b"9" * 200_000 + b"\n",
    "overlaps": b"component: x\nnumber: 40\ntitle: x\nfields:\n"
    + b"".join(b"- {name: f%d, type: u64, at: 0}\n" % i for i in range(600)),
    "bits": b"component: x\nnumber: 40\ntitle: x\nfields:\n- name: a\n  type: u512\n  bits:\n"
    + b"".join(b'    b%d: "511:0"\n' % i for i in range(2_000)),
    "repeats": b"component: x\nnumber: 40\ntitle: x\nfields: "
    + b"[{name: a, count: 4096, fields: " * 10
    + b"[{name: b, type: u8}]"
    + b"}]" * 10,
    "registers": b"registers:\n"
    + b"".join(b"- {name: r%d_, count: 256, pieces: [sse.xmm]}\n" % i for i in range(600)),
    "signatures": b"model: x\ntitle: x\nvendor: GenuineIntel\nsignatures:\n"
    + b"".join(b"- {family: 5, models: [1]}\n" for i in range(800)),
    "too large": b"#" * (256 * 1024 + 1),
}


@pytest.mark.parametrize("raw", [pytest.param(raw, id=name) for name, raw in HOSTILE.items()])
def test_hostile_files_are_refused(raw: bytes, tmp_path: Path) -> None:
    assert judge(tmp_path / "hostile.yaml", raw)


@pytest.mark.parametrize("raw", [pytest.param(raw, id=name) for name, raw in NESTED.items()])
def test_the_parser_in_python_refuses_them_too(
    raw: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(source, "_LOADER", yaml.SafeLoader)
    assert judge(tmp_path / "hostile.yaml", raw)


def test_deep_nesting_does_not_overflow_a_small_stack(tmp_path: Path) -> None:
    """In a process of its own, with a stack of 256 KiB for the thread: a crash is no exception."""
    code = (
        "import sys, threading; from xsaveschema.language.source import parse\n"
        "def run():\n"
        "    for raw in (b'['*130000, b'- '*100000, b'{a: '*50000+b'1'+b'}'*50000):\n"
        "        fault = parse(raw, 'f').faults[0]\n"
        "        print(fault.rule, fault.message, sep=': ')\n"
        "threading.stack_size(256 * 1024); thread = threading.Thread(target=run)\n"
        "thread.start(); thread.join()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    told = ["yaml-depth: is nested more than 32 levels deep"] * 3
    assert (done.returncode, done.stdout.splitlines()) == (0, told), done.stderr


TEXTS: dict[str, tuple[bytes, str, int, int]] = {
    "empty": (b"", "yaml-empty", 0, 0),
    "blank": (b"\n  \n", "yaml-empty", 0, 0),
    "marker only": (b"---\n", "yaml-empty", 0, 0),
    "null": (b"~\n", "yaml-empty", 0, 0),
    "NUL": (b"model: a\0b\n", "yaml-character", 1, 9),
    "escape": (b"model: a\n\x1b[31m: 1\n", "yaml-character", 2, 1),
    "noncharacter": ("model: a\ntitle: \ufffe\n".encode(), "yaml-character", 2, 8),
    "BOM inside": ("model: a\ntitle: \ufeffb\n".encode(), "yaml-character", 2, 8),
    "UTF-16": ("model: a\n".encode("utf-16"), "file", 0, 0),
    "UTF-16 without BOM": ("model: a\n".encode("utf-16-le"), "yaml-character", 1, 2),
    "Latin-1": (b"model: a\ntitle: caf\xe9\n", "file", 2, 11),
    "surrogates": (b"model: a\ntitle: \xed\xa0\x80\n", "file", 2, 8),
    "CRLF": (b"model: a\r\ntitle: b\r\ntitle: c\r\n", "duplicate-key", 3, 1),
    "lone CR": (b"model: a\rtitle: b\rtitle: c\r", "duplicate-key", 3, 1),
    "line separator": ("model: a\ntitle: b\u2028\ntitle: c\n".encode(), "duplicate-key", 4, 1),
    "BOM": (b"\xef\xbb\xbfmodel: a\nmodel: b\n", "duplicate-key", 2, 1),
    "tab": (b"model: a\nsizes:\n\tstandard: 1\n", "yaml", 3, 1),
    "unclosed": (b"model: a\nsizes: {standard: 1\n", "yaml", 3, 1),
    "unclosed text": (b"model: 'a\n", "yaml", 2, 1),
    "percent": (b"model: %a\n", "yaml", 1, 8),
    "two documents": (b"model: a\n---\nmodel: b\n", "yaml-documents", 2, 1),
    "a list": (b"- model: a\n", "kind", 1, 1),
    "text": (b"model\n", "kind", 1, 1),
    "a typing error": (b"modle: a\n", "kind", 1, 1),
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_place_of_what_is_wrong_with_a_text(name: str, tmp_path: Path) -> None:
    raw, rule, line, column = TEXTS[name]
    first = judge(tmp_path / "text.yaml", raw)[0]
    assert (first.rule, first.line, first.column) == (rule, line, column)


@pytest.mark.parametrize(
    "change", [lambda s: s.encode("utf-8-sig"), lambda s: s.replace("\n", "\r\n").encode()]
)
def test_files_of_windows_editors_are_good(change: Callable[[str], bytes], tmp_path: Path) -> None:
    raw, _ = original(GOOD[0])
    assert judge(tmp_path / "skylake-server.yaml", change(raw.decode())) == []


@pytest.mark.parametrize("loader", [yaml.SafeLoader, source._LOADER])
@pytest.mark.parametrize("escape", [r"\0", r"\e", r"\ud800", r"\U0010ffff", r"\UFFFFFFFF", r"\N"])
def test_escapes_do_not_smuggle_characters_in(
    escape: str, loader: type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(source, "_LOADER", loader)
    faults = judge(tmp_path / "x.yaml", f'model: "a{escape}"\ntitle: x\n"{escape}": 1\n'.encode())
    assert faults[0].line == 1


def test_every_shipped_file_reads_the_same_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    names = sorted(path for path in shipped_directory().rglob("*.yaml"))
    by_c = [source.read(path) for path in names]
    monkeypatch.setattr(source, "_LOADER", yaml.SafeLoader)
    for path, other in zip(names, by_c, strict=True):
        found = source.read(path)
        assert found.data == other.data
        assert found.faults == other.faults
        for spans, others in ((found.marks, other.marks), (found.keys, other.keys)):
            assert {at: mark_of(span) for at, span in spans.items()} == {
                at: mark_of(span) for at, span in others.items()
            }
        with path.open("rb") as stream:
            assert found.data == yaml.safe_load(stream)


@pytest.mark.parametrize("what", ["folder", "loop", "memory"])
def test_what_cannot_be_read(what: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    if what == "folder":
        path.mkdir()
    elif what == "loop":
        path.symlink_to(path)
    else:
        path = Path("/proc/self/mem")
        if not path.exists():
            pytest.skip("needs a file that opens and cannot be read: /proc/self/mem")
    (fault,) = source.read(path).faults
    assert (fault.rule, fault.line) == ("file", 0)
    assert str(fault).startswith(f"{path}: cannot be read: ")


def test_an_unreadable_file_is_a_fault_of_the_catalogue(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").symlink_to(tmp_path / "nowhere")
    with pytest.raises(SchemaError, match="cannot be read"):
        Catalog([tmp_path])
    with pytest.raises(SchemaError, match="cannot be read"):
        Catalog([tmp_path / "x.yaml"])


def test_a_file_name_that_no_terminal_should_see(tmp_path: Path) -> None:
    path = tmp_path / "a\n\x1b[31m\udcff.yaml"
    path.write_bytes(b"model: [\n")
    fault = source.read(path).faults[0]
    assert fault.file.endswith(r"a\n\x1b[31m\udcff.yaml")
    assert str(fault).encode()


def test_what_a_message_quotes_is_cut(tmp_path: Path) -> None:
    raw = b"model: '" + b"V" * 90_000 + b"'\ntitle: x\n" + b"k" * 900 + b": 1\n"
    faults = judge(tmp_path / "x.yaml", raw)
    assert sorted(fault.rule for fault in faults) == ["name", "range", "unknown-key"]
    assert all(len(str(fault)) < 1000 for fault in faults)
