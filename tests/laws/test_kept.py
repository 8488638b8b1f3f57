"""What is kept goes with what it is of: models, layouts and catalogues do not pile up."""

from __future__ import annotations

import ast
import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from writers import criu, minidump, xen
from writers.state import SIZES, ZEN4, State

import xsaveschema as xs
from xsaveschema import artefacts, batch, plan
from xsaveschema.kept import Keeper, kept

PACKAGE = Path(xs.__file__).parent


class Owner(Keeper):
    pass


def test_results_are_computed_once_and_bounded() -> None:
    calls = []

    @kept(2)
    def half(owner: Owner, number: int) -> int:
        """Half of it."""
        calls.append(number)
        return number // 2

    one, other = Owner(), Owner()
    assert [half(one, 8), half(one, 8), half(other, 8)] == [4, 4, 4]
    assert calls == [8, 8]
    half(one, 2)
    half(one, 4)
    half(one, 8)
    assert calls == [8, 8, 2, 4, 8]
    assert half.__doc__ == "Half of it."


def test_what_is_kept_is_no_part_of_the_value() -> None:
    catalog = xs.Catalog()
    _read_artefacts(catalog.model("zen4"), catalog)
    assert catalog.kept
    for made in (copy.deepcopy(catalog), pickle.loads(pickle.dumps(catalog))):
        assert not made.kept
        assert made.model("zen4").digest == catalog.model("zen4").digest


def _parse(model: xs.CpuModel, catalog: xs.Catalog) -> None:
    area = xs.XsaveArea.new(model)
    area.registers["zmm17"] = 5
    assert area.registers.read()["zmm17"] == 5
    assert area.values()["opmask.k[1]"] == 0
    few = xs.XsaveArea.new(model.limited(xcr0=7))
    xs.XsaveArea.parse(bytes(few), model)


def _convert(model: xs.CpuModel, catalog: xs.Catalog) -> None:
    """To itself, and to and from a model that stays."""
    stays = xs.load_model("zen4")
    area = bytes(xs.XsaveArea.new(model))
    xs.to_standard(xs.to_compacted(area, model).data, model)
    xs.relayout(area, source=model, target=stays)
    xs.relayout(bytes(xs.XsaveArea.new(stays)), source=stays, target=model)
    rows = np.frombuffer(area, np.uint8).reshape(1, -1)
    batch.to_compacted(rows, model)
    batch.relayout(rows, source=model, target=stays, format="standard")


def _judge(model: xs.CpuModel, catalog: xs.Catalog) -> None:
    area = bytes(xs.XsaveArea.new(model))
    assert xs.check(area, model) == []
    assert xs.diff(area, area, model) == []
    assert xs.compare(model, xs.load_model("zen4"))


def _construct(model: xs.CpuModel, catalog: xs.Catalog) -> None:
    area = bytes(xs.XsaveArea.new(model))
    assert model.construct().build(model.construct().parse(area)) == area


def _identify(model: xs.CpuModel, catalog: xs.Catalog) -> None:
    assert xs.identify(bytes(xs.XsaveArea.new(model)), catalog=catalog).candidates
    leaf = model.cpuid_leaf_0xd() | {20: (64, 4096, 0, 0)}
    built = xs.identify(leaf_0xd=leaf, catalog=catalog).model
    assert xs.XsaveArea.new(built).registers["zmm17"] == 0


def _read_artefacts(model: xs.CpuModel, catalog: xs.Catalog) -> None:
    """What makes readers look through a catalogue, and keep what they find."""
    area = State().standard(0x2E7, ZEN4)
    rows = [(number, SIZES[number], at) for number, at in ZEN4.items() if 0x2E7 >> number & 1]
    odd = [*rows, (20, 64, 2432 + 64)]
    for data in (
        xen.hvm(xen.xsave(0, area, 0x2E7), signature=0xA10F11),
        minidump.dump([(1, minidump.context(area))], misc=minidump.misc_info(rows)),
        minidump.dump([(1, minidump.context(area))], misc=minidump.misc_info(odd)),
        criu.image(criu.core(criu.encode(criu.fields(State(), 0x2E7)))),
    ):
        (found,) = artefacts.read_bytes(data, catalog=catalog)
        assert found.area.registers["zmm17"] == State().zmm[17]


@pytest.mark.parametrize(
    "use",
    [_parse, _convert, _judge, _construct, _identify, _read_artefacts],
    ids=lambda f: f.__name__,
)
def test_a_catalogue_and_its_models_go_when_nobody_has_them(
    use: Callable[[xs.CpuModel, xs.Catalog], None], tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text(
        "model: mine\ntitle: mine\nvendor: GenuineIntel\nextends: ice-lake-server\n"
        "confirmed: false\nsource: none\n"
    )
    catalog = xs.Catalog([tmp_path])
    model = catalog.model("mine")
    use(model, catalog)
    held = weakref.ref(catalog), weakref.ref(model), weakref.ref(model.standard_layout())
    del catalog, model
    gc.collect()
    assert [each() for each in held] == [None, None, None]


def test_conversions_to_a_model_that_stays_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "_MOST_PLANS", 8)
    monkeypatch.setattr(plan, "_MOST_JOBS", 4)
    stays = replace(xs.load_model("zen4"))
    for number in range(50):
        source = replace(stays)
        area = bytearray(bytes(xs.XsaveArea.new(source)))
        area[24:28] = number.to_bytes(4, "little")  # a state of its own
        xs.relayout(area, source=source, target=stays)
        xs.to_compacted(area, stays)
        jobs = stays.jobs.values()
        assert len(jobs) <= 4
        assert sum(len(job.plans) for job in jobs) <= 4 * 10


def test_no_cache_of_a_module_takes_what_refers_to_a_catalogue() -> None:
    """functools.cache and lru_cache are for what stays small: text, numbers, code."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and any(
                "cache" in ast.unparse(each) and "cached_property" not in ast.unparse(each)
                for each in node.decorator_list
            ):
                taken = ast.unparse(node.args) + (ast.unparse(node.returns) if node.returns else "")
                names = {"CpuModel", "Layout", "Catalog", "Job", "StateComponent"}
                wrong = [name for name in names if name in taken]
                assert not wrong or node.name == "_default", (
                    f"{path.name}: {node.name} keeps {wrong}"
                )
