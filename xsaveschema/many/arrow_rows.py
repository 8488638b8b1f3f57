# SPDX-License-Identifier: MIT
"""Columns of areas in Arrow as rows of numpy arrays, sharing memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from xsaveschema.errors import XsaveError


def areas_of(column: Any) -> npt.NDArray[np.uint8]:
    """The areas of an Arrow array, as rows of a numpy array that shares its memory.

    Takes fixed-size binary, in chunks too (which are joined: a copy). XsaveError for another type
    and for nulls.
    """
    array = column_of(column)
    if array.null_count:
        first = int(np.flatnonzero(nulls_of(array))[0])
        raise XsaveError(
            f"area {first} is null, one of {array.null_count}: leave them out, or fill them"
        )
    return rows_of(array)


def column_of(column: Any) -> Any:
    """The column as one array of fixed-size binary; XsaveError for what is none."""
    if not hasattr(column, "type"):
        raise XsaveError(f"a {type(column).__name__} is no column of areas: choose one of it")
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else pa.array(column)
    if isinstance(array, pa.ChunkedArray):  # of no chunk
        array = pa.concat_arrays(array.chunks) if array.chunks else pa.array([], array.type)
    if not pa.types.is_fixed_size_binary(array.type):
        raise XsaveError(
            f"areas in Arrow are fixed-size binary, not {array.type}: cast them first "
            "(column.cast(pyarrow.binary(SIZE)))"
        )
    return array


def rows_of(array: Any) -> npt.NDArray[np.uint8]:
    """Its elements as rows, nulls whatever stands there."""
    size = array.type.byte_width
    data = array.buffers()[1]
    if data is None:
        return np.zeros((len(array), size), np.uint8)
    flat = np.frombuffer(data, np.uint8)[array.offset * size :][: len(array) * size]
    return flat.reshape(len(array), size)


def nulls_of(array: Any) -> npt.NDArray[np.bool_]:
    """Which elements are null."""
    found: npt.NDArray[np.bool_] = array.is_null().to_numpy(zero_copy_only=False)
    return found
