"""Laws of differences: what they say is what the values say, and nothing else is different."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_laws import meaning, models

from xsaveschema import XsaveArea, relayout, to_compacted, to_standard
from xsaveschema.area.loaded import as_restored
from xsaveschema.diff import BitDelta, Delta, byte_differences, diff
from xsaveschema.errors import StateLossError
from xsaveschema.model import CpuModel, Format
from xsaveschema.testing import areas

# Each case parses and compares several areas: half as many as elsewhere are enough.
few = settings(max_examples=settings().max_examples // 2)


def state(area_a: XsaveArea, area_b: XsaveArea) -> dict[str, tuple[object, object]]:
    """What differs by XsaveArea.values(), which diff() does not use: path to values."""
    a, b = meaning(area_a), meaning(area_b)
    # meaning() leaves initial values out, apart from those of fields that stand nowhere.
    return {
        path: (a.get(path), b.get(path))
        for path in a.keys() | b.keys()
        if a.get(path) != b.get(path)
    }


def mirrored(delta: Delta) -> Delta:
    turned = tuple(BitDelta(part.name, part.b, part.a) for part in delta.bits)
    return replace(delta, a=delta.b, b=delta.a, bits=turned)


@few
@given(data=st.data(), model=models)
def test_an_area_does_not_differ_from_itself(data: st.DataObject, model: CpuModel) -> None:
    area = data.draw(areas(model))
    assert diff(area, area, model, everything=True) == []
    assert byte_differences(area, area, model) == []


@few
@given(data=st.data(), model=models)
def test_a_conversion_keeps_the_state(data: st.DataObject, model: CpuModel) -> None:
    area = data.draw(areas(model, supervisor=False))
    standard, compacted = to_standard(area, model).data, to_compacted(area, model).data
    for one, two in ((area, standard), (area, compacted), (standard, compacted)):
        assert diff(one, two, model) == []
        kinds = {delta.kind for delta in diff(one, two, model, everything=True)}
        # x87's reserved bytes go with it; the header's are cleared, and bytes 416..511 are kept.
        assert kinds <= {"in-use", "format", "mask", "reserved"}


@few
@given(data=st.data(), source=models, target=models)
def test_another_models_layout_keeps_the_state(
    data: st.DataObject, source: CpuModel, target: CpuModel
) -> None:
    area = data.draw(areas(source, supervisor=False))
    try:
        moved = relayout(area, source=source, target=target).data
        lost: tuple[str, ...] = ()
    except StateLossError as error:
        lost = error.lost
        moved = relayout(area, source=source, target=target, drop=lost).data
    assert {delta.component for delta in diff(area, moved, source, target)} <= set(lost)


@few
@given(data=st.data(), one=models, two=models)
def test_deltas_are_exactly_what_the_values_say(
    data: st.DataObject, one: CpuModel, two: CpuModel
) -> None:
    first, _ = as_restored(XsaveArea.parse(data.draw(areas(one)), one))
    second, _ = as_restored(XsaveArea.parse(data.draw(areas(two)), two))
    found = diff(first, second, everything=True)
    assert {
        delta.path for delta in found if delta.kind == "state" or ".entries[" in delta.path
    } == set(state(first, second))
    for delta in found:
        assert "\n" not in str(delta)
    assert diff(second, first, everything=True) == [mirrored(delta) for delta in found]


@few
@given(data=st.data(), model=models)
def test_one_field_written_is_one_delta(data: st.DataObject, model: CpuModel) -> None:
    before = bytes(as_restored(XsaveArea.parse(data.draw(areas(model)), model))[0])
    area = XsaveArea.parse(bytearray(before), model)
    assume(list(area))
    name = data.draw(st.sampled_from(list(area)))
    paths = [leaf for leaf in area.layout[name].component.leaves if leaf.path != "mxcsr_mask"]
    leaf = data.draw(st.sampled_from(paths))
    old = area[name][leaf.path]
    drawn = random.Random(data.draw(st.integers())).randbytes(leaf.size)
    new: int | bytes = drawn if leaf.raw else int.from_bytes(drawn, "little")
    area[name][leaf.path] = new
    assume(new != old)
    assume(not as_restored(area)[1])  # what is loaded otherwise has tests of its own
    assume(name != "lbr")  # entries behind DEPTH are reserved, and DEPTH itself is a field
    (delta,) = diff(before, area, model)
    assert (delta.component, delta.path) == (name, f"{name}.{leaf.path}")
    assert (delta.a, delta.b, delta.kind) == (old, new, "state")
    if delta.bits and isinstance(old, int) and isinstance(new, int):
        # Together the bits are the whole difference; by name they are what the area reads.
        before_area = XsaveArea.parse(before, model)
        for part in delta.bits:
            assert part.a != part.b
            if not part.name.startswith("bit"):
                path = f"{leaf.path}.{part.name}"
                assert (part.a, part.b) == (before_area[name][path], area[name][path])
        assert sum((part.a ^ part.b).bit_count() for part in delta.bits) == (old ^ new).bit_count()


@few
@given(data=st.data(), model=models, form=st.sampled_from(("standard", "compacted")))
def test_one_register_written_differs_in_its_pieces_only(
    data: st.DataObject, model: CpuModel, form: Format
) -> None:
    before = data.draw(areas(model, form, trailing=False))
    area = XsaveArea.parse(bytearray(before), model)
    names = [n for n in area.registers if not n.startswith(("tmm", "mm"))]
    assume(names)
    name = data.draw(st.sampled_from(names))
    value = data.draw(st.integers(0, (1 << 8 * area.registers.size(name)) - 1))
    changed = area.registers[name] != value
    area.registers[name] = value
    register = model.registers[name]
    pieces = set()
    for piece in register.pieces:
        head, _, rest = piece.field.partition(".")
        pieces.add(f"{piece.component}.{piece.field}")
        pieces.add(f"{piece.component}.{head}[{register.index}]" + (f".{rest}" if rest else ""))
    found = [delta.path for delta in diff(before, area, model)]
    assert set(found) <= pieces
    assert bool(found) == changed
    assert len(found) <= len(register.pieces)


@few
@given(data=st.data(), one=models, two=models)
def test_byte_differences_are_all_of_them(
    data: st.DataObject, one: CpuModel, two: CpuModel
) -> None:
    first, second = data.draw(areas(one)), data.draw(areas(two))
    patched = bytearray(first[: len(second)]).ljust(len(second), b"\0")
    end = 0
    for run in byte_differences(first, second, one, two):
        assert run.offset >= end, "runs overlap"
        end = run.end
        assert (first[run.offset : end], second[run.offset : end]) == (run.a, run.b)
        patched[run.offset : run.offset + len(run.b)] = run.b
    assert patched == second


@few
@given(data=st.data(), model=models)
def test_bytes_that_no_restore_loads_make_no_difference(
    data: st.DataObject, model: CpuModel
) -> None:
    first = data.draw(areas(model))
    second = bytearray(first)
    rng = random.Random(data.draw(st.integers()))
    for _ in range(20):
        at = rng.randrange(len(second))
        if not 512 <= at < 528:
            second[at] ^= rng.randrange(1, 256)
    runs = byte_differences(first, second, model)
    assert runs
    for run in runs:
        if run.owner_a.endswith(" reserved") or run.owner_a.startswith("lbr."):
            continue
        trial = bytearray(first)
        trial[run.offset : run.end] = run.b
        assert bool(diff(first, trial, model)) == run.live, run
