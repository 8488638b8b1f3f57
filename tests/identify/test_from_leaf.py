"""A model that a leaf 0xD alone describes: what could be is built, what could not is refused."""

from __future__ import annotations

import pytest
from writers import cloud_hypervisor as w

from xsaveschema import artefacts, identify
from xsaveschema.authoring.schema_export import export
from xsaveschema.cpuid import CpuidRegisters
from xsaveschema.errors import XsaveError
from xsaveschema.model import MAX_EXTENT


@pytest.mark.parametrize(
    ("more", "match"),
    [
        pytest.param({9: (0xF0000000, 1024, 0, 0)}, "9: 4026531840 bytes cannot be", id="size"),
        pytest.param({9: (MAX_EXTENT + 1, 1024, 0, 0)}, "cannot be: at most 1048576", id="just"),
        pytest.param({9: (8, MAX_EXTENT + 1, 0, 0)}, "its offset 1048577 cannot be", id="offset"),
        pytest.param({11: (MAX_EXTENT + 1, 0, 1, 0)}, "11: 1048577 bytes", id="supervisor"),
        pytest.param({9: (8, 568, 0, 0)}, "a user component at 568", id="legacy region"),
        pytest.param({9: (8, 580, 0, 0)}, "avx .* and pkru .* overlap", id="overlap"),
        pytest.param({63: (8, 1024, 0, 0)}, "63: state components have the numbers", id="63"),
    ],
)
def test_a_leaf_that_no_area_could_hold(more: dict[int, CpuidRegisters], match: str) -> None:
    """Sizes are bounded as YAML's are: what a leaf claims is memory that a conversion takes."""
    leaf = {0: (0x207, 832, 832, 0), 1: (0, 0, 0, 0), 2: (256, 576, 0, 0), 9: (8, 1032, 0, 0)}
    assert identify(leaf_0xd=leaf).model.components["pkru"].offset == 1032
    with pytest.raises(XsaveError, match=match):
        _ = identify(leaf_0xd=leaf | more).model


def test_the_bound_of_yaml_and_of_a_leaf_are_one() -> None:
    leaf = {0: (0x207, 832, 832, 0), 2: (256, 576, 0, 0), 9: (MAX_EXTENT, MAX_EXTENT, 0, 0)}
    assert identify(leaf_0xd=leaf).model.standard_layout().size == 2 * MAX_EXTENT
    assert any(f'"maximum": {MAX_EXTENT}' in text for text in export().values())


def test_a_vcpu_that_claims_gigabytes_is_refused() -> None:
    rows = dict.fromkeys(range(20, 60), (4026531840, 1024, 0, 0))
    leaf = {0: (7, 832, 832, (1 << 28) - 1), 1: (0, 0, 0, 0), 2: (256, 576, 0, 0), **rows}
    table = w.cpuid(leaf, 0x306C3, "GenuineIntel")
    data = w.snapshot({"0": w.vcpu(bytes(4096), table)})
    with pytest.raises(XsaveError, match="sub-leaf 20: 4026531840 bytes cannot be"):
        list(artefacts.read_bytes(data))
