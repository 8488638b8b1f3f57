"""The benchmarks' arithmetic and honesty: never how long something takes."""

from __future__ import annotations

import io
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from places import ROOT
from rich.console import Console

import xsaveschema as xs
from benchmarks import cases, kaitai, peers, report, results, startup, streams, work
from benchmarks.c_peer import c_conversion
from benchmarks.measure import (
    QUICK,
    SHORTEST,
    Claim,
    Effort,
    Goal,
    Row,
    Skipped,
    Task,
    interleaved,
    quartiles,
    ratio_of_minima,
    told,
)
from benchmarks.one_area import construct_conversion

np = pytest.importorskip("numpy", reason="the extra batch is not installed")
batches = pytest.importorskip("benchmarks.batches")

MODELS = ("skylake-server", "sapphire-rapids")

# --- arithmetic ----------------------------------------------------------------------------------


def test_the_ratio_is_of_the_minima_and_the_range_of_the_rounds() -> None:
    times = {"ours": [6.0, 4.0, 9.0, 8.0, 5.0], "memcpy": [2.0, 4.0, 3.0, 2.0, 5.0]}
    row = told("case", Claim("work", "ours", "memcpy", Goal(2)), times)
    assert row.ratio == ratio_of_minima(times["ours"], times["memcpy"]) == 2
    assert (row.low, row.high) == (1, 3), "of 3, 1, 3, 4, 1"
    assert row.microseconds == 4e6
    assert row.met


def test_one_round_is_its_own_range() -> None:
    assert quartiles([1.5]) == (1.5, 1.5)
    assert quartiles([1, 2, 3, 4, 5]) == (2, 4)


def test_goals_have_a_direction_and_a_unit() -> None:
    assert Goal(6).met(6)
    assert not Goal(6).met(6.1)
    assert Goal(15, "at least").met(15.1)
    assert not Goal(15, "at least").met(14)
    row = Row("case", "work", "base", 9, 9, 9, 1.5, Goal(2, of="microseconds"))
    assert row.met
    assert replace(row, goal=Goal(2)).met is False
    assert replace(row, goal=None).met is None


def test_tasks_take_turns() -> None:
    seen: list[str] = []

    def task(name: str) -> Task:
        def run() -> None:
            seen.append(name)
            time.sleep(1.5 * SHORTEST)

        return Task(name, run, pieces=1000)

    times = interleaved([task("A"), task("B"), task("C")], Effort(seconds=0, rounds=3))
    assert "".join(seen).endswith("ABCABCABC")
    assert [len(taken) for taken in times.values()] == [3, 3, 3]
    assert min(times["A"]) < SHORTEST, "seconds of a piece, not of a call"


# --- keeping and comparing -----------------------------------------------------------------------


def row(
    work: str,
    ratio: float,
    spread: float = 0.01,
    goal: Goal | None = None,
    headline: str = "",
    note: str = "",
) -> Row:
    low, high = ratio * (1 - spread), ratio * (1 + spread)
    return Row("case", work, "base", ratio, low, high, 1.0, goal, headline, note)


def run_of(*rows: Row) -> results.Results:
    return results.results(rows, [Skipped("case", "peer", "not installed")], quick=True)


def test_only_what_left_the_noise_moved() -> None:
    before = run_of(row("same", 2), row("faster", 2), row("slower", 2), row("noisy", 2, 0.5))
    now = run_of(
        row("same", 2.05), row("faster", 1.5), row("slower", 3), row("noisy", 3), row("new", 9)
    )
    assert [(m.now.work, m.change) for m in results.moved(before, now)] == [
        ("faster", -0.25),
        ("slower", 0.5),
    ]


def test_a_range_that_moved_without_its_minimum_did_not_move() -> None:
    before, now = row("work", 2), row("work", 2)
    up = replace(now, low=3, high=4)
    down = replace(now, low=1, high=1.5)
    for other in (up, down):
        assert results.moved(run_of(before), run_of(other)) == []
    assert results.moved(run_of(before), run_of(replace(up, ratio=1.5))) == []


