"""The atlas in a browser: layouts, rules and readings are Python's, and nothing gets into it."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import export_areas
import pytest

import xsaveschema as xs
from xsaveschema import evidence, export, samples, traces
from xsaveschema.area import XsaveArea
from xsaveschema.errors import MaskError, hex_mask
from xsaveschema.header import lenient_layout
from xsaveschema.layout import Layout, check_xcr0, has_layout
from xsaveschema.model import CpuModel, bits_of
from xsaveschema.restore_rules import RULES
from xsaveschema.svg import layout_svg, says

pytest.importorskip("selenium")
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if BROWSER is None or DRIVER is None:
    pytest.skip("there is no chromium with its chromedriver", allow_module_level=True)

MODELS = xs.Catalog().models()
MASKS = 50
HOSTILE = "</script><img src=x onerror=window.hacked=1><script>window.hacked=1</script>\"'&\u2028"


class Page:
    """The page in a browser."""

    def __init__(self, driver: webdriver.Chrome, path: Path):
        self.driver, self.path = driver, path

    def open(self, link: str = "") -> Page:
        self.driver.get("about:blank")
        self.driver.get(f"{self.path.as_uri()}{link}")
        return self

    def run(self, code: str, *given: Any) -> Any:
        return self.driver.execute_script(code, *given)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    @property
    def link(self) -> str:
        return str(self.run("return location.hash"))


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER or ""
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.add_argument("--window-size=1300,1000")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(DRIVER)) as found:
        yield found


@pytest.fixture(scope="module")
def whole(driver: webdriver.Chrome, tmp_path_factory: pytest.TempPathFactory) -> Page:
    path = tmp_path_factory.mktemp("atlas") / "xsave.html"
    path.write_text(export.render("html", "all")["xsave.html"])
    return Page(driver, path).open()


@pytest.fixture
def page(whole: Page) -> Iterator[Page]:
    whole.driver.get_log("browser")  # type: ignore[no-untyped-call]
    yield whole.open()
    log = whole.driver.get_log("browser")  # type: ignore[no-untyped-call]
    assert [line["message"] for line in log] == []


# --- what it answers ----------------------------------------------------------------------------


def masks(model: CpuModel, every: int, count: int) -> list[int]:
    rng = random.Random(model.name)
    return [every, *(rng.getrandbits(63) & every for _ in range(count - 1))]


def places(layout: Layout) -> list[list[Any]]:
    return [[slot.name, slot.offset, slot.end] for slot in layout]


def told(layout: Layout) -> list[list[Any]]:
    return [
        [span.offset, span.end, span.kind, span.path, str(span.alive), says(span)]
        for span in layout.spans()
    ]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_layouts_of_random_masks(whole: Page, model: CpuModel) -> None:
    users = [m for m in masks(model, model.user_mask, MASKS) if has_layout(model, m)]
    every = masks(model, model.user_mask | model.supervisor_mask, MASKS)
    for what, given, make in (
        ("standard", users, model.standard_layout),
        ("compacted", every, model.compacted_layout),
    ):
        layouts = [make(mask) for mask in given]
        code = """
            const [name, masks, what] = arguments;
            return masks.map((mask, i) => {
              const {size, slots, spans} = atlas[what](name, mask);
              return {size, slots, spans: i < 4 ? spans : null};
            })"""
        found = whole.run(code, model.name, [hex(mask) for mask in given], what)
        assert [(each["size"], each["slots"]) for each in found] == [
            (layout.size, places(layout)) for layout in layouts
        ]
        for each, layout in zip(found[:4], layouts, strict=False):
            assert each["spans"] == told(layout)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_why_an_xcr0_is_refused(whole: Page, model: CpuModel) -> None:
    rng = random.Random(model.name)
    given = [model.xcr0, 0, 1, 3, 7, 1 << 20 | 1, 1 << 8 | 3, model.user_mask]
    given += [rng.getrandbits(63) & model.user_mask | rng.choice([0, 3, 7]) for _ in range(MASKS)]
    code = "return arguments[1].map(mask => atlas.refusal(arguments[0], mask))"
    found = whole.run(code, model.name, [hex(mask) for mask in given])
    for mask, said in zip(given, found, strict=True):
        assert said == refused(model, mask), hex(mask)


def refused(model: CpuModel, xcr0: int) -> str | None:
    try:
        check_xcr0(model, xcr0)
    except MaskError as error:
        return str(error).removeprefix(f"XCR0 {hex_mask(xcr0)} on {model.name}: ")
    return None


def test_what_moves_and_what_is_lost(whole: Page) -> None:
    pairs = [(a, b) for a in MODELS for b in random.Random(a.name).sample(MODELS, 8)]
    code = "return arguments[0].map(([a, b]) => atlas.compare(a, b))"
    found = whole.run(code, [(a.name, b.name) for a, b in pairs])
    for (a, b), rows in zip(pairs, found, strict=True):
        own = xs.compare(a, b)
        assert rows == [[row.name, row.state, row.lossy] for row in own.components]


def test_it_says_what_is_lost_as_the_command_does(page: Page) -> None:
    for a, b in (("sapphire-rapids", "zen4"), ("zen4", "ice-lake-server"), ("zen3", "zen4")):
        page.open(f"#cpu={a}&with={b}")
        own = xs.compare(xs.load_model(a), xs.load_model(b))
        verdict, *others = str(own).splitlines()
        said = [each.text.lower() for each in page.all("#comparison > p")]
        assert said[0].rstrip(".") == verdict.partition(": ")[2]
        possible = [line for line in others if line.startswith("lost too")]
        assert [line for line in said if line.startswith("lost too")] == [
            line.lower() for line in possible
        ]
        assert bool(possible) == bool(own.possible)


@pytest.mark.parametrize("format", ["standard", "compacted"])
@pytest.mark.parametrize("name", ["zen2", "bulldozer", "sapphire-rapids"])
def test_it_draws_what_the_package_draws(page: Page, name: str, format: str) -> None:
    page.open(f"#cpu={name}")
    model = xs.load_model(name)
    layout = model.standard_layout() if format == "standard" else model.compacted_layout()
    wanted = [
        (each.attrib["fill"], each.attrib["data-kind"], *numbers(each.attrib.__getitem__))
        for each in ElementTree.fromstring(layout_svg(layout)).iter(
            "{http://www.w3.org/2000/svg}rect"
        )
        if "data-offset" in each.attrib
    ]
    code = """const rects = document.querySelectorAll(`#${arguments[0]} rect[data-offset]`);
      return [...rects].map(rect => Object.fromEntries(
        rect.getAttributeNames().map(key => [key, rect.getAttribute(key)])))"""
    found = [
        (each["fill"], each["data-kind"], *numbers(each.__getitem__))
        for each in page.run(code, format)
    ]
    assert found == wanted


def numbers(attribute: Callable[[str], str]) -> tuple[float, ...]:
    return tuple(
        round(float(attribute(key)), 1) for key in ("data-offset", "data-size", "x", "width")
    )


# --- areas --------------------------------------------------------------------------------------


def test_it_walks_and_reads_as_the_test_vectors_say(whole: Page) -> None:
    """The vectors alone: no model, no layout of this package stands between."""
    cpus = json.loads(export.render("vectors", export_areas.DISTINCT)["vectors.json"])["cpus"]
    seen = 0
    for cpu in cpus:
        name, walks, areas = cpu["name"], cpu["walks"], cpu["areas"]
        code = "return arguments[1].map(mask => atlas.compacted(arguments[0], mask))"
        given = [hex(int(walk["xcomp_bv"], 16) & ~(1 << 63)) for walk in walks]
        numbers = {each["name"]: str(each["number"]) for each in cpu["components"]}
        for walk, found in zip(walks, whole.run(code, name, given), strict=True):
            offsets = {numbers[each]: offset for each, offset, _ in found["slots"]}
            assert (found["size"], offsets) == (walk["size"], walk["offsets"])
        code = "return arguments[1].map(text => atlas.read(arguments[0], text))"
        reads = whole.run(code, name, [image_of(area["image"]).hex() for area in areas])
        for area, read in zip(areas, reads, strict=True):
            if area["meaning"] is None:
                assert read["faults"], (name, area["name"])
                continue
            found = dict(read["registers"])
            for register, value in area["meaning"]["registers"].items():
                if register in found:
                    seen += 1
                    text = tile_of(found, register) if "tmm" in register else found[register]
                    assert int(text or "0", 16) == int(value or "0", 16), (area["name"], register)
    assert seen > 1000


def tile_of(found: dict[str, str], name: str) -> str:
    """The rows and bytes that TILECFG gives a tile; all that stands there without a palette."""
    number = name.removeprefix("tmm")
    rows, size = (int(found[f"tilecfg.{each}[{number}]"], 16) for each in ("rows", "colsb"))
    tile = bytes.fromhex(found[name])
    if found["tilecfg.palette"] == "0x00":
        return tile.hex()
    return b"".join(tile[at : at + size] for at in range(0, 64 * rows, 64)).hex()


def image_of(said: dict[str, Any]) -> bytes:
    image = bytearray(said["size"])
    for offset, text in said["runs"]:
        image[offset : offset + len(text) // 2] = bytes.fromhex(text)
    return bytes(image)


@pytest.mark.parametrize(
    ("name", "sample"),
    [
        ("zen4", "zen4-xsave"),
        ("zen4", "zen4-xsavec"),
        ("zen4", "zen4-kernel-core"),
        ("tiger-lake", "tiger-lake-xsave"),
        ("tiger-lake", "tiger-lake-xsaves"),
        ("sapphire-rapids", "amx-xsavec"),
    ],
)
def test_registers_of_areas(whole: Page, name: str, sample: str) -> None:
    data = samples.read(sample)
    area = XsaveArea.parse(data, xs.load_model(name))
    read = whole.run("return atlas.read(arguments[0], arguments[1])", name, data.hex())
    assert (read["format"], int(read["mask"], 0)) == (area.format, area.layout.mask)
    assert read["faults"] == []
    rules = {"header-16-23", "header-24-63"}
    faults = [f for f in xs.check(data, area.model, "xrstors") if f.rule in rules]
    assert len(read["restore"]) == len(faults)
    found = dict(read["registers"])
    wide = [each for each in area.registers.widest() if not each.startswith(("mm", "tmm"))]
    assert wide
    for each in wide:
        assert int(found[each], 16) == area.registers[each], each


@pytest.mark.parametrize("name", export_areas.DISTINCT)
def test_random_areas(whole: Page, name: str) -> None:
    """What is alive, what is initial, and whatever stands there else."""
    given = [*export_areas.made_up(xs.load_model(name))]
    code = "return arguments[1].map(text => atlas.read(arguments[0], text))"
    for sample, read in zip(
        given, whole.run(code, name, [s.data.hex() for s in given]), strict=True
    ):
        area = XsaveArea.parse(sample.data, sample.model, strict=False, assume=True)
        assert (read["format"], int(read["mask"], 0)) == (area.format, area.layout.mask)
        found = dict(read["registers"])
        for key in ("xmm3", "ymm3", "zmm3", "zmm17", "pkru", "k2", "mxcsr", "bnd1"):
            if key in found:
                assert int(found[key], 16) == area.registers[key], (sample.name, key)


def test_faults_of_headers(whole: Page) -> None:
    """Every one that decides where state is, in the package's words."""
    for name in ("zen4", "bulldozer", "sapphire-rapids"):
        model, rng = xs.load_model(name), random.Random(name)
        for _ in range(60):
            size = rng.choice([576, 840, model.standard_layout().size])
            data = bytearray(size)
            xstate = rng.getrandbits(64) & rng.choice([7, 0x2E7, 0xFFFF, (1 << 64) - 1])
            xcomp = rng.choice([0, 0, 5, 1 << 63 | 7, 1 << 63 | xstate, rng.getrandbits(64)])
            data[512:528] = xstate.to_bytes(8, "little") + xcomp.to_bytes(8, "little")
            read = whole.run("return atlas.read(arguments[0], arguments[1])", name, data.hex())
            layout, faults = lenient_layout(model, xstate, xcomp, size)
            wanted = [re.split(r"; name the model| in [\w-]+'s ", f.message)[0] for f in faults]
            assert read["faults"] == wanted
            assert int(read["mask"], 0) == layout.mask


