"""Schema files of every bad kind: each fault has its place, and nothing but a fault comes out."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from bad import RULES
from hypothesis import given, settings
from hypothesis import strategies as st

from xsaveschema import Catalog
from xsaveschema.errors import SchemaError, SchemaFault
from xsaveschema.language import source
from xsaveschema.language.document import Document, KeyPath, dotted, mark_of
from xsaveschema.language.files import shipped_directory
from xsaveschema.language.library import Library

GOOD = (
    "models/intel/skylake-server.yaml",
    "models/intel/alder-lake.yaml",
    "models/amd/zen2.yaml",
    "components/00-x87.yaml",
    "components/14-uintr.yaml",
    "components/03-bndregs.yaml",
    "registers.yaml",
)
TRAPS = ("017", "1_000", "12:30:45", "no", "On", "1.5", "0b11", "+1", "2024-01-01", "0x1_0", ".inf")
WRONG: tuple[str, ...] = (
    "",
    "~",
    "[]",
    "{}",
    "[1]",
    "{a: 1}",
    "-1",
    "true",
    "9999999999",
    "word",
    '"quoted"',
)
WRONG += ("*alias", "&anchor 5", "!!str 5", "<<", "? [a]", "'", '"', "[", "}", "- 1", "a: b", "@")


@cache
def template() -> Library:
    """The shipped files, with every model resolved, so that a mutant costs only itself."""
    library = Library()
    library.add_shipped()
    library.faults(library.models.values())
    for name in library.components:
        library.component_fields(name)
    assert library.registers()
    return library


def judge(path: Path, data: bytes) -> list[SchemaFault]:
    """The faults of a file with these bytes; where there are none, it is put to use."""
    path.write_bytes(data)
    library = copy.copy(template())
    for name, value in vars(library).items():
        if isinstance(value, dict | list | set):
            setattr(library, name, copy.copy(value))
    library.add([path])
    faults = library.faults([path])
    assert len(set(faults)) == len(faults)
    lines = data.decode("utf-8-sig", "replace").splitlines() or [""]
    for fault in faults:
        assert fault.rule in RULES
        assert fault.message
        assert fault.file == str(path)
        assert 0 <= fault.line <= len(lines) + 1  # the end of the text is a place, too
        assert fault.column <= max(map(len, lines)) + 1
        assert "\n" not in fault.text + fault.message + fault.hint + fault.path
        assert str(fault).encode()
    for name, file in library.models.items() if not faults else ():
        if file == path:
            model = library.resolved(file).model
            assert model is not None, name
            assert model.standard_layout().size >= 576
            assert model.compacted_layout().size >= 576
            assert all(len(c.initial) >= c.size or c.legacy for c in model.components.values())
            assert model.registers is not None
    if not faults:
        for name in library.components:
            assert library.component_fields(name) is not None
    return faults


def original(name: str) -> tuple[bytes, Document]:
    raw = (shipped_directory() / name).read_bytes()
    return raw, source.parse(raw, name)


def values(data: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Every value below ``data`` with its place."""
    yield path, data
    if isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from values(value, (*path, key))


def written(document: Document, place: KeyPath, text: str, *, key: bool = False) -> bytes:
    """The file with other text where a key or a value stands on its line."""
    mark = mark_of((document.keys if key else document.marks)[place])
    lines = list(document.lines)
    line = lines[mark.line - 1]
    lines[mark.line - 1] = line[: mark.column - 1] + text + line[mark.column - 1 + mark.width :]
    return "\n".join(lines).encode()


def spelled(document: Document, place: KeyPath) -> str:
    mark = mark_of(document.marks[place])
    return document.lines[mark.line - 1][mark.column - 1 :][: mark.width]


def as_flow(data: Any, change: KeyPath, how: str) -> bytes:
    """The document in flow style, with one entry dropped or written twice."""

    def emit(value: Any, path: KeyPath) -> str:
        if not isinstance(value, dict | list):
            return json.dumps(value)
        items = []
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            place = (*path, key)
            head = f"{json.dumps(key)}: " if isinstance(value, dict) else ""
            times = 1 if place != change else 0 if how == "drop" else 2
            items += [head + emit(inner, place)] * times
        inside = ",\n ".join(items)
        return f"{{{inside}}}" if isinstance(value, dict) else f"[{inside}]"

    return emit(data, ()).encode()


@pytest.mark.parametrize("name", GOOD)
def test_the_files_to_mutate_are_good(name: str, tmp_path: Path) -> None:
    raw, document = original(name)
    assert judge(tmp_path / Path(name).name, raw) == []
    assert judge(tmp_path / Path(name).name, as_flow(document.data, (), "")) == []


@pytest.mark.parametrize("name", GOOD)
def test_values_are_never_coerced(name: str, tmp_path: Path) -> None:
    """A number in quotes and each YAML 1.1 trap are faults, wherever they stand for a number."""
    _, document = original(name)
    numbers = [place for place, value in values(document.data) if isinstance(value, int)]
    for count, place in enumerate(numbers):
        text = spelled(document, place)
        for other in (f'"{text}"', f"'{text}'", TRAPS[count % len(TRAPS)], TRAPS[-1 - count % 11]):
            faults = judge(tmp_path / Path(name).name, written(document, place, other))
            assert [f.path for f in faults][:1] == [dotted(place)], other
            assert len(faults) == 1, [str(fault) for fault in faults]


