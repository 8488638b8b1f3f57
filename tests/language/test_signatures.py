"""Whose a CPU is: signatures that share one clash, and say which."""

from __future__ import annotations

import pytest

from xsaveschema.language.signatures import Cpu, claim
from xsaveschema.model import Signature

TAKEN = Signature("GenuineIntel", 6, (0x55, 0x5E), (3, 4))


@pytest.mark.parametrize(
    ("signature", "clash"),
    [
        pytest.param(Signature("GenuineIntel", 6, (0x55,), (5, 11)), None, id="other steppings"),
        pytest.param(Signature("GenuineIntel", 6, (0x56,), None), None, id="another model"),
        pytest.param(Signature("GenuineIntel", 7, (0x55,), None), None, id="another family"),
        pytest.param(Signature("AuthenticAMD", 6, (0x55,), None), None, id="another vendor"),
        pytest.param(
            Signature("GenuineIntel", 6, (0x56, 0x5E), (4, 5)), "model 0x5e", id="one of each"
        ),
        pytest.param(Signature("GenuineIntel", 6, (0x55,), None), "model 0x55", id="every one"),
    ],
)
def test_a_cpu_belongs_to_one_owner(signature: Signature, clash: str | None) -> None:
    taken: dict[Cpu, str] = {}
    assert claim(taken, TAKEN, "first") is None
    before = dict(taken)
    said = None if clash is None else ("first", f"GenuineIntel family 0x06 {clash}")
    assert claim(taken, signature, "second") == said
    assert (taken == before) is (clash is not None)
