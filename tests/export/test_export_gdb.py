"""Target descriptions: loaded by GDB without complaint, and the registers of areas seen by them."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import cores
import export_areas
import pytest
from export_areas import Sample

import xsaveschema as xs
from xsaveschema import export
from xsaveschema.model import CpuModel

EVERY = [model.name for model in xs.Catalog().models()]
STUB = Path(__file__).with_name("gdb_stub.py")
AVX512 = {"opmask", "zmm_hi256", "hi16_zmm"}

pytestmark = pytest.mark.skipif(shutil.which("gdb") is None, reason="there is no gdb")


def written(folder: Path, *cpus: str | CpuModel) -> dict[str, Path]:
    files = export.render("gdb", cpus)
    for name, text in files.items():
        (folder / name).write_text(text)
    return {name.removesuffix(".xml"): folder / name for name in files}


def names_in(path: Path) -> list[tuple[str, int]]:
    """The registers of a description and their sizes in bits, in its order."""
    root = ElementTree.parse(path).getroot()
    return [(reg.attrib["name"], int(reg.attrib["bitsize"])) for reg in root.iter("reg")]


def test_gdb_loads_every_model_without_complaint(tmp_path: Path) -> None:
    files = written(tmp_path, "all")
    assert len(files) == len(EVERY)
    commands = []
    for name, path in files.items():
        commands += [f"echo == {name}\\n", f"set tdesc filename {path}"]
        for register in ("rax", "st0", "mxcsr", "xmm0", "ymm0", "zmm0", "k1", "zmm31", "bnd0"):
            commands += [f"echo {register}:\\n", f"ptype ${register}"]
        for register in ("pkru", "tmm0", "r16", "xmm31"):
            commands += [f"echo {register}:\\n", f"ptype ${register}"]
    said = cores.gdb(*commands, folder=tmp_path)
    assert not re.search("warning|rror|could not|ignor", said, re.IGNORECASE), said[:2000]
    parts = said.split("== ")[1:]
    assert len(parts) == len(files)
    for part in parts:
        name, _, text = part.partition("\n")
        model = xs.load_model(name.replace("_", "-"))
        there = {slot.name for slot in model.standard_layout()}
        found = {
            register
            for register, kind in re.findall(r"^(\w+):\ntype = (\S+)", text, re.MULTILINE)
            if kind != "void"
        }
        wanted = {"rax", "st0", "mxcsr", "xmm0"}
        wanted |= {"ymm0"} if "avx" in there else set()
        wanted |= {"zmm0", "k1", "zmm31", "xmm31"} if there >= AVX512 else set()
        wanted |= {"bnd0"} if "bndregs" in there else set()
        wanted |= {"pkru"} & there
        wanted |= {"tmm0"} if "tiledata" in there else set()
        wanted |= {"r16"} if "apx" in there else set()
        assert found == wanted, name


def test_a_cpu_without_avx512_has_no_mask_registers(tmp_path: Path) -> None:
    files = written(tmp_path, "haswell", "zen4", xs.load_model("skylake-server").limited(xcr0=7))
    names = {cpu: {name for name, _ in names_in(path)} for cpu, path in files.items()}
    assert "k1" in names["zen4"]
    assert not names["haswell"] & {"k1", "zmm0h", "pkru", "bnd0raw"}
    assert names["skylake_server"] == names["haswell"]
    union = cores.gdb(f"set tdesc filename {files['zen4']}", "ptype $xmm1", folder=tmp_path)
    assert re.findall(r" (v\w+|uint128);", union) == [
        *("v8_bfloat16", "v8_half", "v4_float", "v2_double"),
        *("v16_int8", "v8_int16", "v4_int32", "v2_int64", "uint128"),
    ]


# --- registers of areas, by a stub that has them in the description's order ---------------------


def packet(path: Path, registers: dict[str, bytes]) -> str:
    """What GDB asks a stub for: the registers as it has them, in parts."""
    parts = []
    for name, bits in names_in(path):
        parts.append(_part(name, registers).ljust(bits // 8, b"\0"))
        assert len(parts[-1]) == bits // 8, name
    return b"".join(parts).hex()


_RENAMED = {"fctrl": "fcw", "fstat": "fsw"}


def _part(name: str, registers: dict[str, bytes]) -> bytes:
    if found := re.fullmatch(r"([xyz]mm\d+)h", name):
        whole = registers.get(found[1], b"")
        return whole[len(whole) // 2 :]
    if name.endswith("raw"):
        return registers.get(name.removesuffix("raw"), b"")
    return registers.get(_RENAMED.get(name, name), b"")


_VIEWS = {
    "xmm": (".uint128", 16),
    "ymm": (".v2_int128", 16),
    "zmm": (".v4_int128", 16),
    "tmm": (".u8", 1),
    "bnd": ("raw", 8),
}
"""What shows the bits of a register, and the bytes of the numbers that are shown."""


def seen(folder: Path, path: Path, registers: dict[str, bytes], names: list[str]) -> list[bytes]:
    """Registers as GDB shows them, by the description and the stub."""
    (folder / "packet").write_text(packet(path, registers))
    commands = ["set pagination off", "set print elements 0", "set print repeats unlimited"]
    commands += ["set print max-depth unlimited", f"set tdesc filename {path}"]
    commands += [f"target remote | {sys.executable} -I {STUB} {folder / 'packet'}"]
    for name in names:
        view, _ = _VIEWS.get(name[:3], ("", 0))
        # Of ST(i) a number is shown, and its bits beside it.
        show = f"info registers {name}" if name.startswith("st") else f"p/x ${name}{view}"
        commands += [f"echo \\n= {name}\\n", show]
    said = cores.gdb(*commands, "echo \\n= end\\n", folder=folder)
    assert "warning" not in said.lower().replace("warning: no executable", ""), said[:2000]
    found = []
    for name in names:
        shown = re.search(rf"^= {name}\n(.*?)^= ", said, re.MULTILINE | re.DOTALL)
        assert shown is not None, said[-2000:]
        numbers = [int(text, 16) for text in re.findall(r"0x[0-9a-f]+", shown[1])]
        _, width = _VIEWS.get(name[:3], ("", len(registers[name])))
        found.append(b"".join(number.to_bytes(width, "little") for number in numbers))
    return found


def standards() -> Iterator[Sample]:
    """An area of each kind, with everything in use."""
    for name in ("haswell", "zen4", "skylake-server", "sapphire-rapids", "diamond-rapids"):
        model = xs.load_model(name)
        yield next(export_areas.made_up(model))
    for sample in (*export_areas.captured(2), *export_areas.own(1)):
        if export_areas.meaning(sample) is not None:
            yield sample


def test_registers_of_areas(tmp_path: Path) -> None:
    shown = 0
    for sample in standards():
        area = export_areas.meaning(sample)
        assert area is not None
        registers = export_areas.registers(area)
        for name in registers:
            if name.startswith("tmm"):  # whole, whatever TILECFG makes of it
                at = area.layout["tiledata"].offset + 1024 * int(name[3:])
                registers[name] = bytes(area.buffer[at : at + 1024]) * area.in_use("tiledata")
                registers[name] = registers[name].ljust(1024, b"\0")
        path = written(tmp_path, sample.model)[_name(sample.model)]
        there = {name for name, _ in names_in(path)}
        names = [
            name
            for name in registers
            if {name, f"{name}h", f"{name}raw"} & there
            and re.fullmatch(r"([xyzt]mm|k|st|bnd|r)\d+|pkru", name)
        ]
        for name, value in zip(names, seen(tmp_path, path, registers, names), strict=True):
            assert value == registers[name], (sample.name, name)
            shown += 1
    assert shown > 500


def test_control_registers_are_shown_mxcsr_by_its_bits(tmp_path: Path) -> None:
    path = written(tmp_path, "zen4")["zen4"]
    (tmp_path / "packet").write_text(packet(path, {"mxcsr": b"\xa1\x5f\0\0", "fcw": b"\x7f\2"}))
    said = cores.gdb(
        f"set tdesc filename {path}",
        f"target remote | {sys.executable} -I {STUB} {tmp_path / 'packet'}",
        "info registers mxcsr",
        "p/x $fctrl",
        folder=tmp_path,
    )
    assert "= 0x27f\n" in said
    assert "[ IE PE IM DM ZM OM UM PM RC=2 ]" in said


def _name(model: CpuModel) -> str:
    return model.label.replace("-", "_")


def test_what_is_refused() -> None:
    with pytest.raises(xs.XsaveError, match="gdb has no option 'arch'"):
        export.render("gdb", "zen4", arch="i386")