def test_an_area_is_pasted_or_dropped(page: Page, tmp_path: Path) -> None:
    page.open("#cpu=zen4")
    data = samples.read("zen4-kernel-core")
    path = tmp_path / "area.bin"
    path.write_bytes(data)
    page.one("#file").send_keys(str(path))
    page.run("return new Promise(done => setTimeout(done, 300))")
    assert page.text("#readout").startswith("In use: x87, sse, avx")
    zmm17 = f"0x{XsaveArea.parse(data).registers['zmm17']:0128x}"
    assert zmm17 in page.text("#decoded")
    assert page.all("#decoded .fault") == []
    bad = samples.read("zen4-bad-header")
    dump = "\n".join(
        f"{at:08x}: {bad[at : at + 16].hex(' ', 2)}  ......" for at in range(0, len(bad), 16)
    )
    for text in (bad.hex(), bad.hex(" "), dump):
        code = """const box = document.getElementById('hex'); box.value = arguments[0];
            box.dispatchEvent(new Event('input'))"""
        page.run(code, text)
        assert len(page.all("#decoded .fault")) >= 1
    for text, said in (("7f454c46" + "00" * 600, "ELF"), ("0g", "no hexadecimal"), ("00", "576")):
        page.run(code, text)
        assert said in page.text("#decoded")


