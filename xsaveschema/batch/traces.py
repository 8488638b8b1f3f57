"""What the writers of many areas left in them: see xsaveschema.traces and xsaveschema.evidence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from xsaveschema.batch.rows import BIT63, Areas, distinct, headers, run
from xsaveschema.errors import EvidenceError, XsaveError
from xsaveschema.evidence import contradictions, describes
from xsaveschema.model import HEADER_OFFSET, MXCSR_OFFSET, XCR0_OFFSET, CpuModel
from xsaveschema.traces import FP_XSTATE_MAGIC1, mxcsr_masks

_Flags = npt.NDArray[np.bool_]
_Words = npt.NDArray[np.uint64]
_LEGACY: Final = np.uint64(3)
_LOW: Final = np.uint64(0xFFFF_FFFF)


def telling(array: Areas, model: CpuModel) -> _Flags:
    """For each row what :func:`xsaveschema.evidence.describes` says."""
    words = run(array, XCR0_OFFSET, XCR0_OFFSET + 8).copy().view("<u8")
    told: _Flags = words != 0
    if not told.any():
        return told
    # XSTATE_BV does not matter here.
    for rows in _alike(array, words, np.zeros_like(words), told):
        told[rows] = describes(array[rows[0]].data, model)
    return told


def contradicted(array: Areas, model: CpuModel) -> dict[int, XsaveError]:
    """The rows that ``model`` cannot have written, by index, with the EvidenceError of each."""
    xstate, xcomp = headers(array)
    words = run(array, XCR0_OFFSET, XCR0_OFFSET + 8).copy().view("<u8")
    masks = run(array, MXCSR_OFFSET + 4, MXCSR_OFFSET + 8).copy().view("<u4")
    masks[masks & ~np.uint32(model.mxcsr_mask) == 0] = 0  # contradicts nothing
    if masks.any():
        masks[~np.isin(masks, [*mxcsr_masks()])] = 0  # no processor's, and says nothing
    bad: dict[int, XsaveError] = {}
    for mask in distinct(masks):
        same = masks == mask
        told = same & (words != 0) & (xcomp < BIT63)
        groups = [*_alike(array, words, xstate, told)]
        if (silent := np.flatnonzero(same & ~told)).size:
            groups.append(silent)
        for rows in groups:
            if facts := contradictions(array[rows[0]].data, model):
                bad |= dict.fromkeys(rows.tolist(), EvidenceError(model.name, facts))
    return dict(sorted(bad.items()))


def _alike(
    array: Areas, words: _Words, xstate: _Words, chosen: _Flags
) -> Iterator[npt.NDArray[np.intp]]:
    """The chosen rows in groups that show the same; those that show nothing for sure in one."""
    more = array[:, XCR0_OFFSET + 8 : HEADER_OFFSET].any(axis=1) if chosen.any() else chosen
    masks = chosen & (words & _LEGACY == _LEGACY) & ~more
    frames = chosen & (words & _LOW == FP_XSTATE_MAGIC1)
    if (rest := np.flatnonzero(chosen & ~masks & ~frames)).size:
        yield rest
    for word in distinct(words[masks]):
        same = masks & (words == word)
        for state in distinct(xstate[same]):
            yield np.flatnonzero(same & (xstate == state))
    # A frame's words count by what stands at its end, too.
    for row in np.flatnonzero(frames & ~masks):
        yield np.array([row])
