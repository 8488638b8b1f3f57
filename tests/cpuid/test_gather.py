"""Rows become records: kinds of core, and what no CPU can have said."""

from __future__ import annotations

from pathlib import Path

import pytest
from cpuid_dumps import (
    BY_LINE,
    DATA,
    LEAF,
    one,
    refused,
    text,
)

from xsaveschema import cpuid
from xsaveschema.cpuid import CpuidDumpError, CpuidRegisters
from xsaveschema.errors import XsaveError


def test_hybrid_cpu_gives_a_record_for_each_kind_of_core() -> None:
    big, little = cpuid.read(DATA / "aida64-hybrid.txt")
    assert (big.label, little.label) == ("core 0, Intel Core", "core 2, Intel Atom")
    assert big.leaf_0xd == little.leaf_0xd
    assert (big.xcr0, big.xss) == (0x207, 0x1800)


def test_cores_that_differ_are_not_merged() -> None:
    head, _, tail = text("cpuid-r.txt").partition("CPU 1:")
    other = tail.replace("eax=0x0000000f ebx=0x000003c0", "eax=0x0000000f ebx=0x00000440")
    first, second = cpuid.read_bytes((head + "CPU 1:" + other).encode(), "dump")
    assert (first.label, second.label) == ("core 0", "core 1")
    assert (first.leaf_0xd[1][1], second.leaf_0xd[1][1]) == (960, 1088)


@pytest.mark.parametrize("name", BY_LINE)
def test_a_line_cut_out_is_never_taken_for_an_absent_component(name: str) -> None:
    lines = text(name).split("\n")
    told = 0
    for number in range(len(lines)):
        shorter = "\n".join(lines[:number] + lines[number + 1 :])
        try:
            found = list(cpuid.read_bytes(shorter.encode(), "x"))
        except CpuidDumpError:
            continue
        if any(record.leaf_0xd != LEAF for record in found):
            assert not all(record.complete for record in found)
            told += 1
    assert told >= 5, "sub-leaves 1, 2, 3, 4 and 8"


@pytest.mark.parametrize("name", BY_LINE)
def test_renumbered_sub_leaves_are_refused(name: str) -> None:
    """Tycho, and RJCP of an i9-10900K, number the non-empty sub-leaves 0, 1, 2, 3, …"""
    for old, new in (
        ("0x0000000d 0x08:", "0x0000000d 0x05:"),
        ("[SL 08]", "[SL 05]"),
        ("ecx_in='0x08'", "ecx_in='0x05'"),
        ("5 d 0 8 0", "5 d 0 5 0"),
        ('ecx="00000008"', 'ecx="00000005"'),
        ("0000000d:08", "0000000d:05"),
        ("0x0000000d 0x00000008", "0x0000000d 0x00000005"),
    ):
        if old in (content := text(name)):
            refused(content.replace(old, new), r"renumbered 0, 1, 2, 3, …: sub-leaf 5 .* and 8 of")
            return
    pytest.fail("no sub-leaf 8 in the fixture")


@pytest.mark.parametrize("name", BY_LINE)
def test_a_row_given_twice_must_say_the_same(name: str) -> None:
    """RJCP's dumps of some CPUs have sub-leaf 62 twice."""
    lines = text(name).split("\n")
    number = next(n for n, line in enumerate(lines) if "0x240" in line or "240" in line)
    again = "\n".join([*lines[:number], lines[number], *lines[number:]])
    assert one(again) == one(text(name))
    other = lines[number].replace("240", "250")
    error = refused(
        "\n".join([*lines[:number], other, *lines[number:]]),
        "sub-leaf 2 is given twice, with different values",
    )
    assert error.line == number + 2


@pytest.mark.parametrize(
    ("leaf", "match"),
    [
        pytest.param({1: LEAF[1], 2: LEAF[2]}, "no sub-leaf 0, hence no XCR0 mask", id="no XCR0"),
        pytest.param({0: (0, 0, 0, 0), 1: (0, 0, 0, 0)}, "leaf 0xD is all zero", id="all zero"),
        pytest.param({0: (5, 832, 832, 0)}, "XCR0 mask 0x5 lacks x87 or SSE", id="no SSE"),
        pytest.param(LEAF | {1: (15, 960, 0x104, 0)}, "bits 0x4 stand in both", id="both masks"),
        pytest.param(LEAF | {4: (64, 0, 1, 0)}, "4 says supervisor component, but XCR0", id="user"),
        pytest.param(
            LEAF | {8: (128, 576, 0, 0)}, "8 says user component, but IA32", id="supervisor"
        ),
    ],
)
def test_contradictions_are_refused(leaf: dict[int, CpuidRegisters], match: str) -> None:
    lines = [
        f"0x0000000d {number:#04x}: "
        + " ".join(f"e{n}x={v:#010x}" for n, v in zip("abcd", regs, strict=True))
        for number, regs in leaf.items()
    ]
    refused("\n".join(lines), match)


def test_no_leaf_0xd() -> None:
    kept = [line for line in text("cpuid-r.txt").split("\n") if "0x0000000d" not in line]
    refused("\n".join(kept), "CPU 0: there is no leaf 0xD")


def test_leaf_beyond_the_highest_is_not_believed() -> None:
    """An Intel CPU answers such a leaf with its highest one, and libcpuid dumps 32 leaves."""
    low = text("libcpuid.test").replace("[0]=00000016", "[0]=0000000a")
    refused(low, "there is no leaf 0xD: the highest leaf is 0xA")


def test_one_cpu_without_leaf_0xd_is_not_passed_over() -> None:
    head, _, tail = text("cpuid-r.txt").partition("CPU 1:")
    refused(head + "CPU 1:" + tail.replace("0x0000000d", "0x0000000e"), "CPU 1: there is no leaf")


def test_leaf_0_without_a_name() -> None:
    refused(text("libvirt.xml").replace("0x756e6547", "0x00000001"), "no vendor name")


def test_errors_say_where() -> None:
    error = refused("\n\n" + text("tycho.txt").replace("00000240", "0000240"), "damaged")
    assert (error.source, error.line) == ("dump", 8)
    assert str(error) == f"dump:8: {error.message}"
    assert isinstance(error, XsaveError)


def test_error_in_a_directory_names_the_file(tmp_path: Path) -> None:
    for name in ("pu0", "pu1"):
        (tmp_path / name).write_text(text(f"hwloc/{name}"))
    (tmp_path / "pu1").write_text(text("hwloc/pu1").replace("5 d 0 1 0", "5 d 0 2 0"))
    with pytest.raises(CpuidDumpError, match="CPU 1: leaf 0xD sub-leaf 2 is given twice") as caught:
        cpuid.read(tmp_path)
    assert (caught.value.source, caught.value.line) == (str(tmp_path / "pu1"), 7)
