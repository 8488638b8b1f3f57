"""CPUID dumps in, records out: every format, every trap, hostile input, and this machine."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import DATA, ROOT

from xsaveschema import cpuid
from xsaveschema.cpuid import CpuidDumpError, CpuidRecord, CpuidRegisters
from xsaveschema.errors import XsaveError

DATA = DATA / "cpuid"
PROJECT = ROOT
SHARED = Path(os.environ.get("XSAVESCHEMA_SHARED", PROJECT.parent / "shared"))

VENDOR = "GenuineIntel"
SIGNATURE = 0x000506E3
LEAF: dict[int, CpuidRegisters] = {
    0: (0x1F, 1088, 1088, 0),
    1: (0xF, 960, 0x100, 0),
    2: (256, 576, 0, 0),
    3: (64, 960, 0, 0),
    4: (64, 1024, 0, 0),
    8: (128, 0, 1, 0),
}
# One CPU, written down by hand in every format that can hold all of it.
SAME_CPU = {
    "cpuid-r.txt": "cpuid -r",
    "aida64.txt": "AIDA64",
    "libvirt.xml": "libvirt XML",
    "hwloc": "hwloc-gather-cpuid",
    "hwloc/pu0": "hwloc-gather-cpuid",
    "firecracker.json": "Firecracker JSON",
    "rjcp.xml": "RJCP XML",
    "tycho.txt": "tycho",
    "table.txt": "table",
}
FILES = sorted(
    {*SAME_CPU, "libcpuid.test", "aida64-unnumbered.txt", "aida64-hybrid.txt"} - {"hwloc"}
)
BY_LINE = [name for name in SAME_CPU if name not in ("hwloc", "firecracker.json")]


def text(name: str) -> str:
    return (DATA / name).read_text(encoding="utf-8")


def one(data: str | bytes, name: str = "dump") -> CpuidRecord:
    (record,) = cpuid.read_bytes(data.encode() if isinstance(data, str) else data, name)
    return record


def refused(data: str | bytes, match: str) -> CpuidDumpError:
    with pytest.raises(CpuidDumpError, match=match) as caught:
        cpuid.read_bytes(data.encode() if isinstance(data, str) else data, "dump")
    return caught.value


def rows(
    leaf_0xd: dict[int, CpuidRegisters], *, vendor: str = "", signature: int | None = None
) -> str:
    return cpuid.format_cpuid_r(CpuidRecord(vendor, signature, leaf_0xd))


# --- signatures ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("eax", "parts"),
    [
        pytest.param(0x000506E3, (0x06, 0x5E, 3), id="family 6: extended model"),
        pytest.param(0x00A10F11, (0x19, 0x11, 1), id="family 15: extended family and model"),
        pytest.param(0x00600F12, (0x15, 0x01, 2), id="family 15: Bulldozer"),
        pytest.param(0x000307B0, (0x07, 0x3B, 0), id="family 7: Zhaoxin"),
        pytest.param(0x000006FE, (0x06, 0x0F, 14), id="family 6: no extended model"),
        pytest.param(0x0FF30543, (0x05, 0x04, 3), id="family 5: extensions do not count"),
        pytest.param(0x00000F29, (0x0F, 0x02, 9), id="family 15: no extension"),
    ],
)
def test_signature_parts(eax: int, parts: tuple[int, int, int]) -> None:
    assert cpuid.signature_parts(eax) == parts


# --- formats ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "format_name"), SAME_CPU.items())
def test_every_format_gives_the_same_record(name: str, format_name: str) -> None:
    (record,) = cpuid.read(DATA / name)
    assert record == CpuidRecord(
        vendor=VENDOR,
        signature=SIGNATURE,
        leaf_0xd=LEAF,
        label="",
        source=str(DATA / name),
        format=format_name,
        hypervisor=False,
    )
    assert (record.xcr0, record.xss) == (0x1F, 0x100)
    assert record.complete
    assert record.unknown_components == ()
    assert record.warnings == ()
    assert list(record.components) == [2, 3, 4, 8]


@pytest.mark.parametrize("name", FILES)
def test_bytes_give_what_the_file_gives(name: str) -> None:
    path = str(DATA / name)
    assert list(cpuid.read_bytes((DATA / name).read_bytes(), path)) == list(cpuid.read(path))


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


def test_rjcp_rows_that_all_say_sub_leaf_0_are_numbered_by_order() -> None:
    """RJCP made them of AIDA64 texts without numbers (28 files of its tests)."""
    head, _, rest = text("rjcp.xml").partition('<register eax="0000000D"')
    tail = rest[rest.index("</processor>") :]
    bare = "".join(
        f'<register eax="0000000D" ecx="00000000">{row}</register>'
        for row in ("00000007,00000340,00000340,00000000", "00000100,00000240,00000000,00000000")
    )
    record = one(head + bare + tail)
    assert record.leaf_0xd == {0: (7, 832, 832, 0), 2: (256, 576, 0, 0)}
    assert any("sub-leaf 1 left out" in each for each in record.warnings)
    alone = one(head + bare[: len(bare) // 2] + tail)
    assert (alone.leaf_0xd, alone.notes) == ({0: (7, 832, 832, 0)}, ())


def test_a_sub_leaf_named_twice_matters_in_leaves_that_are_asked_for() -> None:
    """AIDA64 of a Sapphire Rapids writes ``[SL 00] [SL 00]`` behind leaf 0x1E."""
    odd = "CPUID 0000001E: 00000000-00004010-00000000-00000000 [SL 00] [SL 00]"
    lines = text("aida64.txt").split("\n")
    at = next(n for n, line in enumerate(lines) if "[SL 02]" in line)
    assert one("\n".join([*lines[:at], odd, *lines[at:]])).leaf_0xd == LEAF
    lines[at] += " [SL 02]"
    assert refused("\n".join(lines), "damaged line").line == at + 1


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


def test_hybrid_cpu_gives_a_record_for_each_kind_of_core() -> None:
    big, little = cpuid.read(DATA / "aida64-hybrid.txt")
    assert (big.label, little.label) == ("core 0, Intel Core", "core 2, Intel Atom")
    assert big.leaf_0xd == little.leaf_0xd
    assert (big.xcr0, big.xss) == (0x207, 0x1800)


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


def test_cores_that_differ_are_not_merged() -> None:
    head, _, tail = text("cpuid-r.txt").partition("CPU 1:")
    other = tail.replace("eax=0x0000000f ebx=0x000003c0", "eax=0x0000000f ebx=0x00000440")
    first, second = cpuid.read_bytes((head + "CPU 1:" + other).encode(), "dump")
    assert (first.label, second.label) == ("core 0", "core 1")
    assert (first.leaf_0xd[1][1], second.leaf_0xd[1][1]) == (960, 1088)


def test_cpus_without_headings_begin_with_leaf_0() -> None:
    bare = "\n".join(line for line in text("cpuid-r.txt").split("\n") if not line.startswith("CPU"))
    assert one(bare).leaf_0xd == LEAF


def test_firecracker_template_dump() -> None:
    config = json.loads(text("firecracker.json"))["guest_cpu_config"]
    assert one(json.dumps(config)).leaf_0xd == LEAF


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "latin-1"])
def test_encodings(name: str, encoding: str) -> None:
    content = text(name)
    if encoding == "latin-1" and name.endswith("-r.txt"):
        content = "# caf\xe9\n" + content
    data = content.encode(encoding)
    if encoding == "utf-16-be":
        data = b"\xfe\xff" + data
    assert list(cpuid.read_bytes(data, "x")) == list(cpuid.read_bytes(text(name).encode(), "x"))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_line_ends(name: str, end: str) -> None:
    data = text(name).replace("\n", end).encode()
    assert list(cpuid.read_bytes(data, "x")) == list(cpuid.read_bytes(text(name).encode(), "x"))


def test_hypervisor_bit() -> None:
    record = one(text("table.txt").replace("0x7ffafbff", "0xfffafbff"))
    assert record.hypervisor is True
    assert "the dump was taken in a guest, whose masks may hide components" in record.warnings


def test_vendor_of_12_characters_with_spaces() -> None:
    assert one(rows(LEAF, vendor="  Shanghai  ")).vendor == "  Shanghai  "


def test_records_can_be_hashed() -> None:
    assert len({one(text(name), "x") for name in ("libvirt.xml", "libvirt.xml")}) == 1


# --- writing ------------------------------------------------------------------------------------


def test_format_cpuid_r() -> None:
    record = CpuidRecord("AuthenticAMD", 0x00A10F11, {0: (7, 832, 832, 0)}, hypervisor=True)
    assert cpuid.format_cpuid_r(record) == (
        "CPU:\n"
        "   0x00000000 0x00: eax=0x0000000d ebx=0x68747541 ecx=0x444d4163 edx=0x69746e65\n"
        "   0x00000001 0x00: eax=0x00a10f11 ebx=0x00000000 ecx=0x84000000 edx=0x00000000\n"
        "   0x0000000d 0x00: eax=0x00000007 ebx=0x00000340 ecx=0x00000340 edx=0x00000000\n"
    )


U32 = st.integers(0, 0xFFFFFFFF)


@given(
    vendor=st.just("")
    | st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=12, max_size=12),
    signature=st.none() | U32,
    guest=st.booleans(),
    numbers=st.sets(st.integers(2, 62)),
    sizes=st.lists(st.tuples(st.integers(1, 0xFFFFFFFF), U32), min_size=62, max_size=62),
)
def test_what_is_written_is_read_again(
    vendor: str, signature: int | None, guest: bool, numbers: set[int], sizes: list[tuple[int, int]]
) -> None:
    user = sum(1 << number for number in numbers if number % 2)
    supervisor = sum(1 << number for number in numbers if not number % 2)
    leaf: dict[int, CpuidRegisters] = {
        0: (user & 0xFFFFFFFF | 3, 576, 576, user >> 32),
        1: (0xF, 576, supervisor & 0xFFFFFFFF, supervisor >> 32),
    }
    for number in sorted(numbers):
        leaf[number] = (*sizes[number - 1], 1 - number % 2, 0)
    hypervisor = None if signature is None else guest
    record = CpuidRecord(vendor, signature, leaf, hypervisor=hypervisor, format="cpuid -r")
    assert one(cpuid.format_cpuid_r(record), "") == record
    assert record.complete


# --- traps: what a dump leaves out is unknown ---------------------------------------------------


def test_list_that_stops_at_the_first_empty_sub_leaf() -> None:
    record = one(rows({number: LEAF[number] for number in (0, 1, 2, 3, 4)}))
    assert record.unknown_components == (8,)
    assert not record.complete
    assert (
        "component 8 is in XCR0 | IA32_XSS but not described: unknown, not absent; "
        "the list stops at sub-leaf 4"
    ) in record.warnings


def test_all_zero_sub_leaf_is_kept_but_describes_nothing() -> None:
    record = one(rows(LEAF | {3: (0, 0, 0, 0), 5: (0, 0, 0, 0)}))
    assert record.leaf_0xd[5] == (0, 0, 0, 0)
    assert record.unknown_components == (3,)
    assert not any("stops at" in warning for warning in record.warnings)


def test_missing_sub_leaf_1() -> None:
    record = one(rows({number: LEAF[number] for number in (0, 2, 3, 4, 8)}))
    assert record.xss is None
    assert record.unknown_components == ()
    assert record.unmasked_components == (), "component 8 may well be in IA32_XSS"
    assert not record.complete


def test_sub_leaves_outside_the_masks_are_told() -> None:
    record = one(rows(LEAF | {11: (16, 0, 1, 0), 12: (24, 0, 1, 0)}))
    assert record.unmasked_components == (11, 12)
    assert "components 11, 12 are described but in neither XCR0 nor IA32_XSS" in record.warnings


def test_missing_leaves_0_and_1_are_told() -> None:
    record = one(rows(LEAF))
    assert (record.vendor, record.signature, record.hypervisor) == ("", None, None)
    assert "the dump has no leaf 0: the vendor is unknown" in record.warnings
    assert any("no leaf 1" in warning for warning in record.warnings)


def test_size_that_the_components_do_not_have_is_told() -> None:
    record = one(rows({0: (7, 832, 1088, 0), 1: (0xB, 576, 0, 0), 2: (256, 576, 0, 0)}))
    assert (
        "sub-leaf 0 ECX says 1088 bytes for XCR0 0x7, but its components end at 832"
    ) in record.warnings


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


# --- traps: what cannot be believed is refused --------------------------------------------------


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
    ("name", "old", "new", "match"),
    [
        ("cpuid-r.txt", "ecx=0x00000440", "ecx=0x0000044", "damaged line"),
        ("cpuid-r.txt", "0x0000000d 0x02:", "0x0000000d 0x4002:", "no sub-leaf 0x4002"),
        ("aida64.txt", "0000001F-00000440", "0000001F 00000440", "damaged line"),
        ("aida64.txt", "[SL 03]", "[SL xx]", "damaged line"),
        ("aida64.txt", " [SL 03]", "", "only some rows of leaf 0xD name their sub-leaf"),
        ("aida64.txt", "CPUID 0000000D: 0000000F", "CPUID 000000D: 0000000F", "damaged line"),
        ("aida64-unnumbered.txt", "00000100-00000240", "00000040-000003C0", "which sub-leaf"),
        ("libvirt.xml", "ebx='0x00000240'", "ebx='576'", "ebx='576' is no 32-bit number"),
        ("libvirt.xml", "ebx='0x00000240'", "", "ebx='' is no 32-bit number"),
        ("libvirt.xml", "</cpudata>", "", "damaged XML: no element found"),
        ("libcpuid.test", "basic_cpuid[13]=0000001f", "basic_cpuid[13]=0000001", "damaged line"),
        ("hwloc/pu0", "5 d 0 2 0 => 100", "5 d 0 2 => 100", "damaged line"),
        ("firecracker.json", "0b0", "0bx", "is no number"),
        ("firecracker.json", '"register": "eax"', '"register": "ebx"', "ebx is given twice"),
        ("firecracker.json", '"register": "eax"', '"register": "rax"', "not the registers"),
        ("firecracker.json", '"subleaf": "0x2"', '"subleaf": 2', "no subleaf"),
        ("firecracker.json", '"subleaf": "0x2"', '"leaf": "0x2"', "a key twice"),
        ("firecracker.json", '"subleaf": "0x2",', "", "no subleaf"),
        ("firecracker.json", '"guest_cpu_config": {', "", "damaged JSON"),
        ("rjcp.xml", "00000100,00000240", "00000100;00000240", "damaged register"),
        ("tycho.txt", "0000000d:02 =", "0000000d:02", "damaged line"),
        ("table.txt", "0x00000100 0x00000240", "0x00000100", "damaged line"),
    ],
)
def test_damage_is_refused(name: str, old: str, new: str, match: str) -> None:
    content = text(name)
    assert old in content
    refused(content.replace(old, new), match)


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


def test_record_without_sub_leaf_0_cannot_be_made() -> None:
    with pytest.raises(CpuidDumpError, match="no XCR0 mask"):
        CpuidRecord("", None, {1: (0, 0, 0, 0)})


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


# --- hostile input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 4096,
        b"\x7fELF\2\1\1",
        b"hello\n",
        b"{}",
        b"<a/>",
        b"\xff\xfe",
        b"CPUID: none\n",
    ],
)
def test_unknown_formats(data: bytes) -> None:
    error = refused(data, "not a CPUID dump of a known format")
    assert "cpuid -r" in error.message
    assert error.line is None


def test_mixed_formats() -> None:
    refused(text("aida64.txt") + text("cpuid-r.txt"), "mixes formats: AIDA64 and cpuid -r")


def test_damaged_utf_16() -> None:
    refused(text("tycho.txt").encode("utf-16")[:-1], "damaged UTF-16 at byte")


@pytest.mark.parametrize("name", ["libvirt.xml", "rjcp.xml"])
def test_document_types_are_refused(name: str) -> None:
    entities = '<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9)
    )
    declaration, _, rest = text(name).rpartition("?>\n")
    declaration = declaration + "?>\n" if declaration else ""
    error = refused(
        declaration + f"<!DOCTYPE x [{entities}]>\n" + rest, "document type declaration"
    )
    assert error.line == (2 if declaration else 1)


def test_deep_nesting() -> None:
    refused('{"cpuid_modifiers": ' + "[" * 200_000, "damaged JSON")
    refused("<cpudata>" + "<a>" * 200_000, "damaged XML")


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    refused(b" " * ((16 << 20) + 1), "more than 16777216 bytes")
    refused('{"cpuid_modifiers": ' + " " * (2 << 20), "characters of JSON")
    refused("<cpudata>" + "<a/>" * (1 << 18), "elements: this is no CPUID dump")
    refused("0x1 0x0 0x0 0x0 0x0 0x0\n" * 1025, "more than 1024 rows for one CPU")
    refused((rows(LEAF, vendor=VENDOR) + "\n") * 4097, "more than 4096 CPUs")


def test_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CpuidDumpError, match="more than 16777216 bytes"):
        cpuid.read(path)


def test_directory_of_many_large_files(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"pu{number}").write_text(text("hwloc/pu0") + "#" * (6 << 20))
    with pytest.raises(CpuidDumpError, match=r"more than [0-9]+ bytes"):
        cpuid.read(tmp_path)


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, Path("/dev/zero")):
        with pytest.raises(CpuidDumpError, match="is no regular file"):
            cpuid.read(path)
    (tmp_path / "dump").mkdir()
    os.mkfifo(tmp_path / "dump" / "pu0")
    with pytest.raises(CpuidDumpError, match="is no regular file"):
        cpuid.read(tmp_path / "dump")


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CpuidDumpError, match="No such file"):
        cpuid.read(tmp_path / "nothing")
    with pytest.raises(CpuidDumpError, match="null"):
        cpuid.read("nul\0name")
    with pytest.raises(CpuidDumpError, match="a directory without a file pu0"):
        cpuid.read(tmp_path)


FRAGMENTS = st.sampled_from(
    [
        "\n",
        "0x",
        "CPU 7:",
        "CPUID ",
        "[SL 3F]",
        "[SL 40]",
        "-",
        "=>",
        "<",
        ">",
        "&a;",
        "{",
        "]",
        '"',
        "\0",
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A fixture with a few cuts, copies, insertions and changed bytes."""
    data = (DATA / draw(st.sampled_from(FILES))).read_bytes()
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 200)))
        middle = draw(
            st.sampled_from([b"", data[start:end] * 2, data[end:]])
            | st.binary(max_size=8)
            | FRAGMENTS.map(str.encode)
        )
        data = (
            data[:start] + middle + data[draw(st.sampled_from([start, end, start + len(middle)])) :]
        )
    return data


