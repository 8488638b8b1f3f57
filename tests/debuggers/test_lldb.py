"""`xsave` in a real LLDB, from the one file alone: cores, whatever is past AVX in them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cores
import pytest
from artefact_areas import ZEN4, host_areas, zen4_core
from command import run
from test_gdb import CORES, decoded

from xsaveschema.debuggers import areas, script
from xsaveschema.debuggers import lldb as module


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file; the tests are skipped where LLDB has no Python."""
    folder = tmp_path_factory.mktemp("lldb")
    path = folder / "xsave.py"
    path.write_text(script("lldb", "1.2"))
    look = "script import importlib.util as u; print('package', u.find_spec('xsaveschema'))"
    said, error = cores.lldb(look, folder=folder)
    if "package N" not in said:
        pytest.skip(f"LLDB has no Python: {error.strip()[:60]}")
    return path


def answer(file: Path, command: str, *arguments: str) -> str:
    """What a command prints, or else the error."""
    start = f"command script import {file}"
    said, error = cores.lldb(start, command, folder=file.parent, arguments=arguments)
    return said.partition(f"(lldb) {command}\n")[2].strip("\n") or error.strip()


class TestTheSameAsDecode:
    @pytest.mark.parametrize("core", CORES.values(), ids=CORES)
    def test_a_whole_area(self, core: bytes, file: Path, tmp_path: Path) -> None:
        path = file.with_name("core")
        path.write_bytes(core)
        said = answer(file, f"xsave --as f32 --core {path}", "-c", str(path))
        title, _, rest = said.partition("\n")
        assert title == "thread 100"
        assert rest == decoded(core, tmp_path, "--as", "f32")

    def test_a_core_by_the_kernel(self, file: Path, tmp_path: Path) -> None:
        """One that LLDB has mapped, which tells where it is."""
        _, made = host_areas(1)
        with cores.loaded(made, tmp_path, crash=True):
            core = cores.kernel_core(tmp_path)
        said = answer(file, "xsave", "-c", str(core))
        path = tmp_path / "copy"
        path.mkdir()
        assert said.partition("\n")[2] == decoded(core.read_bytes(), path)
        known = answer(file, "register read zmm17", "-c", str(core))
        assert "Invalid register name" in known or "zmm17 =" in known

    def test_the_thread_that_is_selected(self, file: Path) -> None:
        path = file.with_name("two")
        path.write_bytes(zen4_core(areas=[ZEN4, ZEN4[:840] + bytes(range(8)) + ZEN4[848:]]))
        for number in (100, 101):
            index = number - 99
            start = f"command script import {file}"
            select, show = f"thread select {index}", f"xsave k1 --core {path}"
            said, _ = cores.lldb(
                start, select, show, folder=file.parent, arguments=["-c", str(path)]
            )
            words = ["--area", str(number), "--registers", "k1"]
            wanted = run("decode", str(path), *words, COLUMNS="80").stdout
            assert f"\n{wanted}" in said  # LLDB tells of the thread now or later


class TestRefused:
    def test_a_live_process(self, file: Path, tmp_path: Path) -> None:
        _, made = host_areas(1)
        with cores.loaded(made, tmp_path) as program:
            said = answer(file, "xsave", "-p", str(program.process.pid))
            assert program.process.poll() is None
        assert "error: only ELF cores are read here: a live process is traced by" in said

    def test_no_process(self, file: Path) -> None:
        assert answer(file, "xsave") == "error: there is no thread: load a core"

    @pytest.mark.parametrize(
        ("words", "why"),
        [
            ("", "LLDB does not tell where the core's file is: name it with --core FILE"),
            ("--core /etc/passwd", "is no ELF file"),
            ("--core /no/such/file", "No such file or directory"),
            ("--core {core}.empty", "cannot mmap an empty file"),
            ("zmm99 --core {core}", "zmm99 has no place in this area"),
            ("--as", "--as needs a value"),
            ("--to x", "there is no option --to: --all --as --model --core"),
            ("'", "No closing quotation"),
        ],
    )
    def test_words(self, words: str, why: str, file: Path) -> None:
        """A small core is not mapped."""
        path = file.with_name("small")
        path.write_bytes(zen4_core())
        path.with_name("small.empty").touch()
        said = answer(file, f"xsave {words.format(core=path)}", "-c", str(path))
        assert f"error: {why}" in said or why in said


def test_lldb_17_tells_the_cores_file(tmp_path: Path) -> None:
    """As its API has it; LLDBs without it are asked for the files that they have mapped."""
    path = tmp_path / "core"
    path.write_bytes(zen4_core())
    told = SimpleNamespace(GetCoreFile=lambda: SimpleNamespace(fullpath=str(path)))
    assert module._core_path(told) == str(path)
    with pytest.raises(areas.RefusedError, match="name it with --core"):
        module._core_path(SimpleNamespace())
