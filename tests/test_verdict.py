"""Would an area's state restore on another CPU: relayout() and check() are the judges."""

from __future__ import annotations

import random
from functools import cache

import pytest
from test_laws import MODELS

from xsaveschema import StateLossError, XsaveArea, check, compare, load_model, relayout
from xsaveschema.compare import compare_areas
from xsaveschema.diff import diff
from xsaveschema.errors import HeaderError, WrongTypeError, XsaveError
from xsaveschema.model import CpuModel, Format, bits_of
from xsaveschema.verdict import verdict

ZEN3, ZEN4, ICX, SPR = map(load_model, ("zen3", "zen4", "ice-lake-server", "sapphire-rapids"))
HASWELL, BULLDOZER = load_model("haswell"), load_model("bulldozer")


@cache
def distinct() -> tuple[CpuModel, ...]:
    """The models that differ in what matters here."""
    found: dict[object, CpuModel] = {}
    for model in MODELS:
        rows = [(c.name, c.size, c.offset, c.align64) for c in model.components.values()]
        facts = (model.xcr0, model.xss, model.mxcsr_mask, model.instructions, *rows)
        found.setdefault(facts, model)
    return tuple(found.values())


def random_area(rng: random.Random, model: CpuModel) -> XsaveArea:
    """An area with random components in use, random values, and here and there an odd MXCSR."""
    form: Format = "standard"
    if "xsavec" in model.instructions and rng.random() < 0.6:
        form = "compacted"
    if form == "compacted":
        enabled = model.xcr0 | (model.xss if "xsaves" in model.instructions else 0)
        mask = sum(1 << n for n in bits_of(enabled) if n < 2 or rng.random() < 0.7)
        area = XsaveArea.new(model, form, xcomp_bv=mask)
    else:
        area = XsaveArea.new(model, form)
    for slot in area.layout:
        if rng.random() < 0.5:
            spots = [(leaf.offset, leaf.size) for leaf in slot.component.leaves]
            for at, size in spots or [(0, slot.size)]:
                value = rng.randbytes(size) if rng.random() < 0.5 else bytes([1]) + bytes(size - 1)
                area.write(slot, slot.origin + at, value)
    area["sse"]["mxcsr"] = rng.choice((0x1F80, 0x1FA0, 0x1F80 | 1 << 17)) & model.mxcsr_mask
    return area


@pytest.mark.parametrize("model", distinct(), ids=lambda model: model.name)
def test_restorable_is_what_relayout_converts_and_check_finds_no_fault_in(model: CpuModel) -> None:
    rng = random.Random(model.name)
    for target in distinct():
        area = random_area(rng, model)
        found = compare(area, target)
        assert found.in_use == area.xstate_bv
        compacted = area.format == "compacted" and "xsavec" in target.instructions
        if found.lost:
            assert not found.restorable
            with pytest.raises(StateLossError) as caught:
                relayout(area, target=target, format="compacted" if compacted else "standard")
            assert caught.value.lost == found.lost
            continue
        moved = relayout(area, target=target, format="compacted" if compacted else "standard")
        supervisor = compacted and moved.layout.mask & target.supervisor_mask
        faults = check(moved.data, target, "xrstors" if supervisor else "xrstor")
        assert found.refused == tuple(dict.fromkeys(fault.rule for fault in faults))
        assert found.restorable == (not faults)
        if found.as_it_is:
            assert area.format == ("compacted" if compacted else "standard")
            read = XsaveArea.parse(bytes(area), target, assume=True)
            assert diff(read, XsaveArea.parse(moved.data, target)) == [], (area.model, target)


def test_the_random_areas_meet_every_outcome() -> None:
    rng = random.Random(0)
    found = [compare(random_area(rng, a), b) for a in distinct() for b in (ZEN3, ICX, SPR, HASWELL)]
    assert {each.restorable for each in found} == {True, False}
    assert any(each.lost for each in found)
    assert {"mxcsr"} <= {rule for each in found for rule in each.refused}
    assert {each.as_it_is for each in found if each.restorable} == {True, False}


def used(model: CpuModel, *names: str, form: Format = "standard") -> XsaveArea:
    area = XsaveArea.new(model, form)
    for name in names:
        slot = area.layout[name]
        area.write(slot, slot.origin, b"\1")
    return area


def test_what_is_in_use_counts_and_not_what_the_cpu_could() -> None:
    assert compare(ZEN4, ZEN3).lost == ("opmask", "zmm_hi256", "hi16_zmm")
    found = compare(used(ZEN4, "avx"), ZEN3)
    assert (found.restorable, found.lost, found.possible) == (True, (), ())
    assert [row.name for row in found.components] == ["avx"]
    assert compare(used(ZEN4, "opmask"), ZEN3).lost == ("opmask",)
    # Supervisor state in use is no mere possibility.
    packed = used(ZEN4, "avx", "cet_u", form="compacted")
    assert compare(packed, ICX).lost == ("cet_u",)
    assert compare(used(ZEN4, "avx", form="compacted"), ICX).restorable


