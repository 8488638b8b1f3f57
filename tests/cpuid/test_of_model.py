"""The leaf 0xD that a model implies, and the one of which it can be built again."""

from __future__ import annotations

import pytest
from cpuid_dumps import LEAF

from xsaveschema import Catalog, load_model
from xsaveschema.cpuid.of_model import implied_leaf, whole_leaf
from xsaveschema.errors import MaskError
from xsaveschema.identify.from_leaf import model_from_leaf
from xsaveschema.model import CpuModel

MODELS = Catalog().models()


def test_a_cpu_gives_back_its_own_leaf() -> None:
    made = model_from_leaf(LEAF, name="skylake", vendor="GenuineIntel")
    # D.1.EBX is of all that the masks have; PT was not enabled just then.
    assert implied_leaf(made, 0x1F, 0x100) == {**LEAF, 1: (0xF, 1088, 0x100, 0)}


def test_masks_limit_what_is_shown() -> None:
    leaf = implied_leaf(load_model("zen4"), 0x7, 0)
    assert leaf[0] == (0x7, 832, 832, 0)
    assert sorted(leaf) == [0, 1, 2]
    with pytest.raises(MaskError, match="sse"):
        implied_leaf(load_model("zen4"), 0x5, 0)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_the_whole_leaf_builds_the_model_again(model: CpuModel) -> None:
    made = model_from_leaf(whole_leaf(model), name=model.name, vendor=model.vendor)
    assert made.digest == model.digest
    assert (made.xcr0, made.xss) == (model.xcr0, model.xss)