@settings(max_examples=500, deadline=None)
@given(mutated() | st.binary(max_size=200))
def test_damaged_dumps_are_read_or_refused(data: bytes) -> None:
    try:
        found = list(cpuid.read_bytes(data, "x"))
    except CpuidDumpError:
        return
    for record in found:
        assert 0 in record.leaf_0xd
        assert set(record.leaf_0xd) <= set(range(64))
        assert isinstance(record.warnings, tuple)


@pytest.mark.parametrize("name", FILES)
def test_dumps_cut_anywhere(name: str) -> None:
    data = (DATA / name).read_bytes()
    whole = list(cpuid.read_bytes(data, "x"))
    for length in range(len(data)):
        try:
            found = list(cpuid.read_bytes(data[:length], "x"))
        except CpuidDumpError:
            continue
        if not all(record.complete for record in found):
            continue
        # What is complete though the file was cut says nothing else than the whole file.
        for record in found:
            assert record.leaf_0xd in [each.leaf_0xd for each in whole]


# --- reference dumps ----------------------------------------------------------------------------


def reference() -> dict[str, list[dict[str, Any]]]:
    """What another reader made of each file of the reference collection."""
    folder = SHARED / "cpuid"
    if not (folder / "raw" / "index.json").exists():
        pytest.skip(f"no reference dumps in {folder}")
    dumps = {each["id"]: each for each in json.loads((folder / "dumps.json").read_text())}
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in json.loads((folder / "raw" / "index.json").read_text()):
        found.setdefault(entry["file"], []).append(dumps[entry["id"]])
    return found


