"""Rules that stand in the component files: what XCR0 takes, and values that a restore refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from xsaveschema import Catalog, load_model
from xsaveschema.errors import MaskError
from xsaveschema.layout import takes_xcr0


def legal(xcr0: int) -> bool:
    """SDM vol. 1, 13.3, in its own words: bit 0; AVX; MPX; AVX-512; AMX."""
    bit = [xcr0 >> n & 1 for n in range(20)]
    return bool(
        bit[0]
        and (not bit[2] or bit[1])
        and bit[3] == bit[4]
        and bit[5] == bit[6] == bit[7]
        and (not bit[5] or bit[2])
        and bit[17] == bit[18]
    )


@pytest.mark.parametrize("name", ["skylake-server", "sapphire-rapids"])
def test_every_xcr0_is_judged_as_the_manual_has_it(name: str) -> None:
    model = load_model(name)
    found = set()
    mask = 0
    while True:  # every subset of the user components
        assert takes_xcr0(model, mask) == legal(mask), hex(mask)
        found.add(mask)
        mask = (mask - model.user_mask) & model.user_mask
        if not mask:
            break
    assert len(found) == 1 << model.user_mask.bit_count()


@pytest.mark.parametrize(
    ("name", "xcr0", "message"),
    [
        ("zen4", 0x5, "avx without sse"),
        ("zen4", 0x27, "opmask without zmm_hi256 and hi16_zmm"),
        ("zen4", 0xC7, "zmm_hi256 and hi16_zmm without opmask"),
        ("zen4", 0xE3, "opmask without avx"),
        ("zen4", 0x6, "bit 0 (x87) must be set"),
        ("skylake-server", 0xB, "bndregs without bndcsr"),
        ("skylake-server", 0x13, "bndcsr without bndregs"),
        ("sapphire-rapids", 0x20007, "tilecfg without tiledata"),
        ("sapphire-rapids", 0x40007, "tiledata without tilecfg"),
    ],
)
def test_a_refused_xcr0_says_what_is_missing(name: str, xcr0: int, message: str) -> None:
    with pytest.raises(MaskError) as caught:
        load_model(name).limited(xcr0=xcr0)
    assert str(caught.value).endswith(f" on {name}: {message}")


USER = """\
component: matrix
number: 20
title: a user component of the next CPU
needs: [avx]
fields: [{name: control, type: u64}]
"""
MODEL = """\
model: next
title: the next CPU
extends: zen4
components:
  matrix: {size: 64, offset: 2496, align64: true}
confirmed: false
source: made up
"""


def test_a_component_of_a_users_is_judged_by_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "20-matrix.yaml").write_text(USER)
    (tmp_path / "next.yaml").write_text(MODEL)
    model = Catalog([tmp_path]).model("next")
    assert model.limited(xcr0=0x100007).xcr0 == 0x100007
    with pytest.raises(MaskError, match=r"matrix without avx$"):
        model.limited(xcr0=0x100003)
