"""What readers are made of: options, and areas that go back where they stood."""

from __future__ import annotations

from dataclasses import replace

import pytest
from artefact_areas import ZEN4

from xsaveschema import XsaveArea, artefacts, load_model
from xsaveschema.artefacts.reader import InPlace, Options
from xsaveschema.errors import WrongTypeError


def test_an_area_goes_back_where_it_stood() -> None:
    (found,) = artefacts.read_bytes(ZEN4)
    found.area.registers["k1"] = 5
    assert InPlace().replace(memoryview(ZEN4), found, found.area) == [(0, bytes(found.area))]
    other = XsaveArea.new(load_model("haswell"))
    for moved in (found, replace(found, offset=None)):
        with pytest.raises(artefacts.ArtefactError, match="only where it stood"):
            InPlace().replace(memoryview(ZEN4), moved, other)


def test_options_are_what_they_say() -> None:
    assert Options().strict
    for wrong in ({"model": "zen4"}, {"catalog": "zen4"}):
        with pytest.raises(WrongTypeError):
            Options(**wrong)  # type: ignore[arg-type]
