"""FILE and OUT as people and programs use them: packed, piped, in shared folders, interrupted."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import cores
import pytest
from command import fails, run, tell
from writers import minidump
from writers.state import INTEL, State

from xsaveschema import samples
from xsaveschema.cli.output import print_json, print_json_items
from xsaveschema.errors import XsaveError

AREA = samples.read("zen4-kernel-core")
CORE = cores.core(cores.threads([AREA, AREA]))
ONE = cores.core(cores.threads([AREA]))
PROGRAM = (sys.executable, "-m", "xsaveschema")
CONVERT = ("--format", "compacted", "--model", "zen4")


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


COMMANDS: list[tuple[str, ...]] = [
    ("decode", "FILE", "--json"),
    ("check", "FILE", "--json"),
    ("check", "FILE", "--model", "zen4", "--json"),
    ("identify", "FILE", "--json"),
    ("convert", "FILE", *CONVERT, "-o", "-"),
    ("diff", "FILE", "sample:zen4-kernel-core", "--json"),
]


@pytest.mark.parametrize("data", [AREA, ONE], ids=["area", "core"])
@pytest.mark.parametrize("args", COMMANDS, ids=[" ".join(args[:4]) for args in COMMANDS])
def test_packed_files_and_pipes_everywhere(
    args: tuple[str, ...], data: bytes, tmp_path: Path
) -> None:
    def told(source: str, given: bytes | None = None) -> bytes:
        line = [source if arg == "FILE" else arg for arg in args]
        return run(*line, data=given).stdout_bytes.replace(json.dumps(source).encode(), b"FILE")

    path = tmp_path / "file"
    path.write_bytes(data)
    want = told(str(path))
    assert want
    for pack in (gzip.compress, lzma.compress):
        path.write_bytes(pack(data))
        assert told(str(path)) == want
        assert told("-", pack(data)) == want
    assert told("-", data) == want


def test_a_core_from_a_pipe_that_goes_on() -> None:
    """What stands behind the notes is not waited for."""
    command = [*PROGRAM, "decode", "-", "--json"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(CORE + bytes(100_000))
        process.stdin.flush()  # and left open
        assert len(json.loads(process.stdout.read())["areas"]) == 2
        process.stdin.close()


def test_a_large_core_from_a_pipe() -> None:
    core = cores.core(cores.threads([AREA]), load=bytes(40 << 20))
    assert len(tell("decode", "-", data=core)["areas"]) == 1


def test_batches_are_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "areas.gz"
    path.write_bytes(gzip.compress(AREA * 5 + os.urandom(1000)))
    said = fails("convert", "--batch", str(path), *CONVERT, "-o", str(tmp_path / "out"))
    assert f"{path}: is compressed by gzip" in said
    assert list(tmp_path.iterdir()) == [path]


# Whose the results are.


@pytest.mark.parametrize("given", [0o600, 0o640, 0o666])
def test_results_are_no_more_open_than_their_input(given: int, tmp_path: Path) -> None:
    source = tmp_path / "core"
    source.write_bytes(ONE)
    source.chmod(given)
    areas = tmp_path / "areas"
    areas.write_bytes(AREA * 3)
    areas.chmod(given)
    writes = [
        ("convert", source, *CONVERT, "-o"),
        ("convert", source, *CONVERT, "--as-qemu", "-o"),
        ("check", source, "--fix"),
        ("patch", source, "k1=1", "-o"),
        ("add-layout", source, "-o"),
        ("convert", areas, "--batch", *CONVERT, "-o"),
        ("convert", areas, "--batch", *CONVERT, "-o", tmp_path / "report.out", "--bad"),
    ]
    for number, args in enumerate(writes):
        out = tmp_path / f"out{number}"
        run(*map(str, args), str(out))
        assert mode(out) == given & 0o644, args
    assert mode(tmp_path / "report.out") == given & 0o644
    run("convert", "sample:zen4-xsave", *CONVERT, "-o", str(tmp_path / "free"))
    assert mode(tmp_path / "free") == 0o644


def test_a_file_on_standard_input_hands_its_permissions_on(tmp_path: Path) -> None:
    source = tmp_path / "core"
    source.write_bytes(ONE)
    source.chmod(0o600)
    for more in ((), ("--batch",)):
        source.write_bytes(AREA if more else ONE)
        with source.open("rb") as file:
            subprocess.run(
                [*PROGRAM, "convert", "-", *more, *CONVERT, "-o", str(tmp_path / "out")],
                stdin=file,
                check=True,
            )
        assert mode(tmp_path / "out") == 0o600
        (tmp_path / "out").unlink()


def test_names_are_told_without_control_characters(tmp_path: Path) -> None:
    source, out = tmp_path / "core", tmp_path / "a\x1b]0;b\u202ec"
    source.write_bytes(ONE)
    for args in (
        ("convert", str(source), *CONVERT, "-o", str(out)),
        ("patch", str(source), "k1=1", "-o", str(out)),
        ("add-layout", str(source), "-o", str(out)),
        ("check", str(source), "--fix", str(out)),
    ):
        said = run(*args).stderr
        assert "a\\x1b]0;b\\u202ec: " in said, args


# Interrupted.

SLOW = """
import os, sys, time
from xsaveschema import io
from xsaveschema.artefacts import edit
from xsaveschema.cli import main
slept, write_all = [], io.write_all
def slowly(*args):
    if not slept:
        slept.append(print("writing", flush=True))
        time.sleep(60)
    return write_all(*args)
