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
arrow = pytest.importorskip("xsaveschema.many.arrow")
parquet = pytest.importorskip("xsaveschema.many.parquet")
dask = pytest.importorskip("xsaveschema.many.dask")

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
    parts = {f"part-{number:06}.parquet" for number in range(ROWS // GROUP)}
    assert {path.name for path in target.iterdir()} == {"_source.json", *parts}
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


@dataclass(frozen=True)
class Failing:
    """A conversion that fails at one row group as long as a file is there."""

    inner: Callable[[Any], Any]
    flag: str

    def __call__(self, table: Any) -> Any:
        if table.column("vcpu")[0].as_py() == 300 and Path(self.flag).exists():
            raise XsaveError("the disk of this test is full")
        return self.inner(table)


@pytest.mark.filterwarnings("ignore")
def test_an_error_ends_the_work_and_it_is_gone_on_with(
    client: Any, dataset: Path, tmp_path: Path
) -> None:
    flag, target = tmp_path / "flag", tmp_path / "out"
    flag.touch()
    convert = Failing(arrow.Convert(MODEL, "compacted"), str(flag))
    with pytest.raises(XsaveError, match="the disk of this test is full"):
        dask.map_parquet(client, convert, dataset, target)
    with pytest.raises(XsaveError, match="has parts already"):
        dask.map_parquet(client, convert, dataset, target)
    assert not (target / "part-000015.parquet").exists()
    flag.unlink()
    assert dask.map_parquet(client, convert, dataset, target, resume=True) == ROWS
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
    (target / ".xsaveschema-dead.new").write_bytes(b"half")
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
    with pytest.raises(XsaveError, match="made 3 rows of 20; a row stays a row"):
        parquet.run(lambda table: table[:3], part)
    assert [path.name for path in target.iterdir()] == ["_source.json"]


def test_a_source_that_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(XsaveError, match="there is no"):
        parquet.parts(tmp_path, tmp_path / "out")
    (tmp_path / "x.parquet").write_bytes(b"not this")
    target = tmp_path.parent / f"{tmp_path.name}-out"
    with pytest.raises(XsaveError, match=r"x\.parquet"):
        parquet.parts(tmp_path, target)
    with pytest.raises(XsaveError, match="there is no"):
        parquet.parts(tmp_path / "nowhere.parquet", target)
    assert not target.exists()


def test_a_result_is_not_mixed_with_other_data(dataset: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    for folder in (dataset, dataset.parent, dataset / "below"):
        with pytest.raises(XsaveError, match="is where the source is"):
            parquet.parts(dataset, folder)
    convert = arrow.Convert(MODEL, "compacted")
    wanted = parquet.parts(dataset, target)
    for part in wanted:
        parquet.run(convert, part)
    # A part that a crash has torn is done again.
    Path(wanted[7].target).write_bytes(b"")
    assert parquet.pending(parquet.parts(dataset, target, resume=True)) == [wanted[7]]
    parquet.run(convert, wanted[7])
    assert parquet.finish(wanted) == ROWS
    (target / "part-000030.parquet").write_bytes(Path(wanted[0].target).read_bytes())
    with pytest.raises(XsaveError, match="files of other work"):
        parquet.finish(wanted)
    os.utime(dataset / "b.parquet", ns=(1, 1))
    with pytest.raises(XsaveError, match="of one that has changed since"):
        parquet.parts(dataset, target, resume=True)


def test_folders_below_are_read_too(dataset: Path, tmp_path: Path) -> None:
    (dataset / "k=1").mkdir()
    (dataset / "b.parquet").rename(dataset / "k=1" / "b.parquet")
    (dataset / "_metadata.parquet").write_bytes(b"not data")
    assert sum(part.rows for part in parquet.parts(dataset, tmp_path / "out")) == ROWS
