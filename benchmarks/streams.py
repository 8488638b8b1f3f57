"""A file of many areas through the command line: time against dd, memory, and how both grow."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Final

import xsaveschema as xs
from benchmarks.measure import Effort, Goal, Outcome, Row, Skipped, quartiles, ratio_of_minima
from benchmarks.startup import with_bytecode
from benchmarks.work import standard_area

CASE: Final = "streams"
MODEL: Final = "skylake-server"
COUNTS: Final = (10_000, 100_000)
LARGE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Run:
    """What one process took: ``seconds`` and its peak of ``memory``, in MiB."""

    seconds: float
    memory: float


def measure(effort: Effort) -> Outcome:
    """``convert --batch`` of files of growing length; time and memory against the file before."""
    why = _unable()
    if why:
        yield Skipped(CASE, "convert --batch", why)
        return
    counts = [*COUNTS, LARGE] if effort.large else COUNTS
    with tempfile.TemporaryDirectory() as folder:
        runs: dict[int, list[Run]] = {count: [] for count in counts}
        for count in counts:
            write_areas(Path(folder, str(count)), count // 1000)
        convert(Path(folder), counts[0])  # writes the bytecode
        for _ in range(max(1, effort.rounds // 3)):
            for count in counts:
                runs[count].append(convert(Path(folder), count))
        yield from _against_dd(Path(folder), counts[-1], effort)
    for fewer, more in pairwise(counts):
        yield from _growth(fewer, more, runs[fewer], runs[more])


def _unable() -> str:
    """Why there is nothing to measure; empty where there is."""
    if not find_spec("resource"):
        return "this system does not tell the memory of a process that ended"
    command = [sys.executable, "-m", "xsaveschema", "convert", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return "" if "--batch" in told else "this xsaveschema's convert has no option --batch"


def write_areas(path: Path, thousands: int) -> None:
    """A file of so many thousand areas, one after the other: the same thousand again and again."""
    model, rng = xs.load_model(MODEL), random.Random(0)
    block = b"".join(standard_area(model, rng) for _ in range(1000))
    with path.open("wb") as file:
        for _ in range(thousands):
            file.write(block)


def convert(folder: Path, count: int) -> Run:
    """Convert the folder's file of ``count`` areas in a process of its own."""
    command = [sys.executable, "-m", "xsaveschema", "convert", "--batch", str(folder / str(count))]
    command += ["--model", MODEL, "--format", "compacted", "-o", str(folder / "out")]
    return run(command, with_bytecode(folder))


def _against_dd(folder: Path, count: int, effort: Effort) -> Outcome:
    """The same file through dd, which makes its copy safe as well."""
    if (dd := shutil.which("dd")) is None:
        yield Skipped(CASE, "dd", "there is none")
        return
    copy = [dd, f"if={folder / str(count)}", f"of={folder / 'out'}", "bs=4M", "conv=fsync"]
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(effort.rounds):
        _as_before(folder, count)
        theirs.append(run(copy, dict(os.environ)).seconds)
        _as_before(folder, count)
        ours.append(convert(folder, count).seconds)
    low, high = quartiles([one / other for one, other in zip(ours, theirs, strict=True)])
    work, against = f"convert --batch, {count:,} areas", "dd bs=4M conv=fsync"
    title, each = f"`convert --batch` of {count:,} areas", 1e6 * min(ours) / count
    ratio = ratio_of_minima(ours, theirs)
    yield Row(CASE, work, against, ratio, low, high, each, Goal(2), title)


def _as_before(folder: Path, count: int) -> None:
    """Leave memory and disk alike to both: a virtual machine's pages are slow the first time."""
    write_areas(folder / "out", count // 1000)
    (folder / "out").unlink()
    os.sync()


def run(command: list[str], environment: dict[str, str]) -> Run:
    """Run a command to its end, quietly. RuntimeError with what it said where it fails."""
    between = [sys.executable, str(Path(__file__).with_name("child.py"))]
    done = subprocess.run(
        [*between, *command], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr}")
    seconds, memory = done.stdout.split()
    return Run(float(seconds), float(memory))


def _growth(fewer: int, more: int, before: list[Run], after: list[Run]) -> Outcome:
    seconds = [run.seconds for run in after], [run.seconds for run in before]
    exponent = log(ratio_of_minima(*seconds)) / log(more / fewer)
    yield _row("time", fewer, more, *seconds, None, f"grows as n^{exponent:.2f}")
    memory = [run.memory for run in after], [run.memory for run in before]
    peak = f"peak {max(memory[0]):.0f} MiB against {max(memory[1]):.0f}"
    yield _row("memory", fewer, more, *memory, Goal(1.1), peak)


def _row(
    what: str,
    fewer: int,
    more: int,
    after: list[float],
    before: list[float],
    goal: Goal | None,
    note: str,
) -> Row:
    low, high = quartiles([one / other for one, other in zip(after, before, strict=True)])
    work, against = f"convert --batch, {more:,} areas: {what}", f"{fewer:,} areas"
    title = f"`convert --batch` of {more:,} areas: {what}"
    ratio = ratio_of_minima(after, before)
    microseconds = 1e6 * min(after) / more if what == "time" else None
    return Row(CASE, work, against, ratio, low, high, microseconds, goal, title, note)
