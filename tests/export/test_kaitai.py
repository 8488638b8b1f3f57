"""Kaitai's descriptions, compiled by its own compiler to Python, against what we read."""

from __future__ import annotations

import json
import keyword
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import captures
import export_areas
import pytest
import yaml
from export_areas import Sample

import xsaveschema as xs
from xsaveschema import export
from xsaveschema.export.kaitai import EXPORTER
from xsaveschema.model import CpuModel, Field
from xsaveschema.spans import ALWAYS, Span

COMPILER = Path(__file__).with_name("kaitai_compile.js")
EVERY = [model.name for model in xs.Catalog().models()]
SOME = EVERY if os.environ.get("XSAVESCHEMA_EVERY_MODEL") else [*export_areas.DISTINCT]


def _missing() -> str:
    if shutil.which("node") is None:
        return "there is no node"
    found = subprocess.run(
        ["node", "-e", "require.resolve('kaitai-struct-compiler')"], env=_environment(),
        cwd="/", capture_output=True, check=False,
    )  # fmt: skip
    if found.returncode:
        return "npm's kaitai-struct-compiler is not installed: name its folder by NODE_PATH"
    try:
        import kaitaistruct as kaitaistruct
    except ImportError:
        return "kaitaistruct is not installed"
    return ""


def _environment() -> dict[str, str]:
    return {"NODE_PATH": os.environ.get("NODE_PATH", ""), "PATH": os.environ["PATH"]}


REASON = _missing()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)


def compiled(descriptions: dict[str, str], language: str = "python") -> dict[str, dict[str, str]]:
    """What the compiler makes of descriptions: one run for all, a process costs a second."""
    told = {name: yaml.safe_load(text) for name, text in descriptions.items()}
    done = subprocess.run(
        ["node", str(COMPILER)], env=_environment(), cwd="/", check=False,
        input=json.dumps({"language": language, "descriptions": told}),
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, dict[str, str]] = json.loads(done.stdout)
    return found


class Parsers:
    """The classes that were compiled, by CPU and format."""

    def __init__(self, cpus: Iterable[str | CpuModel]):
        self.files = export.render("kaitai", cpus)
        self.modules: dict[str, Any] = {}
        for name, files in compiled(self.files).items():
            ((_, text),) = files.items()
            module = ModuleType(name)
            exec(compile(text, name, "exec"), module.__dict__)
            class_name = next(iter(re.findall(r"^class (\w+)\(", text, re.MULTILINE)))
            self.modules[name.removesuffix(".ksy")] = getattr(module, class_name)

    def parse(self, sample: Sample) -> Any:
        packed = sample.data[527] & 0x80
        label = sample.model.label.replace("-", "_")
        return self.modules[f"{label}_{'compacted' if packed else 'standard'}"].from_bytes(
            sample.data
        )


@pytest.fixture(scope="module")
def parsers() -> Parsers:
    return Parsers([*SOME, xs.load_model("host")])


def samples() -> list[Sample]:
    found = [*export_areas.captured(), *export_areas.own()]
    for name in SOME:
        found += export_areas.made_up(xs.load_model(name))
    return found


def test_it_compiles_to_other_languages() -> None:
    descriptions = export.render("kaitai", "sapphire-rapids")
    for language in ("java", "javascript", "cpp_stl", "rust"):
        assert compiled(descriptions, language).keys() == descriptions.keys()


