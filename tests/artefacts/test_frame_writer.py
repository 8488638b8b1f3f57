"""Frames from areas: read again, judged as sigreturn does, and held to the kernel's own ones."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, get_args

import pytest
from artefact_areas import FRAME, one
from command import fails, run

import xsaveschema as xs
from xsaveschema import artefacts
from xsaveschema.errors import MaskError, StateLossError, WrongTypeError
from xsaveschema.model import Format

MODELS = ["penryn", "haswell", "skylake", "zen2", "zen4", "sapphire-rapids", "diamond-rapids"]


def test_a_kernels_frame_is_built_again_as_it_was() -> None:
    """From the area without its words."""
    zen4 = xs.load_model("zen4").limited(0xE7)
    area = xs.XsaveArea.parse(FRAME[:464] + bytes(48) + FRAME[512:2432], zen4)
    assert artefacts.build_frame(area) == FRAME[:2436]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("format", get_args(Format))
def test_a_frame_holds_the_area(name: str, format: Format) -> None:
    model = xs.load_model(name)
    area = xs.XsaveArea.new(model, format)
    area.registers["mxcsr"] = 0x9FC0
    area.registers["xmm5"] = 1 << 100
    frame = artefacts.build_frame(area)
    assert artefacts.check_frame(frame, model) == []
    words = struct.unpack_from("<IIQI", frame, 464)
    size = model.standard_layout().size
    assert words == (0x46505853, size + 4, model.xcr0, size)
    assert len(frame) == size + 4
    found = one(frame, name)
    assert found.label == "signal frame (64-bit)"
    # Linux has x87 and SSE in use in every frame.
    assert {d.kind for d in xs.diff(bytes(found.area), bytes(area), model)} <= {"in-use"}


def test_state_without_a_place_is_lost_only_if_that_is_said() -> None:
    spr = xs.load_model("spr")
    area = xs.XsaveArea.parse(xs.samples.read("amx-xsavec"), spr)
    with pytest.raises(StateLossError, match="tiledata"):
        artefacts.build_frame(area, xcr0=0x202E7)
    frame = artefacts.build_frame(area, xcr0=0x202E7, drop=["tiledata"])
    assert len(frame) == 2820
    assert artefacts.check_frame(frame, spr, xfd=1 << 18) == []


def test_what_is_asked_wrongly() -> None:
    area = xs.XsaveArea.new(xs.load_model("zen4"))
    with pytest.raises(MaskError, match="x87 and SSE"):
        artefacts.build_frame(area, xcr0=4)
    wrong: Any = FRAME
    with pytest.raises(WrongTypeError, match="XsaveArea"):
        artefacts.build_frame(wrong)


def test_the_command(tmp_path: Path) -> None:
    out = tmp_path / "frame"
    done = run(
        "convert", "sample:amx-xsavec", "--model", "spr", "--format", "frame", "-o", str(out)
    )
    assert "11008 bytes, XSTATE_BV 0x600E7" in done.stderr
    spr = xs.load_model("spr")
    area = xs.XsaveArea.parse(xs.samples.read("amx-xsavec"), spr)
    assert out.read_bytes() == artefacts.build_frame(area)
    run("check", str(out), "--target", "sigreturn")
    said = fails(
        "convert", "sample:zen4-xsave", "--model", "zen4", "--format", "frame", "--as-qemu",
        "-o", str(out), code=2,
    )  # fmt: skip
    assert "--format frame goes with neither" in said
