# SPDX-License-Identifier: MIT
"""What the writers of many areas left in them: see xsaveschema.traces and xsaveschema.evidence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from xsaveschema.errors import EvidenceError, XsaveError
from xsaveschema.evidence import contradictions, describes
from xsaveschema.many.batch.rows import BIT63, Areas, Seen, distinct
from xsaveschema.model import HEADER_OFFSET, XCR0_OFFSET, CpuModel
from xsaveschema.traces import FP_XSTATE_MAGIC1, mxcsr_masks

_Flags = npt.NDArray[np.bool_]
_Words = npt.NDArray[np.uint64]
_LEGACY: Final = np.uint64(3)
_LOW: Final = np.uint64(0xFFFF_FFFF)


def telling(array: Areas, seen: Seen, model: CpuModel) -> _Flags:
    """For each row what :func:`xsaveschema.evidence.describes` says."""
    told: _Flags = seen.word != 0
    if not told.any():
        return told
    # XSTATE_BV does not matter here.
    for rows in _alike(array, seen.word, np.zeros_like(seen.word), told):
        told[rows] = describes(array[rows[0]].data, model)
    return told


def contradicted(array: Areas, seen: Seen, model: CpuModel) -> dict[int, XsaveError]:
    """The rows that ``model`` cannot have written, by index, with the EvidenceError of each."""
    masks = _alien(seen.mxcsr_mask, model)
    shows = (seen.word != 0) & (seen.xcomp_bv < BIT63)
    bad: dict[int, XsaveError] = {}
    for mask in distinct(masks) if masks.any() or shows.any() else ():
        same = masks == mask
        groups = [*_alike(array, seen.word, seen.xstate_bv, same & shows)]
        if mask and (silent := np.flatnonzero(same & ~shows)).size:
            groups.append(silent)
        for rows in groups:
            if facts := contradictions(array[rows[0]].data, model):
                error = EvidenceError(model.name, facts, needed=True)
                bad |= dict.fromkeys(rows.tolist(), error)
    return dict(sorted(bad.items()))


def _alien(masks: npt.NDArray[np.uint32], model: CpuModel) -> npt.NDArray[np.uint32]:
    """Each MXCSR_MASK that is another processor's; 0 for what contradicts nothing."""
    alien = np.zeros_like(masks)
    if (masks & ~np.uint32(model.mxcsr_mask)).any():
        for mask in mxcsr_masks():
            if mask & ~model.mxcsr_mask:
                alien[masks == mask] = mask
    return alien


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
