"""The cases by name, in the order they run."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Final

from benchmarks import one_area, reading, startup, streams
from benchmarks.measure import Effort, Outcome, Skipped


def _with_numpy(case: str, function: str) -> Callable[[Effort], Outcome]:
    def measure(effort: Effort) -> Outcome:
        if not find_spec("numpy"):
            yield Skipped(case, "many areas at once", "numpy is not installed (the extra batch)")
            return
        from benchmarks import batches

        yield from getattr(batches, function)(effort)

    return measure


CASES: Final[dict[str, Callable[[Effort], Outcome]]] = {
    "one-area": one_area.measure,
    "values": reading.all_fields,
    "registers": reading.registers,
    "batch": _with_numpy("batch", "measure"),
    "batch-check": _with_numpy("batch-check", "judging"),
    "c-export": _with_numpy("c-export", "exported"),
    "catalogue": startup.catalogue,
    "start-up": startup.processes,
    "streams": streams.measure,
}


def chosen(names: tuple[str, ...]) -> dict[str, Callable[[Effort], Outcome]]:
    """The cases whose name contains one of these; all without any."""
    return {
        case: measure
        for case, measure in CASES.items()
        if not names or any(name in case for name in names)
    }