def paste(page: Page, text: str) -> str:
    """What the page says of it, but for the registers."""
    code = """const box = document.getElementById('hex'); box.value = arguments[0];
        box.dispatchEvent(new Event('input'));
        return [...document.querySelectorAll('#decoded > p')].map(p => p.textContent).join('\\n')"""
    return str(page.run(code, text))


def lines(data: bytes, head: str, group: int, *, tail: bool = False, base: int = 0) -> str:
    """A dump of 16 bytes a line: numbers of ``group`` bytes where it is negative."""
    found = []
    for at in range(0, len(data), 16):
        row, size = data[at : at + 16], abs(group)
        groups = [row[i : i + size][:: group // size].hex() for i in range(0, 16, size)]
        shown = "  " + "".join(chr(b) if 31 < b < 127 else "." for b in row) if tail else ""
        found.append(head.format(at + base) + " ".join(groups) + shown)
    return "\n".join(found)


def debugger(data: bytes, size: int) -> str:
    """As GDB's x shows them: each with 0x in front, numbers as x86 reads them."""
    parts = [
        f"0x{int.from_bytes(data[i : i + size], 'little'):0{2 * size}x}"
        for i in range(0, len(data), size)
    ]
    rows = [parts[i : i + 8] for i in range(0, len(parts), 8)]
    return "\n".join(
        f"0x7ffe{i * 8 * size:04x} <buf+{i}>:\t" + "\t".join(row) for i, row in enumerate(rows)
    )


def test_dumps_that_are_pasted(page: Page) -> None:
    """Bytes are read, whoever shows them; numbers, which look alike, are not taken for bytes."""
    page.open("#cpu=zen4")
    data = samples.read("zen4-kernel-core")
    wanted = f"0x{XsaveArea.parse(data).registers['zmm17']:0128x}"
    good = {
        "digits": data.hex(),
        "xxd -p": "\n".join(data.hex()[at : at + 60] for at in range(0, 2 * len(data), 60)),
        "xxd": lines(data, "{:08x}: ", 2, tail=True),
        "xxd -g1": lines(data, "{:08x}: ", 1, tail=True),
        "xxd -g4": lines(data, "{:08x}: ", 4, tail=True),
        "hexdump -vC": lines(data, "{:08x}  ", 1) + "\n00000980",
        "hexdump -vC, text": lines(data, "{:08x}  ", 1).replace("\n", "  |.. |a>.|\n"),
        "od -v -t x1": lines(data, "{:07o} ", 1) + "\n0004600\n",
        "od -v -A x -t x1z": lines(data, "{:06x} ", 1).replace("\n", "  >..7f<\n"),
        "od -v -A d -t x1": lines(data, "{:07d} ", 1),
        "lldb": lines(data, "0x{:08x}: ", 1, tail=True, base=0x7FFE0000),
        "gdb x/xb": debugger(data, 1),
        "two halves": lines(data, "", 8).replace(" ", "  "),
    }
    for name, text in good.items():
        said = paste(page, text)
        assert (name, page.text("#decoded h4")[:10]) == (name, "2432 bytes"), said
        assert wanted in page.text("#decoded"), name
    for name, text in good.items():
        shown = text.split("\n")
        if len(shown) < 100 or name in ("xxd -p", "two halves"):  # these have no addresses
            continue
        for changed in ([*shown[:40], *shown[41:]], [*shown[:40], shown[39], *shown[40:]]):
            assert "is a line missing?" in paste(page, "\n".join(changed)), name
    high = lines(data, "0x{:016x}: ", 1, base=0xFFFF_8881_0000_0010)
    assert "In use: x87, sse, avx" in paste(page, high)
    assert "is a line missing?" in paste(
        page, "\n".join([*high.split("\n")[:9], *high.split("\n")[10:]])
    )
    numbers = {
        "hexdump": lines(data, "{:07x} ", -2),
        "od -v -t x4": lines(data, "{:07o} ", -4),
        "od -v -t x8": lines(data, "{:07o} ", -8),
        "xxd -e": lines(data, "{:08x}: ", -4, tail=True),
        "xxd -e -g2": lines(data, "{:08x}: ", -2, tail=True),
        "rd of crash": lines(data, "{:016x}:  ", -8, tail=True),
        "gdb x/xw": debugger(data, 4),
        "gdb x/xg": debugger(data, 8),
    }
    for name, text in numbers.items():
        assert "numbers, not bytes" in paste(page, text), name
        assert not page.all("#decoded h4"), name
    assert "left out" in paste(page, lines(data[:32], "{:08x}  ", 1) + "\n*\n00000980")
    for text in (
        "\u2028" * 65536,
        " " * 65536,
        "0 " * 32768,
        "*" * 65536,
        "00:" * 21845,
        "|" * 65536,
        "a" * 65535,
    ):
        assert paste(page, text) or not text.strip()
        assert not page.all("#decoded h4")


def doubted(data: bytes, model: CpuModel) -> dict[str, list[str]]:
    view = memoryview(data)
    found = evidence.shown_in(view, model)
    if found and found.size:
        view = view[: found.size]  # as the reader of frames does it
    seen = None if traces.of_kvm(view) else evidence.shown_in(view, model)
    against = evidence.contradictions(view, model)
    hints = () if traces.of_kvm(view) else evidence.hints(view, model, seen)
    return {"against": [*against], "hints": [*hints]}


WRITERS = (
    "zen2",
    "zen4",
    "ice-lake-server",
    "sapphire-rapids",
    "bulldozer",
    "haswell",
    "lakefield",
)


@pytest.mark.parametrize("writer", WRITERS)
def test_what_an_area_says_of_its_writer(whole: Page, writer: str) -> None:
    """Held against every model, as the package does it and in its words."""
    model = xs.load_model(writer)
    area = XsaveArea.new(model)
    plain, masked = bytearray(bytes(area)), bytearray(bytes(area))
    masked[464:472] = model.xcr0.to_bytes(8, "little")
    other = bytearray(masked)
    other[480] = 1
    kvm = masked.ljust(4096, b"\0")[:4096]
    alien = bytearray(masked)
    alien[469] |= 1
    compacted = xs.to_compacted(bytes(area), model).data
    frame = xs.artefacts.build_frame(area)
    for data in (plain, masked, other, kvm, alien, compacted, frame):
        code = "return arguments[1].map(name => atlas.read(name, arguments[0]))"
        found = whole.run(code, bytes(data).hex(), [each.name for each in MODELS])
        for each, read in zip(MODELS, found, strict=True):
            own = doubted(bytes(data), each)
            assert {key: read[key] for key in own} == own, each.name


@pytest.mark.parametrize("name", ["haswell", "zen4", "sapphire-rapids", "bulldozer"])
def test_what_a_restore_refuses_of_an_area(whole: Page, name: str) -> None:
    """The rules that the page has, as check judges by them."""
    model = xs.load_model(name)
    area = XsaveArea.new(model)
    area.registers["xmm0"] = 1
    standard = bytearray(bytes(area))
    given = []
    for mxcsr, xstate, at in product((0x1F80, 0x1_0000, 0x2_1F80), (0, 2), (None, 528, 540)):
        for xcomp in (0, 1 << 63 | 7):
            data = standard[: 840 if xcomp else None]
            data[24:28] = mxcsr.to_bytes(4, "little")
            data[512:528] = xstate.to_bytes(8, "little") + xcomp.to_bytes(8, "little")
            if at is not None:
                data[at] = 1
            given.append(bytes(data))
    told = {"header-16-23", "header-24-63", "mxcsr", "xcomp-bv-no-xsavec"}
    code = "return arguments[1].map(text => atlas.read(arguments[0], text).restore)"
    found = whole.run(code, name, [data.hex() for data in given])
    for image, restore in zip(given, found, strict=True):
        rules = {fault.rule for fault in xs.check(image, model)}
        own = {RULES[rule].says for rule in rules if rule in told}
        assert set(restore) == own


def test_signal_frames(page: Page) -> None:
    """Those of 64 bits begin with the area; in front of one of 32 bits stands an FSAVE image."""
    page.open("#cpu=zen4")
    frame = samples.read("zen4-sigframe")
    said = paste(page, frame.hex())
    assert "In use" in said
    assert page.all("#decoded .bad") == []
    assert "32-bit signal frame" in paste(page, (bytes(112) + frame).hex())


def test_it_doubts_the_model_that_is_chosen(page: Page) -> None:
    page.open("#cpu=zen4")
    data = samples.read("tiger-lake-xsave")
    said = paste(page, data.hex())
    assert "the area has 2696 bytes; zen4 takes 2440 for XCR0 0x2E7" in said
    assert page.text("#readout").startswith("the area has 2696 bytes")
    named = [each.text for each in page.all("#fitting button")]
    assert named == sorted(named, key=lambda name: -xs.load_model(name).popularity)
    assert "ice-lake-server" in named
    page.run("document.querySelector('#fitting button').click()")
    assert page.text("#name") == named[0]
    assert page.all("#fitting") == page.all("#decoded .bad") == []
    zmm17 = f"0x{XsaveArea.parse(data, xs.load_model('tiger-lake')).registers['zmm17']:0128x}"
    assert zmm17 in page.text("#decoded")


# --- what people do with it -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("milan", "zen3"),
        ("0x806F8", "sapphire-rapids"),
        ("Zen 2", "zen2"),
        ("lwp", "bulldozer"),
        ("amx", "sapphire-rapids"),
    ],
)
def test_a_model_is_found(page: Page, query: str, name: str) -> None:
    page.one("#search").send_keys(query)
    assert name in [each.text.split("\n")[0] for each in page.all("#models button")]


