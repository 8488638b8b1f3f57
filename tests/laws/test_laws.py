"""Laws that hold for every model, every mask and every area: hypothesis looks for exceptions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xsaveschema import (
    StateLossError,
    XsaveArea,
    XsaveError,
    load_model,
    relayout,
    to_compacted,
    to_standard,
)
from xsaveschema.catalog import default_catalog
from xsaveschema.model import CpuModel
from xsaveschema.testing import areas

MODELS = default_catalog().models()
models = st.sampled_from(MODELS)


def meaning(area: XsaveArea) -> dict[str, object]:
    """What an area's user state means, apart from the masks and MXCSR_MASK."""
    values: dict[str, object] = {
        name: value
        for name, value in area.values().items()
        if not name.startswith("header.") and name != "sse.mxcsr_mask"
    }
    # Wherever a component is not shown it is initial: drop those that say nothing else.
    for component in area.model.components.values():
        prefix = component.name + "."
        for leaf in component.leaves:
            initial: object = leaf.initial
            value = values.get(prefix + leaf.path)
            if isinstance(value, bytes):
                initial = leaf.initial.to_bytes(leaf.size, "little")
            if value == initial:
                del values[prefix + leaf.path]
    return values


@given(data=st.data(), model=models)
def test_standard_to_compacted_to_standard_keeps_meaning(
    data: st.DataObject, model: CpuModel
) -> None:
    first = data.draw(areas(model, "standard"))
    there = to_compacted(first, model).data
    back = to_standard(there, model).data
    expected = meaning(XsaveArea.parse(first, model))
    assert meaning(XsaveArea.parse(there, model)) == expected
    assert meaning(XsaveArea.parse(back, model)) == expected


@given(data=st.data(), model=models)
def test_compacted_to_standard_to_compacted_keeps_meaning(
    data: st.DataObject, model: CpuModel
) -> None:
    first = data.draw(areas(model, "compacted", supervisor=False))
    there = to_standard(first, model).data
    back = to_compacted(there, model).data
    expected = meaning(XsaveArea.parse(first, model))
    assert meaning(XsaveArea.parse(there, model)) == expected
    assert meaning(XsaveArea.parse(back, model)) == expected


@given(data=st.data(), model=models)
def test_xstate_bv_is_kept_where_mxcsr_does_not_force_it(
    data: st.DataObject, model: CpuModel
) -> None:
    area = XsaveArea.parse(data.draw(areas(model, supervisor=False)), model)
    for result in (to_standard(area.buffer, model), to_compacted(area.buffer, model)):
        seen = XsaveArea.parse(result.data, model)
        assert seen.xstate_bv & ~2 == area.xstate_bv & ~2
        assert seen.xstate_bv & 2 >= area.xstate_bv & 2


@given(data=st.data(), source=models, target=models)
def test_relayout_there_and_back(data: st.DataObject, source: CpuModel, target: CpuModel) -> None:
    first = data.draw(areas(source, supervisor=False))
    area = XsaveArea.parse(first, source)
    lost: tuple[str, ...] = ()
    try:
        there = relayout(first, source=source, target=target)
    except StateLossError as error:
        lost = error.lost
        there = relayout(first, source=source, target=target, drop=lost)
    assert there.dropped == lost, "naming what is lost is enough, and no more is lost"
    if lost:
        return
    back = relayout(there.data, source=target, target=source)
    assert meaning(XsaveArea.parse(back.data, source)) == meaning(area)


@given(data=st.data(), model=models)
def test_parse_then_build_is_byte_exact(data: st.DataObject, model: CpuModel) -> None:
    area = data.draw(areas(model))
    noisy = bytearray(area)
    noisy[528:576] = data.draw(st.binary(min_size=48, max_size=48))
    for raw in (area, bytes(noisy)):
        struct = model.construct()
        assert struct.build(struct.parse(raw)) == raw


@given(data=st.data(), model=models)
def test_raw_and_values_agree_with_construct(
    data: st.DataObject, model: CpuModel, agree: Callable[[XsaveArea], XsaveArea]
) -> None:
    area = agree(XsaveArea.parse(data.draw(areas(model)), model))
    parsed = model.construct(area.layout).parse(bytes(area))
    for slot in area.layout:
        if slot.component.legacy or not area.in_use(slot.name):
            continue
        for field in slot.component.fields:
            if field.count is None and not field.fields:
                assert area[slot.name][field.name] == parsed[slot.name][field.name]


@given(data=st.data(), model=models)
def test_one_register_written_changes_no_other(data: st.DataObject, model: CpuModel) -> None:
    area = XsaveArea.parse(bytearray(data.draw(areas(model))), model)
    names = [name for name in area.registers if name[:2] in {"zm", "k0", "st", "mx", "r1", "bn"}]
    if not names:
        return
    name = data.draw(st.sampled_from(names))
    before = area.registers.read(names)
    value = data.draw(st.integers(0, (1 << 8 * area.registers.size(name)) - 1))
    area.registers[name] = value
    assert area.registers.read(names) == {**before, name: value}


@given(data=st.data(), model=models)
def test_all_registers_at_once_are_what_each_is_alone(data: st.DataObject, model: CpuModel) -> None:
    registers = XsaveArea.parse(data.draw(areas(model)), model).registers
    assert registers.read() == {name: registers[name] for name in registers}


@given(data=st.data(), model=models)
def test_any_bytes_are_an_area_or_an_xsave_error(data: st.DataObject, model: CpuModel) -> None:
    area = bytearray(data.draw(areas(model)))
    for _ in range(data.draw(st.integers(1, 4))):
        area[data.draw(st.integers(512, 575))] = data.draw(st.integers(0, 255))
    area = area[: data.draw(st.integers(0, len(area)))]
    for call in (
        lambda: XsaveArea.parse(area, model).values(),
        lambda: to_standard(area, model),
        lambda: to_compacted(area, model),
        lambda: model.construct().parse(bytes(area)),
    ):
        # What the error says is other tests' matter; that nothing else is raised is this one's.
        with suppress(XsaveError):
            call()
    if len(area) >= 576:
        seen = XsaveArea.parse(area, model, strict=False)
        assert seen.values()
        assert dict(seen.registers) is not None


@pytest.mark.parametrize("name", ["skylake-server", "sapphire-rapids"])
def test_plans_are_not_bound_to_one_area(name: str) -> None:
    # The same plan serves areas with other contents: nothing of one may leak into the next.
    model = load_model(name)
    ones = bytearray(b"\xff" * model.standard_layout().size)
    ones[24:28] = (0x1F80).to_bytes(4, "little")
    ones[512:576] = model.xcr0.to_bytes(8, "little") + bytes(56)
    first = bytes(to_compacted(ones, model).data)
    zeros = bytearray(len(ones))
    zeros[24:28] = ones[24:28]
    zeros[512:576] = ones[512:576]
    second = to_compacted(zeros, model).data
    assert not any(second[576:])
    assert bytes(to_compacted(ones, model).data) == first
