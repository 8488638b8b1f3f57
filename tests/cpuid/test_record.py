"""What one kind of core says: signatures, what is unknown, and the text of a record."""

from __future__ import annotations

import pytest
from cpuid_dumps import (
    LEAF,
    one,
    rows,
    text,
)
from hypothesis import given
from hypothesis import strategies as st

from xsaveschema import cpuid
from xsaveschema.cpuid import CpuidDumpError, CpuidRecord, CpuidRegisters


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


def test_hypervisor_bit() -> None:
    record = one(text("table.txt").replace("0x7ffafbff", "0xfffafbff"))
    assert record.hypervisor is True
    assert "the dump was taken in a guest, whose masks may hide components" in record.warnings


def test_vendor_of_12_characters_with_spaces() -> None:
    assert one(rows(LEAF, vendor="  Shanghai  ")).vendor == "  Shanghai  "


def test_records_can_be_hashed() -> None:
    assert len({one(text(name), "x") for name in ("libvirt.xml", "libvirt.xml")}) == 1


def test_record_without_sub_leaf_0_cannot_be_made() -> None:
    with pytest.raises(CpuidDumpError, match="no XCR0 mask"):
        CpuidRecord("", None, {1: (0, 0, 0, 0)})


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
