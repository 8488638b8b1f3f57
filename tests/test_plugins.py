"""Plug-ins: the example package as it stands, and such as fail in every way that they can."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from inspect import getattr_static
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

import xsaveschema as xs
from xsaveschema import artefacts, cpuid, samples
from xsaveschema.artefacts import registry
from xsaveschema.cpuid import formats
from xsaveschema.plugins import PluginWarning, Terminated

EXAMPLE = ROOT / "examples" / "plugins"
ROOT = Path(xs.__file__).parents[1]
MODEL = xs.load_model("skylake-server")


def install(folder: Path, name: str, points: dict[str, dict[str, str]]) -> None:
    """What an installer leaves of a package besides its modules."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    groups = (
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
        for group, entries in points.items()
    )
    (info / "entry_points.txt").write_text("".join(groups))


def forget() -> None:
    registry._plugins.cache_clear()
    formats._plugins.cache_clear()


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A folder with the example package in it, installed."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    folder = tmp_path / "site"
    folder.mkdir()
    shutil.copy(EXAMPLE / "xsave_crate.py", folder)
    install(folder, "xsave_crate", project["entry-points"])
    return folder


def crate(data: bytes = b"") -> bytes:
    area = xs.XsaveArea.new(MODEL)
    area.registers["k1"] = 0x2A
    data = data or bytes(area)
    return b"CRATE1" + len(data).to_bytes(4, "little") + b"\x05first" + data


def tally() -> str:
    leaf = MODEL.cpuid_leaf_0xd()
    rows = [" ".join(f"{word:x}" for word in (n, *leaf[n])) for n in sorted(leaf)]
    return "\n".join(["tally of GenuineIntel 0x50654", *rows])


def command(site: Path, *args: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((str(site), str(ROOT)))
    words = [sys.executable, "-m", "xsaveschema", *args]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)


