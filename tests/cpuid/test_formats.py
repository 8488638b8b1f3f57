"""Every format gives the same record, and damage is refused."""

from __future__ import annotations

import json

import pytest
from cpuid_dumps import (
    DATA,
    FILES,
    LEAF,
    SAME_CPU,
    SIGNATURE,
    VENDOR,
    one,
    refused,
    text,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from xsaveschema import cpuid
from xsaveschema.cpuid import CpuidDumpError, CpuidRecord


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


def test_firecracker_template_dump() -> None:
    config = json.loads(text("firecracker.json"))["guest_cpu_config"]
    assert one(json.dumps(config)).leaf_0xd == LEAF


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
