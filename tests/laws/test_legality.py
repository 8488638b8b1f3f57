"""Values that a restore refuses: the bits of the components that ship, and the predicates."""

from __future__ import annotations

from typing import get_args

import pytest

from xsaveschema import Catalog, CpuModel, XsaveArea, load_model
from xsaveschema.language.grammar import Predicate
from xsaveschema.legality import PREDICATES
from xsaveschema.restore import check


def put(model: CpuModel, name: str, at: int, value: int, size: int = 8) -> bytes:
    """A compacted area with a component in use that is zero but for one number."""
    area = XsaveArea.new(model, "compacted")
    slot = area.layout[name]
    area.write(slot, slot.offset, bytes(slot.size))
    area.write(slot, slot.offset + at, value.to_bytes(size, "little"))
    return bytes(area)


# SDM 13.5 and volume 4: the bits of each 64-bit word that XRSTORS takes, by component and byte.
# An address is judged apart.
TAKEN = {
    ("cet_u", 0): ~0x3C0,
    ("pasid", 0): 1 << 31 | 0xFFFFF,
    ("uintr", 16): 1 << 63 | 0xFF_FFFF_FFFF,
    ("uintr", 32): ~0,
    ("pt", 64): ~0,
    ("pt", 72): 0,
    ("pt", 120): 0,
    ("lbr", 8): 0x78,
}
LOW = {("cet_u", 8): 0x3, ("cet_s", 0): 0x3, ("cet_s", 8): 0x3, ("cet_s", 16): 0x3}
LOW |= {("uintr", 0): 0, ("uintr", 8): 0, ("uintr", 24): 0x3F, ("uintr", 40): 0xE}
TAKEN |= {place: (1 << 56) - 1 & ~low for place, low in LOW.items()}


@pytest.mark.parametrize(("place", "taken"), TAKEN.items(), ids=str)
def test_each_bit_of_the_supervisor_components_that_ship(
    place: tuple[str, int], taken: int
) -> None:
    model = load_model("sapphire-rapids")
    found = 0
    for bit in range(64):
        if not check(put(model, *place, 1 << bit), model, "xrstors"):
            found |= 1 << bit
    assert found == taken & (1 << 64) - 1
    if place in LOW:
        high = 0xFF << 56
        assert check(put(model, *place, high), model, "xrstors") == []
    if place[0] == "lbr":
        assert check(put(model, *place, 0x48), model, "xrstors")


def test_hdc_has_one_bit() -> None:
    model = next(
        m for m in Catalog().models() if "hdc" in m.components and "xsaves" in m.instructions
    )
    model = model.limited(xss=model.xss | model.components["hdc"].bit)
    legal = [n for n in range(64) if not check(put(model, "hdc", 0, 1 << n), model, "xrstors")]
    assert legal == [0]


def test_the_language_names_the_predicates_that_there_are() -> None:
    assert set(get_args(Predicate)) == set(PREDICATES)
