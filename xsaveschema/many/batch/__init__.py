# SPDX-License-Identifier: MIT
"""Many areas at once, on numpy (extra ``batch``).

An array of areas has the shape (n, size) and the type uint8: a numpy array, a memory map, anything
with a buffer shaped like that, an Arrow array of fixed-size binary, or a list of XsaveArea. The
rules are those of the functions for one area, and each row has the result that the area alone
would have.
"""

from __future__ import annotations

try:
    import numpy as _numpy  # noqa: F401 - asked for first, to say where it comes from
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "xsaveschema.batch needs numpy: pip install 'xsaveschema[batch]'", name="numpy"
    ) from error

from xsaveschema.many.batch.check import check
from xsaveschema.many.batch.columns import Decoded, decode, dtype, view
from xsaveschema.many.batch.conversion import Batch, relayout, to_compacted, to_standard
from xsaveschema.many.batch.rows import Areas, BatchError, rows

__all__ = [
    "Areas",
    "Batch",
    "BatchError",
    "Decoded",
    "check",
    "decode",
    "dtype",
    "relayout",
    "rows",
    "to_compacted",
    "to_standard",
    "view",
]
