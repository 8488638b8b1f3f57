"""Commands on a terminal: colours, whole words, registers before fields; pipes get neither."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command import run
from terminal import on_terminal, unstyled

import xsaveschema as xs
from xsaveschema.text import folded

BAD = str(Path(__file__).parents[1] / "data" / "bad" / "all-at-once.yaml")
ESCAPE = "\x1b["


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    """The kernel's area of the samples, and one with other registers."""
    area = xs.XsaveArea.parse(xs.samples.read("zen4-kernel-core"))
    (tmp_path / "a").write_bytes(bytes(area))
    area.registers["zmm3"] ^= 1 << 500 | 0xFF0000
    area.registers["zmm31"] = 0
    area.registers["k2"] = 5
    area.registers["mxcsr"] = 0x1FA0
    (tmp_path / "b").write_bytes(bytes(area))
    return str(tmp_path / "a"), str(tmp_path / "b")


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["models"], 0),
        (["layout", "zen4"], 0),
        (["decode", "sample:zen4-kernel-core"], 0),
        (["check", "sample:zen4-bad-header", "--model", "zen4"], 1),
        (["compare", "skylake-server", "haswell"], 1),
        (["identify", "sample:zen4-xsavec"], 0),
        (["lint", BAD], 1),
        (["layout", "nothing-like-this-at-all-anywhere", "--xcr0", "0x7"], 1),
        (["decode", "sample:nothing"], 2),
    ],
    ids=lambda each: each[0] if isinstance(each, list) else "",
)
def test_colours_where_a_terminal_is(args: list[str], code: int) -> None:
    text = on_terminal(*args, code=code)
    assert ESCAPE in text
    lines = unstyled(text).splitlines()
    sources = [line for line in lines if set(line.strip()) <= {"^"}]
    assert max(len(line.rstrip()) for line in lines if line not in sources) <= 80
    assert ESCAPE not in on_terminal(*args, code=code, TERM="dumb")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", on_terminal(*args, code=code, NO_COLOR="1"))
    assert ESCAPE not in run(*args, code=code).output
    assert ESCAPE in run(*args, code=code, FORCE_COLOR="1", TERM="xterm").output


def test_a_pipe_gets_long_lines_whole() -> None:
    args = ("check", "sample:zen4-bad-header", "--model", "zen4")
    piped = run(*args, code=1).stdout
    assert max(map(len, piped.splitlines())) > 80
    words = " ".join(unstyled(on_terminal(*args, code=1)).split())
    assert " ".join(piped.split()) in words


@pytest.mark.parametrize(
    ("line", "width", "expected"),
    [
        ([("aaa bbb", "")], 7, ["aaa bbb"]),
        ([("aaa bbb ccc", "")], 7, ["aaa bbb", "  ccc"]),
        ([("  aaa bbb", "")], 6, ["  aaa", "   bbb"]),
        ([("aaaaaaaaaa bb", "")], 5, ["aaaaaaaaaa", "  bb"]),
        ([("aaaaaaaaaa", "")], 5, ["aaaaaaaaaa"]),
        ([("  rule    ", ""), ("aa bb cccccc", "")], 20, ["  rule    aa bb", "          cccccc"]),
        ([], 5, [""]),
    ],
)
def test_lines_are_broken_at_spaces(
    line: list[tuple[str, str]], width: int, expected: list[str]
) -> None:
    found = ["".join(text for text, _ in part) for part in folded(line, width)]
    assert found == expected


def test_folding_keeps_the_styles() -> None:
    found = list(folded([("aa bb ", "red"), ("cc dd", "bold")], 6))
    assert [(text, style) for line in found for text, style in line if text.strip()] == [
        ("aa bb", "red"),
        ("cc", "bold"),
        ("dd", "bold"),
    ]


def test_diff_speaks_of_whole_registers(pair: tuple[str, str]) -> None:
    text = run("diff", *pair, code=1).stdout
    assert "\nk2: 0x21e8ac6843e42caf -> 0x5\n" in text
    assert text.startswith("mxcsr: 0x9fa1 -> 0x1fa0 (ie 1 -> 0, fz 1 -> 0)\nzmm3\n")
    assert text.split("zmm3\n")[1].split("k2")[0] == (
        "  [511:384]    0x759cde66bacfb3d0_0b1f9163ce9ff57f\n"
        "            -> 0x758cde66bacfb3d0_0b1f9163ce9ff57f\n"
        "                   ^\n"
        "  [127:0]      0x1a2a73ed562b0f79_c37459eef50bea63\n"
        "            -> 0x1a2a73ed562b0f79_c37459eef5f4ea63\n"
        "                                            ^^\n"
    )
    # Where nearly all has changed, carets tell nothing.
    assert "^" not in text.split("zmm31\n")[1]


def test_diff_marks_the_digits_that_changed(pair: tuple[str, str]) -> None:
    text = on_terminal("diff", *pair, code=1)
    assert "0x75\x1b[1;31m9\x1b[0mcde66bacfb3d0_0b1f9163ce9ff57f\n" in text
    assert "0x75\x1b[1;32m8\x1b[0mcde66bacfb3d0_0b1f9163ce9ff57f\n" in text
    assert "^" not in text


def test_diff_leaves_out_what_is_ignored_of_a_register(pair: tuple[str, str]) -> None:
    text = run("diff", *pair, "--ignore", "sse,hi16_zmm", code=1).stdout
    assert "[511:384]" in text
    assert "[127:0]" not in text
    # What is no register has its path; and registers go by the widest that is there.
    everything = run("diff", "sample:zen4-xsavec", pair[0], "--all", code=1).stdout.splitlines()
    assert "header.xcomp_bv: 0x80000000000000c3 -> 0x0 [format]" in everything[-3:]


SLOW = """
import sys, time
from xsaveschema.artefacts.opened import Artefact
from xsaveschema.cli.program import program
areas = Artefact.areas
def slow(self):
    time.sleep(1.6)
    return areas(self)
Artefact.areas = slow
program(sys.argv[1:])
"""


def test_a_long_wait_is_told_and_leaves_no_trace() -> None:
    args = ("decode", "sample:zen4-kernel-core", "--registers", "k1")
    text = on_terminal(*args, program=("-c", SLOW))
    told, _, rest = text.partition("\r\x1b[K")
    assert told.startswith("\rsample:zen4-kernel-core ... 1 s")
    assert unstyled(rest).startswith("  k1       0x8181a8cc369147eb\n")
    assert "..." not in on_terminal(*args)
    assert "..." not in on_terminal(*args, program=("-c", SLOW), TERM="dumb")