def test_where_is_pkru_on_zen_2_and_3(page: Page) -> None:
    page.one("#search").send_keys("zen3", Keys.ENTER)
    assert page.text("#name") == "zen3"
    row = next(each for each in page.all("#components tr") if "pkru" in each.text)
    assert row.text.split()[:4] == ["9", "pkru", "2432", "832"]
    assert page.link == "#cpu=zen3"


def test_the_calculator_goes_both_ways(page: Page) -> None:
    page.open("#cpu=sapphire-rapids")
    assert page.text("#compacted b") == "11776 bytes"
    box = page.one("#xcomp")
    box.clear()
    box.send_keys("0x8000000000065ae7", Keys.ENTER)
    assert page.text("#compacted b") == "10816 bytes"
    assert not page.one("[data-key=xcomp][data-bit='15']").is_selected()
    page.one("[data-key=xcomp][data-bit='15']").click()
    assert page.one("#xcomp").get_attribute("value") == "0x800000000006DAE7"
    link = page.link
    page.open(link)
    assert page.one("#xcomp").get_attribute("value") == "0x800000000006DAE7"
    page.one("[data-key=xcr0][data-bit='2']").click()
    assert "No processor takes this XCR0" in page.text("#why-xcr0")
    assert page.text("#standard b") == "11008 bytes"  # any set has a layout
    box = page.one("#xcr0")
    box.clear()
    box.send_keys("0x10000000602e7", Keys.ENTER)
    assert "unknown" in page.text("#why-xcr0")
    assert page.all("#standard b") == []
    page.one("#reset").click()
    assert page.link == "#cpu=sapphire-rapids"


