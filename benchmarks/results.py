"""Results on disk, and what moved between two of them."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import msgspec

import xsaveschema
from benchmarks.measure import Row, Skipped

KEPT: Final = Path(".benchmarks/last.json")
BEFORE: Final = Path(".benchmarks/previous.json")
LIBRARIES: Final = ("numpy", "construct", "kaitaistruct", "dissect.cstruct")
STIR: Final = 0.05
"""A smaller change is none: layouts of memory and of code alone bring about as much."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a run was made."""

    cpu: str
    cores: int
    system: str
    python: str
    libraries: dict[str, str]


@dataclass(frozen=True, slots=True)
class Results:
    """A run: what was measured, what was not, where and when."""

    machine: Machine
    when: str
    quick: bool
    rows: list[Row]
    skipped: list[Skipped]


@dataclass(frozen=True, slots=True)
class Movement:
    """A ratio that is not what it was."""

    before: Row
    now: Row

    @property
    def change(self) -> float:
        """By which part the ratio grew: 0.1 is 10 % more."""
        return self.now.ratio / self.before.ratio - 1


def this_machine() -> Machine:
    """The machine and the versions of what is measured."""
    libraries = {"xsaveschema": xsaveschema.__version__}
    for name in LIBRARIES:
        try:
            libraries[name] = version(name)
        except PackageNotFoundError:
            continue
    return Machine(
        cpu_name(),
        os.cpu_count() or 1,
        f"{platform.system()} {platform.machine()}",
        platform.python_version(),
        libraries,
    )


def cpu_name() -> str:
    """The CPU's own name where the kernel tells it, else what the platform calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def results(rows: Iterable[Row], skipped: Iterable[Skipped], quick: bool) -> Results:
    """What was just measured on this machine."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return Results(this_machine(), when, quick, list(rows), list(skipped))


def save(found: Results, path: Path) -> None:
    """Write results as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")


def keep(found: Results) -> None:
    """Write results where the next run finds them; what stood there becomes the previous."""
    if KEPT.exists():
        KEPT.replace(BEFORE)
    save(found, KEPT)


def load(path: Path) -> Results:
    """Read results. OSError without the file, msgspec.DecodeError if it is something else."""
    return msgspec.json.decode(path.read_bytes(), type=Results)


def moved(before: Results, now: Results) -> list[Movement]:
    """The ratios that changed beyond the noise, in the order measured.

    They did if the ranges of the two runs share nothing, and the ratios of minima moved the same
    way by more than STIR.
    """
    known = {row.key: row for row in before.rows}
    pairs = (Movement(known[row.key], row) for row in now.rows if row.key in known)
    return [pair for pair in pairs if _beyond_noise(pair)]


def _beyond_noise(pair: Movement) -> bool:
    if pair.now.low > pair.before.high:
        return pair.change > STIR
    if pair.now.high < pair.before.low:
        return pair.change < -STIR
    return False
