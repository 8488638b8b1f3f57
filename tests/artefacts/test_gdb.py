"""`info xsave` and `$xs()` in a real GDB: cores whose layout it does not know, live processes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cores
import pytest
from artefact_areas import REGISTERS, ZEN4, host_areas, intel_area, zen4_core

import xsaveschema as xs
from xsaveschema import artefacts
from xsaveschema.artefacts import gdb as module


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script; the tests are skipped where GDB has no Python or one of another version."""
    folder = tmp_path_factory.mktemp("gdb")
    path = folder / "xsave.py"
    path.write_text(artefacts.gdb_script())
    version = ".".join(map(str, sys.version_info[:2]))
    said = cores.gdb("python print('has', sys.version)", folder=folder)
    if f"has {version}" not in said:
        pytest.skip(f"GDB's Python is not {version}: {said.strip()[:60]}")
    return path


def run(script: Path, *commands: str, arguments: list[str]) -> str:
    return cores.gdb(f"source {script}", *commands, folder=script.parent, arguments=arguments)


def zmm(n: int) -> int:
    return int.from_bytes(REGISTERS[64 * n : 64 * n + 64], "little")


def test_a_core_whose_layout_gdb_does_not_know(script: Path) -> None:
    core = script.with_name("zen4")
    core.write_bytes(zen4_core(areas=[ZEN4, ZEN4]))
    commands = ["info xsave", "info xsave k1 zmm31", 'p/x $xs("zmm17")', 'p $xs("zmm17")[7]']
    commands += [
        'p/x $xs("xmm3")',
        'p/x $xs("st0")',
        'p/x $xs("mxcsr")',
        'p $xs("k1") + 1',
        "p $k1",
    ]
    said = run(script, *commands, arguments=["-c", str(core)])
    assert re.search(r"^\$7 = <unavailable>$", said, re.M)  # GDB's own $k1
    k1 = int.from_bytes(REGISTERS[2056:2064], "little")
    lines = said.splitlines()
    assert "layout: NT_X86_XSAVE_LAYOUT (as zen4)" in lines
    assert "XSTATE_BV 0xE7: x87, sse, avx, opmask, zmm_hi256, hi16_zmm" in lines
    for n in range(32):
        assert f"zmm{n}".ljust(12) + f"{zmm(n):#x}" in lines
    assert lines.count(f"{'k1':<12}{k1:#x}") == 2
    parts = [zmm(17) >> 64 * i & (1 << 64) - 1 for i in range(8)]
    assert "$1 = {" + ", ".join(f"{part:#x}" for part in parts) + "}" in lines
    assert f"$2 = {parts[7]}" in lines
    assert f"$3 = {zmm(3) & (1 << 128) - 1:#x}" in lines
    area = xs.XsaveArea.parse(ZEN4, xs.load_model("zen4"))
    assert f"$4 = {area.registers['st0']:#x}" in lines
    assert f"$5 = {area.registers['mxcsr']:#x}" in lines
    assert f"$6 = {k1 + 1}" in lines


def test_the_current_thread(script: Path) -> None:
    other = bytearray(ZEN4)
    other[840:848] = bytes(range(1, 9))
    core = script.with_name("two")
    core.write_bytes(zen4_core(areas=[ZEN4, bytes(other)]))
    commands = ["thread 2", 'p/x $xs("k1")', "info xsave", "thread 1", 'p/x $xs("k1")']
    said = run(script, *commands, arguments=["-c", str(core)])
    shown = [
        int.from_bytes(data[840:848], "little")
        for _, data in sorted([(100, ZEN4), (101, bytes(other))])
    ]
    first = re.search(r"Switching to thread 2 .LWP (\d+)", said) or re.search(r"LWP (\d+)", said)
    assert first
    order = shown[::-1] if first[1] == "101" else shown
    assert f"$1 = {order[0]:#x}" in said
    assert f"$2 = {order[1]:#x}" in said
    assert f"thread {first[1]}: 2432 bytes, standard format, XCR0 0xE7" in said


def test_tiles(script: Path) -> None:
    area = intel_area(11008, 0x602E7)
    area[2752:2816] = bytes(64)
    core = script.with_name("amx")
    core.write_bytes(cores.core(cores.threads([bytes(area)])))
    commands = ['p/x $xs("tmm2")[5]', 'p/x $xs("pkru")', 'p $xs("tmm0")', "info xsave tmm2"]
    area[2752] = 1
    for tile in (2, 3):
        area[2752 + 16 + 2 * tile] = 64
        area[2752 + 48 + tile] = 16
    core.write_bytes(cores.core(cores.threads([bytes(area)])))
    said = run(script, *commands, arguments=["-c", str(core)])
    assert f"$1 = {area[2816 + 2048 + 5]:#x}" in said
    assert f"$2 = {int.from_bytes(area[2688:2692], 'little'):#x}" in said
    assert "tmm0 has no rows: TILECFG" in said
    assert f"tmm2        {area[2816 + 2048 : 2816 + 3072].hex()}" in said