def test_every_field_of_areas_is_what_we_read(parsers: Parsers) -> None:
    fields = absent = refused = 0
    for sample in samples():
        area = export_areas.meaning(sample)
        if area is None:
            with pytest.raises(Exception, match=r"validation failed|requested"):
                _everything(parsers.parse(sample), sample.model)
            refused += 1
            continue
        parsed = parsers.parse(sample)
        for span in _spans(area):
            if span.kind == "header" or not span.named or span.field is None:
                continue
            value = _value(parsed, span)
            if not span.lives(area.xstate_bv):
                assert value is None, (sample.name, span.path)
                absent += 1
                continue
            data = sample.data[span.offset : span.end]
            number = not span.field.raw and span.size in (1, 2, 4, 8)
            wanted = int.from_bytes(data, "little") if number else data
            assert value == wanted, (sample.name, span.path)
            fields += 1
        assert parsed.software == sample.data[464:512]
        for name in area.model.components:
            bits = parsed.header.xstate_bv
            assert getattr(bits, name, False) == area.in_use(name), (sample.name, name)
        if area.format == "compacted":
            assert parsed.len_area == area.layout.size
            for slot in area.layout:
                if not slot.component.legacy:
                    assert getattr(parsed, f"ofs_{slot.name}") == slot.offset
    assert fields > 5000
    assert absent > 1000
    assert refused > 10


def _spans(area: xs.XsaveArea) -> tuple[Span, ...]:
    return area.layout.spans()


def _everything(parsed: Any, model: CpuModel) -> None:
    _ = parsed.header
    for name in (*model.components, "mxcsr"):
        getattr(parsed, name)


def _value(parsed: Any, span: Span) -> Any:
    """What the parser has at a span's path; None where the component is absent."""
    path = span.path
    if span.offset in (24, 28):
        path = path.removeprefix("sse.")
    found = parsed
    for word in re.findall(r"\w+", path):
        name = f"{word}_" if keyword.iskeyword(word) else word
        found = found[int(word)] if word.isdigit() else getattr(found, name)
        if found is None:
            return None
    return getattr(found, "value", found)


def test_mxcsr_counts_in_the_standard_format_whatever_xstate_bv_says(parsers: Parsers) -> None:
    model = xs.load_model("zen4")
    data = bytearray(bytes(xs.XsaveArea.new(model, "standard")))
    data[24:28] = (0x1FA0).to_bytes(4, "little")
    assert parsers.parse(Sample(model, "standard", bytes(data))).mxcsr == 0x1FA0
    packed = bytearray(bytes(xs.XsaveArea.new(model, "compacted")))
    packed[24:28] = data[24:28]
    assert parsers.parse(Sample(model, "compacted", bytes(packed))).mxcsr is None
    layout = model.standard_layout()
    always = [span.path for span in layout.spans() if span.field and span.alive == ALWAYS]
    assert always == ["sse.mxcsr", "sse.mxcsr_mask"]


@pytest.mark.parametrize(
    ("at", "byte"),
    [(520, 4), (512, 8), (514, 1), (519, 0x80)],
    ids=["xcomp_bv", "bit 3", "bit 16", "bit 63"],
)
def test_masks_that_nobody_can_have_written_are_refused(
    parsers: Parsers, at: int, byte: int
) -> None:
    core = bytearray(captures.image("linux-kernel_core.elf.xstate"))
    model = xs.load_model("zen4")
    assert parsers.parse(Sample(model, "core", bytes(core))).header.xstate_bv.avx
    core[at] |= byte
    with pytest.raises(Exception, match="validation failed"):
        _ = parsers.parse(Sample(model, "core", bytes(core))).header


def test_the_other_format_is_refused(parsers: Parsers) -> None:
    model = xs.load_model("zen4")
    areas = {
        "standard": xs.XsaveArea.new(model, "standard"),
        "compacted": xs.XsaveArea.new(model, "compacted"),
    }
    for format, other in (("standard", "compacted"), ("compacted", "standard")):
        data = bytes(areas[format])
        assert parsers.modules[f"zen4_{format}"].from_bytes(data).header
        with pytest.raises(Exception, match="validation failed"):
            _ = parsers.modules[f"zen4_{other}"].from_bytes(data).header