def test_which_xcomp_bv_makes_a_size(page: Page) -> None:
    page.open("#cpu=sapphire-rapids")
    page.one("#size").send_keys("10816")
    page.one("#sizes button").click()
    assert page.text("#compacted b") == "10816 bytes"
    model = xs.load_model("zen4")
    sets = [model.xcr0 & 3]
    for bit in bits_of((model.xcr0 | model.xss) & ~3):
        sets += [mask | 1 << bit for mask in sets]
    for size in (2456, 2440, 2480, 600):
        found = page.run("return atlas.ofSize('zen4', arguments[0])", size)
        wanted = {mask for mask in sets if model.compacted_layout(mask).size == size}
        assert {int(mask, 16) for mask in found} == wanted


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("bulldozer", "832", "bulldozer has no XSAVEC"),
        ("zen4", "601", "No set of"),
        ("zen4", "many", "Write a number of bytes"),
        ("zen4", "0x988", "0x80000000000002E7 all but cet_u, cet_s"),
    ],
)
def test_a_size_that_nothing_makes(page: Page, name: str, text: str, said: str) -> None:
    page.open(f"#cpu={name}")
    page.one("#size").send_keys(text)
    assert page.text("#sizes").startswith(said)


def test_the_keyboard_and_a_screen_reader(page: Page) -> None:
    page.open("#cpu=zen4")
    picture = page.one("#standard svg")
    assert picture.get_attribute("aria-label").startswith("Standard format: 2440 bytes")  # type: ignore[union-attr]
    page.one("#search").send_keys(Keys.TAB)
    page.run("document.querySelector('#standard svg').focus()")
    picture.send_keys(Keys.ARROW_RIGHT)
    assert page.text("#readout").startswith("2..3: x87.fsw, 2 bytes; alive with XSTATE_BV[0]")
    picture.send_keys(Keys.END)
    assert "bits: key0_ad 0" in page.text("#readout") or "pkru" in page.text("#readout")
    assert page.all("#standard .at")
    code = """
      return [...document.querySelectorAll('input, select, textarea, button, svg[tabindex]')]
      .filter(e => !(e.labels?.length || e.getAttribute('aria-label') || e.textContent.trim()))
      .map(e => e.outerHTML)"""
    assert page.run(code) == []


