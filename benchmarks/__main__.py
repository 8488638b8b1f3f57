"""``python -m benchmarks``: measure, print ratios, keep them, and say what moved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import msgspec
from rich.console import Console

from benchmarks.cases import CASES, chosen
from benchmarks.measure import FULL, QUICK, Effort, Row, Skipped
from benchmarks.report import in_markdown, tell, tell_movement
from benchmarks.results import KEPT, Results, keep, load, moved, results, save

LAST = "last"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Few rounds, one CPU model: under 20 seconds.")
@click.option("-k", "names", metavar="NAME", multiple=True, help=f"Only these: {', '.join(CASES)}.")
@click.option(
    "--compare",
    metavar="[FILE]",
    is_flag=False,
    flag_value=LAST,
    help=f"Say what moved since the results in FILE; default: those kept in {KEPT}.",
)
@click.option(
    "--json",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Write the results to this file instead of {KEPT}; --markdown reads it.",
)
@click.option("--large", is_flag=True, help="Streams of a million areas too (6 GB of disk).")
@click.option("--markdown", is_flag=True, help="Print the kept results as docs/speed.md has them.")
def main(
    quick: bool,
    names: tuple[str, ...],
    compare: str | None,
    file: Path | None,
    large: bool,
    markdown: bool,
) -> None:
    """Measure xsaveschema against baselines and peers, as ratios; no time is asserted.

    Peers (the extra bench), numpy and a C compiler are used where they are installed; what is
    skipped is said. The last results are kept, and those before them as previous.json.
    """
    if markdown:
        click.echo(in_markdown(_load(file or KEPT)))
        return
    if not chosen(names):
        raise click.UsageError(f"no case is called {' or '.join(names)}: {', '.join(CASES)}")
    # Read before the new results take their place.
    before = _load(KEPT if compare == LAST else Path(compare)) if compare else None
    found = _measured(names, replace(QUICK if quick else FULL, large=large), quick)
    # A table that is piped somewhere keeps its width.
    console = Console(width=None if Console().is_terminal else 160)
    tell(found, console)
    if before:
        tell_movement(before, found, moved(before, found), console)
    if file:
        save(found, file)
    else:
        keep(found)


def _load(path: Path) -> Results:
    try:
        return load(path)
    except (OSError, msgspec.DecodeError) as error:
        raise click.ClickException(f"no results in {path}: {error}") from None


def _measured(names: tuple[str, ...], effort: Effort, quick: bool) -> Results:
    """Run the chosen cases, saying on standard error which one is at work."""
    rows: list[Row] = []
    skipped: list[Skipped] = []
    for case, measure in chosen(names).items():
        click.echo(f"{case} ...", err=True)
        for outcome in measure(effort):
            if isinstance(outcome, Row):
                rows.append(outcome)
            else:
                skipped.append(outcome)
    return results(rows, skipped, quick)


if __name__ == "__main__":
    main()