def test_a_cpu_without_the_compacted_format_gets_the_standard_one() -> None:
    found = compare(used(ZEN4, "avx", form="compacted"), HASWELL)
    assert (found.restorable, found.as_it_is) == (True, False)
    assert compare(used(HASWELL, "avx"), HASWELL).as_it_is


def test_an_area_that_stands_elsewhere_is_converted_first() -> None:
    assert compare(used(ZEN4, "avx"), load_model("zen5")).as_it_is
    assert compare(used(ZEN4, "pkru"), ICX).as_it_is is False
    assert "restores the area once converted" in str(compare(used(ZEN4, "pkru"), ICX))


def test_an_mxcsr_that_the_host_refuses_is_a_fault_of_the_area_that_has_it() -> None:
    area = used(ZEN4, "avx")
    assert compare(area, ICX).restorable
    area["sse"]["mxcsr"] = 0x21F80
    found = compare(area, ICX)
    assert (found.restorable, found.lost, found.refused) == (False, (), ("mxcsr",))
    assert "refuses: MXCSR 0x00021f80 has bits 0x20000 outside MXCSR_MASK 0xFFFF" in str(found)


def test_state_that_is_not_in_the_file_is_not_restored_from_it() -> None:
    whole = XsaveArea.new(ZEN4, xcr0=7)
    area = XsaveArea.partial(bytes(whole), ZEN4, {5: "opmask"})
    found = compare(area, load_model("zen5"))
    assert (found.restorable, found.lost, found.missing) == (False, (), ("opmask",))
    assert "not in this file: opmask" in str(found)
    assert compare(area, ZEN3).lost == ("opmask",), "there it has no place either"


def test_several_areas_are_one_guest() -> None:
    areas = [used(ZEN4, "avx"), used(ZEN4, "opmask"), used(ZEN4, "pkru")]
    found = compare(areas, ZEN3)
    assert found.in_use == sum(ZEN4.component(name).bit for name in ("avx", "opmask", "pkru"))
    assert [each.restorable for each in found.areas] == [True, False, True]
    text = str(found)
    assert text.startswith("zen4 -> zen3: lost: opmask\nin 1 of 3 areas: #1\n")
    facts = found.to_dict()
    assert (facts["areas"], facts["in_use"]) == (3, ["avx", "opmask", "pkru"])
    assert facts["failing"] == [{"label": "#1", "lost": ["opmask"], "missing": [], "faults": []}]


def test_several_areas_and_several_hosts_in_one_pass() -> None:
    areas = iter([("vCPU 0", used(ZEN4, "avx")), ("vCPU 1", used(ZEN4, "zmm_hi256"))])
    zen3, icx = compare_areas(areas, [ZEN3, ICX])
    assert (zen3.lost, icx.lost) == (("zmm_hi256",), ())
    assert [each.label for each in zen3.areas if each.lost] == ["vCPU 1"]


def test_areas_that_are_laid_out_apart_are_judged_by_their_own_places() -> None:
    found = compare([used(ZEN3, "avx"), used(SPR, "pkru")], SPR)
    assert (found.restorable, found.a) == (True, ZEN3)
    assert [each.as_it_is for each in found.areas] == [False, True]
    found = compare([used(ZEN3, "avx"), used(SPR, "tilecfg")], ZEN4)
    assert (found.a, found.lost) == (SPR, ("tilecfg",))


def test_what_is_no_guest() -> None:
    with pytest.raises(XsaveError, match="no area to compare"):
        compare([], ZEN3)
    with pytest.raises(WrongTypeError, match="pass a CpuModel, or XsaveAreas, not int 7"):
        compare([7], ZEN3)  # type: ignore[list-item]
    with pytest.raises(XsaveError, match=r"areas of zen4, bulldozer have components in use"):
        compare([used(ZEN4, "cet_u", form="compacted"), used(BULLDOZER, "lwp")], ZEN3)
    with pytest.raises(XsaveError, match="xss= is a CPU's"):
        compare(used(ZEN4, "avx"), ZEN3, xss=0)
    bad = bytearray(bytes(used(ZEN4, "avx")))
    bad[520] = 1
    with pytest.raises(HeaderError):
        compare(XsaveArea.parse(bad, ZEN4, strict=False), ZEN3)
    assert verdict(used(ZEN4, "avx"), ZEN3).label == "area"
