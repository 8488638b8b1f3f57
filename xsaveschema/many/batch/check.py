# SPDX-License-Identifier: MIT
"""What a restore makes of many areas."""

from __future__ import annotations

from typing import Any

import numpy as np

from xsaveschema.many.batch.rows import as_rows
from xsaveschema.model import (
    EXTENDED_OFFSET,
    HEADER_OFFSET,
    MXCSR_OFFSET,
    CpuModel,
    require_model,
)
from xsaveschema.restore import check as check_one
from xsaveschema.restore_rules import Target


def check(
    areas: Any, model: CpuModel, target: Target = "xrstor", **options: Any
) -> dict[int, list[Any]]:
    """The faults of each area that a restore refuses, by index; see :func:`xsaveschema.check`.

    Areas whose headers and MXCSR are alike are judged once, as all are equally long. Where a
    restore looks into components, each is judged by itself: XRSTORS into supervisor ones, XRSTOR
    into those whose file says that an illegal value faults.
    """
    require_model(model)
    array = as_rows(areas)
    found: dict[int, list[Any]] = {}
    if target == "xrstors" or (target == "xrstor" and _looks_inside(model)):
        for index in range(len(array)):
            if faults := check_one(array[index].data, model, target, **options):
                found[index] = faults
        return found
    # What the verdict depends on, beside options and length: MXCSR and the whole header.
    columns = np.concatenate(
        [array[:, MXCSR_OFFSET : MXCSR_OFFSET + 4], array[:, HEADER_OFFSET:EXTENDED_OFFSET]], 1
    )
    keys: list[bytes] = columns.view(f"V{columns.shape[1]}")[:, 0].tolist()
    verdicts: dict[bytes, list[Any]] = {}
    for index, key in enumerate(keys):
        if key not in verdicts:
            verdicts[key] = check_one(array[index].data, model, target, **options)
        if faults := verdicts[key]:
            found[index] = faults
    return found


def _looks_inside(model: CpuModel) -> bool:
    """Whether XRSTOR refuses values of a user component."""
    return any(c.illegal == "fault" and not c.supervisor for c in model.components.values())
