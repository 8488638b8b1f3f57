"""What Linux must be asked for, and how buffers grow; frames of a kernel are the judge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from test_laws import MODELS

from xsaveschema import XsaveArea, artefacts, load_model, permission, sigstack
from xsaveschema.errors import MaskError, WrongTypeError

SPR = load_model("sapphire-rapids")
TILEDATA = 1 << 18


def test_amx_is_what_must_be_asked_for() -> None:
    asked = permission(SPR)
    assert asked
    assert (asked.numbers, asked.names) == ((18,), ("tiledata",))
    assert asked.task == ("arch_prctl(ARCH_REQ_XCOMP_PERM, 18)",)
    assert asked.guest == ("arch_prctl(ARCH_REQ_XCOMP_GUEST_PERM, 18)",)
    # CPUID says 11008 for all of XCR0, 2816 up to TILECFG; struct kvm_xsave has 4096.
    assert asked.frame == (2816, 11008)
    assert asked.kvm == (4096, 11008)
    assert asked.regset == 11008
    facts = asked.to_dict()
    assert (facts["task"]["option"], facts["guest"]["option"]) == ("0x1023", "0x1025")
    assert facts["kvm_size"] == {"before": 4096, "after": 11008}


def test_it_is_asked_for_what_is_used() -> None:
    for mask in (0, 7, 0x2E7, 0x202E7):
        asked = permission(SPR, mask)
        assert not asked
        assert asked.frame == (2816, 2816)
        assert asked.kvm == (4096, 4096)
        assert asked.regset == 11008, "a regset has room for it at all times"
    area = XsaveArea.new(SPR)
    assert not permission(area)
    area.registers["tmm0"] = b"\1" * 1024
    assert permission(area).names == ("tiledata",)
    # A system that has not enabled it gives it to nobody.
    assert not permission(SPR.limited(xcr0=0x2E7), TILEDATA)


def test_without_xfd_linux_gives_it_to_nobody() -> None:
    """As a guest is told of AMX whose leaf 0xD.1 hides xfd: fpu__init_system_xstate."""
    hidden = replace(SPR, instructions=SPR.instructions - {"xfd"})
    asked = permission(hidden, TILEDATA)
    assert (bool(asked), asked.regset, asked.frame) == (False, 2816, (2816, 2816))
    assert asked.frame.before == sigstack(hidden).frames[-1].layout.size


def test_most_cpus_have_nothing_to_ask_for() -> None:
    asking = {model.name for model in MODELS if permission(model)}
    assert asking == {model.name for model in MODELS if "tiledata" in model.components}
    zen4 = permission(load_model("zen4"))
    assert (zen4.frame, zen4.kvm, zen4.regset) == ((2440, 2440), (4096, 4096), 2440)


def test_signal_frames_have_these_areas() -> None:
    for model in MODELS:
        if asked := permission(model):
            sizes = {frame.layout.size for frame in sigstack(model).frames_64}
            assert sizes == set(asked.frame), model


def test_arguments() -> None:
    with pytest.raises(WrongTypeError, match="pass a CpuModel"):
        permission("zen4")  # type: ignore[arg-type]
    with pytest.raises(MaskError):
        permission(SPR, -1)


@pytest.mark.shared
def test_a_kernels_frames_grow_as_told(shared: Path) -> None:
    sizes = []
    for name in ("unused", "used"):
        (found,) = artefacts.open(shared / "artefacts" / f"sigframe64-amx-{name}.bin")
        sizes.append(len(found.area))
        assert permission(found.area).names == (("tiledata",) if name == "used" else ())
    assert tuple(sizes) == permission(SPR, TILEDATA).frame
