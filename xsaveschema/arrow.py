"""Areas in Arrow record batches (extra ``arrow``), for engines that spread work over machines.

:class:`Convert` and :class:`Decode` are functions of a record batch or a table that pickle, so that
Dask, Ray, Spark and others can map them over batches anywhere; see docs/scale.md. A column of areas
has a fixed-size binary type, one area an element.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from xsaveschema import batch
from xsaveschema.errors import XsaveError
from xsaveschema.model import CpuModel, Format

Data = Any
"""A pyarrow.RecordBatch or a pyarrow.Table."""


def areas_of(column: Any) -> batch.Areas:
    """The areas of an Arrow array, as rows of a numpy array that shares its memory.

    Takes fixed-size binary, in chunks too (which are joined: a copy). XsaveError for another type
    and for nulls.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else pa.array(column)
    if isinstance(array, pa.ChunkedArray):  # of no chunk
        array = pa.concat_arrays(array.chunks) if array.chunks else pa.array([], array.type)
    if not pa.types.is_fixed_size_binary(array.type):
        raise XsaveError(
            f"areas in Arrow are fixed-size binary, not {array.type}: cast them first "
            "(column.cast(pyarrow.binary(SIZE)))"
        )
    if array.null_count:
        first = array.is_null().index(pa.scalar(True)).as_py()
        raise XsaveError(f"area {first} is null, one of {array.null_count}: drop or fill them")
    size = array.type.byte_width
    data = array.buffers()[1]
    if data is None:
        return np.zeros((0, size), np.uint8)
    flat = np.frombuffer(data, np.uint8)[array.offset * size :][: len(array) * size]
    return flat.reshape(len(array), size)


def array_of(areas: batch.Areas, missing: Iterable[int] = ()) -> pa.Array:
    """Rows of bytes as an array of fixed-size binary, not copied; those of ``missing`` are null."""
    rows = np.ascontiguousarray(areas)
    count, size = rows.shape
    valid = None
    if bad := list(missing):
        flags = np.ones(count, bool)
        flags[bad] = False
        valid = pa.py_buffer(np.packbits(flags, bitorder="little"))
    return pa.Array.from_buffers(pa.binary(size), count, [valid, pa.py_buffer(rows.reshape(-1))])


def to_arrow(
    areas: Any,
    model: CpuModel,
    registers: Iterable[str] | None = None,
    *,
    errors: Literal["raise", "null"] = "raise",
) -> pa.Table:
    """Registers as columns of a table, one row an area; see :func:`xsaveschema.batch.decode`.

    Numbers of up to 64 bits are unsigned integers, wider registers fixed-size binary, low bytes
    first. ``errors`` "null" leaves the registers of an area that cannot be read null, and adds a
    column ``error`` that says why. ``pyarrow.parquet.write_table`` keeps the table.
    """
    found = batch.decode(areas, model, registers, errors=_errors(errors))
    count = len(found.columns["xstate_bv"])
    bad = list(found.errors)
    mask = None
    if bad:
        mask = np.zeros(count, bool)
        mask[bad] = True
    columns = {}
    for name, column in found.columns.items():
        if column.ndim == 1:
            header = name in ("xstate_bv", "xcomp_bv")
            columns[name] = pa.array(column, mask=None if header else mask)
        else:
            columns[name] = array_of(column.view(np.uint8), bad)
    if errors == "null":
        columns["error"] = _reasons(count, found.errors)
    return pa.table(columns)


@dataclass(frozen=True)
class Convert:
    """A function of a record batch or a table: its areas converted, all other columns kept.

    The arguments are those of :func:`xsaveschema.batch.relayout`; ``column`` has the areas.
    ``errors`` "null" leaves an area that cannot be converted null, and adds a column ``error`` that
    says why.
    """

    model: CpuModel
    format: Format
    column: str = "area"
    source: CpuModel | None = None
    xcr0: int | None = None
    xcomp_bv: int | None = None
    drop: tuple[str | int, ...] = ()
    errors: Literal["raise", "null"] = "raise"

    def __call__(self, data: Data) -> Data:
        """Convert; the result is of the kind that ``data`` is."""
        areas = areas_of(_column(data, self.column))
        result = batch.relayout(
            areas,
            source=self.source or self.model,
            target=self.model,
            format=self.format,
            xcr0=self.xcr0,
            xcomp_bv=self.xcomp_bv,
            drop=self.drop,
            errors=_errors(self.errors),
        )
        columns = {name: data.column(name) for name in data.schema.names}
        columns[self.column] = array_of(result.data, result.errors)
        if self.errors == "null":
            columns["error"] = _reasons(len(areas), result.errors)
        return type(data).from_pydict(columns)

    def schema(self, schema: pa.Schema) -> pa.Schema:
        """The result's schema, for engines that want it told."""
        empty = pa.table({field.name: pa.array([], field.type) for field in schema})
        return self(empty).schema


@dataclass(frozen=True)
class Decode:
    """A function of a record batch or a table: the areas' registers as columns.

    See :func:`to_arrow`. All columns but the areas' own stay.
    """

    model: CpuModel
    registers: tuple[str, ...] | None = None
    column: str = "area"
    errors: Literal["raise", "null"] = "raise"

    def __call__(self, data: Data) -> Data:
        """Decode; the result is of the kind that ``data`` is."""
        areas = areas_of(_column(data, self.column))
        found = to_arrow(areas, self.model, self.registers, errors=self.errors)
        columns = {name: data.column(name) for name in data.schema.names if name != self.column}
        if clash := columns.keys() & set(found.schema.names):
            raise XsaveError(f"the data has columns of the registers' names: {sorted(clash)}")
        columns |= {name: found.column(name).combine_chunks() for name in found.schema.names}
        return type(data).from_pydict(columns)

    schema = Convert.schema


def _errors(errors: str) -> str:
    if errors not in ("raise", "null"):
        raise XsaveError(f"errors={errors!r}: raise or null")
    return "raise" if errors == "raise" else "collect"


def _column(data: Data, name: str) -> Any:
    if name not in data.schema.names:
        raise XsaveError(f"there is no column {name!r}; columns: {', '.join(data.schema.names)}")
    return data.column(name)


def _reasons(count: int, errors: dict[int, XsaveError]) -> pa.Array:
    reasons: list[str | None] = [None] * count
    for index, error in errors.items():
        reasons[index] = str(error)
    return pa.array(reasons, pa.string())
