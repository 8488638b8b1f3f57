"""`info xsave`, `xsave set` and `$xsave()` in a real GDB, from the one file alone."""

from __future__ import annotations

import re
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import cores
import pytest
from artefact_areas import REGISTERS, ZEN4, host_areas, intel_area, zen4_core
from command import run

import xsaveschema as xs
from xsaveschema.artefacts.elf_notes import is_core
from xsaveschema.debuggers import gdb as module
from xsaveschema.debuggers import script
from xsaveschema.debuggers.tables import tables

WITHOUT_PACKAGE = "python import importlib.util as u; print('package', u.find_spec('xsaveschema'))"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file; the tests are skipped where GDB has no Python."""
    folder = tmp_path_factory.mktemp("gdb")
    path = folder / "xsave.py"
    path.write_text(script("gdb", "1.2"))
    said = cores.gdb(WITHOUT_PACKAGE, folder=folder)
    if "package" not in said:
        pytest.skip(f"GDB has no Python: {said.strip()[:60]}")
    assert "package None" in said
    return path


def ask(file: Path, *commands: str, arguments: list[str]) -> str:
    """What commands print, errors behind the rest."""
    said = cores.gdb(f"source {file}", *commands, folder=file.parent, arguments=arguments)
    assert "Python Exception" not in said, said
    return said


def answers(file: Path, *commands: str, core: bytes) -> list[str]:
    """The answer to each command about a core, or else the error."""
    path = file.with_name("core")
    path.write_bytes(core)
    found = []
    for command in commands:
        told = [f"source {file}", "echo ----\\n", command]
        arguments = ["-c", str(path)]
        said, error = cores.gdb_apart(*told, folder=file.parent, arguments=arguments)
        assert "Python" not in error, error  # as GDB tells of exceptions that nobody foresaw
        found.append(said.partition("----\n")[2].strip("\n") or error.strip().split("\n")[-1])
    return found


def decoded(core: bytes, tmp_path: Path, *options: str) -> str:
    """What decode prints of a core of one thread, without what names file and model."""
    path = tmp_path / "core"
    path.write_bytes(core)
    lines = run("decode", str(path), *options, COLUMNS="80").stdout.strip("\n").splitlines()
    return "\n".join(line for line in lines if not line.startswith((str(path), "  model ")))


def amx_core(**fields: int) -> bytes:
    area = intel_area(11008, 0x602E7)
    area[2752:2816] = bytes(64)
    area[2752] = fields.get("palette", 1)
    for tile in range(3):
        struct.pack_into("<H", area, 2752 + 16 + 2 * tile, fields.get("colsb", 32))
        area[2752 + 48 + tile] = 4
    area[2816:] = bytes(at // 64 & 1 for at in range(8192))
    return cores.core(cores.threads([bytes(area)]))


def mpx_core() -> bytes:
    return cores.core(cores.threads([bytes(intel_area(2696, 0x2FF))]))


CORES = {
    "note": zen4_core(),
    "mask": zen4_core(layout=False),
    "amx": amx_core(),
    "illegal": amx_core(palette=2),
    "mpx": mpx_core(),
    "avx": cores.core(cores.threads([bytes(intel_area(832, 7))])),
}
"""Cores of one thread: their layout is told, or follows from the mask and the size."""


class TestTheSameAsDecode:
    @pytest.mark.parametrize("core", CORES.values(), ids=CORES)
    @pytest.mark.parametrize("options", ["", "--as f32", "--all", "--as bf16 --all"])
    def test_a_whole_area(self, core: bytes, options: str, file: Path, tmp_path: Path) -> None:
        (said,) = answers(file, f"info xsave {options}", core=core)
        title, _, rest = said.partition("\n")
        assert title == "thread 100"
        assert rest == decoded(core, tmp_path, *options.split())

    @pytest.mark.parametrize("words", ["zmm", "k1,zmm31 mxcsr", "st mm", "zmm3 --as i16"])
    def test_registers(self, words: str, file: Path, tmp_path: Path) -> None:
        names, _, options = words.partition(" --")
        given = ["--registers", names.replace(" ", ",")]
        wanted = decoded(CORES["note"], tmp_path, *given, *(f"--{options}".split() * bool(options)))
        assert answers(file, f"info xsave {words}", core=CORES["note"]) == [wanted.strip("\n")]

    def test_a_core_by_the_kernel(self, file: Path, tmp_path: Path) -> None:
        _, areas = host_areas(1)
        with cores.loaded(areas, tmp_path, crash=True):
            core = cores.kernel_core(tmp_path).read_bytes()
        (said,) = answers(file, "info xsave", core=core)
        assert said.partition("\n")[2] == decoded(core, tmp_path)


class TestValues:
    def values(self, file: Path, *calls: str, core: bytes = CORES["note"]) -> list[str]:
        return answers(file, *(f"p/x $xsave({call})" for call in calls), core=core)

    def test_integers_and_lanes(self, file: Path) -> None:
        zmm17 = REGISTERS[64 * 17 : 64 * 18]
        area = xs.XsaveArea.parse(ZEN4, xs.load_model("zen4"))
        lanes = {"u64": "<8Q", "u32": "<16I", "u16": "<32H", "u8": "<64B"}
        calls = ['"zmm17"', *(f'"zmm17", "{type}"' for type in lanes), '"k1"', '"mxcsr"', '"xmm3"']
        said = self.values(file, *calls)
        for text, code in zip(said, ["<8Q", *lanes.values()], strict=False):
            assert numbers(text) == list(struct.unpack(code, zmm17)), text
        k1 = int.from_bytes(REGISTERS[2056:2064], "little")
        assert said[5:7] == [f"$1 = {k1:#x}", f"$1 = {area.registers['mxcsr']:#x}"]
        assert numbers(said[7]) == list(area.registers.lanes("xmm3", "u64"))

    def test_floating_point(self, file: Path) -> None:
        area = xs.XsaveArea.new(xs.load_model("zen4"))
        area.registers.set_lanes("zmm3", "f32", [index + 0.5 for index in range(16)])
        area.registers.set_lanes("zmm4", "f64", [-1.25] * 8)
        area.registers.set_lanes("zmm5", "f16", [index + 0.5 for index in range(32)])
        area.registers["st2"] = 0xC000_C000_0000_0000_0000
        core = zen4_core(areas=[with_mask(area)])
        calls = ['"zmm3", "f32"', '"zmm4", "f64"', '"zmm5", "f16"', '"st2"', '"zmm3", "f32"']
        said = answers(file, *(f"p $xsave({call})" for call in calls[:4]), core=core)
        assert said[0] == "$1 = {" + ", ".join(f"{index}.5" for index in range(16)) + "}"
        assert said[1] == "$1 = {-1.25, -1.25, -1.25, -1.25, -1.25, -1.25, -1.25, -1.25}"
        if "has no type for f16" not in said[2]:
            assert said[2] == "$1 = {" + ", ".join(f"{index}.5" for index in range(32)) + "}"
        assert said[3] == "$1 = -3"
        assert answers(file, 'p $xsave("zmm3", "f32")[2] * 2', core=core) == ["$1 = 5"]
        other = answers(file, 'with language go -- p $xsave("zmm3", "f32")', core=core)
        assert "0.5, 1.5, 2.5" in other[0]

    def test_tiles_are_matrices(self, file: Path) -> None:
        rows = ", ".join("{" + ", ".join([value] * 8) + "}" for value in ("0x0", "0x1010101") * 2)
        said = self.values(file, '"tmm1", "u32"', '"tmm5"', core=CORES["amx"])
        assert said[0] == f"$1 = {{{rows}}}"
        assert said[1] == "xsave: tmm5 has no rows: TILECFG"
        odd = self.values(file, '"tmm1", "u32"', core=amx_core(colsb=30))
        assert odd == ["xsave: lanes of u32 have 4 bytes, which do not divide 30"]


def numbers(text: str) -> list[int]:
    """The lanes of a value, where GDB tells equal neighbours once."""
    found = []
    for number, often in re.findall(r"(0x[0-9a-f]+)(?: <repeats (\d+) times>)?", text):
        found += [int(number, 16)] * int(often or 1)
    return found


def with_mask(area: xs.XsaveArea) -> bytes:
    data = bytearray(bytes(area))
    struct.pack_into("<Q", data, 464, 0xE7)
    return bytes(data[:2432])


class TestALiveProcess:
    def test_what_decode_shows(self, file: Path, tmp_path: Path) -> None:
        _, areas = host_areas(2)
        with cores.loaded(areas, tmp_path) as program:
            pid = program.process.pid
            wanted = run("decode", f"pid:{pid}", "--area", str(pid), COLUMNS="80").stdout
            said = ask(file, "info xsave", arguments=["-p", str(pid)])
            assert program.process.poll() is None
        assert f"thread {pid}\n  layout     this machine's CPUID leaf 0xD\n" in said
        said, wanted = (text[text.index("  enabled") :] for text in (said, wanted))
        assert said.partition("[Inferior")[0].strip() == wanted.strip()

    def test_registers_are_written(self, file: Path, tmp_path: Path) -> None:
        model, areas = host_areas(1)
        lanes = [1.0, 2.5, -0.0, float("inf")]
        with cores.loaded(areas, tmp_path) as program:
            pid = program.process.pid
            said = ask(
                file,
                "p $xmm3.v4_float",  # GDB has them in its cache now
                "xsave set xmm3 f32 1.0 2.5 -0.0 inf",
                "p $xmm3.v4_float",
                "p $mxcsr",
                "xsave set mxcsr 0x1f80",
                "p/x $mxcsr",
                "xsave set st0 f80 1.5",
                "p $st0",
                "xsave set xmm4 hex:000102030405060708090a0b0c0d0e0f",
                arguments=["-p", str(pid)],
            )
            written = next(xs.artefacts.open(f"pid:{pid}")).area.registers
            assert written.lanes("xmm3", "f32") == tuple(lanes)
            assert written["mxcsr"] == 0x1F80
            assert written["xmm4"].to_bytes(16, "little") == bytes(range(16))
            # All else is as it was.
            before = xs.XsaveArea.parse(areas[0], model).registers
            assert written["ymm3"] >> 128 == before["ymm3"] >> 128
            assert written["ymm5"] == before["ymm5"]
        assert "= {1, 2.5, -0, inf}" in said
        assert "= 0x1f80" in said
        assert "$5 = 1.5" in said or "= 1.5" in said

    @pytest.mark.parametrize(
        ("words", "why"),
        [
            ("mxcsr 0xffffffff", "the kernel refuses this value of mxcsr: Invalid argument"),
            ("mxcsr 0x1ffffffff", "mxcsr has 32 bits"),
            ("xmm3 f32 1 2 3", "takes 4 lanes of f32, not 3"),
            ("xmm3 f32 1 2 3 x", "f32 takes a number, not 'x'"),
            ("xmm3 hex:0011", "xmm3 has 16 bytes here, not 2"),
            ("xmm3 f99 1", "f99 1 is no value"),
            ("st0 f32 1.5", "st0 is one 80-bit floating-point number: it has no lanes"),
            ("xmm3 f80 1.5", "there is no type 'f80'"),
            ("xmm3", "say a register, the type of its lanes, and all of them"),
            ("xmm99 5", "xmm99 has no place in this area"),
            ("x\u202e 5", "x\\u202e has no place in this area"),
        ],
    )
    def test_what_is_refused(self, words: str, why: str, file: Path, tmp_path: Path) -> None:
        _, areas = host_areas(1)
        with cores.loaded(areas, tmp_path) as program:
            pid = program.process.pid
            said = ask(file, f"xsave set {words}", arguments=["-p", str(pid)])
            after = next(xs.artefacts.open(f"pid:{pid}")).area.registers
            before = xs.XsaveArea.parse(areas[0]).registers if len(areas[0]) > 832 else after
            assert after["xmm3"] == before["xmm3"]
        assert f"xsave: {why}" in said

    def test_what_gdb_may_not_write_is_not_written(self, file: Path, tmp_path: Path) -> None:
        _, areas = host_areas(1)
        with cores.loaded(areas, tmp_path) as program:
            arguments = ["-iex", "set may-write-registers off", "-p", str(program.process.pid)]
            said = ask(file, "xsave set mxcsr 0x1f80", arguments=arguments)
        assert "xsave: GDB may not write registers" in said

    def test_the_past_is_not_taken_for_the_present(self, file: Path, tmp_path: Path) -> None:
        _, areas = host_areas(1)
        with cores.loaded(areas, tmp_path) as program:
            said = ask(
                file, "record full", "info xsave", arguments=["-p", str(program.process.pid)]
            )
        assert re.search("xsave: the target is [a-z-]+: only cores and processes that", said)


def test_the_current_thread(file: Path) -> None:
    other = bytearray(ZEN4)
    other[840:848] = bytes(range(1, 9))
    core = file.with_name("two")
    core.write_bytes(zen4_core(areas=[ZEN4, bytes(other)]))
    k1 = {100: int.from_bytes(ZEN4[840:848], "little"), 101: 0x0807060504030201}
    commands = ["thread 2", 'p/x $xsave("k1")', "thread 1", 'p/x $xsave("k1")']
    said = ask(file, *commands, arguments=["-c", str(core)])
    threads = [int(lwp) for lwp in re.findall(r"Switching to thread \d .LWP (\d+)", said)]
    assert sorted(threads) == [100, 101]
    assert f"$1 = {k1[threads[0]]:#x}" in said
    assert f"$2 = {k1[threads[1]]:#x}" in said


def bare(area: bytes, *more: bytes) -> bytes:
    return cores.core(cores.threads([area]), *more)


def changed(area: bytes, at: int, word: int) -> bytes:
    data = bytearray(area)
    struct.pack_into("<Q", data, at, word)
    return bytes(data)


NO_LAYOUT = cores.layout_note([(2, 256, 500)])
AVX = bytes(intel_area(832, 7))


class TestRefused:
    """Right or refused: each with the reason."""

    @pytest.mark.parametrize(
        ("core", "why"),
        [
            (cores.core(cores.prstatus(5)), "the core has no NT_X86_XSTATE note of thread 5"),
            (bare(bytes(intel_area(2700, 0x2E7))), "2700 bytes under XCR0 mask 0x2E7 at byte 464"),
            (bare(changed(bytes(intel_area()), 464, 0)), "nothing in the area says how it is laid"),
            (bare(changed(ZEN4, 520, 1 << 63)), "XCOMP_BV is 0x8000000000000000: compacted"),
            (bare(ZEN4, NO_LAYOUT), "NT_X86_XSAVE_LAYOUT: component 2 at [0x1f4..0x2f4) lies"),
            (zen4_core(areas=[changed(ZEN4, 512, 0x2E7)]), "XSTATE_BV 0x2E7 has pkru"),
            (zen4_core(areas=[ZEN4[:2000]]), "the area ends at 2000, but hi16_zmm at 2432"),
            (bare(ZEN4[:500]), "the area ends at 500, within the XSAVE header"),
        ],
        ids=range(8),
    )  # fmt: skip
    def test_a_core(self, core: bytes, why: str, file: Path) -> None:
        (said,) = answers(file, "info xsave", core=core)
        assert said.startswith(f"xsave: {why}") or f": {why}" in said

    def test_no_thread(self, file: Path) -> None:
        said = ask(file, "info xsave", 'p $xsave("zmm0")', arguments=[])
        assert said.count("xsave: there is no thread: load a core or start a process") == 2

    @pytest.mark.parametrize(
        ("command", "why"),
        [
            ("info xsave pkru", "xsave: pkru has no place in this area"),
            ("info xsave zmm99", "xsave: zmm99 has no place in this area"),
            ("info xsave --as f99", "xsave: there is no type 'f99'; types: f16"),
            ("info xsave --as", "xsave: --as needs a value"),
            ("info xsave --ass=f32", "xsave: there is no option --ass=f32: --all --as --model"),
            ("info xsave mxcsr --as f32", "--as is for vectors and tiles, and mxcsr is none"),
            ("info xsave --model zen9", "xsave: there is no model 'zen9'"),
            ("info xsave --model skylake-server", "LAYOUT is not skylake-server's layout"),
            ("xsave set k1 5", "xsave: a core cannot be written to"),
            ("p $xsave(5)", 'name a register as a string: $xsave("zmm17")'),
            ('p $xsave("zmm3", "f80")', "xsave: there is no type 'f80'"),
        ],
    )  # fmt: skip
    def test_words(self, command: str, why: str, file: Path) -> None:
        assert why in answers(file, command, core=CORES["note"])[0]

    def test_a_cpu_that_is_named(self, file: Path, tmp_path: Path) -> None:
        core = bare(changed(bytes(intel_area(2696, 0xE7))[:2688], 464, 0))
        given = ["--registers", "k1,zmm20", "--model", "ice-lake-server"]
        said = answers(file, "info xsave k1 zmm20 --model ice-lake-server", core=core)
        assert said == [decoded(core, tmp_path, *given)]


def test_names_of_other_scripts_are_left_alone(file: Path) -> None:
    """GDB runs all scripts in one namespace."""
    said = cores.gdb(
        "python before = {*globals()}",
        f"source {file}",
        "python print('more', {*globals()} - before - {'before'})",
        folder=file.parent,
    )
    assert "more set()" in said


def test_help_is_set_as_text(file: Path) -> None:
    said = ask(file, "help info xsave", "help xsave set", "help function xsave", arguments=[])
    assert "\nUsage: info xsave [NAME...] [--as TYPE]" in said
    assert not re.search(r"^ +\S", said, re.M)


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
    assert is_core(str(core))
    assert not is_core(sys.executable)
    assert not is_core(str(tmp_path / "none"))


def test_the_command_writes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "xsave.py"
    assert run("debugger", "gdb", "-o", str(path)).stdout == ""
    assert path.read_text() == script("gdb", xs.__version__) == run("debugger", "gdb").stdout
    own = "model: mine\ntitle: Mine\nextends: zen4\nconfirmed: false\nsource: a guess\n"
    (tmp_path / "mine.yaml").write_text(own)
    assert "'mine'" not in path.read_text()
    assert "'mine'" in run("debugger", "gdb", "--schemas", str(tmp_path / "mine.yaml")).stdout
    assert "xsaveschema: error: " in run("debugger", "windbg", code=2).stderr


class OldGdb:
    """GDB before 11: what it lacks that later ones have."""

    class error(Exception):  # noqa: N801, N818 - as GDB has it
        pass

    def __init__(self) -> None:
        self.done: list[str] = []

    def selected_thread(self) -> SimpleNamespace:
        inferior = SimpleNamespace(architecture=SimpleNamespace)
        return SimpleNamespace(ptid=(5, 6, 0), inferior=inferior)

    def execute(self, command: str, to_string: bool) -> str:
        if command.startswith("maint flush"):
            raise self.error
        self.done.append(command)
        return ""

    def lookup_type(self, name: str) -> str:
        return name


def test_gdb_before_11() -> None:
    gdb = OldGdb()
    old = module.Debugger(gdb, tables(xs.Catalog()))
    old._flush()
    assert gdb.done == ["flushregs"]
    assert [old._type(name) for name in ("u8", "i16", "u32", "i64")] == [
        "unsigned char",
        "signed short",
        "unsigned int",
        "signed long",
    ]
