# SPDX-License-Identifier: MIT
"""Areas in Arrow record batches (extra ``arrow``), for engines that spread work over machines.

:class:`Convert` and :class:`Decode` are functions of a record batch or a table that pickle, so that
Dask, Ray, Spark and others can map them over batches anywhere; see docs/scale.md. A column of areas
has a fixed-size binary type, one area an element.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

try:
    import pyarrow as pa
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "xsaveschema.arrow needs pyarrow: pip install 'xsaveschema[arrow]'", name="pyarrow"
    ) from error
import numpy as np

from xsaveschema.errors import XsaveError
from xsaveschema.many import batch
from xsaveschema.many.arrow_rows import areas_of, column_of, nulls_of, rows_of
from xsaveschema.model import CpuModel, Format, require_model
from xsaveschema.plan import Errors, require_errors, require_format

Data = Any
"""A pyarrow.RecordBatch or a pyarrow.Table."""


def array_of(areas: batch.Areas, missing: Iterable[int] = ()) -> pa.Array:
    """Rows of bytes as an array of fixed-size binary, not copied; those of ``missing`` are null."""
    rows = np.ascontiguousarray(areas)
    if rows.dtype != np.uint8 or rows.ndim != 2:
        raise XsaveError(f"areas: pass uint8 of shape (n, size), not {rows.dtype} of {rows.shape}")
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
    errors: Errors = "raise",
    assume: bool = False,
) -> pa.Table:
    """Registers as columns of a table, one row an area; see :func:`xsaveschema.batch.decode`.

    Numbers of up to 64 bits are unsigned integers, wider registers fixed-size binary, low bytes
    first. ``errors`` "null" leaves the registers of an area that cannot be read null, "skip" leaves
    them 0; both keep nulls, and add a column ``error`` that says why.
    ``assume`` takes ``model``'s word for areas that say that another CPU wrote them.
    ``pyarrow.parquet.write_table`` keeps the table.
    """
    rows, absent = _with_nulls(areas, errors) if hasattr(areas, "type") else (areas, {})
    require_errors(errors, "raise", "skip", "null")
    policy: Errors = "raise" if errors == "raise" else "skip"
    found = batch.decode(rows, model, registers, errors=policy, assume=assume)
    found.errors |= absent
    count = len(found.columns["xstate_bv"])
    bad = list(found.errors if errors == "null" else absent)
    mask, without_header = np.zeros(count, bool), np.zeros(count, bool)
    mask[bad] = True
    without_header[list(absent)] = True
    columns = {}
    for name, column in found.columns.items():
        if column.ndim == 1:
            header = name in ("xstate_bv", "xcomp_bv")
            columns[name] = pa.array(column, mask=without_header if header else mask)
        else:
            columns[name] = array_of(column.view(np.uint8), bad)
    if errors != "raise":
        columns["error"] = _reasons(count, found.errors)
    return pa.table(columns)


@dataclass(frozen=True)
class Convert:
    """A function of a record batch or a table: its areas converted, all other columns kept.

    The arguments are those of :func:`xsaveschema.batch.relayout`; ``column`` has the areas.
    ``errors`` "null" makes an area that cannot be converted null; it, "skip" and "copy" leave nulls
    null, and add a column ``error`` that says why. Metadata and the other columns' fields stay.
    """

    model: CpuModel
    format: Format | None = None
    column: str = "area"
    source: CpuModel | None = None
    xcr0: int | None = None
    xcomp_bv: int | None = None
    drop: tuple[str | int, ...] = ()
    errors: Errors = "raise"
    assume: bool = False

    def __post_init__(self) -> None:
        require_model(self.model)
        if self.source is not None:
            require_model(self.source, "source")
        if self.format is not None:
            require_format(self.format, self.xcr0, self.xcomp_bv)
        require_errors(self.errors, "raise", "skip", "copy", "null")

    def __call__(self, data: Data) -> Data:
        """Convert; the result is of the kind that ``data`` is."""
        areas, absent = _with_nulls(_column(data, self.column), self.errors)
        result = batch.relayout(
            areas,
            source=self.source or self.model,
            target=self.model,
            format=self.format,
            xcr0=self.xcr0,
            xcomp_bv=self.xcomp_bv,
            drop=self.drop,
            errors="skip" if self.errors == "null" else self.errors,
            assume=self.assume,
        )
        errors = result.errors | absent
        columns = dict.fromkeys(data.schema.names)
        nulls = errors if self.errors == "null" else absent
        found: dict[str, Any] = {**columns, self.column: array_of(result.data, nulls)}
        if self.errors != "raise":
            if "error" in columns:
                raise XsaveError("the data has a column 'error' already: rename it first")
            found["error"] = _reasons(len(areas), errors)
        return _with_columns(data, found)

    def schema(self, schema: pa.Schema) -> pa.Schema:
        """The result's schema, for engines that want it told."""
        return self(schema.empty_table()).schema


@dataclass(frozen=True)
class Decode:
    """A function of a record batch or a table: the areas' registers as columns.

    See :func:`to_arrow`. All columns but the areas' own stay.
    """

    model: CpuModel
    registers: tuple[str, ...] | None = None
    column: str = "area"
    errors: Errors = "raise"
    assume: bool = False

    def __post_init__(self) -> None:
        require_model(self.model)
        require_errors(self.errors, "raise", "skip", "null")

    def __call__(self, data: Data) -> Data:
        """Decode; the result is of the kind that ``data`` is."""
        areas = _column(data, self.column)
        options: dict[str, Any] = {"errors": self.errors, "assume": self.assume}
        table = to_arrow(areas, self.model, self.registers, **options)
        found: dict[str, Any] = {name: None for name in data.schema.names if name != self.column}
        if clash := found.keys() & set(table.schema.names):
            raise XsaveError(f"the data has columns of the registers' names: {sorted(clash)}")
        found |= {name: table.column(name).combine_chunks() for name in table.schema.names}
        return _with_columns(data, found)

    schema = Convert.schema


def _column(data: Data, name: str) -> Any:
    names = data.schema.names
    if name not in names:
        raise XsaveError(f"there is no column {name!r}; columns: {', '.join(names)}")
    if len(set(names)) != len(names):
        raise XsaveError(f"columns have the same name: {', '.join(names)}")
    return data.column(name)


def _with_nulls(column: Any, errors: str) -> tuple[batch.Areas, dict[int, XsaveError]]:
    """The areas, and those that are null where that is no error."""
    if errors == "raise":
        return areas_of(column), {}
    array = column_of(column)
    rows = rows_of(array)
    if not array.null_count:
        return rows, {}
    absent = nulls_of(array)
    rows = rows.copy()
    rows[absent] = 0  # whatever stands there, it says nothing
    return rows, {int(index): XsaveError("the area is null") for index in np.flatnonzero(absent)}


def _with_columns(data: Data, columns: dict[str, Any]) -> Data:
    """Data with these columns in place of its own; None keeps one, and its field."""
    arrays, fields = [], []
    for name, array in columns.items():
        arrays.append(data.column(name) if array is None else array)
        fields.append(data.schema.field(name) if array is None else pa.field(name, array.type))
    return type(data).from_arrays(arrays, schema=pa.schema(fields, data.schema.metadata))


def _reasons(count: int, errors: dict[int, XsaveError]) -> pa.Array:
    reasons: list[str | None] = [None] * count
    for index, error in errors.items():
        reasons[index] = str(error)
    return pa.array(reasons, pa.string())
