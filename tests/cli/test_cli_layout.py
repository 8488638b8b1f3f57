"""Where components sit: the table, the picture to scale, masks by number and by name."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from command import fails, run, tell

import xsaveschema as xs
from xsaveschema.area.lines import text_of
from xsaveschema.cli.picture import picture, widths


def test_sapphire_rapids_as_xsaves_writes_it() -> None:
    shown = tell("layout", "sapphire-rapids", "--xcomp-bv", "0x8000000000065ae7")
    assert {key: shown[key] for key in shown if key != "components"} == {
        "model": "sapphire-rapids",
        "format": "compacted",
        "mask": "0x65ae7",
        "size": 10816,
    }
    places = {facts["name"]: facts["offset"] for facts in shown["components"]}
    assert places == {
        "x87": 0,
        "sse": 160,
        "avx": 576,
        "opmask": 832,
        "zmm_hi256": 896,
        "hi16_zmm": 1408,
        "pkru": 2432,
        "cet_u": 2440,
        "cet_s": 2456,
        "uintr": 2480,
        "tilecfg": 2560,
        "tiledata": 2624,
    }
    assert shown["components"][-1] == {
        "number": 18,
        "name": "tiledata",
        "offset": 2624,
        "size": 8192,
        "supervisor": False,
        "align64": True,
    }
    assert shown["components"][7]["supervisor"] is True


def test_standard_is_the_default_and_in_memory_order() -> None:
    shown = tell("layout", "diamond-rapids")
    assert shown["format"] == "standard"
    names = [facts["name"] for facts in shown["components"]]
    # APX has number 19 and stands where MPX once stood.
    assert names.index("apx") < names.index("opmask")
    assert tell("layout", "zen4", "--xcr0", "7")["size"] == 832


@pytest.mark.parametrize(
    ("args", "format", "mask"),
    [
        (["--xss", "0x800"], "compacted", "0xae7"),
        (["--xss", "0"], "compacted", "0x2e7"),
        (["--xcr0", "0x7", "--xss", "0x1800"], "compacted", "0x1807"),
        (["--compacted"], "compacted", "0x1ae7"),
        (["--compacted", "--xcr0", "3"], "compacted", "0x1803"),
        (["--xcomp-bv", "0x20"], "compacted", "0x20"),
        (["--xcomp-bv", "9223372036854775808"], "compacted", "0x0"),
        (["--xcr0", "0xE7", "--xcomp-bv", "0xE4"], "compacted", "0xe4"),
        (["--xcr0", "x87,sse,avx"], "standard", "0x7"),
        (["--xcr0", "pkru, x87,sse,"], "standard", "0x203"),
        (["--xss", "cet_u"], "compacted", "0xae7"),
        (["--xcomp-bv", "opmask"], "compacted", "0x20"),
    ],
)
def test_masks(args: list[str], format: str, mask: str) -> None:
    shown = tell("layout", "zen4", *args)
    assert (shown["format"], shown["mask"]) == (format, mask)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["zen9"], "did you mean"),
        (["zen4", "--xcr0", "0x80005"], "component19"),
        (["zen4", "--xcr0", "0x1807"], "supervisor components"),
        (["zen4", "--xss", "1"], "no supervisor component"),
        (["zen4", "--xcomp-bv", "0x100"], "component8"),
        (["zen4", "--xcr0", "3", "--xcomp-bv", "7"], "avx not in XCR0 0x3"),
        (["zen4", "--xcr0", "seven"], "'seven' is no mask"),
        (["zen4", "--xcr0", "017"], "'017' is no mask"),
        (["zen4", "--xcr0", "0x1_0"], "is no mask"),
        (["zen4", "--xcr0", "-1"], "is no mask"),
        (["zen4", "--xcr0", "0x10000000000000000"], "at most 64 bits"),
        (["zen4", "--xcr0", "99999999999999999999"], "at most 64 bits"),
        (
            ["zen4", "--xcr0", "x87,ssse"],
            "is no mask; 'ssse' is no component; did you",
        ),
        (["zen4", "--xcr0", ""], "'' is no mask"),
        (["zen4", "--xcr0", "x87,0x2"], "is no mask"),
        ([], "CPU"),
    ],
)
def test_wrong_input_and_usage(args: list[str], said: str) -> None:
    # What the shell was told wrongly is usage; what the catalogue or a CPU refuses is input.
    usage = not args or "is no mask" in said or "64 bits" in said
    assert said in fails("layout", *args, code=2 if usage else 1)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", ["zen4", "sapphire-rapids", "penryn", "bulldozer"])
def test_text_fits_the_terminal(name: str, width: int) -> None:
    for args in ([name], [name, "--compacted"]):
        lines = run("layout", *args, COLUMNS=str(width)).stdout.splitlines()
        assert max(map(len, lines)) <= width
        # The picture takes the whole width, and its ruler ends in the size.
        assert len(lines[-2]) == width
        assert lines[-1].split()[-1] == str(tell("layout", *args)["size"])
        assert "\x1b" not in "".join(lines)


def test_text_has_every_component_and_gap() -> None:
    shown = run("layout", "skylake-server").stdout
    rows = [line.split() for line in shown.splitlines()]
    assert ["C", "2", "avx", "576", "0x240", "256", "user"] in rows
    assert ["header", "512", "0x200", "64"] in rows
    assert ["unused", "832", "0x340", "128"] in rows


def test_ascii_where_the_encoding_has_no_more() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "xsaveschema", "layout", "zen4"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=True,
    )
    shown = done.stdout.decode("ascii")
    assert "C avx---" in shown
    assert "?" not in shown
    assert "\\u" not in shown


@pytest.mark.parametrize(
    ("sizes", "cells", "expected"),
    [
        ([100, 100], 10, [5, 5]),
        ([1, 1000], 10, [1, 9]),
        ([8, 8, 8, 8192], 20, [1, 1, 1, 17]),
        ([64, 64, 64], 2, [1, 1, 1]),
        ([], 10, []),
    ],
)
def test_widths(sizes: list[int], cells: int, expected: list[int]) -> None:
    assert widths(sizes, cells) == expected


@pytest.mark.parametrize("name", list(xs.Catalog()))
def test_every_component_is_in_the_picture(name: str) -> None:
    layout = xs.load_model(name).compacted_layout()
    for width in (40, 79, 200):
        lines = picture(layout, width, ascii_only=True, colour=False)
        bar, ruler = text_of(lines).split("\n")
        assert len(bar) == len(ruler) == width
        keys = [cell for cell in bar if cell in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
        assert keys == list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(layout)])
        assert "h" in bar


@pytest.mark.parametrize("how", [(), ("--compacted",)])
def test_fields_are_every_byte_once(how: tuple[str, ...]) -> None:
    told = tell("layout", "zen4", "--fields", *how)
    end = 0
    for span in told["spans"]:
        assert span["offset"] == end
        end += span["size"]
    assert end == told["size"]
    shown = run("layout", "zen4", "--fields", *how).stdout.splitlines()
    assert max(map(len, shown)) <= 80
    rows = [line.split() for line in shown if "mxcsr" in line]
    assert [row[0] for row in rows] == ["24", "28"]
    assert len(shown) == len(told["spans"]) + 4