def test_the_example_reads_writes_and_is_refused(example: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "areas.crate", tmp_path / "out"
    file.write_bytes(crate())
    done = command(example, "decode", str(file), "--model", MODEL.name, "--registers", "k1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "0x000000000000002a" in done.stdout
    done = command(example, "patch", str(file), "k1=7", "--model", MODEL.name, "-o", str(out))
    assert done.returncode == 0, done.stderr
    at = len(b"CRATE1") + 5 + len(b"first") + MODEL.standard_layout()["opmask"].offset + 8
    changed = [i for i, (a, b) in enumerate(zip(crate(), out.read_bytes(), strict=True)) if a != b]
    assert changed == [at]
    file.write_bytes(crate()[:-1])
    done = command(example, "decode", str(file))
    assert done.returncode == 1
    assert "first: an area of 2696 bytes is cut off" in done.stderr


def test_the_example_reads_dumps(example: Path, tmp_path: Path) -> None:
    file = tmp_path / "tally.txt"
    file.write_text(tally())
    code = (
        "import sys; from xsaveschema import cpuid; [record] = cpuid.read(sys.argv[1]); "
        "print(record.format, hex(record.signature), record.leaf_0xd == eval(sys.argv[2]))"
    )
    words = [sys.executable, "-c", code, str(file), repr(MODEL.cpuid_leaf_0xd())]
    path = os.pathsep.join((str(example), str(ROOT)))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("tally 0x50654 True", "")
    file.write_text(tally() + "\nnonsense")
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert "no row of a tally: 'nonsense'" in done.stderr


def test_the_example_is_identified(example: Path, tmp_path: Path) -> None:
    """As the area and the leaf within are without it."""
    file = tmp_path / "file"
    area = samples.read("zen4-kernel-core")
    leaf = xs.identify(leaf_0xd=MODEL.cpuid_leaf_0xd(), signature=0x50654, vendor="GenuineIntel")
    for data, match in ((crate(area), xs.identify(area)), (tally().encode(), leaf)):
        file.write_bytes(data)
        done = command(example, "identify", str(file), "--json")
        found = json.loads(done.stdout)["candidates"]
        assert found == [{"model": each.model, "by": each.by} for each in match.candidates]


def test_the_example_exports(example: Path, tmp_path: Path) -> None:
    for cpu in ("zen3", "haswell"):
        done = command(example, "export", "csv", cpu, "-o", str(tmp_path / "out"))
        assert (done.returncode, done.stderr) == (0, "")
    *head, avx = (tmp_path / "out" / "offsets.csv").read_text().splitlines()
    assert head[-2:] == ["haswell,x87,0", "haswell,sse,160"]
    assert avx == "haswell,avx,576"


def test_without_the_example_nobody_knows_its_files(tmp_path: Path) -> None:
    assert artefacts.recognise(memoryview(crate())).name == "raw"
    with pytest.raises(cpuid.CpuidDumpError, match="not a CPUID dump of a known format"):
        cpuid.read_bytes(tally().encode(), "a tally")


BROKEN = """
from xsaveschema.artefacts import ArtefactError, Found, InPlace, layout_of
from xsaveschema.cpuid import CpuidRecord

class Good:
    name, title, NAME = "odd", "odd files", "odd"
    def recognises(self, data):
        head = data[:3] if isinstance(data, str) else bytes(data[:3]).decode("latin-1")
        return head == "ODD"
    def read(self, data, options):
        return iter(())

class Raises(Good):
    def recognises(self, data):
        raise ZeroDivisionError("\\x1b[31mred")

class FailsReading(Good):
    def read(self, data, options):
        raise KeyError("lost")

class FailsLate(Good):
    def read(self, data, options):
        yield from ()
        raise KeyError("lost")

class Yields(Good):
    def read(self, data, options):
        yield 5

class Refuses(Good):
    def read(self, data, options):
        from xsaveschema.cpuid import CpuidDumpError
        raise (CpuidDumpError("odd", "x") if isinstance(data, str) else ArtefactError("odd"))

class Hollow(Good):
    def read(self, data, options):
        yield CpuidRecord("", None, {0: (7, 0)}) if isinstance(data, str) else Found("a", None, "b")

class Mute(Exception):
    def __str__(self):
        raise ValueError

class Unspeakable(Good):
    def recognises(self, data):
        raise Mute

class Wordy(Good):
    def recognises(self, data):
        raise ValueError("word " * 1000)

class Greedy(Good):
    def recognises(self, data):
        return True

class Odd(Good, InPlace):
    def read(self, data, options):
        yield layout_of(data[3:], options).found(data[3:], options, "one", 3)

class Writes(Odd):
    def replace(self, data, found, area):
        raise ZeroDivisionError

class WritesText(Odd):
    def replace(self, data, found, area):
        return [(3, "text")]

class Forgets(Odd):
    def replace(self, data, found, area):
        return [(0, b"ODD")]

class Damages(Odd):
    def replace(self, data, found, area):
        return [*super().replace(data, found, area), (2, b"X")]

class Beyond(Odd):
    def replace(self, data, found, area):
        return [*super().replace(data, found, area), (len(data) - 1, b"XX")]

class Before(Odd):
    def replace(self, data, found, area):
        return [(-4, b"X")]

class Leaves(Good):
    def recognises(self, data):
        raise SystemExit(3)

class LeavesLate(Good):
    def read(self, data, options):
        raise SystemExit(3)
        yield

class Empty(Good):
    pass

class Exits:
    def __init__(self):
        raise SystemExit("no terminal")

class NoReader:
    name = title = NAME = "none"

class Dies:
    def __init__(self):
        raise OSError("no licence")
"""
ASKED = {
    "Raises": r"odd \(odd:Raises, GROUP\) fails to recognise a file: ZeroDivisionError: \\x1b",
    "Unspeakable": r"odd \(odd:Unspeakable, GROUP\) fails to recognise a file: Mute; it is left",
    "Wordy": r"odd \(odd:Wordy, GROUP\) fails to recognise a file: .{,300}\.\.\.; it is left out$",
    "Exits": r"odd \(odd:Exits, GROUP\) cannot be loaded: SystemExit: no terminal",
    "Leaves": r"odd \(odd:Leaves, GROUP\) fails to recognise a file: SystemExit: 3",
    "NoReader": r"odd \(odd:NoReader, GROUP\) has no recognises, no read; it is left out",
    "Dies": r"odd \(odd:Dies, GROUP\) cannot be loaded: OSError: no licence",
    "Absent": r"odd \(odd:Absent, GROUP\) cannot be loaded: AttributeError: module 'odd' has no",
}
READING = {
    "FailsReading": "the plug-in odd .* fails: KeyError: 'lost'",
    "FailsLate": "the plug-in odd .* fails: KeyError: 'lost'",
    "Yields": "the plug-in odd .* fails: TypeError: it yields int, not (Found|CpuidRecord)",
    "Hollow": "the plug-in odd .* fails: .* a (Found|CpuidRecord) with values of a wrong type",
    "LeavesLate": "the plug-in odd .* fails: SystemExit: 3",
    "Refuses": "odd$",
}
READ: dict[str, Callable[[], Any]] = {
    "xsaveschema.readers": lambda: list(artefacts.read_bytes(b"ODD" + bytes(573))),
    "xsaveschema.dumps": lambda: list(cpuid.read_bytes(b"ODD", "a dump")),
}
ERRORS = {
    "xsaveschema.readers": artefacts.ArtefactError,
    "xsaveschema.dumps": cpuid.CpuidDumpError,
}


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Install one class of BROKEN for a group."""

    def put(group: str, name: str) -> Path:
        (tmp_path / "odd.py").write_text(BROKEN)
        install(tmp_path, "odd", {group: {"odd": f"odd:{name}"}})
        monkeypatch.syspath_prepend(tmp_path)
        forget()
        return tmp_path

    yield put
    forget()
    sys.modules.pop("odd", None)


@pytest.mark.parametrize("group", READ)
@pytest.mark.parametrize("name", ASKED)
def test_one_that_fails_is_told_of_and_left_out(
    plug_in: Callable[..., Path], group: str, name: str
) -> None:
    plug_in(group, name)
    with (
        pytest.warns(PluginWarning, match=ASKED[name].replace("GROUP", group)) as told,
        pytest.raises(xs.XsaveError) as caught,
    ):
        READ[group]()
    assert all(str(each.message).isprintable() for each in told)
    assert "plug-in" not in str(caught.value), "the file is read as if it were not there"


@pytest.mark.parametrize("group", READ)
@pytest.mark.parametrize("name", READING)
def test_one_that_fails_at_a_file_is_named(
    plug_in: Callable[..., Path], group: str, name: str
) -> None:
    plug_in(group, name)
    with pytest.raises(ERRORS[group], match=READING[name]) as caught:
        READ[group]()
    assert (caught.value.__cause__ is None) == (name == "Refuses")


@pytest.mark.parametrize(
    ("name", "why"),
    [("Writes", "ZeroDivisionError"), ("WritesText", "TypeError: it yields a tuple with .* type")],
)
def test_one_that_fails_to_write_is_named(
    plug_in: Callable[..., Path], name: str, why: str
) -> None:
    site = plug_in("xsaveschema.readers", name)
    file, out = site / "file", site / "out"
    file.write_bytes(b"ODD" + samples.read("zen4-kernel-core"))
    with pytest.raises(
        artefacts.ArtefactError, match=f"the plug-in odd .* fails: {why}$"
    ) as caught:
        artefacts.patch(file, out, {"k1": 1})
    assert caught.value.__cause__
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Forgets", "what is read back is not what was to be written"),
        ("Damages", "what is read back is not what was to be written"),
        ("Beyond", "would be changed beyond its end"),
        ("Before", "would be changed beyond its end"),
    ],
)
def test_what_is_not_read_back_is_not_written(
    plug_in: Callable[..., Path], name: str, why: str
) -> None:
    site = plug_in("xsaveschema.readers", name)
    file, out = site / "file", site / "out"
    file.write_bytes(b"ODD" + samples.read("zen4-kernel-core"))
    with pytest.raises(xs.XsaveError, match=why):
        artefacts.patch(file, out, {"k1": 1})
    assert not out.exists()


def test_a_dump_without_a_cpu_is_an_error(plug_in: Callable[..., Path]) -> None:
    plug_in("xsaveschema.dumps", "Empty")
    with pytest.raises(cpuid.CpuidDumpError, match=r"the plug-in odd .* finds no CPU in it"):
        READ["xsaveschema.dumps"]()


def test_what_ends_the_program_is_no_plug_ins_fault(plug_in: Callable[..., Path]) -> None:
    plug_in("xsaveschema.readers", "LeavesLate")
    sys.modules.pop("odd", None)
    import odd  # type: ignore[import-not-found]

    odd.SystemExit = Terminated
    with pytest.raises(Terminated):
        READ["xsaveschema.readers"]()


def test_one_that_writes_is_a_writer(plug_in: Callable[..., Path]) -> None:
    """By what its class has: later versions of Python look no further."""
    plug_in("xsaveschema.readers", "Odd")
    reader = artefacts.recognise(memoryview(b"ODD" + bytes(600)))
    assert getattr_static(reader, "replace")
    plug_in("xsaveschema.readers", "Good")
    assert not isinstance(artefacts.recognise(memoryview(b"ODD" + bytes(600))), artefacts.Writer)


def test_own_formats_come_first(plug_in: Callable[..., Path]) -> None:
    dump = cpuid.format_cpuid_r(cpuid.CpuidRecord("", None, MODEL.cpuid_leaf_0xd()))
    plug_in("xsaveschema.dumps", "Greedy")
    [record] = cpuid.read_bytes(dump.encode(), "a dump")
    assert record.format == "cpuid -r"


def test_each_entry_point_counts_once(plug_in: Callable[..., Path]) -> None:
    """A package may be installed twice, under two names."""
    site = plug_in("xsaveschema.dumps", "Good")
    install(site, "copy", {"xsaveschema.dumps": {"odd": "odd:Good", "another": "odd:Good"}})
    forget()
    assert len(formats._plugins()) == 2


@pytest.mark.parametrize("group", READ)
def test_damaged_entry_points_of_others_are_told_of(
    plug_in: Callable[..., Path], group: str
) -> None:
    site = plug_in(group, "Good")
    install(site, "bad", {})
    (site / "bad-1.0.dist-info" / "entry_points.txt").write_text("[console_scripts]\nnonsense\n")
    forget()
    with (
        pytest.warns(PluginWarning, match=f"no plug-in of {group} is loaded, as entry points are"),
        pytest.raises(xs.XsaveError),
    ):
        READ[group]()


@pytest.mark.parametrize("filters", ["error", "ignore"])
def test_commands_note_it_whatever_becomes_of_warnings(
    plug_in: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, filters: str
) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", filters)
    site = plug_in("xsaveschema.readers", "Raises")
    done = command(site, "decode", "sample:zen4-kernel-core", "--registers", "k1")
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("xsaveschema: note: the plug-in odd (odd:Raises")


@pytest.mark.parametrize("name", ["Raises", "Dies"])
def test_commands_note_it_in_a_line(plug_in: Callable[..., Path], name: str) -> None:
    site = plug_in("xsaveschema.readers", name)
    file = site / "area.bin"
    file.write_bytes(bytes(xs.XsaveArea.new(MODEL)))
    done = command(site, "decode", str(file), "--model", MODEL.name)
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("xsaveschema: note: the plug-in odd (odd:")
    assert line.isprintable()


def test_a_sample_is_shown_whatever_plug_ins_do(plug_in: Callable[..., Path]) -> None:
    site = plug_in("xsaveschema.readers", "Raises")
    done = command(site, "decode", "sample:zen4-kernel-core")
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
