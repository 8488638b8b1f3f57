# SPDX-License-Identifier: MIT
"""Areas as rows of an array, and runs of their bytes as elements of a column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from xsaveschema.area import XsaveArea
from xsaveschema.errors import (
    MissingStateError,
    TooShortError,
    WrongTypeError,
    XsaveError,
    described,
)
from xsaveschema.header import MASKS
from xsaveschema.model import EXTENDED_OFFSET, HEADER_OFFSET, MXCSR_OFFSET, XCR0_OFFSET, CpuModel

_NO_ROWS: Final = (str, bytes, bytearray, int, float, XsaveArea, CpuModel, type(None))
"""What numpy would make an array of that nobody meant."""
Areas = npt.NDArray[np.uint8]
Rows = Literal[True] | npt.NDArray[np.bool_]
"""All rows, or a flag a row."""

BIT63: Final = np.uint64(1 << 63)


class BatchError(XsaveError):
    """An area of a batch that cannot be converted: ``index`` says which, ``error`` why."""

    def __init__(self, index: int, error: XsaveError):
        super().__init__(f"area {index}: {error}")
        self.index = index
        self.error = error


def reasons(errors: dict[int, XsaveError]) -> dict[int, tuple[type, str]]:
    """Errors by index as values: an exception equals itself alone."""
    return {index: (type(error), str(error)) for index, error in errors.items()}


def rows(data: Any, size: int) -> Areas:
    """Areas of ``size`` bytes that follow one another in a buffer, as an array; not copied.

    ``data`` is bytes, a memory map or any other flat buffer. TooShortError where it ends within
    an area.
    """
    flat = np.frombuffer(data, np.uint8)
    if size < EXTENDED_OFFSET or len(flat) % size:
        raise TooShortError(
            f"{len(flat)} bytes are no whole number of areas of {size} bytes, each of at least "
            f"{EXTENDED_OFFSET}",
            size,
            len(flat) % max(1, size),
        )
    return flat.reshape(-1, size)


def as_rows(areas: Any) -> Areas:
    """The areas as an array whose rows are contiguous; copied only where theirs are not.

    A list of XsaveArea is taken, too, as long as they have one size: MissingStateError where state
    of one is missing.
    """
    if isinstance(areas, list | tuple) and any(isinstance(area, XsaveArea) for area in areas):
        data = [_bytes_of(index, area) for index, area in enumerate(areas)]
        areas = rows(b"".join(data), _one_size(data))
    if hasattr(areas, "__arrow_c_array__") or hasattr(areas, "__arrow_c_stream__"):
        from xsaveschema.many.arrow_rows import areas_of

        areas = areas_of(areas)
    if isinstance(areas, _NO_ROWS):
        raise WrongTypeError(
            "areas: pass an array of uint8 of shape (n, size), as batch.rows(data, size) makes one "
            f"of bytes, or a list of XsaveArea, not {described(areas)}"
        )
    array = np.asarray(areas)
    if array.ndim != 2 or array.dtype != np.uint8:
        raise XsaveError(
            f"areas must be uint8 of shape (n, size), not {array.dtype} of shape {array.shape}"
        )
    if array.shape[1] < EXTENDED_OFFSET:
        raise TooShortError(
            f"areas of {array.shape[1]} bytes: the legacy region and the header alone take "
            f"{EXTENDED_OFFSET}",
            EXTENDED_OFFSET,
            array.shape[1],
        )
    return array if array.strides[1] == 1 else np.ascontiguousarray(array)


def _bytes_of(index: int, area: Any) -> bytes:
    if isinstance(area, XsaveArea) and area.missing:
        raise MissingStateError(
            area.missing,
            f"area {index}",
            area.layout.mask,
            "convert it by itself (xsaveschema.to_standard, to_compacted), which can drop it, "
            "or initialise() it",
        )
    try:
        return bytes(area)
    except (TypeError, ValueError):
        raise WrongTypeError(f"area {index}: pass an XsaveArea, not {described(area)}") from None


def _one_size(areas: Sequence[bytes]) -> int:
    sizes = sorted({len(area) for area in areas})
    if len(sizes) > 1:
        said = ", ".join(map(str, sizes))
        raise XsaveError(f"areas of one batch have one size, not {said} bytes: convert them first")
    return sizes[0]


def run(array: Areas, start: int, end: int) -> npt.NDArray[np.void]:
    """The bytes [start, end) of every area as one element each: numpy moves such fastest."""
    return array[:, start:end].view(f"V{end - start}")[:, 0]


def runs(array: Areas, places: Iterable[slice]) -> npt.NDArray[np.void]:
    """Each area as one element whose fields are these runs of its bytes, by their order.

    One assignment between two such arrays moves all the runs of an area before it goes to the next:
    memory is visited once. What stands between the runs is left alone.
    """
    found = [*places]
    row = {
        "names": [f"run{index}" for index in range(len(found))],
        "formats": [f"V{place.stop - place.start}" for place in found],
        "offsets": [place.start for place in found],
        "itemsize": array.shape[1],
    }
    return array.view(np.dtype(row))[:, 0]  # type: ignore[call-overload]  # numpy's own form


def constant(data: bytes) -> npt.NDArray[np.void]:
    """One such element, for every row alike."""
    return np.ndarray((), f"V{len(data)}", data)


class Seen(NamedTuple):
    """What every area says of its state and its writer, copied: rows need not be aligned.

    ``word`` is the u64 at byte 464, where a kernel leaves the mask that it had enabled.
    """

    mxcsr: npt.NDArray[np.uint32]
    mxcsr_mask: npt.NDArray[np.uint32]
    word: npt.NDArray[np.uint64]
    xstate_bv: npt.NDArray[np.uint64]
    xcomp_bv: npt.NDArray[np.uint64]


def seen(array: Areas) -> Seen:
    """The words on which a conversion of these areas depends."""
    # Each place is visited once, as it is a cache miss a row.
    mxcsr, mask = _columns(run(array, MXCSR_OFFSET, MXCSR_OFFSET + 8), "<u4")
    word = run(array, XCR0_OFFSET, XCR0_OFFSET + 8).copy().view("<u8")
    xstate_bv, xcomp_bv = _columns(run(array, HEADER_OFFSET, HEADER_OFFSET + MASKS.size), "<u8")
    return Seen(mxcsr, mask, word, xstate_bv, xcomp_bv)


def _columns(words: npt.NDArray[np.void], kind: str) -> npt.NDArray[Any]:
    """Two numbers that stand side by side in every area, each as a column."""
    return np.ascontiguousarray(words.copy().view(kind).reshape(-1, 2).T)


def distinct(column: npt.NDArray[Any]) -> list[int]:
    """The values of a column, each once."""
    if len(column) and (column == column[0]).all():
        return [int(column[0])]
    # As np.unique, without what it does for other types: a batch of mixed states asks often.
    ordered = np.sort(column)
    first = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    found: list[int] = ordered[first].tolist()
    return found