def test_results_survive_json(tmp_path: Path) -> None:
    found = run_of(row("work", 2, goal=Goal(3), headline="work", note="note"), row("other", 3))
    assert found.skipped == [Skipped("case", "peer", "not installed")]
    results.save(found, tmp_path / "deep" / "results.json")
    assert results.load(tmp_path / "deep" / "results.json") == found


def test_the_last_results_become_the_previous(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = run_of(row("work", 2)), run_of(row("work", 3))
    results.keep(first)
    results.keep(second)
    assert results.load(results.KEPT) == second
    assert results.load(results.BEFORE) == first


def said(before: results.Results, now: results.Results) -> str:
    text = io.StringIO()
    console = Console(width=160, file=text)
    report.tell_movement(before, now, results.moved(before, now), console)
    return text.getvalue()


def test_runs_that_hardly_compare_say_so() -> None:
    before = run_of(row("work", 2), row("gone", 2))
    elsewhere = replace(before, machine=replace(before.machine, cpu="Another CPU"))
    text = said(elsewhere, replace(run_of(row("work", 3)), quick=False))
    assert "the results before are from elsewhere: Another CPU" in text
    assert "one of the two runs was quick" in text
    assert "1 ratios of before were not measured now" in text
    assert "case: work: 2.00 → 3.00 × base (+50%, slower)" in text
    assert "note" not in said(before, before)


def test_the_table_in_markdown_joins_rows_of_one_headline() -> None:
    goal, speed = Goal(3), Goal(2, of="microseconds")
    text = report.in_markdown(
        run_of(
            row("a", 2, goal=goal, headline="batch"),
            row("b", 4, goal=goal, headline="batch"),
            row("c", 7, goal=speed, headline="register"),
            row("d", 8, headline="peer"),
            row("e", 9),
        )
    )
    lines = text.splitlines()
    assert lines[0].startswith("Measured on ")
    assert f"Python {sys.version.split()[0]}" in lines[0]
    assert lines[4:] == [
        "| batch | 2.00–4.00 × | base | ≤ 3, met by 1 of 2 |",
        "| register | 7.00 ×, 1 µs | base | ≤ 2 µs, met |",
        "| peer | 8.00 × | base |  |",
    ]


# --- the work, and that peers do the same --------------------------------------------------------


def area_of(name: str) -> tuple[xs.Layout, bytes]:
    model = xs.load_model(name)
    return model.standard_layout(), work.standard_area(model, random.Random(7))


@pytest.mark.parametrize("name", MODELS)
def test_areas_have_everything_in_use(name: str) -> None:
    layout, data = area_of(name)
    area = xs.XsaveArea.parse(data, layout.model)
    assert area.xstate_bv == layout.model.xcr0
    assert area.registers["mxcsr"] == 0x1F80
    assert all(any(area.raw[slot.name]) for slot in layout)
    assert xs.check(data, layout.model) == []
    assert [member.name for member in work.members(layout)] == list(area.values())


@pytest.mark.parametrize("name", MODELS)
def test_every_peer_gives_the_librarys_values(name: str) -> None:
    layout, data = area_of(name)
    there = [peer for peer in peers.peers(layout) if isinstance(peer, peers.Peer)]
    assert len(there) >= 5, "struct.Struct and its class, ctypes, Construct twice"
    for peer in there:
        peers.verify(peer, data, peers.expected(layout, data))


def test_a_peer_that_reads_something_else_is_told() -> None:
    layout, data = area_of("skylake-server")
    peer, expected = peers.plain_struct(layout), peers.expected(layout, data)
    wrong = replace(peer, values=lambda found: {**found, "x87.fsw": 0x10000})
    with pytest.raises(peers.Disagreement, match=r"struct.Struct: x87.fsw is 65536, not"):
        peers.verify(wrong, data, expected)
    short = replace(peer, values=lambda found: {k: v for k, v in found.items() if k != "pkru.pkru"})
    with pytest.raises(peers.Disagreement, match=r"pkru.pkru is None"):
        peers.verify(short, data, expected)


def test_what_is_not_installed_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    layout, _ = area_of("skylake-server")
    found = [peer for peer in peers.peers(layout) if isinstance(peer, Skipped)]
    assert [(skipped.what, skipped.why) for skipped in found] == [
        ("Kaitai Struct", "kaitaistruct is not installed (the extra bench)"),
        ("dissect.cstruct", "dissect.cstruct is not installed (the extra bench)"),
    ]
    monkeypatch.setattr(cases, "find_spec", lambda name: None)
    (skipped,) = cases.CASES["batch"](QUICK)
    assert isinstance(skipped, Skipped)
    assert skipped.why == "numpy is not installed (the extra batch)"


def test_kaitais_parser_is_of_todays_layout() -> None:
    layout, _ = area_of("skylake-server")
    wanted = re.findall(r"- id: (\w+)", kaitai.description("area", layout))
    generated = (ROOT / "benchmarks" / "kaitai_skylake_server.py").read_text()
    assert re.findall(r"self\.(\w+) = self\._io\.read", generated) == wanted


@pytest.mark.parametrize("name", MODELS)
def test_construct_converts_as_the_library(name: str) -> None:
    layout, data = area_of(name)
    model = layout.model
    compacted = model.compacted_layout(model.xcr0)
    result = xs.to_compacted(data, model, xcomp_bv=model.xcr0).data
    assert construct_conversion(layout, compacted)(data) == result
    assert construct_conversion(compacted, layout)(bytes(result)) == data


@pytest.fixture(scope="module")
def convert() -> Callable[..., None]:
    found = c_conversion()
    if isinstance(found, Skipped):
        pytest.skip(found.why)
    return found


@pytest.mark.usefixtures("convert")
@pytest.mark.parametrize("name", MODELS)
def test_c_converts_every_kind_of_batch_as_the_library(name: str) -> None:
    kinds = set()
    for batch in batches.batches(xs.load_model(name), 300):
        batches.verify(batch, np.zeros((300, batch.target.size), "u1"))
        kinds.add((batch.kind, batch.target.format))
    assert len(kinds) == 5


def test_c_that_writes_something_else_is_told(
    convert: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(areas: Any, layout: xs.Layout, out: Any) -> None:
        convert(areas, layout, out)
        out[5, 600] ^= 1

    monkeypatch.setattr(batches, "c_conversion", lambda: wrong)
    batch = next(batches.batches(xs.load_model("skylake-server"), 10))
    with pytest.raises(peers.Disagreement, match="uniform: C differs in area 5, byte 600"):
        batches.verify(batch, np.zeros((10, batch.target.size), "u1"))


def test_without_a_compiler_c_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    found = c_conversion.__wrapped__()
    assert isinstance(found, Skipped)
    assert "no C compiler" in found.why


def test_mixed_batches_are_mixed() -> None:
    model = xs.load_model("skylake-server")
    made = {(b.kind, b.target.format): b.areas for b in batches.batches(model, 2000)}
    masks = {key: {row[512:528].tobytes() for row in areas} for key, areas in made.items()}
    assert len(masks["uniform", "standard"]) == 1
    assert len(masks["mixed XSTATE_BV", "compacted"]) == batches.STATES == 64
    assert len(masks["mixed XCOMP_BV", "standard"]) == 4


# --- streams -------------------------------------------------------------------------------------


def test_streams_say_why_they_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_unable", lambda: "no option --batch")
    assert list(streams.measure(QUICK)) == [
        Skipped("streams", "convert --batch", "no option --batch")
    ]


def test_streams_measure_files_of_growing_length(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    monkeypatch.setattr(streams, "_unable", lambda: "")
    monkeypatch.setattr(streams, "write_areas", lambda path, thousands: written.append(thousands))
    monkeypatch.setattr(streams, "convert", lambda folder, count: streams.Run(count / 1000, 50))
    monkeypatch.setattr(streams, "_against_dd", lambda *_: iter(()))
    found = [row for row in streams.measure(replace(QUICK, large=True)) if isinstance(row, Row)]
    assert written == [10, 100, 1000]
    assert [(row.against, round(row.ratio)) for row in found] == [
        ("10,000 areas", 10),
        ("10,000 areas", 1),
        ("100,000 areas", 10),
        ("100,000 areas", 1),
    ]
    assert all(row.met for row in found if row.goal)
    assert len(list(streams.measure(QUICK))) == 2


def test_a_stream_is_told_against_dd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "write_areas", lambda path, thousands: path.touch())
    monkeypatch.setattr(streams, "convert", lambda folder, count: streams.Run(3, 50))
    monkeypatch.setattr(streams, "run", lambda command, environment: streams.Run(2, 50))
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    (row,) = streams._against_dd(tmp_path, 10_000, QUICK)
    assert isinstance(row, Row)
    assert (row.against, row.ratio, row.met) == ("dd bs=4M conv=fsync", 1.5, True)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    (skipped,) = streams._against_dd(tmp_path, 10_000, QUICK)
    assert isinstance(skipped, Skipped)


def test_growth_is_told_as_an_exponent() -> None:
    before, after = [streams.Run(1, 50), streams.Run(2, 51)], [streams.Run(100, 100)] * 2
    duration, memory = (found for found in streams._growth(10, 1000, before, after))
    assert isinstance(duration, Row)
    assert isinstance(memory, Row)
    assert (duration.ratio, duration.note) == (100, "grows as n^1.00")
    assert (memory.ratio, memory.met) == (2, False)
    assert memory.note == "peak 100 MiB against 51"


def test_a_child_has_its_own_memory_not_its_parents() -> None:
    pytest.importorskip("resource")
    ours = bytearray(b"x") * (200 << 20)

    def run(code: str) -> streams.Run:
        return streams.run([sys.executable, "-c", code], dict(os.environ))

    small, large = run("pass").memory, run("bytearray(b'x') * (60 << 20)").memory
    assert len(ours) >> 20 > small
    assert large - small == pytest.approx(60, abs=5)
    with pytest.raises(RuntimeError, match="failed"):
        run("raise SystemExit(3)")


def test_a_stream_file_has_areas(tmp_path: Path) -> None:
    streams.write_areas(tmp_path / "areas", 2)
    model = xs.load_model(streams.MODEL)
    size = model.standard_layout().size
    data = (tmp_path / "areas").read_bytes()
    assert len(data) == 2000 * size
    assert xs.check(data[-size:], model) == []


# --- start-up ------------------------------------------------------------------------------------


def test_only_the_first_process_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    code = "import xsaveschema, sys; sys.exit(xsaveschema.__cached__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=startup.with_bytecode(tmp_path),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    cached = Path(done.stderr.strip())
    assert cached.is_relative_to(tmp_path)
    assert cached.is_file()


# --- the command ---------------------------------------------------------------------------------


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_run_is_kept_and_compared(tmp_path: Path) -> None:
    first = command(tmp_path, "--quick", "-k", "catalogue")
    assert first.returncode == 0, first.stderr
    assert results.cpu_name() in first.stdout
    assert re.search(r"catalogue +reading all models +[0-9.]+ × .* one model", first.stdout)
    kept = results.load(tmp_path / results.KEPT)
    assert [found.case for found in kept.rows] == ["catalogue"]

    # Before, it was a thousand times as much.
    for number, found in enumerate(kept.rows):
        kept.rows[number] = replace(
            found, ratio=1e3 * found.ratio, low=1e3 * found.low, high=1e3 * found.high
        )
    results.save(kept, tmp_path / results.KEPT)
    second = command(tmp_path, "--quick", "-k", "catalogue", "--compare")
    assert second.returncode == 0, second.stderr
    assert "1 of 1 ratios moved beyond the noise" in second.stdout
    assert re.search(r"reading all models: [0-9,]+ → .* \(-(99|100)%, faster\)", second.stdout)
    assert results.load(tmp_path / results.BEFORE) == kept

    markdown = command(tmp_path, "--markdown")
    assert markdown.stdout.startswith(f"Measured on {results.cpu_name()}")


def test_wrong_usage_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    unknown = command(tmp_path, "-k", "no-such-case")
    assert unknown.returncode == 2
    assert "no case is called no-such-case: one-area, values" in unknown.stderr
    nothing = command(tmp_path, "--compare")
    assert nothing.returncode == 1
    assert "no results in .benchmarks/last.json" in nothing.stderr
    (tmp_path / "odd.json").write_text("[]")
    odd = command(tmp_path, "--compare", "odd.json")
    assert odd.returncode == 1
    assert "no results in odd.json" in odd.stderr