@pytest.mark.parametrize("name", GOOD)
def test_every_other_value_is_legal_or_reported(name: str, tmp_path: Path) -> None:
    _, document = original(name)
    places = [place for place, v in values(document.data) if not isinstance(v, dict | list)]
    places = places[:: len(places) // 40 + 1]
    for count, place in enumerate(places):
        value = next(v for p, v in values(document.data) if p == place)
        others = [WRONG[(count + i * 5) % len(WRONG)] for i in range(4)]
        if isinstance(value, int) and not isinstance(value, bool):
            others += [str(value + 1), str(value - 1), str(value * 2 + 64)]
        for other in others:
            judge(tmp_path / Path(name).name, written(document, place, other))


@pytest.mark.parametrize("name", GOOD)
def test_a_key_dropped_renamed_or_written_twice(name: str, tmp_path: Path) -> None:
    _, document = original(name)
    path = tmp_path / Path(name).name
    places = [place for place, _ in values(document.data) if place]
    places = places[:: len(places) // 60 + 1]
    for place in places:
        judge(path, as_flow(document.data, place, "drop"))
        twice = judge(path, as_flow(document.data, place, "twice"))
        if isinstance(place[-1], str):
            assert [fault.rule for fault in twice] == ["duplicate-key"]
            judge(path, written(document, place, f"{place[-1]}x", key=True))
            renamed = judge(path, written(document, place, "No", key=True))
            assert renamed[0].rule in {"yaml-key", "kind"}


def test_a_size_that_is_off_by_one_is_always_reported(tmp_path: Path) -> None:
    for name in GOOD[:3]:
        _, document = original(name)
        components, sizes = document.data["components"], document.data["sizes"]
        places: list[KeyPath] = [("sizes", key) for key in sizes]
        places += [
            ("components", key, "size")
            for key, entry in components.items()
            if entry.get("optional") != "absent"
        ]
        for place in places:
            value = int(spelled(document, place), 0)
            for other in (value - 1, value + 1):
                faults = judge(tmp_path / Path(name).name, written(document, place, str(other)))
                assert faults, (name, place, other)
                assert {f.rule for f in faults} <= {
                    "sizes-standard",
                    "sizes-compacted",
                    "component-overlap",
                    "component-size",
                }


@pytest.mark.parametrize("name", GOOD[::2])
@settings(max_examples=100)
@given(data=st.data())
def test_random_bytes_in_a_good_file(
    name: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    raw = bytearray(original(name)[0])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw)))
        end = at + data.draw(st.integers(0, 12))
        kind = data.draw(st.sampled_from(["any", "yaml", "copy", "cut"]))
        if kind == "any":
            raw[at:end] = data.draw(st.binary(max_size=6))
        elif kind == "yaml":
            raw[at:end] = data.draw(st.text("[]{}:,-?&*!|>'\"%@# \n\t\r0x~<", max_size=6)).encode()
        elif kind == "copy":
            raw[at:at] = raw[end : end + 200]
        else:
            del raw[at : at + data.draw(st.integers(0, 300))]
    judge(tmp_path_factory.getbasetemp() / Path(name).name, bytes(raw))


WORDS = st.sampled_from(
    re.findall(
        r"\S+",
        """
        model component registers title extends vendor signatures instructions components sizes
        confirmed confirmed_by source mxcsr_mask avx pkru pt size offset supervisor align64 optional
        number fields name type at count stride initial bits pieces first top shape standard
        compacted family models steppings u8 u64 bytes x87 present zen4 tiledata
        """,
    )
)
SCALARS = st.one_of(
    st.none(), st.booleans(), WORDS, st.integers(-1, 4096), st.text(max_size=8), st.just(1 << 70)
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150)
@given(kind=st.sampled_from(["model", "component", "registers"]), rest=ANYTHING, data=st.data())
def test_random_documents(
    tmp_path_factory: pytest.TempPathFactory, kind: str, rest: Any, data: st.DataObject
) -> None:
    document: dict[str, Any] = rest if isinstance(rest, dict) else {"title": rest}
    key = {"model": "components", "component": "fields", "registers": "registers"}[kind]
    document |= {kind: data.draw(WORDS | ANYTHING), key: data.draw(ANYTHING)}
    if kind == "model":
        entry = st.fixed_dictionaries(
            {}, optional=dict.fromkeys(("size", "offset", "xfd"), SCALARS)
        )
        document[key] = data.draw(st.dictionaries(WORDS, entry, max_size=4))
    else:
        item = st.dictionaries(WORDS, ANYTHING, max_size=4)
        document[key] = data.draw(st.lists(item, max_size=3) | ANYTHING)
    text = json.dumps(document)
    judge(tmp_path_factory.getbasetemp() / "random.yaml", text.encode())


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
