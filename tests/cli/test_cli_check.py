"""``check`` for those who move guests: what their restore would say, in one command."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import fails, run, tell

from xsaveschema import XsaveArea, load_model

SPR = load_model("sapphire-rapids")


def guest(tmp_path: Path, area: XsaveArea, size: int | None = None) -> str:
    path = tmp_path / "area.bin"
    data = bytes(area)
    path.write_bytes(data if size is None else data[:size].ljust(size, b"\0"))
    return str(path)


def rules(*args: str, code: int = 1) -> list[str]:
    return [fault["rule"] for fault in tell("check", *args, code=code)["faults"]]


@pytest.fixture(name="tiles")
def _tiles() -> XsaveArea:
    area = XsaveArea.new(SPR)
    area.registers["tmm0"] = b"\1" * 1024
    return area


def test_a_guest_whose_ia32_xss_was_not_saved(tmp_path: Path) -> None:
    """Its kernel's XRSTORS is #GP: XCOMP_BV has what IA32_XSS lacks."""
    area = XsaveArea.new(load_model("zen4"), "compacted", xcomp_bv=0xAE7)
    path = guest(tmp_path, area)
    args = (path, "--model", "zen4", "--target", "xrstors")
    assert rules(*args, "--xss", "cet_u", code=0) == []
    assert rules(*args, "--xss", "0") == ["xcomp-bv-xcr0"]
    said = tell("check", *args, "--xss", "0", code=1)["faults"][0]["message"]
    assert said == "XCOMP_BV has cet_u, outside the enabled 0x2E7"


def test_kvms_area_has_no_supervisor_state(tmp_path: Path) -> None:
    path = guest(tmp_path, XsaveArea.new(load_model("zen4")), 4096)
    args = ("check", path, "--model", "zen4", "--target", "kvm", "--xss", "cet_u")
    assert "IA32_XSS 0x800, and the state of what it has, are no part of KVM's" in run(*args).stderr
    (note,) = tell(*args)["notes"]
    assert "KVM_SET_MSRS" in note["message"]
    assert tell(*args[:-2])["notes"] == []
    assert tell(*args[:-1], "0")["notes"] == []


def test_an_amx_guest_in_struct_kvm_xsave(tmp_path: Path, tiles: XsaveArea) -> None:
    """KVM_GET_XSAVE's 4096 bytes cannot hold tiles; what was cut to them is refused."""
    args = ("--model", "spr", "--target", "kvm")
    path = guest(tmp_path, tiles, 4096)
    assert rules(path, *args) == ["linux-size"]
    path = guest(tmp_path, tiles)
    (note,) = tell("check", path, *args)["notes"]
    assert note["component"] == "tiledata"
    assert "ARCH_REQ_XCOMP_GUEST_PERM, 18" in note["message"]
    assert rules(path, *args, "--xfd", "tiledata") == ["linux-dynamic"]


def test_a_guest_on_a_host_without_its_components(tmp_path: Path, tiles: XsaveArea) -> None:
    path = guest(tmp_path, tiles)
    args = ("--model", "spr", "--cpu", "ice-lake-server", "--target", "kvm")
    assert rules(path, *args) == ["linux-xstate-bv"]


def test_a_task_on_a_host_with_a_longer_area(tmp_path: Path) -> None:
    """A program that keeps 4096 bytes for ptrace's register set gets EFAULT on a CPU with AMX."""
    path = guest(tmp_path, XsaveArea.new(load_model("ice-lake-server")), 4096)
    args = ("--model", "ice-lake-server", "--target", "ptrace")
    assert rules(path, *args, code=0) == []
    found = tell("check", path, *args, "--cpu", "spr", code=1)["faults"]
    assert [fault["message"] for fault in found] == ["4096 bytes, 11008 are needed"]


@pytest.mark.parametrize("target", ["ptrace", "kvm"])
def test_the_kernel_takes_no_instructions_mask(target: str) -> None:
    words = "check", "sample:zen4-xsave", "--target", target, "--rfbm", "0"
    assert "--rfbm is an instruction's" in fails(*words, code=2)
