"""batch.check: each area's faults are those of check, however few of them are judged."""

from __future__ import annotations

from typing import Any

import pytest

from xsaveschema import XsaveArea, check, load_model
from xsaveschema.errors import WrongTypeError

np = pytest.importorskip("numpy", reason="the extra batch is not installed")
module = pytest.importorskip("xsaveschema.many.batch.check")

ZEN4 = load_model("zen4")


def rows(*edits: tuple[int, int]) -> Any:
    """An area of Zen 4 for each (byte, value): that byte is that value, all else is initial."""
    array = np.tile(np.frombuffer(bytes(XsaveArea.new(ZEN4)), np.uint8), (len(edits), 1))
    for row, (at, value) in zip(array, edits, strict=True):
        row[at] = value
    return array


@pytest.mark.parametrize("at", [24, 27, 512, 519, 520, 527, 528, 543, 575])
@pytest.mark.parametrize("target", ["xrstor", "xrstors", "ptrace", "kvm"])
def test_every_byte_that_a_verdict_depends_on(at: int, target: Any) -> None:
    array = np.pad(rows((0, 0), (at, 0xA0), (0, 0), (at, 0xA0)), ((0, 0), (0, 1656)))
    found = module.check(array, ZEN4, target)
    wanted = {n: check(bytes(row), ZEN4, target) for n, row in enumerate(array)}
    assert found == {n: faults for n, faults in wanted.items() if faults}


def test_areas_that_are_alike_there_are_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[int] = []

    def counting(data: Any, *rest: Any, **options: Any) -> Any:
        judged.append(data[600])
        return check(data, *rest, **options)

    monkeypatch.setattr(module, "check_one", counting)
    array = rows((528, 0), (528, 1), (528, 0), (528, 1))
    array[:, 600] = range(4)  # no header's, no MXCSR's
    assert list(module.check(array, ZEN4)) == [1, 3]
    assert judged == [0, 1]
    judged.clear()
    assert list(module.check(array, ZEN4, "xrstors")) == [0, 1, 2, 3]
    assert judged == [0, 1, 2, 3], "XRSTORS looks into components"


def test_options_are_checks() -> None:
    array = rows((512, 4), (512, 1))
    assert module.check(array, ZEN4) == {}
    found = module.check(array, ZEN4, xcr0=3)
    assert [fault.rule for fault in found[0]] == ["xstate-bv-xcr0"]
    assert list(found) == [0]


def test_a_wrong_model_is_told_of_no_areas_too() -> None:
    with pytest.raises(WrongTypeError, match="model"):
        module.check(rows((0, 0))[:0], "zen4")
