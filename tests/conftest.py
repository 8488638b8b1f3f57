"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from xsaveschema.area import XsaveArea
from xsaveschema.structs import area_struct, component_struct

settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("long", deadline=None, max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

DATA = Path(__file__).parent / "data"


@pytest.hookimpl(tryfirst=True)  # before xdist looks
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run in parallel unless told otherwise, if xdist is there: ``-p no:xdist`` works too."""
    starts_workers = config.pluginmanager.hasplugin("xdist") and not hasattr(config, "workerinput")
    if starts_workers and config.option.numprocesses is None:
        config.option.numprocesses = "auto"
        if config.option.dist == "no":
            config.option.dist = "worksteal"  # tests of seconds stand among those of milliseconds


@pytest.fixture(scope="session")
def agree() -> Callable[[XsaveArea], XsaveArea]:
    """Compare an area's memory with what Construct parses, component by component, and both ways.

    Construct is the independent description: XsaveArea.raw must show the same bytes.
    """

    def compare(area: XsaveArea) -> XsaveArea:
        data = bytes(area)
        struct = area_struct(area.model, area.layout)
        parsed = struct.parse(data)
        assert struct.build(parsed) == data
        assert area.raw["legacy"] == data[:512]
        assert parsed.header.xstate_bv == area.xstate_bv
        assert parsed.header.xcomp_bv == area.xcomp_bv
        for slot in area.layout:
            if not slot.component.legacy:
                built = component_struct(slot.component).build(parsed[slot.name])
                assert built == area.raw[slot.name], slot.name
        return area

    return compare


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material; tests that use it are skipped, aloud, without it."""
    path = Path(os.environ.get("XSAVESCHEMA_SHARED", Path(__file__).parents[2] / "shared"))
    if not (path / "cpuid" / "dumps.json").is_file():
        pytest.skip("no reference material: set XSAVESCHEMA_SHARED to its folder")
    return path
