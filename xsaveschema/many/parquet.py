# SPDX-License-Identifier: MIT
"""A Parquet dataset worked on in parts, each by itself, on any engine that can map a function.

A part is a row group of the source and becomes a file of its own in the target, written whole or
not at all under a name that its number gives. A part that is run again, because a worker died or
was thought to have, writes the same file: nothing is lost, nothing is there twice. Paths must mean
the same on every machine that runs parts. Needs the extra ``arrow``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "xsaveschema.parquet needs pyarrow: pip install 'xsaveschema[arrow]'", name="pyarrow"
    ) from error

from xsaveschema.errors import XsaveError
from xsaveschema.io import UNFINISHED, replacing, write_file

_SOURCE: Final = "_source.json"
"""In the target: which files it is made of. Readers of datasets pass over the name."""


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
    """The parts of a dataset: of a Parquet file, or of all in a folder and below, in order of name.

    ``target`` is another folder, made if need be. Where it has parts already it is refused, unless
    ``resume`` says that they are of this very work, and the source is still the same; see
    :func:`pending`. A row group is in memory as a whole, so it should have some ten thousand rows.
    """
    files = _files(Path(source))
    folder = Path(target).resolve()
    inside = Path(source).is_dir() and folder.is_relative_to(Path(source).resolve())
    if inside or folder in {parent for file in files for parent in file.parents}:
        raise XsaveError(f"{folder} is where the source is: name a folder of the result's own")
    found: list[Part] = []
    for file in files:
        metadata = _metadata(file)
        for group in range(metadata.num_row_groups):
            name = folder / f"part-{len(found):06}.parquet"
            rows = metadata.row_group(group).num_rows
            found.append(Part(str(file), group, rows, str(name)))
    _claim(folder, _identity(files), resume)
    return found


def _files(source: Path) -> list[Path]:
    """The files of a dataset; names that begin with a dot or an underscore are not its data."""
    if source.is_file():
        return [source.resolve()]
    found = sorted(
        path.resolve()
        for path in source.rglob("*.parquet")
        if path.is_file() and not path.name.startswith((".", "_"))
    )
    if not found:
        raise XsaveError(f"{os.fspath(source)}: there is no *.parquet, nor a folder with some")
    return found


def _identity(files: list[Path]) -> str:
    status = [(file, file.stat()) for file in files]
    return json.dumps([[str(file), told.st_size, told.st_mtime_ns] for file, told in status])


def _claim(folder: Path, source: str, resume: bool) -> None:
    """Make the target this work's own, or see that it is."""
    note = folder / _SOURCE
    if any(folder.glob("*.parquet")):
        if not resume:
            raise XsaveError(
                f"{folder} has parts already, or other data: name an empty folder, or say "
                "resume=True if they are of this very work"
            )
        if not note.exists() or note.read_text() != source:
            raise XsaveError(
                f"{folder} has parts of another source, or of one that has changed since: name an "
                "empty folder"
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_file(note, source.encode())


def pending(wanted: Iterable[Part]) -> list[Part]:
    """The parts that are not done yet."""
    return [part for part in wanted if not _is_done(part)]


def run(function: Callable[[pa.Table], pa.Table], part: Part) -> Part:
    """Apply a function to a part and write what it makes; the part comes back when that is done."""
    with pq.ParquetFile(part.source) as file:
        table = function(file.read_row_group(part.row_group))
    if table.num_rows != part.rows:
        raise XsaveError(
            f"{part.source}, row group {part.row_group}: the function made {table.num_rows} rows "
            f"of {part.rows}; a row stays a row"
        )
    with replacing(part.target) as new:
        pq.write_table(table, new)
    return part


def finish(wanted: Iterable[Part]) -> int:
    """Make sure that every part is there with all its rows, and no other; the number of rows.

    Removes what workers that died left half-written. XsaveError names the parts that are missing,
    and those that are of no part wanted.
    """
    wanted = list(wanted)
    if missing := pending(wanted):
        raise XsaveError(f"{len(missing)} parts are not done, the first is {missing[0].target}")
    for folder in {Path(part.target).parent for part in wanted}:
        for left in folder.glob(UNFINISHED):
            left.unlink(missing_ok=True)
        others = {str(path) for path in folder.glob("*.parquet")} - {part.target for part in wanted}
        if others:
            raise XsaveError(f"{folder} has {len(others)} files of other work: {min(others)}")
    return sum(part.rows for part in wanted)


def _is_done(part: Part) -> bool:
    # One that a crash has torn is not done.
    with suppress(FileNotFoundError, pa.ArrowException):
        return bool(pq.read_metadata(part.target).num_rows == part.rows)
    return False


def _metadata(file: Path) -> Any:
    try:
        return pq.read_metadata(file)
    except pa.ArrowException as error:
        raise XsaveError(f"{file}: {error}") from None
