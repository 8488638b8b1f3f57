"""What output calls a CPU: a label with the count of its equals, and host for the host."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import pytest
from command import fails, run, tell

import xsaveschema as xs
from xsaveschema.cpuid import CpuidRecord
from xsaveschema.errors import XsaveError
from xsaveschema.identify import identify, named
from xsaveschema.identify.match import alike
from xsaveschema.layout import under

CRIU = Path(__file__).parents[1] / "data" / "artefacts" / "criu-3.17.1-core.img"


def area_of(model: xs.CpuModel, mask: int) -> bytes:
    """A standard area with the kernel's mask at byte 464 and what the mask has in use."""
    data = bytearray(xs.XsaveArea.new(under(model, mask)).buffer)
    struct.pack_into("<Q", data, 464, mask)
    struct.pack_into("<Q", data, 512, mask)
    struct.pack_into("<I", data, 28, model.mxcsr_mask)
    return bytes(data)


@pytest.fixture
def alien(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine is a guest: Sapphire Rapids' layout without AMX, and nobody's signature."""

    def no_xgetbv() -> int:
        raise XsaveError("not here")

    leaf = xs.load_model("sapphire-rapids").cpuid_leaf_0xd(xcr0=0xE7, xss=0)
    record = CpuidRecord("GenuineIntel", 0x000F06F0, leaf)
    monkeypatch.setattr(named, "host", lambda: record)
    monkeypatch.setattr(named, "xgetbv", no_xgetbv)


@pytest.mark.parametrize(
    ("name", "mask", "label"),
    [
        ("ice-lake-server", 0x2E7, "ice-lake-server"),
        ("ice-lake-server", 0xE7, "ice-lake-server"),  # not Knights Landing, whose XCR0 it is
        ("sapphire-rapids", 0x602E7, "sapphire-rapids"),
        ("emerald-rapids", 0x602E7, "sapphire-rapids"),
        ("zen3", 0x207, "zen3"),
        ("zen4", 0x2E7, "zen4"),
        ("zen3", 7, "zen"),  # not Dhyana
        ("skylake-server", 7, "haswell"),
    ],
)
def test_among_equals_the_one_that_people_expect_is_named(
    tmp_path: Path, name: str, mask: int, label: str
) -> None:
    path = tmp_path / "area"
    path.write_bytes(area_of(xs.load_model(name), mask))
    (found,) = tell("decode", str(path))["areas"]
    assert found["model"] == label
    layout = under(xs.load_model(name), mask).standard_layout(mask)
    others = alike(layout)
    assert found["others"] == others
    many = f"{others} other{'s' * (others > 1)}"
    said = f"model      {label}, or {many} laid out alike"
    assert said in run("decode", str(path)).stdout


def test_a_model_of_popularity_0_is_named_where_no_other_fits(tmp_path: Path) -> None:
    text = "title: t\nvendor: GenuineIntel\nconfirmed: false\nsource: made up\n"
    for name, more in (("aaa", "popularity: 0\n"), ("bbb", "popularity: 1\n"), ("ccc", "")):
        (tmp_path / f"{name}.yaml").write_text(f"model: {name}\n{more}{text}")
    catalog = xs.Catalog(tmp_path, shipped=False)
    match = identify(bytes(576), catalog=catalog)
    assert [candidate.model for candidate in match.candidates] == ["ccc", "bbb", "aaa"]


def test_an_area_that_was_put_together_names_a_class(tmp_path: Path) -> None:
    (found,) = tell("decode", str(CRIU))["areas"]
    assert found["model"] == "zen"
    assert found["others"] > 10
    assert f"zen, or {found['others']} others laid out alike" in run("decode", str(CRIU)).stdout
    assert "others" not in tell("decode", str(CRIU), "--model", "zen2")["areas"][0]


@pytest.mark.usefixtures("alien")
def test_the_host_is_called_host() -> None:
    model = xs.load_model("host")
    assert (model.name, model.label, model.host) == ("ice-lake-server", "host", True)
    others = alike(model.standard_layout())
    first = run("layout", "host").stdout.splitlines()[0]
    assert first == f"host, laid out as ice-lake-server or {others} others"
    told = tell("layout", "host")
    assert [told[key] for key in ("model", "laid_out_as", "others")] == [
        *("host", "ice-lake-server", others)
    ]
    assert "others" not in tell("layout", "ice-lake-server")
    assert tell("compare", "zen4", "host", code=1)["b"] == "host"
    text = run("compare", "zen4", "host", code=1).stdout
    assert text.startswith("zen4 -> host: lost: pkru")
    assert "ice-lake" not in text
    text = run("check", "sample:zen4-xsavec", "--cpu", "host", code=1).stdout
    assert text.startswith("XRSTOR on host (XCR0 0xE7) refuses this area")
    said = fails("layout", "host", "--xcr0", "0x100000")
    assert "on host" in said
    assert "ice-lake" not in said


@pytest.mark.usefixtures("alien")
def test_another_process_may_be_another_machine() -> None:
    model = pickle.loads(pickle.dumps(xs.load_model("host")))
    assert (model.label, model.xcr0) == ("ice-lake-server", 0xE7)


def test_identify_shows_the_masks_as_they_stand() -> None:
    assert "XSTATE_BV 0xE7, XCOMP_BV 0x4" in run("identify", "sample:zen4-bad-header").stdout
