# SPDX-License-Identifier: MIT
"""Fields and registers of many areas as columns.

:func:`view` shows what stands in memory and copies nothing; :func:`decode` gives whole registers
with their meaning, as ``XsaveArea.registers`` does for one area.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xsaveschema.area.registers import Place, Plan, pieces, register_plans, unknown, widest
from xsaveschema.errors import TooShortError, XsaveError
from xsaveschema.header import buffer_layout
from xsaveschema.layout import Layout, compacted, require_layout
from xsaveschema.many.batch.rows import Areas, BatchError, as_rows, distinct, reasons, run, seen
from xsaveschema.many.batch.writers import contradicted
from xsaveschema.model import CpuModel, require_model
from xsaveschema.plan import Errors, require_errors
from xsaveschema.spans import ALWAYS

Column = npt.NDArray[Any]
_Group = tuple[Layout, npt.NDArray[np.intp]]


@dataclass(slots=True, eq=False, repr=False)
class Decoded:
    """Columns by name, one element an area; and why areas could not be read, by index."""

    columns: dict[str, Column]
    errors: dict[int, XsaveError]

    def __eq__(self, other: object) -> bool:
        """Whether the columns are the same, in any order, and the same areas were refused."""
        if not isinstance(other, Decoded):
            return NotImplemented
        return (
            reasons(self.errors) == reasons(other.errors)
            and self.columns.keys() == other.columns.keys()
            and all(np.array_equal(column, other.columns[n]) for n, column in self.columns.items())
        )

    def __repr__(self) -> str:
        rows = len(next(iter(self.columns.values()), ()))
        bad = f"; {len(self.errors)} refused" if self.errors else ""
        return f"<Decoded {rows} areas, {len(self.columns)} columns{bad}>"


def dtype(layout: Layout) -> np.dtype[Any]:
    """A numpy structured type of what stands in memory in a layout, one member a stored field.

    Members are named as ``XsaveArea.values`` names them; fields wider than 64 bits are sub-arrays
    (``avx.ymm_hi128[3]`` is two uint64, low bits first). ``areas.view(dtype(layout))`` copies
    nothing; initial components show whatever bytes stand there.
    """
    require_layout(layout)
    names, members, offsets = [], [], []
    for span in layout.spans():
        if not span.named:
            continue
        raw = span.field is not None and span.field.raw
        names.append(span.path)
        offsets.append(span.offset)
        member: Any = ("u1", (span.size,))
        if span.size in (1, 2, 4, 8) and not raw:
            member = f"<u{span.size}"
        elif span.size % 8 == 0 and not raw:
            member = ("<u8", (span.size // 8,))
        members.append(member)
    return np.dtype(
        {"names": names, "formats": members, "offsets": offsets, "itemsize": layout.size}
    )


def view(areas: Any, layout: Layout) -> npt.NDArray[Any]:
    """The areas as a structured array of :func:`dtype`, without copying: one column a field.

    Areas longer than the layout keep their stride; only rows that are not contiguous are copied.
    TooShortError where they are shorter.
    """
    require_layout(layout)
    array = as_rows(areas)
    if array.shape[1] < layout.size:
        raise TooShortError(
            f"areas of {array.shape[1]} bytes are shorter than {layout!r}",
            layout.size,
            array.shape[1],
        )
    return array[:, : layout.size].view(dtype(layout))[:, 0]


def decode(
    areas: Any,
    model: CpuModel,
    registers: Iterable[str] | None = None,
    *,
    errors: Errors = "raise",
    assume: bool = False,
) -> Decoded:
    """XSTATE_BV, XCOMP_BV and whole registers as columns, whatever the format of each area.

    ``registers`` names them; default: those of user components, the widest name of each, whatever
    the areas hold, so that all batches of a model have the same columns.
    Numbers of up to 64 bits are columns of unsigned integers; wider registers have the shape
    (n, size / 8) and the type uint64, low bits first, or (n, size) and uint8 (``st0``: 10 bytes).
    A tile is its whole 1,024 bytes, whatever shape TILECFG gives it. Initial state, and state that
    has no place in an area, has its initial value: what a restore would load.

    ``errors`` "raise" stops at an area whose header says nothing sure, or that says that another
    CPU wrote it (BatchError; ``assume`` insists on ``model``); "skip" lists it and leaves zeros
    for its registers. UnknownComponentError names a register that the model
    lacks.
    """
    require_model(model)
    require_errors(errors, "raise", "skip")
    everything = compacted(model, model.user_mask | model.supervisor_mask)
    user = compacted(model, model.user_mask)
    if isinstance(registers, str):
        registers = (registers,)
    names = widest(user) if registers is None else tuple(registers)
    array = as_rows(areas)
    words = seen(array)
    xstate_bv, xcomp_bv = words.xstate_bv, words.xcomp_bv
    against = {} if assume else contradicted(array, words, model)
    groups, bad = _grouped(array, model, xstate_bv, xcomp_bv, against)
    if bad and errors == "raise":
        index = min(bad)
        raise BatchError(index, bad[index]) from bad[index]
    columns: dict[str, Column] = {"xstate_bv": xstate_bv, "xcomp_bv": xcomp_bv}
    for name in names:
        whole = register_plans(everything).get(name)
        if whole is None:
            raise unknown(model, name)
        columns[name] = _column(array, whole, groups, xstate_bv)
    return Decoded(columns, dict(sorted(bad.items())))


def _grouped(
    array: Areas,
    model: CpuModel,
    xstate_bv: npt.NDArray[np.uint64],
    xcomp_bv: npt.NDArray[np.uint64],
    against: dict[int, XsaveError],
) -> tuple[list[_Group], dict[int, XsaveError]]:
    """The rows of each layout, and those that cannot be read: ``against``, or by their header."""
    found: dict[Layout, list[npt.NDArray[np.intp]]] = {}
    bad = dict(against)
    good = np.ones(len(array), bool)
    good[[*against]] = False
    for mask in distinct(xcomp_bv):
        alike = np.flatnonzero((xcomp_bv == mask) & good)
        for state in distinct(xstate_bv[alike]):
            rows = alike[xstate_bv[alike] == state]
            try:
                layout = buffer_layout(model, state, mask, array.shape[1])
            except XsaveError as error:
                bad |= dict.fromkeys(rows.tolist(), error.with_traceback(None))
                continue
            found.setdefault(layout, []).append(rows)
    return [(layout, np.concatenate(rows)) for layout, rows in found.items()], bad


def _column(
    array: Areas, whole: Plan, groups: list[_Group], xstate_bv: npt.NDArray[np.uint64]
) -> Column:
    """A register of every row, as numbers or bytes; zero in rows that are in no group."""
    column = np.zeros((len(array), whole.size), np.uint8)
    initial = sum(place.initial << place.shift for place in whole.places)
    image = np.frombuffer(initial.to_bytes(whole.size, "little"), np.uint8)
    for layout, rows in groups:
        if initial:
            column[rows] = image
        for place, chosen in _places(array, layout, whole, rows):
            in_use = chosen
            if place.bit != ALWAYS:
                in_use = chosen[xstate_bv[chosen] & np.uint64(place.bit) != 0]
            at, size = place.shift // 8, place.end - place.start
            run(column, at, at + size)[in_use] = run(array, place.start, place.end)[in_use]
    if whole.size in (1, 2, 4, 8):
        return column.view(f"<u{whole.size}")[:, 0]
    return column.view("<u8") if whole.size % 8 == 0 and whole.shape is None else column


def _places(
    array: Areas, layout: Layout, whole: Plan, rows: npt.NDArray[np.intp]
) -> Iterator[tuple[Place, npt.NDArray[np.intp]]]:
    """Where a register's pieces stand, and in which rows: an MM register moves with FSW.TOP."""
    plan = register_plans(layout).get(whole.register.name)
    if plan is None:
        for place in pieces(layout, whole.register, whole):
            yield place, rows
        return
    if plan.top is None:
        for place in plan.places:
            yield place, rows
        return
    # Where x87 is initial all slots are, wherever TOP leads.
    word, low, slots = plan.top
    fsw = run(array, word.start, word.end)[rows].copy().view(f"<u{word.end - word.start}")
    tops = fsw >> low & 7
    for top in distinct(tops):
        yield slots[(plan.register.index - top) & 7], rows[tops == top]
