"""How layouts and areas look as text: as the commands show them, without what a terminal needs."""

from __future__ import annotations

import subprocess
import sys

import pytest
from command import run

import xsaveschema as xs
from xsaveschema import samples


@pytest.mark.parametrize("name", list(xs.Catalog()))
@pytest.mark.parametrize("format", ["standard", "compacted"])
def test_a_layout_is_what_the_command_shows(name: str, format: str) -> None:
    model = xs.load_model(name)
    layout = model.standard_layout() if format == "standard" else model.compacted_layout()
    text = str(layout)
    shown = run("layout", name, *["--compacted"] * (format == "compacted")).stdout
    assert shown.replace("─", "-").startswith(text + "\n\n")
    assert max(map(len, text.splitlines())) <= 80
    rows = [line.split() for line in text.partition("---\n")[2].splitlines()]
    numbered = [row for row in rows if len(row) > 5]
    assert [row[2] for row in numbered] == [slot.name for slot in layout]
    assert sum(int(row[5] if len(row) > 5 else row[3]) for row in rows) == layout.size


@pytest.mark.parametrize("name", ["zen4-kernel-core", "tiger-lake-xsaves"])
def test_an_area_is_what_the_command_shows(name: str) -> None:
    model = "zen4" if name.startswith("zen4") else "tiger-lake"
    area = xs.XsaveArea.parse(samples.read(name), xs.load_model(model))
    text = str(area)
    shown = run("decode", f"sample:{name}", "--model", model, COLUMNS="80").stdout
    components = "\n\n   #  component"
    assert text.partition(components)[2] == shown.rstrip("\n").partition(components)[2]
    assert text.startswith(f"{model}  {area.model.title}\n")
    assert f"\n  XSTATE_BV  {xs.errors.hex_mask(area.xstate_bv)}  x87" in text
    assert max(map(len, text.splitlines())) <= 80


def test_text_needs_no_rich() -> None:
    code = (
        "import sys; sys.modules['rich'] = sys.modules['click'] = None\n"
        "import xsaveschema as xs\n"
        "area = xs.XsaveArea.new(xs.load_model('zen4'))\n"
        "assert 'mxcsr' in str(area) and 'hi16_zmm' in str(area.layout)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_missing_state_and_faults_are_said() -> None:
    zen4 = xs.load_model("zen4")
    area = xs.XsaveArea.parse(samples.read("zen4-bad-header"), zen4, strict=False)
    assert "[xcomp-bv-form]" in str(area)
    whole = xs.XsaveArea.new(zen4.limited(xcr0=3))
    partial = xs.XsaveArea.partial(bytes(whole), zen4, {2: "avx"})
    assert "   2  avx        live, not in this file\n" in str(partial)
