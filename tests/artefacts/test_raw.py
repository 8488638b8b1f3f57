"""Areas that stand alone in a file."""

from __future__ import annotations

import pytest
from artefact_areas import ZEN4, one

from xsaveschema import artefacts
from xsaveschema.errors import TooShortError


def test_a_raw_area() -> None:
    found = one(ZEN4)
    assert (found.label, found.offset) == ("area", 0)
    assert found.layout_source == "identified by XCR0 mask at byte 464 and size"
    assert one(ZEN4, "zen5").layout_source == "model zen5 limited to XCR0 0xE7 at byte 464"
    no_mask = ZEN4[:464] + bytes(48) + ZEN4[512:]
    assert one(no_mask, "zen4").layout_source == "model zen4"


def test_what_is_no_area() -> None:
    with pytest.raises(TooShortError, match="the area has 100 bytes"):
        one(bytes(100))
    with pytest.raises(artefacts.ArtefactError, match="longer than 16 MiB, which no area is"):
        one(bytes(artefacts.MAX_AREA + 1))
