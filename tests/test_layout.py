"""Where components sit: every model and mask, sizes that processors gave, which XCR0 is legal."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest

import xsaveschema as xs
from xsaveschema import Catalog, CpuModel
from xsaveschema.errors import (
    MaskError,
    UnknownComponentError,
)
from xsaveschema.layout import fitted, overlap, shared
from xsaveschema.model import bits_of
from xsaveschema.spans import Slot


@pytest.mark.parametrize(
    ("name", "xcr0", "reason"),
    [
        pytest.param("zen4", 0x6, r"bit 0 \(x87\) must be set", id="no x87"),
        pytest.param("zen4", 0x0, r"bit 0 \(x87\) must be set", id="zero"),
        pytest.param("zen4", 0x5, "avx without sse", id="avx without sse"),
        pytest.param("zen4", 0x27, "opmask without zmm_hi256 and hi16_zmm", id="opmask alone"),
        pytest.param("zen4", 0x67, "opmask and zmm_hi256 without hi16_zmm", id="no hi16_zmm"),
        pytest.param("zen4", 0xC7, "zmm_hi256 and hi16_zmm without opmask", id="no opmask"),
        pytest.param("zen4", 0xE3, "opmask without avx", id="avx-512 without avx"),
        pytest.param("skylake", 0xB, "bndregs without bndcsr", id="bndregs alone"),
        pytest.param("skylake", 0x17, "bndcsr without bndregs", id="bndcsr alone"),
        pytest.param("sapphire-rapids", 0x20007, "tilecfg without tiledata", id="tilecfg alone"),
        pytest.param("sapphire-rapids", 0x40007, "tiledata without tilecfg", id="tiledata alone"),
        pytest.param(
            "zen4", 0x1B, r"bits 0x18 \(component3, component4\) are unknown", id="unknown"
        ),
        pytest.param("zen4", 0x1807, "cet_u, cet_s.* are supervisor components", id="supervisor"),
        pytest.param("zen4", 1 << 63 | 7, "unknown", id="bit 63"),
        pytest.param("zen4", -1, "a mask has 64 bits", id="negative"),
        pytest.param("zen4", 1 << 64 | 7, "a mask has 64 bits", id="65 bits"),
    ],
)
def test_an_xcr0_that_the_processor_refuses(name: str, xcr0: int, reason: str) -> None:
    model = xs.load_model(name)
    with pytest.raises(MaskError, match=reason) as caught:
        model.limited(xcr0=xcr0)
    assert caught.value.mask == xcr0
    # A mask that nobody sets has a layout all the same, if its components are there and apart.
    if xcr0 & ~model.user_mask or "overlap" in reason:
        with pytest.raises(MaskError, match=reason):
            model.standard_layout(xcr0)
    else:
        assert model.standard_layout(xcr0).mask == xcr0


@pytest.mark.parametrize("xcr0", [0x1, 0x3, 0x7, 0x207, 0xE7, 0x2E7, 0x201])
def test_an_xcr0_that_the_processor_takes(xcr0: int) -> None:
    model = xs.load_model("zen4").limited(xcr0=xcr0)
    assert (model.xcr0, model.xss) == (xcr0, 0x1800)
    assert model.limited(xss=0).xss == 0
    assert model.limited() is model
    # Limited is not cut: the same silicon takes the whole mask again.
    assert model.limited(xcr0=0x2E7).xcr0 == 0x2E7


def test_an_xss_that_the_processor_refuses() -> None:
    with pytest.raises(MaskError, match="zen4 has no supervisor component pkru"):
        xs.load_model("zen4").limited(xss=0x200)
    with pytest.raises(UnknownComponentError):
        xs.load_model("zen4").component("tilecfg")


def enumerated(model: CpuModel, xcr0: int, xss: int) -> tuple[int, int, dict[int, int]]:
    """CPUID D.0 and D.1 EBX and the compacted offsets by the words of the SDM, from plain rows."""
    rows = {c.number: (c.size, c.offset, c.align64) for c in model.components.values()}
    last = max([576, *(rows[i][0] + (rows[i][1] or 0) for i in bits_of(xcr0 & ~3))])
    end, places = 576, {}
    for i in range(2, 63):
        if (xcr0 | xss) >> i & 1:
            end = -(-end // 64) * 64 if rows[i][2] else end
            places[i] = end
            end += rows[i][0]
    return last, end, places


@pytest.mark.parametrize("name", list(Catalog()))
def test_layouts_of_every_model_and_mask(name: str) -> None:
    model = xs.load_model(name)
    user = [n for n in bits_of(model.user_mask) if n > 1]
    supervisor = list(bits_of(model.supervisor_mask))
    for count in range(len(user) + 1):
        for chosen in combinations(user, count):
            xcr0 = 3 | sum(1 << n for n in chosen)
            xss = sum(1 << n for n in supervisor[: count + 1])
            last, end, places = enumerated(model, xcr0, xss)
            layout = model.compacted_layout(xcr0 | xss)
            assert (layout.size, layout.xcomp_bv) == (end, xcr0 | xss | 1 << 63)
            assert {s.number: s.offset for s in layout if s.number > 1} == places
            try:
                assert model.standard_layout(xcr0).size == last
            except MaskError:
                continue


# CPUID leaf 0xD as it is: XCR0, IA32_XSS, D.0 ECX, D.1 EBX with both enabled.
SEEN = [
    pytest.param("zen4", 0xE7, 0x1800, 0x980, 0x9A8, id="zen4, PKRU hidden"),
    pytest.param("zen4", 0x2E7, 0x1800, 2440, 2480, id="zen4"),
    pytest.param("zen2", 0x207, 0, 896, 896, id="zen2"),
    pytest.param("bulldozer", 1 << 62 | 7, 0, 960, None, id="bulldozer"),
    pytest.param("skylake-server", 0x2FF, 0x100, 2696, 2696, id="skylake-server"),
    pytest.param("skylake", 0x1F, 0x100, 1088, 1088, id="skylake"),
    pytest.param("sapphire-rapids", 0x602E7, 0xDD00, 11008, 11776, id="sapphire-rapids"),
]


@pytest.mark.parametrize(("name", "xcr0", "xss", "standard", "compacted"), SEEN)
def test_sizes_that_processors_gave(
    name: str, xcr0: int, xss: int, standard: int, compacted: int | None
) -> None:
    model = xs.load_model(name).limited(xcr0=xcr0, xss=xss)
    assert model.standard_layout().size == standard
    if compacted is not None:
        assert model.compacted_layout().size == compacted


def test_the_compacted_layout_of_sapphire_rapids() -> None:
    layout = xs.load_model("sapphire-rapids").compacted_layout(0x8000_0000_0006_5AE7)
    assert {slot.name: slot.offset for slot in layout} == {
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
    assert (layout.size, layout.gaps) == (10816, ((2528, 32),))


@pytest.mark.shared
def test_every_complete_dump_is_the_model_with_its_signature(shared: Path) -> None:
    """The table row by row, D.0 ECX, and the sizes of what was enabled when the dump was made."""
    models = Catalog().models()
    seen = compacted = 0
    for record in json.loads((shared / "cpuid" / "dumps.json").read_text()):
        parts = record["vendor"], record["family"], record["model"], record["stepping"]
        if record["status"] != "complete" or record["virtual"] or None in parts:
            continue
        (model,) = (m for m in models if any(sig.matches(*parts) for sig in m.signatures))
        where = f"{record['id']}: {model.name}"
        for row in record["components"]:
            c = model.component(row["component"])
            assert (c.size, c.offset or 0) == (row["size"], row["offset"] or 0), where
            flags = row["supervisor"], row["align64"], row["xfd"]
            assert (c.supervisor, c.align64, c.xfd) == flags, where
        xcr0, xss = record["xcr0_mask"], record.get("xss_mask") or 0
        d0, d1 = record["leaf_d0"], record["leaf_d1"]
        assert model.limited(xcr0=xcr0, xss=xss).standard_layout().size == d0["ecx"], where
        assert enumerated(model, xcr0, xss)[0] == d0["ecx"], where
        enabled = [3 | mask for mask in subsets(xcr0 & ~3) if takes(model, 3 | mask)]
        assert d0["ebx"] in {enumerated(model, mask, 0)[0] for mask in enabled}, where
        if d1 and d1["ebx"]:
            sizes = {enumerated(model, m, some)[1] for m in enabled for some in subsets(xss)}
            assert d1["ebx"] in sizes, where
            compacted += 1
        seen += 1
    assert seen > 200
    assert compacted > 100


def takes(model: CpuModel, xcr0: int) -> bool:
    try:
        model.limited(xcr0=xcr0)
    except MaskError:
        return False
    return True


def subsets(mask: int) -> list[int]:
    found = [0]
    for number in bits_of(mask):
        found += [some | 1 << number for some in found]
    return found


# x87's bytes without MXCSR's; SSE's with them where its bit decides of them.
RUNS = [
    pytest.param("standard", 0, [(0, b"\x7f\x03" + bytes(22)), (32, bytes(128))], id="x87"),
    pytest.param("standard", 1, [(160, bytes(256))], id="sse"),
    pytest.param("standard", 5, [(1088, bytes(64))], id="opmask"),
    pytest.param("standard", 9, [(2688, bytes(8))], id="pkru, a field and reserved bytes"),
    pytest.param("standard", 11, [], id="no place"),
    pytest.param("compacted", 0, [(0, bytes(24)), (32, bytes(128))], id="x87, compacted"),
    pytest.param("compacted", 1, [(24, bytes(8)), (160, bytes(256))], id="sse, compacted"),
]


@pytest.mark.parametrize(("format", "number", "wanted"), RUNS)
def test_what_stands_where_a_component_is_initial(
    format: str, number: int, wanted: list[tuple[int, bytes]]
) -> None:
    model = xs.load_model("sapphire-rapids")
    layout = model.standard_layout() if format == "standard" else model.compacted_layout(0x2E7)
    assert list(layout.initial_runs(number)) == wanted


def test_what_of_a_layout_a_buffer_has_room_for() -> None:
    layout = xs.load_model("zen4").standard_layout()
    for length, mask in {
        576: 0x3,
        831: 0x3,
        832: 0x7,
        2439: 0xE7,
        2440: 0x2E7,
        9999: 0x2E7,
    }.items():
        assert fitted(layout, length).mask == mask
    assert fitted(layout, 2440) is layout


def test_components_that_share_bytes() -> None:
    model = xs.load_model("zen4")
    avx, opmask, pkru = (model.components[name] for name in ("avx", "opmask", "pkru"))
    slots = [Slot(avx, 576), Slot(opmask, 800), Slot(pkru, 864)]
    assert overlap(slots) == "avx [0x240..0x340) and opmask [0x320..0x360) overlap"
    assert shared(slots) == avx.bit | opmask.bit
    apart = [Slot(avx, 576), Slot(opmask, 832), Slot(pkru, 896)]
    assert (overlap(apart), shared(apart)) == (None, 0)
    # Not only neighbours: avx reaches over opmask into pkru.
    over = [Slot(avx, 576), Slot(opmask, 600), Slot(pkru, 700)]
    assert shared(over) == avx.bit | opmask.bit | pkru.bit
    assert overlap(over[::2]) == "avx [0x240..0x340) and pkru [0x2bc..0x2c4) overlap"