@pytest.mark.parametrize("width", [360, 800, 1600])
def test_nothing_is_wider_than_the_window(page: Page, width: int) -> None:
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    page.open("#cpu=sapphire-rapids&with=zen3")
    assert page.run("return document.documentElement.scrollWidth") <= width
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_phone_that_is_turned_keeps_the_component_that_was_opened(page: Page) -> None:
    page.open("#cpu=zen4")
    page.run("document.querySelectorAll('#components button')[1].click()")
    for width in (360, 1300):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        page.run("return new Promise(done => setTimeout(done, 100))")
        assert "sse, standard format" in page.text("#zoom")
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


# --- what must not get in -----------------------------------------------------------------------


def test_it_is_one_small_file_that_asks_for_nothing(page: Page) -> None:
    text = page.path.read_text()
    assert len(text.encode()) < 1_000_000
    assert re.findall(r"(?:https?:)?//(?!www\.w3\.org/2000/svg)[\w.]+\.\w+", text) == []
    assert page.run("return performance.getEntriesByType('resource').length") == 0


def test_hostile_models(driver: webdriver.Chrome, tmp_path: Path) -> None:
    model = xs.load_model("zen3")
    parts = {n: replace(c, name=HOSTILE if n == "pkru" else n) for n, c in model.components.items()}
    model = replace(model, name=HOSTILE, title=HOSTILE, aliases=(HOSTILE,), components=parts)
    path = tmp_path / "xsave.html"
    path.write_text(export.render("html", [model, "zen4"])["xsave.html"])
    page = Page(driver, path).open()
    page.run("document.querySelector('#models button').click()")
    assert HOSTILE in page.text("#facts")
    assert page.text("#name") == HOSTILE
    assert page.run("return window.hacked") is None
    assert page.all("img") == []
    assert len(page.all("script")) == 2
    page.open(page.link)
    assert page.text("#name") == HOSTILE


