"""Whole processes against a Python that does nothing, and what reading the catalogue takes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

import xsaveschema as xs
from benchmarks.measure import Claim, Effort, Goal, Outcome, Task, race
from benchmarks.work import standard_area

CASE: Final = "start-up"
CATALOGUE: Final = "catalogue"
MODEL: Final = "skylake-server"
NOTHING: Final = "python -c pass"


def processes(effort: Effort) -> Outcome:
    """Import, help, and decoding one area from a file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "area.bin")
        file.write_bytes(standard_area(xs.load_model(MODEL), random.Random(0)))
        decode = ["-m", "xsaveschema", "decode", str(file), "--model", MODEL]
        commands = {
            "import xsaveschema": (["-c", "import xsaveschema"], 3),
            "--help": (["-m", "xsaveschema", "--help"], 6),
            "decode FILE --model NAME --json": ([*decode, "--json"], 13),
            "decode FILE --model NAME": (decode, 15),
        }
        environment = with_bytecode(Path(folder))
        tasks = [_process(NOTHING, ["-c", "pass"], environment)]
        tasks += [_process(name, words, environment) for name, (words, _) in commands.items()]
        claims = [
            Claim(name, name, NOTHING, Goal(limit), f"`{name}`, the whole process")
            for name, (_, limit) in commands.items()
        ]
        # A process takes as long as ten thousand areas: more time for as many rounds.
        yield from race(CASE, tasks, claims, replace(effort, seconds=4 * effort.seconds))


def with_bytecode(folder: Path) -> dict[str, str]:
    """An environment whose processes keep bytecode in a folder, so that only the first compiles.

    A package that is installed has its bytecode; a checkout may not, and may not be let write it.
    """
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def _process(name: str, words: list[str], environment: dict[str, str]) -> Task:
    command = [sys.executable, *words]

    def run() -> None:
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)

    return Task(name, run)


def catalogue(effort: Effort) -> Outcome:
    """One model from a catalogue that has read nothing yet, against all of them."""
    tasks = [
        Task("one model", lambda: xs.Catalog().model(MODEL)),
        Task("all models", lambda: xs.Catalog().models()),
    ]
    note = f"{len(xs.Catalog())} models"
    claims = [Claim("reading all models", "all models", "one model", note=note)]
    yield from race(CATALOGUE, tasks, claims, effort)
