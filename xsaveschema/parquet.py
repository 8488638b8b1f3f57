"""A Parquet dataset worked on in parts, each by itself, on any engine that can map a function.

A part is a row group of the source and becomes a file of its own in the target, written whole or
not at all under a name that its number gives. A part that is run again, because a worker died or
was thought to have, writes the same file: nothing is lost, nothing is there twice. Paths must mean
the same on every machine that runs parts. Needs the extra ``arrow``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from xsaveschema.errors import XsaveError


@dataclass(frozen=True)
class Part:
    """Row group ``row_group`` of the file ``source``: ``rows`` rows that become ``target``."""

    source: str
    row_group: int
    rows: int
    target: str


def parts(
    source: str | os.PathLike[str], target: str | os.PathLike[str], *, resume: bool = False
) -> list[Part]:
    """The parts of a dataset: of a Parquet file, or of all in a folder, in order of name.

    ``target`` is a folder, made if need be. Where it has parts already it is refused, unless
    ``resume`` says that they are of this very work; see :func:`pending`.
    """
    files = [Path(source)]
    if files[0].is_dir():
        files = sorted(files[0].glob("*.parquet"))
    if not files:
        raise XsaveError(f"{os.fspath(source)}: there is no *.parquet in it")
    folder = Path(target)
    folder.mkdir(parents=True, exist_ok=True)
    if not resume and any(folder.glob("part-*.parquet")):
        raise XsaveError(
            f"{folder} has parts already: name an empty folder, or say resume=True if they are of "
            "this very work"
        )
    found: list[Part] = []
    for file in files:
        metadata = _metadata(file)
        for group in range(metadata.num_row_groups):
            name = folder / f"part-{len(found):06}.parquet"
            rows = metadata.row_group(group).num_rows
            found.append(Part(str(file.resolve()), group, rows, str(name.resolve())))
    return found


def pending(wanted: Iterable[Part]) -> list[Part]:
    """The parts that are not done yet."""
    return [part for part in wanted if not _is_done(part)]


def run(function: Callable[[pa.Table], pa.Table], part: Part) -> Part:
    """Apply a function to a part and write what it makes; the part comes back when that is done."""
    with pq.ParquetFile(part.source) as file:
        table = function(file.read_row_group(part.row_group))
    target = Path(part.target)
    new = target.with_name(f".{target.name}.{uuid4().hex}")
    try:
        pq.write_table(table, new)
        new.replace(target)
    finally:
        with suppress(FileNotFoundError):
            new.unlink()
    return part


def finish(wanted: Iterable[Part]) -> int:
    """Make sure that every part is there with all its rows; the number of rows.

    Removes what workers that died left half-written. XsaveError names the parts that are missing.
    """
    wanted = list(wanted)
    if missing := pending(wanted):
        raise XsaveError(f"{len(missing)} parts are not done, the first is {missing[0].target}")
    for folder in {Path(part.target).parent for part in wanted}:
        for left in folder.glob(".part-*.parquet.*"):
            with suppress(FileNotFoundError):
                left.unlink()
    return sum(part.rows for part in wanted)


def _is_done(part: Part) -> bool:
    target = Path(part.target)
    return target.exists() and bool(_metadata(target).num_rows == part.rows)


def _metadata(file: Path) -> Any:
    try:
        return pq.read_metadata(file)
    except pa.ArrowException as error:
        raise XsaveError(f"{file}: {error}") from None
