"""Members are every byte of a component once, and where a component's fields are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from xsaveschema.catalog import default_catalog
from xsaveschema.members import Member, members_of
from xsaveschema.model import StateComponent


def elements(members: tuple[Member, ...], base: int = 0, prefix: str = "") -> Iterator[object]:
    """What the members say as the component's leaves: (path, offset, size)."""
    for member in members:
        for index in range(1 if member.count is None else member.count):
            at = base + member.offset + index * (member.size + member.rest)
            path = prefix + member.name + ("" if member.count is None else f"[{index}]")
            if member.members:
                yield from elements(member.members, at, path + ".")
            elif member.field:
                yield path, at, member.size


COMPONENTS = {
    (component.name, component.size): component
    for model in default_catalog().models()
    for component in model.components.values()
    if not component.legacy
}


@pytest.mark.parametrize("component", COMPONENTS.values(), ids=str)
def test_members_tile_a_component_and_are_its_fields(component: StateComponent) -> None:
    members = members_of(component.fields, component.size)
    end = 0
    for member in members:
        assert member.offset == end
        assert (member.field is None) == member.name.startswith("reserved_")
        end = member.end
    assert end == component.size
    leaves = {(leaf.path, leaf.offset, leaf.size) for leaf in component.leaves}
    assert set(elements(members)) <= leaves
    fitting = {field.name for field in component.fields if field.end <= component.size}
    assert fitting <= {member.name for member in members}


def test_a_groups_own_gaps_are_its_members() -> None:
    members = members_of(COMPONENTS["bndregs", 64].fields, 64)
    assert [(m.name, m.count, [inner.name for inner in m.members]) for m in members] == [
        ("bnd", 4, ["lower", "upper"])
    ]