edit.write_all = io.write_all = slowly
sys.argv = ["xsaveschema", *sys.argv[1:]]
main()
"""


def interrupted(args: list[str], number: int, **more: Any) -> int:
    command = [sys.executable, "-c", SLOW, *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, **more) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        process.send_signal(number)
        return process.wait(30)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("command", ["patch", "convert"])
def test_a_signal_leaves_nothing_behind(command: str, number: int, tmp_path: Path) -> None:
    path, out = tmp_path / "core", tmp_path / "out"
    path.write_bytes(ONE)
    args = ["patch", str(path), "k1=1", "--in-place"]
    if command == "convert":
        out.write_bytes(b"before")
        args = ["convert", str(path), *CONVERT, "-o", str(out)]
    assert interrupted(args, number) == 128 + number
    assert path.read_bytes() == ONE
    assert sorted(tmp_path.iterdir()) == ([path, out] if command == "convert" else [path])


DROPS = """
import os, sys, time, weakref
from xsaveschema.cli.program import program
class Thing: pass
def told(_):
    os.kill(os.getpid(), int(sys.argv[1]))
def work(**_):
    thing = Thing()
    kept = weakref.ref(thing, told)
    del thing
    time.sleep(5)
program.callback = work
program.main(["models"])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_not_lost_where_python_drops_exceptions(number: int) -> None:
    done = subprocess.run([sys.executable, "-c", DROPS, str(int(number))], capture_output=True)
    assert (done.returncode, done.stdout) == (128 + number, b"")
    assert b"ignored" not in done.stderr


def test_what_is_ignored_stays_ignored() -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    code += "from xsaveschema.cli.program import program\n"
    code += "import os; program.callback = lambda **_: os.kill(os.getpid(), signal.SIGTERM)\n"
    code += "program.main(['models', '--json'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.returncode == 0


def test_the_handler_goes_with_the_command() -> None:
    before = signal.getsignal(signal.SIGTERM), sys.unraisablehook
    run("models")
    assert (signal.getsignal(signal.SIGTERM), sys.unraisablehook) == before


@pytest.mark.parametrize("command", [["patch", "k1=1"], ["normalise"], ["add-layout"]])
def test_a_file_is_edited_into_a_file(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not into one that is called -, as if that were standard output."""
    monkeypatch.chdir(tmp_path)
    Path("core").write_bytes(ONE)
    name, *settings = command
    for source, output in (("core", ["-o", "-"]), ("-", ["-o", "out"]), ("-", ["--in-place"])):
        assert "is edited into a file" in fails(name, source, *settings, *output, code=2)
    assert [*Path().iterdir()] == [Path("core")]
    # One that is called so has a path.
    said = run("normalise", "core", "-o", "./-").stderr
    assert said.startswith("-: thread")
    assert sorted(Path().iterdir()) == [Path("-"), Path("core")]


def test_a_batch_that_is_terminated_is_gone_on_with(tmp_path: Path) -> None:
    pytest.importorskip("numpy", reason="the extra batch is not installed")
    source, out = tmp_path / "areas", tmp_path / "out"
    source.write_bytes(AREA * 50_000)
    source.chmod(0o600)
    args = ["convert", "--batch", str(source), *CONVERT, "-o", str(out)]
    command = [*PROGRAM, *args]
    part = tmp_path / "out.part"
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        while process.poll() is None and not (part.exists() and part.stat().st_size > 40_000_000):
            time.sleep(0.001)
        process.terminate()
        said = process.stderr.read().decode()
        assert process.wait(30) == 128 + signal.SIGTERM, said
    assert "keeps what is done: the same command goes on from there" in said
    assert mode(part) == mode(tmp_path / "out.part.journal") == 0o600
    assert "by an earlier run" in run(*args).stderr
    assert (mode(out), sorted(tmp_path.iterdir())) == (0o600, [source, out])


# Nothing, and much.


def test_a_file_without_areas_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    context = bytearray(minidump.context(State().standard(3, INTEL)))
    context[0x30:0x34] = (0x0010_0001).to_bytes(4, "little")  # CONTEXT_CONTROL alone
    path.write_bytes(minidump.dump([(1, bytes(context))]))
    for args in (["decode"], ["decode", "--json"], ["check"]):
        assert "no context has x87 and SSE registers" in fails(*args, str(path))


def test_json_is_the_same_as_in_one_piece(capsys: pytest.CaptureFixture[str]) -> None:
    items = [{"a": [1, {"b": "x\ny"}], "c": {}}, {"a": []}, 5]
    for count in range(4):
        print_json({"source": "x", "areas": items[:count]})
        whole = capsys.readouterr().out
        print_json_items({"source": "x"}, "areas", iter(items[:count]))
        assert capsys.readouterr().out == whole


def test_json_is_whole_where_an_area_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "core"
    bad = bytearray(AREA)
    bad[520] = 1  # XCOMP_BV without bit 63
    path.write_bytes(cores.core(cores.threads([AREA, bytes(bad), AREA])))
    result = run("decode", str(path), "--json", code=1)
    told = json.loads(result.stdout)
    assert [area["label"] for area in told["areas"]] == ["thread 100"]
    assert told["error"] in result.stderr
    assert "XCOMP_BV" in told["error"]
    path.write_bytes(cores.core(cores.threads([bytes(bad), AREA])))
    assert "XCOMP_BV" in fails("decode", str(path), "--json")


def test_json_is_written_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(click, "echo", lambda text, **_: written.append(text))

    def items() -> Iterator[int]:
        yield 1
        yield 2
        assert "1" in "".join(written)
        yield 3
        assert "2" in "".join(written)
        raise XsaveError("no more")

    with pytest.raises(XsaveError):
        print_json_items({}, "items", items())
    assert json.loads("".join(written)) == {"items": [1, 2, 3], "error": "no more"}