def registers(value: dict[str, int] | None) -> CpuidRegisters | None:
    return None if value is None else (value["eax"], value["ebx"], value["ecx"], value["edx"])


def summary(dump: dict[str, Any], *, with_identity: bool) -> object:
    components = [
        (each["component"], (each["size"], each["offset"], each["ecx"], each["edx"]))
        for each in dump["components"]
    ]
    signature = dump["leaf1_eax"]
    return (
        dump["vendor"] if with_identity else "",
        int(signature, 16) if signature and with_identity else None,
        registers(dump["leaf_d0"]),
        registers(dump["leaf_d1"]),
        components,
    )


@pytest.mark.shared
def test_reference_dumps_say_what_another_reader_made_of_them() -> None:
    differences: list[object] = []
    expected = reference()
    for name, dumps in expected.items():
        records = list(cpuid.read(SHARED / "cpuid" / "raw" / name))
        # Two mails quote leaf 0xD alone; their vendor stands in a remark of the collection.
        with_identity = all(record.vendor for record in records)
        got = [
            (r.vendor, r.signature, r.leaf_0xd[0], r.leaf_0xd.get(1), [*r.components.items()])
            for r in records
        ]
        want = [summary(dump, with_identity=with_identity) for dump in dumps]
        if sorted(map(repr, got)) != sorted(map(repr, want)):
            differences.append((name, got, want))
        for record, dump in zip(records, dumps, strict=True):
            if bool(record.unknown_components) != (
                dump["status"] == "truncated"
                or (dump["status"] == "leaf-d0-only" and record.xcr0 != 3)
            ):
                differences.append((name, record.unknown_components, dump["status"]))
    assert not differences
    assert len(expected) > 100


@pytest.mark.shared
def test_hybrid_reference_dumps_have_one_record_for_each_kind() -> None:
    labels = {
        name: [record.label for record in cpuid.read(SHARED / "cpuid" / "raw" / name)]
        for name, dumps in reference().items()
        if len(dumps) > 1
    }
    assert labels
    for found in labels.values():
        assert [label.split(", ")[1] for label in found] == ["Intel Core", "Intel Atom"]
