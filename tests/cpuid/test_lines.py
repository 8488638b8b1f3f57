"""Texts with a row a line: what counts as a row, and which CPU it is of."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from cpuid_dumps import (
    DATA,
    FILES,
    LEAF,
    SIGNATURE,
    VENDOR,
    one,
    refused,
    text,
)

from xsaveschema import cpuid
from xsaveschema.cpuid import CpuidDumpError


def test_libcpuid_raw_has_sub_leaf_0_only() -> None:
    (record,) = cpuid.read(DATA / "libcpuid.test")
    assert (record.vendor, record.signature) == (VENDOR, SIGNATURE)
    assert record.leaf_0xd == {0: LEAF[0]}
    assert record.xss is None
    assert record.unknown_components == (2, 3, 4)
    assert not record.complete
    assert any("sub-leaf 1 is missing" in warning for warning in record.warnings)


def test_libcpuid_test_file_with_aida64_text() -> None:
    tail = "-" * 80 + "\nx86\ngeneral\n6\n14\n3\nfpu vme de pse\n"
    assert one(text("aida64.txt") + tail).leaf_0xd == LEAF


def test_old_aida64_text_without_numbers() -> None:
    (record,) = cpuid.read(DATA / "aida64-unnumbered.txt")
    assert record.leaf_0xd == {0: (7, 832, 832, 0), 2: (256, 576, 0, 0)}
    assert record.signature == 0x000206A7
    assert record.unknown_components == ()
    assert not record.complete, "nobody knows IA32_XSS"
    assert any("taken in their order, sub-leaf 1 left out" in each for each in record.warnings)


def test_old_aida64_text_with_sub_leaf_1() -> None:
    line = "CPUID 0000000D  \t00000001-00000000-00000000-00000000\n"
    first = "CPUID 0000000D  \t00000007-00000340-00000340-00000000\n"
    record = one(text("aida64-unnumbered.txt").replace(first, first + line))
    assert record.leaf_0xd == {0: (7, 832, 832, 0), 1: (1, 0, 0, 0), 2: (256, 576, 0, 0)}
    assert record.complete
    assert "the dump does not number the sub-leaves: taken in their order" in record.warnings


def test_sub_leaf_labels_of_aida64_are_hexadecimal() -> None:
    leaf = {0: (7, 832, 960, 1 << 30), 1: (0, 0, 0, 0), 2: (256, 576, 0, 0), 62: (128, 832, 0, 0)}
    lines = [
        "CPUID 0000000D: " + "-".join(f"{value:08X}" for value in registers) + f" [SL {number:02X}]"
        for number, registers in leaf.items()
    ]
    record = one("\n".join(lines))
    assert record.leaf_0xd == leaf
    assert record.xcr0 == 0x4000000000000007
    assert record.complete


def test_a_sub_leaf_named_twice_matters_in_leaves_that_are_asked_for() -> None:
    """AIDA64 of a Sapphire Rapids writes ``[SL 00] [SL 00]`` behind leaf 0x1E."""
    odd = "CPUID 0000001E: 00000000-00004010-00000000-00000000 [SL 00] [SL 00]"
    lines = text("aida64.txt").split("\n")
    at = next(n for n, line in enumerate(lines) if "[SL 02]" in line)
    assert one("\n".join([*lines[:at], odd, *lines[at:]])).leaf_0xd == LEAF
    lines[at] += " [SL 02]"
    assert refused("\n".join(lines), "damaged line").line == at + 1


@pytest.mark.parametrize(
    "heading",
    ["------[ CPUID Registers / Logical CPU #7 ]------", "CPUID Registers (CPU #7):", "CPU#007"],
)
def test_headings_of_aida64_number_the_cores(heading: str) -> None:
    first = "------[ Logical CPU #0 ]------"
    content = text("aida64-hybrid.txt")
    assert first in content
    big, _ = cpuid.read_bytes(content.replace(first, heading).encode(), "dump")
    assert big.label == "core 7, Intel Core"


def test_cpus_without_headings_begin_with_leaf_0() -> None:
    bare = "\n".join(line for line in text("cpuid-r.txt").split("\n") if not line.startswith("CPU"))
    assert one(bare).leaf_0xd == LEAF


@pytest.mark.parametrize(
    "head",
    [
        pytest.param("CPUID ", id="aida64"),
        pytest.param("CPUID 0000000D: ", id="aida64 leaf"),
        pytest.param("   0x0000000d", id="cpuid -r"),
        pytest.param("CPU ", id="cpuid -r heading"),
        pytest.param("5 d 0 2 0 =>", id="hwloc"),
        pytest.param("basic_cpuid[13]=", id="libcpuid"),
        pytest.param("0000000d:02 =", id="tycho"),
        pytest.param("", id="blanks alone"),
    ],
)
def test_megabytes_of_blanks_take_no_time(head: str) -> None:
    blank = head + " " * (4 << 20)
    before = time.process_time()
    for name in FILES:
        with suppress(CpuidDumpError):
            cpuid.read_bytes(f"{text(name)}\n{blank}".encode(), "dump")
    assert time.process_time() - before < 5, "quadratic would be hours, 100 a blank 12 seconds"