def test_a_live_process(script: Path, tmp_path: Path) -> None:
    model, areas = host_areas(2)
    with cores.loaded(areas, tmp_path) as program:
        pid = program.process.pid
        commands = ['p/x $xs("ymm5")', 'p/x $xs("mxcsr")', "info xsave", "p/x $ymm5.v4_int64"]
        said = run(script, *commands, arguments=["-p", str(pid)])
        assert program.process.poll() is None
    wanted = xs.XsaveArea.parse(areas[0], model).registers
    parts = ", ".join(f"{wanted['ymm5'] >> 64 * i & (1 << 64) - 1:#x}" for i in range(4))
    assert f"$1 = {{{parts}}}" in said
    assert f"$2 = {wanted['mxcsr']:#x}" in said
    assert f"thread {pid}: " in said
    assert "layout: this machine's CPUID leaf 0xD" in said
    if model.xcr0 == 7:  # GDB 13 knows this layout
        assert f"$3 = {{{parts}}}" in said


def test_what_is_said_where_there_is_nothing_to_show(script: Path) -> None:
    said = run(script, "info xsave", 'p $xs("zmm0")', arguments=[])
    assert said.count("xsave: there is no thread: load a core or start a process") == 2
    core = script.with_name("no-area")
    core.write_bytes(cores.core(cores.prstatus(5)))
    said = run(script, "info xsave", arguments=["-c", str(core)])
    assert "xsave: at byte" in said or "xsave: the core has no NT_X86_XSTATE note" in said
    core.write_bytes(zen4_core(areas=[ZEN4]))
    said = run(script, 'p $xs("zmm99")', 'p $xs("pkru")', "p $xs(5)", arguments=["-c", str(core)])
    assert "zen4 has no register 'zmm99'; did you mean" in said
    assert "pkru has no place in this area" in said
    assert "name a register as a string" in said
    assert "Python" not in said  # as GDB tells of exceptions that nobody foresaw


def test_a_package_that_cannot_be_imported(script: Path, tmp_path: Path) -> None:
    text = re.sub(r"PATHS = .*", "PATHS = ['/nowhere']", script.read_text())
    text = re.sub(r"BUILT_FOR = .*", "BUILT_FOR = (3, 99)", text)
    broken = tmp_path / "broken.py"
    broken.write_text(text)
    said = cores.gdb(f"source {broken}", "python print('first', sys.path[0])", folder=tmp_path)
    version = ".".join(map(str, sys.version_info[:2]))
    assert (
        "xsaveschema cannot be imported into GDB: ModuleNotFoundError: No module named "
        f"'xsaveschema' (GDB has Python {version}, xsaveschema is installed for 3.99)"
    ) in said
    assert "first /" in said
    assert "first /nowhere" not in said


def test_the_script_names_the_folders_of_the_installed_package() -> None:
    paths = re.search(r"^PATHS = \[(.*)\]$", artefacts.gdb_script(), re.M)
    assert paths
    folders = [Path(text.strip("' ")) for text in paths[1].split(",")]
    assert folders[0] / "xsaveschema" == Path(xs.__file__).parent.resolve()
    assert any((folder / "yaml").is_dir() for folder in folders)


def test_the_script_is_python_of_any_version() -> None:
    """GDB may have an older Python: the script must get far enough to say what is wrong."""
    fake = (
        "import sys, types\n"
        "gdb = types.ModuleType('gdb')\n"
        "gdb.GdbError = RuntimeError\n"
        "sys.modules['gdb'] = gdb\n"
        "exec(sys.stdin.read().replace('PATHS = [', 'PATHS = [] and ['))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", fake],
        input=artefacts.gdb_script(),
        text=True,
        capture_output=True,
    )
    assert "RuntimeError: xsaveschema cannot be imported into GDB: ModuleNotFoundError" in (
        done.stderr
    )


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("\t`/tmp/core', file type elf64-x86-64.", "/tmp/core"),
        ("\t\u2018/tmp/a b, c\u2019, Dateityp elf64-x86-64.", "/tmp/a b, c"),
        ("\t« /tmp/core », de type elf32-i386.", "/tmp/core"),
    ],
)
def test_the_cores_file_in_what_gdb_tells(line: str, path: str) -> None:
    match = module._CORE.search(line)
    assert match
    assert match[1] == path


def test_the_program_is_not_taken_for_the_core(tmp_path: Path) -> None:
    core = tmp_path / "core"
    core.write_bytes(zen4_core())

    class Gdb:
        def execute(self, command: str, to_string: bool) -> str:
            files = (sys.executable, tmp_path / "none", core)
            return "".join(f"\t`{file}', file type elf64-x86-64.\n" for file in files)

    assert module._core_path(Gdb()) == str(core)
    core.unlink()
    with pytest.raises(artefacts.ArtefactError, match="GDB does not tell where the core's file"):
        module._core_path(Gdb())
