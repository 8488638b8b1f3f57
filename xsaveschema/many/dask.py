# SPDX-License-Identifier: MIT
"""The adapter for Dask (extra ``dask``): a function of Arrow tables over a Parquet dataset."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from xsaveschema.many import parquet

if TYPE_CHECKING:
    import pyarrow as pa


def map_parquet(
    client: Any,
    function: Callable[[pa.Table], pa.Table],
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    resume: bool = False,
) -> int:
    """Apply a function, such as :class:`xsaveschema.arrow.Convert`, to every part of a dataset.

    ``client`` is a distributed.Client: the parts run on its workers, and the call waits for them
    and gives the number of rows. A worker that dies costs the parts that it was at, which others
    do again. See :mod:`xsaveschema.parquet` for what stands in ``target``. An error of the function
    ends the work; what is done stays, and ``resume=True`` goes on from there.
    """
    wanted = parquet.parts(source, target, resume=resume)
    work = partial(parquet.run, function)
    futures = client.map(work, parquet.pending(wanted), pure=False)
    try:
        client.gather(futures)
    finally:
        client.cancel(futures)  # what is done stands in the target; what is not must not go on
    return parquet.finish(wanted)
