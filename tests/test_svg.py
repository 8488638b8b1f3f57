"""Pictures: well-formed, to scale, every byte once, and nothing of a file's in them but text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from command import fails, run

import xsaveschema as xs
from xsaveschema import samples
from xsaveschema.diff import byte_differences
from xsaveschema.layout import Layout
from xsaveschema.model import CpuModel
from xsaveschema.svg import PALETTE, area_svg, comparison_svg, diff_svg, layout_svg

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "]]><script>alert(1)</script> & \"'\x07\x1b[0m \u202e<!--"
LAYOUTS = [
    pytest.param(layout, id=f"{layout.model.name}-{layout.format}")
    for name in ("penryn", "zen3", "bulldozer", "sapphire-rapids", "diamond-rapids")
    for model in [xs.load_model(name)]
    for layout in (model.standard_layout(), model.compacted_layout())
]


def parsed(picture: str) -> ElementTree.Element:
    root = ElementTree.fromstring(picture)
    assert root.tag == f"{SVG}svg"
    assert {each.tag.removeprefix(SVG) for each in root.iter()} <= {
        *("svg", "title", "style", "defs", "pattern", "path", "rect", "text", "polygon")
    }
    return root


def bytes_of(root: ElementTree.Element) -> list[ElementTree.Element]:
    return [each for each in root.iter(f"{SVG}rect") if "data-offset" in each.attrib]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_rectangles_are_the_map_to_scale(layout: Layout) -> None:
    at = 0
    kinds = {span.offset: span.kind for span in layout.spans()}
    found = bytes_of(parsed(layout_svg(layout)))
    for rectangle in found:
        offset, size = (int(rectangle.attrib[f"data-{name}"]) for name in ("offset", "size"))
        assert offset == at
        assert float(rectangle.attrib["x"]) == pytest.approx(52 + offset % 1024 * 0.875)
        assert float(rectangle.attrib["width"]) == pytest.approx(size * 0.875, rel=1e-4)
        assert rectangle.attrib["data-kind"] == kinds.get(offset, rectangle.attrib["data-kind"])
        at += size
    assert at == layout.size
    assert len(found) >= len(layout.spans())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_title_says_what_a_byte_is(layout: Layout) -> None:
    titles = {
        int(each.attrib["data-offset"]): each[0].text
        for each in bytes_of(parsed(layout_svg(layout)))
    }
    assert titles[0] == "0..1: x87.fcw, 2 bytes; alive with XSTATE_BV[0]; initially 0x37f"
    assert titles[512] == "512..519: header.xstate_bv, 8 bytes"
    mxcsr = "always alive" if layout.format == "standard" else "alive with XSTATE_BV[1]"
    assert titles[24] == f"24..27: sse.mxcsr, 4 bytes; {mxcsr}; initially 0x1f80"


def test_gaps_and_padding_are_told_apart() -> None:
    model = xs.load_model("sapphire-rapids")
    pictures = [layout_svg(model.standard_layout()), layout_svg(model.compacted_layout())]
    kinds = [{each.attrib["data-kind"] for each in bytes_of(parsed(p))} for p in pictures]
    assert "gap" in kinds[0]
    assert "padding" not in kinds[0]
    assert "padding" in kinds[1]
    assert "gap" not in kinds[1]


def hostile(model: CpuModel) -> CpuModel:
    components = {
        name: replace(each, name=HOSTILE if name == "pkru" else name)
        for name, each in model.components.items()
    }
    return replace(model, name=HOSTILE, title=HOSTILE, components=components)


def test_what_is_in_a_file_is_text() -> None:
    model = hostile(xs.load_model("zen3"))
    area = xs.XsaveArea.new(model)
    deltas = xs.diff(area, xs.XsaveArea.new(xs.load_model("zen4")))
    for picture in (
        layout_svg(model.standard_layout()),
        area_svg(area),
        comparison_svg(xs.compare(model, model)),
        diff_svg(deltas, area, area),
    ):
        root = parsed(picture)
        assert any("<script>" in (each.text or "") for each in root.iter(f"{SVG}text"))
        assert "\x1b" not in picture
        assert "\u202e" not in picture


def test_what_is_not_in_use_is_pale() -> None:
    area = xs.XsaveArea.new(xs.load_model("zen4"))
    area.registers["ymm3"] = 1 << 200
    rectangles = {
        int(each.attrib["data-offset"]): float(each.attrib.get("fill-opacity", 1))
        for each in bytes_of(parsed(area_svg(area)))
    }
    assert area.in_use("avx")
    assert rectangles[576] > 0.7
    assert rectangles[area.layout["pkru"].offset] < 0.4


def test_a_comparison_shows_what_is_lost() -> None:
    root = parsed(comparison_svg(xs.compare(xs.load_model("zen4"), xs.load_model("zen3"))))
    lost = [each for each in root.iter(f"{SVG}rect") if each.attrib.get("class") == "lost"]
    assert len(lost) == 2 * 3  # AVX-512's three in both formats
    assert len([*root.iter(f"{SVG}polygon")]) == 4 + 6


def test_a_comparison_says_all_that_the_command_says() -> None:
    for a, b in (("penryn", "diamond-rapids"), ("sapphire-rapids", "granite-rapids")):
        found = xs.compare(xs.load_model(a), xs.load_model(b))
        texts = {each.text for each in parsed(comparison_svg(found)).iter(f"{SVG}text")}
        said = str(found).splitlines()
        told = said[said.index(next(x for x in said if x.startswith("standard layout"))) :]
        assert len(told) > 3
        assert {line.strip() for line in told} <= texts


def test_no_two_components_of_a_model_have_one_colour() -> None:
    for model in xs.Catalog().models():
        colours = [PALETTE[each.number % len(PALETTE)] for each in model.components.values()]
        assert len({*colours}) == len(colours), model.name


def test_a_difference_is_marked_where_it_is() -> None:
    model = xs.load_model("zen4")
    a, b = xs.XsaveArea.new(model), xs.XsaveArea.new(model)
    b.registers["k1"] = 5
    for deltas in (xs.diff(a, b), byte_differences(a, b)):
        root = parsed(diff_svg(deltas, a, b))
        marks = [each for each in root.iter(f"{SVG}rect") if each.attrib.get("class") == "mark"]
        places = [52 + 0.875 * at for at in (b.layout["opmask"].offset + 8,)]
        assert {float(mark.attrib["x"]) for mark in marks} >= {*places}
    assert "nothing differs" in diff_svg([], a, a)


def test_a_notebook_shows_the_same_picture_each_time() -> None:
    model = xs.load_model("zen4")
    area = xs.XsaveArea.parse(samples.read("zen4-xsave"), model)
    other = xs.XsaveArea.parse(samples.read("zen4-kernel-core"), model)
    compared = xs.compare(model, xs.load_model("zen3"))
    for value in (model.standard_layout(), area, compared, xs.diff(area, other)):
        first = value._repr_html_()
        parsed(first)
        assert first == value._repr_html_()


def test_the_command_line_writes_them(tmp_path: Path) -> None:
    out = tmp_path / "a.svg"
    assert run("layout", "zen4", "--svg", str(out)).stdout == ""
    assert out.read_text() == layout_svg(xs.load_model("zen4").standard_layout())
    assert run("layout", "zen4", "--svg", "-").stdout == out.read_text()
    run("compare", "zen4", "zen3", "--svg", str(out), code=1)
    parsed(out.read_text())
    run("diff", "sample:zen4-xsave", "sample:zen4-kernel-core", "--svg", str(out), code=1)
    parsed(out.read_text())
    assert "give one" in fails("layout", "zen4", "--svg", "-", "--json", code=2)


def test_a_picture_of_secrets_is_open_to_nobody_else(area: Path, tmp_path: Path) -> None:
    area.chmod(0o600)
    out = tmp_path / "d.svg"
    run("diff", "sample:zen4-xsave", str(area), "--svg", str(out), code=1)
    assert out.stat().st_mode & 0o777 == 0o600


@pytest.fixture
def area(tmp_path: Path) -> Path:
    path = tmp_path / "area.bin"
    path.write_bytes(samples.read("zen4-kernel-core"))
    return path
