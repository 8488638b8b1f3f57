"""Measuring in turns: baseline and subject in interleaved rounds, told as ratios.

What else runs on the machine slows a whole round, not one side of it. The ratio of the two minima
is the answer; the quartiles of the rounds' own ratios say how sure it is.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import quantiles
from time import perf_counter
from typing import Final, Literal

SHORTEST: Final = 0.005
"""Seconds that a sample lasts at least: far above the clock's grain."""
MOST_ROUNDS: Final = 200


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: a race lasts ``seconds`` and ``rounds`` at least."""

    models: tuple[str, ...] = ("skylake-server", "sapphire-rapids")
    areas: int = 10_000
    seconds: float = 2.0
    rounds: int = 7
    large: bool = False


QUICK: Final = Effort(models=("skylake-server",), seconds=0.2, rounds=3)
FULL: Final = Effort()


@dataclass(frozen=True, slots=True)
class Task:
    """Work to be timed; one call of ``run`` does ``pieces`` of it."""

    name: str
    run: Callable[[], object]
    pieces: int = 1


@dataclass(frozen=True, slots=True)
class Goal:
    """What a ratio (or the subject's own time) should be at most, or at least."""

    limit: float
    kind: Literal["at most", "at least"] = "at most"
    of: Literal["ratio", "microseconds"] = "ratio"

    def met(self, value: float) -> bool:
        """Whether a value is on the right side of the limit."""
        return value >= self.limit if self.kind == "at least" else value <= self.limit


@dataclass(frozen=True, slots=True)
class Claim:
    """A ratio to be told of a race: task ``subject`` against task ``against``.

    ``headline`` joins rows that say the same of several models and directions in a short table.
    """

    work: str
    subject: str
    against: str
    goal: Goal | None = None
    headline: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A result: ``work`` took ``ratio`` times what ``against`` took; ``low``..``high`` by round."""

    case: str
    work: str
    against: str
    ratio: float
    low: float
    high: float
    microseconds: float | None
    goal: Goal | None = None
    headline: str = ""
    note: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes this the same measurement in two runs."""
        return self.case, self.work, self.against

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if self.goal is None:
            return None
        value = self.ratio if self.goal.of == "ratio" else self.microseconds
        return None if value is None else self.goal.met(value)


@dataclass(frozen=True, slots=True)
class Skipped:
    """What could not be measured here, and why."""

    case: str
    what: str
    why: str


Outcome = Iterator[Row | Skipped]


def race(case: str, tasks: Sequence[Task], claims: Sequence[Claim], effort: Effort) -> list[Row]:
    """Measure tasks in turns and tell the claims."""
    times = interleaved(tasks, effort)
    return [told(case, claim, times) for claim in claims]


def interleaved(tasks: Sequence[Task], effort: Effort) -> dict[str, list[float]]:
    """The seconds that a piece of each task took, one sample a round: A B C A B C ..."""
    calls = {task.name: _enough_calls(task) for task in tasks}
    times: dict[str, list[float]] = {task.name: [] for task in tasks}
    end = perf_counter() + effort.seconds
    done = 0
    with _no_collection():
        while done < effort.rounds or (perf_counter() < end and done < MOST_ROUNDS):
            for task in tasks:
                took = _sample(task.run, calls[task.name])
                times[task.name].append(took / calls[task.name] / task.pieces)
            done += 1
    return times


def told(case: str, claim: Claim, times: Mapping[str, Sequence[float]]) -> Row:
    """A claim in figures."""
    subject, against = times[claim.subject], times[claim.against]
    low, high = quartiles([ours / theirs for ours, theirs in zip(subject, against, strict=True)])
    return Row(
        case,
        claim.work,
        claim.against,
        ratio_of_minima(subject, against),
        low,
        high,
        min(subject) * 1e6,
        claim.goal,
        claim.headline,
        claim.note,
    )


def ratio_of_minima(subject: Sequence[float], against: Sequence[float]) -> float:
    """How many times the best of one the best of the other is: noise only ever adds."""
    return min(subject) / min(against)


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The range that holds the middle half of the values."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high


def _enough_calls(task: Task) -> int:
    """So many calls that a sample is long enough; the first, which fills caches, does not count."""
    task.run()
    calls = 1
    while _sample(task.run, calls) < SHORTEST:
        calls *= 2
    return calls


def _sample(run: Callable[[], object], calls: int) -> float:
    start = perf_counter()
    for _ in range(calls):
        run()
    return perf_counter() - start


@contextmanager
def _no_collection() -> Iterator[None]:
    """The garbage collector runs between the measurements, not in one that is unlucky."""
    was = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
