"""Results for people: a table, what moved, and the short table of docs/speed.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.measure import Goal, Row
from benchmarks.results import Machine, Movement, Results


def tell(found: Results, console: Console) -> None:
    """The machine, every ratio, and what was skipped."""
    console.print(machine_line(found.machine), style="bold", highlight=False)
    if found.quick:
        console.print("quick: few rounds and one CPU model, a first look", highlight=False)
    console.print(table(found.rows))
    for skipped in found.skipped:
        text = f"skipped: {skipped.case}: {skipped.what}: {skipped.why}"
        console.print(text, highlight=False, markup=False)


def machine_line(machine: Machine) -> str:
    """The machine in one line."""
    libraries = ", ".join(f"{name} {version}" for name, version in machine.libraries.items())
    cores = f"{machine.cores} core" + ("s" if machine.cores != 1 else "")
    python = f"Python {machine.python}"
    return f"{machine.cpu}, {cores}, {machine.system}, {python}; {libraries}"


def table(rows: Iterable[Row]) -> Table:
    """Every row, ratios first."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("case", "work", "ratio", "range", "against", "goal", "µs", ""):
        made.add_column(heading, justify="right" if heading in ("ratio", "range", "µs") else "left")
    last = None
    for row in rows:
        if last not in (None, row.case):
            made.add_section()
        made.add_row(
            "" if last == row.case else row.case,
            Text(row.work),
            f"{times(row.ratio)} ×",
            f"{times(row.low)}–{times(row.high)}",
            row.against,
            Text(told(row.goal, row.met), style="red" if row.met is False else ""),
            microseconds(row),
            row.note,
        )
        last = row.case
    return made


def times(ratio: float) -> str:
    """A ratio with three digits, or as many as it has before the point."""
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}" if ratio < 100 else f"{ratio:,.0f}"


def microseconds(row: Row) -> str:
    """The subject's own time, for orientation."""
    if row.microseconds is None:
        return ""
    return f"{row.microseconds:.3g}" if row.microseconds < 1000 else f"{row.microseconds:,.0f}"


def told(goal: Goal | None, met: bool | None) -> str:
    """A goal and whether it is met: ``≤ 6 met``."""
    if goal is None:
        return ""
    sign = "≥" if goal.kind == "at least" else "≤"
    unit = " µs" if goal.of == "microseconds" else ""
    said = {True: " met", False: " missed", None: ""}[met]
    return f"{sign} {goal.limit:g}{unit}{said}"


def tell_movement(before: Results, now: Results, found: list[Movement], console: Console) -> None:
    """What moved since, beyond the noise; and what makes the two runs hard to compare."""
    for warning in _warnings(before, now):
        console.print(f"note: {warning}", highlight=False, markup=False)
    shared = {row.key for row in before.rows} & {row.key for row in now.rows}
    console.print(
        f"since {before.when}: {len(found)} of {len(shared)} ratios moved beyond the noise",
        highlight=False,
    )
    for pair in found:
        row = pair.now
        verb = "slower" if pair.change > 0 else "faster"
        console.print(
            f"  {row.case}: {row.work}: {times(pair.before.ratio)} → {times(row.ratio)} × "
            f"{row.against} ({pair.change:+.0%}, {verb})",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def _warnings(before: Results, now: Results) -> Iterator[str]:
    old, new = machine_line(before.machine), machine_line(now.machine)
    if old != new:
        yield f"the results before are from elsewhere: {old}"
    if before.quick != now.quick:
        yield "one of the two runs was quick"
    measured = {row.key for row in now.rows}
    if missing := [row for row in before.rows if row.key not in measured]:
        yield f"{len(missing)} ratios of before were not measured now"


def in_markdown(found: Results) -> str:
    """The short table in Markdown: rows of one headline are joined, their ratios as a range."""
    lines = [f"Measured on {machine_line(found.machine)}.", ""]
    lines += ["| work | ratio | against | goal |", "|---|---|---|---|"]
    joined: dict[tuple[str, str], list[Row]] = {}
    for row in found.rows:
        if row.headline:
            joined.setdefault((row.headline, row.against), []).append(row)
    lines += [
        f"| {headline} | {_range(rows)} | {against} | {_verdict(rows)} |"
        for (headline, against), rows in joined.items()
    ]
    return "\n".join(lines)


def _range(rows: list[Row]) -> str:
    low, high = (times(pick(row.ratio for row in rows)) for pick in (min, max))
    text = f"{low} ×" if low == high else f"{low}–{high} ×"
    if rows[0].goal and rows[0].goal.of == "microseconds":
        text += f", {max(row.microseconds or 0 for row in rows):.2g} µs"
    return text


def _verdict(rows: list[Row]) -> str:
    met = [row.met for row in rows]
    goal = told(rows[0].goal, None)
    if not goal or all(met):
        return f"{goal}, met" if goal else ""
    return (
        f"{goal}, missed" if not any(met) else f"{goal}, met by {sum(map(bool, met))} of {len(met)}"
    )