@pytest.mark.parametrize(
    "link",
    [
        "#cpu=%3Cimg%20src=x%20onerror=window.hacked=1%3E",
        "#cpu=zen4&xcr0=%3Cscript%3E&xss=-1&xcomp=1e9&with=__proto__",
        "#cpu=constructor&xcr0=0xfffffffffffffffffffff",
        "#cpu=zen4&xcr0=18446744073709551615&xss=0xffffffffffffffff&xcomp=0xffffffffffffffff",
        "#%%%&&&===",
        "#javascript:window.hacked=1",
    ],
)
def test_hostile_links(page: Page, link: str) -> None:
    page.open(link)
    assert page.text("#name") == "zen4"
    assert page.run("return window.hacked") is None
    assert page.all("img") == []
    assert page.all("#components tr")


def test_a_policy_lets_nothing_else_run(page: Page) -> None:
    page.run(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'hacked=1'}))"
    )
    assert page.run("return window.hacked") is None
    page.driver.get_log("browser")  # type: ignore[no-untyped-call]


def test_the_data_ends_no_element() -> None:
    from xsaveschema.export.html import in_script

    assert "<" not in in_script({"a": HOSTILE})
    assert json.loads(in_script({"a": HOSTILE})) == {"a": HOSTILE}


def test_options_are_refused() -> None:
    with pytest.raises(xs.XsaveError, match="html has no option"):
        export.render("html", "zen4", colour=1)