def test_state_in_use_beyond_xcomp_bv_is_refused(parsers: Parsers) -> None:
    model = xs.load_model("zen4")
    area = bytearray(bytes(xs.XsaveArea.new(model, "compacted", xcomp_bv=3)))
    assert parsers.parse(Sample(model, "small", bytes(area))).avx is None
    area[512] = 4
    with pytest.raises(Exception, match="validation failed"):
        _ = parsers.parse(Sample(model, "small", bytes(area))).avx


def test_components_that_share_bytes_are_not_in_use_together() -> None:
    model = xs.load_model("diamond-rapids")
    skylake = xs.load_model("skylake-server")
    both = {**model.components, **skylake.components}
    ordered = dict(sorted(both.items(), key=lambda item: item[1].number))
    parsers = Parsers([replace(model, name="both", components=ordered)])
    data = bytearray(4096)
    for bits, good in ((1 << 3, True), (1 << 19, True), (1 << 19 | 1 << 3, False)):
        data[512:516] = bits.to_bytes(4, "little")
        sample = Sample(replace(model, name="both"), "both", bytes(data))
        if good:
            assert parsers.parse(sample).header.xstate_bv.apx == bool(bits >> 19)
        else:
            with pytest.raises(Exception, match="validation failed"):
                _ = parsers.parse(sample).header


def test_components_that_are_called_as_languages_have_words() -> None:
    zen4 = xs.load_model("zen4")
    named = dict(zen4.components)
    for number, (old, name) in enumerate((("avx", "not"), ("pkru", "class"), ("opmask", "new"))):
        named[name] = replace(named.pop(old), name=name, number=20 + number)
    of = {component.number: component for component in named.values()}
    mask = sum(component.bit for component in named.values() if not component.supervisor)
    model = replace(zen4, components={c.name: of[n] for n, c in sorted(of.items())}, xcr0=mask)
    parsers = Parsers([model])
    for sample in export_areas.made_up(model):
        if sample.data[527] & 0x80:
            parsed = parsers.parse(sample)
            live = int.from_bytes(sample.data[512:520], "little")
            assert parsed.header.xstate_bv.not_ == bool(live >> 20 & 1)
            assert (parsed.class_ is None) == (not live >> 21 & 1)
            assert (parsed.new_ is None) == (not live >> 22 & 1)


def test_a_short_buffer_is_an_error_only_where_state_is_in_use(parsers: Parsers) -> None:
    core = captures.image("linux-kernel_core.elf.xstate")
    model = xs.load_model("zen4")
    cut = parsers.parse(Sample(model, "core", core[:1408]))
    assert len(cut.zmm_hi256.zmm_hi256) == 16
    with pytest.raises(Exception, match="requested 1024 bytes"):
        _ = cut.hi16_zmm
    initial = core[:512] + b"\x07" + core[513:832]
    assert parsers.parse(Sample(model, "core", initial)).hi16_zmm is None


def test_what_is_refused() -> None:
    zen4 = xs.load_model("zen4")
    named = {**zen4.components}
    one = named.pop("avx")
    named["header"] = type(one)(2, "header", 256, 576, False, False, False, None, lambda: ())
    other = replace(zen4, name="other", components=named)
    with pytest.raises(xs.XsaveError, match="two things are called header in Kaitai"):
        EXPORTER.render([other])
    for name in ("xstate_bv", "compacted", "reserved_3", "true"):
        alike = replace(one, number=20, name=name)
        other = replace(zen4, components={**zen4.components, name: alike})
        with pytest.raises(xs.XsaveError, match=f"two things are called {name} in Kaitai"):
            EXPORTER.render([other])
    fields = tuple(Field(name, "u8", at, 1) for at, name in enumerate(("x_1", "x1")))
    alike = replace(one, number=20, name="own", load_fields=lambda: fields)
    other = replace(zen4, components={**zen4.components, "own": alike})
    with pytest.raises(xs.XsaveError, match="two things are called x1 in Kaitai"):
        EXPORTER.render([other])
    with pytest.raises(xs.XsaveError, match="kaitai has no option 'language'"):
        export.render("kaitai", [zen4], language="python")
