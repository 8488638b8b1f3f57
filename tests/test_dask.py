"""A Parquet dataset on two workers, one of which is killed: nothing lost, nothing twice."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from xsaveschema import XsaveArea, XsaveError, load_model, to_compacted

np = pytest.importorskip("numpy", reason="the extra dask is not installed")
pa = pytest.importorskip("pyarrow", reason="the extra dask is not installed")
distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")
pq = pytest.importorskip("pyarrow.parquet")
arrow = pytest.importorskip("xsaveschema.arrow")
parquet = pytest.importorskip("xsaveschema.parquet")
dask = pytest.importorskip("xsaveschema.dask")

MODEL = load_model("zen4")
ROWS, GROUP = 600, 20


@dataclass(frozen=True)
class Slowly:
    """A conversion that leaves time to be killed in, and notes who did what."""

    inner: Callable[[Any], Any]
    seconds: float
    notes: str

    def __call__(self, table: Any) -> Any:
        time.sleep(self.seconds)
        first = table.column("vcpu")[0].as_py()
        Path(self.notes, f"{first:04}-{os.getpid()}-{time.monotonic_ns()}").touch()
        return self.inner(table)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two files of areas, each of its own; 30 row groups in all."""
    folder = tmp_path / "areas"
    folder.mkdir()
    rows = []
    for index in range(ROWS):
        area = XsaveArea.new(MODEL)
        area.registers["k5"] = index + 1
        rows.append(np.frombuffer(bytes(area), np.uint8))
    column = arrow.array_of(np.stack(rows))
    table = pa.table({"vcpu": pa.array(range(ROWS)), "area": column})
    pq.write_table(table[:400], folder / "a.parquet", row_group_size=GROUP)
    pq.write_table(table[400:], folder / "b.parquet", row_group_size=GROUP)
    return folder


def expected(source: Path) -> dict[int, bytes]:
    table = pq.read_table(source)
    return {
        vcpu: bytes(to_compacted(area, MODEL).data)
        for vcpu, area in zip(
            *(table.column(name).to_pylist() for name in ("vcpu", "area")), strict=True
        )
    }


def found(target: Path) -> dict[int, bytes]:
    """What is in the target; every row once, and no other file."""
    assert {path.name for path in target.iterdir()} == {
        f"part-{number:06}.parquet" for number in range(ROWS // GROUP)
    }
    table = pq.read_table(target)
    vcpus = table.column("vcpu").to_pylist()
    assert vcpus == list(range(ROWS))
    return dict(zip(vcpus, table.column("area").to_pylist(), strict=True))


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the network, and of what else Dask uses
        with (
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client


@pytest.mark.filterwarnings("ignore")
def test_a_worker_that_is_killed_midway_costs_nothing(
    client: Any, dataset: Path, tmp_path: Path
) -> None:
    notes, target = tmp_path / "notes", tmp_path / "out"
    notes.mkdir()
    victim = next(iter(client.run(os.getpid).values()))
    convert = Slowly(arrow.Convert(MODEL, "compacted"), 0.05, str(notes))
    client.submit(kill_midway, victim, str(notes), workers=other(client, victim), pure=False)
    rows = dask.map_parquet(client, convert, dataset, target)
    assert rows == ROWS
    assert found(target) == expected(dataset)
    done_by = {path.name.split("-")[1] for path in notes.iterdir()}
    assert str(victim) in done_by, "the victim had done nothing yet"
    assert len(done_by) >= 2
    assert victim not in client.run(os.getpid).values()


def kill_midway(victim: int, notes: str) -> None:
    """Kill a process once it has done some parts: SIGKILL, so that nothing is tidied up."""
    distributed.secede()
    while len(list(Path(notes).glob(f"*-{victim}-*"))) < 4:
        time.sleep(0.005)
    os.kill(victim, signal.SIGKILL)


def other(client: Any, victim: int) -> list[str]:
    return [address for address, pid in client.run(os.getpid).items() if pid != victim]


@pytest.mark.filterwarnings("ignore")
def test_an_error_ends_the_work_and_it_is_gone_on_with(
    client: Any, dataset: Path, tmp_path: Path
) -> None:
    table = pq.read_table(dataset)
    area = bytearray(table.column("area")[310].as_py())
    area[520] = 1
    bad = [
        *table.column("area").to_pylist()[:310],
        bytes(area),
        *table.column("area").to_pylist()[311:],
    ]
    broken = tmp_path / "broken"
    broken.mkdir()
    pq.write_table(
        table.set_column(1, "area", pa.array(bad, pa.binary(len(area)))),
        broken / "a.parquet",
        row_group_size=GROUP,
    )
    target = tmp_path / "out"
    with pytest.raises(XsaveError, match="area 10: illegal XSAVE header"):
        dask.map_parquet(client, arrow.Convert(MODEL, "compacted"), broken, target)
    with pytest.raises(XsaveError, match="has parts already"):
        dask.map_parquet(client, arrow.Convert(MODEL, "compacted"), dataset, target)
    assert not (target / "part-000015.parquet").exists()
    assert (
        dask.map_parquet(client, arrow.Convert(MODEL, "compacted"), dataset, target, resume=True)
        == ROWS
    )
    assert found(target) == expected(dataset)


def test_parts_run_without_any_engine(dataset: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    wanted = parquet.parts(dataset, target)
    assert [part.rows for part in wanted] == [GROUP] * 30
    convert = arrow.Convert(MODEL, "compacted")
    for part in [*wanted[:-1], wanted[3], wanted[3]]:
        assert parquet.run(convert, part) == part
    assert parquet.pending(wanted) == wanted[-1:]
    with pytest.raises(XsaveError, match=r"1 parts are not done, the first is .*part-000029"):
        parquet.finish(wanted)
    (target / ".part-000029.parquet.dead").write_bytes(b"half")
    parquet.run(convert, wanted[-1])
    assert parquet.finish(wanted) == ROWS
    assert found(target) == expected(dataset)


def test_a_function_that_fails_leaves_nothing(dataset: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    part = parquet.parts(dataset, target)[0]
    with pytest.raises(ZeroDivisionError):
        parquet.run(lambda table: 1 // 0, part)
    with pytest.raises(AttributeError):
        parquet.run(lambda table: None, part)
    assert list(target.iterdir()) == []


def test_a_source_that_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(XsaveError, match="there is no"):
        parquet.parts(tmp_path, tmp_path / "out")
    (tmp_path / "x.parquet").write_bytes(b"not this")
    with pytest.raises(XsaveError, match=r"x\.parquet"):
        parquet.parts(tmp_path, tmp_path / "out")
    with pytest.raises(FileNotFoundError):
        parquet.parts(tmp_path / "nowhere.parquet", tmp_path / "out")
