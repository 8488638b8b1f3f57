"""Files that are written of a CPU's leaf 0xD give it back, and say what is known of it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from drafts import (
    COMPLETE,
    DUMPS,
    NEW,
    changed,
    drafted,
    round_trip,
    unwrapped,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from test_match import dumps, leaf_of

from xsaveschema import cpuid
from xsaveschema.authoring.draft import DraftError, draft, schema_reference, seen_model
from xsaveschema.authoring.resemblance import kin_of
from xsaveschema.catalog import default_catalog
from xsaveschema.cpuid import CpuidRecord, CpuidRegisters
from xsaveschema.errors import XsaveError
from xsaveschema.language.files import shipped_directory


@pytest.mark.parametrize("name", COMPLETE)
def test_a_file_from_a_dump_gives_back_its_leaf(name: str, tmp_path: Path) -> None:
    for record in cpuid.read(DUMPS / name):
        round_trip(record, tmp_path)


def kinds(records: Iterable[CpuidRecord]) -> list[CpuidRecord]:
    """Records that differ in what a model file takes from them."""
    found = {
        (r.vendor, r.xcr0, r.xss, r.leaf_0xd[1][0], str(r.components), r.hypervisor): r
        for r in records
        if r.complete
    }
    return list(found.values())


@pytest.mark.shared
def test_every_complete_raw_dump(shared: Path, tmp_path: Path) -> None:
    raw = shared / "cpuid" / "raw"
    files = sorted({entry["file"] for entry in json.loads((raw / "index.json").read_text())})
    records = [record for file in files for record in cpuid.read(raw / file)]
    drafted = [round_trip(r, tmp_path, vendor=r.vendor or "AuthenticAMD") for r in kinds(records)]
    assert len(drafted) > 30
    refused = [record for record in records if not record.complete]
    for record in refused:
        with pytest.raises(DraftError, match="does not describe"):
            seen_model(record, "drafted", vendor="GenuineIntel")
    assert refused


@pytest.mark.shared
def test_every_complete_recorded_dump_is_a_known_model(shared: Path, tmp_path: Path) -> None:
    """Every real CPU of the collection has a model, so that no file is proposed for any."""
    found = dumps(shared)
    records = [
        CpuidRecord(dump["vendor"], int(dump["leaf1_eax"], 16), leaf_of(dump))
        for dump in found
        if dump["leaf1_eax"] and dump["leaf_d1"]
    ]
    assert len(records) > 150
    for record in kinds(records):
        kin = kin_of(seen_model(record, "drafted"))
        assert kin.same is kin.owner is kin.base is not None
        round_trip(record, tmp_path)


def test_a_leaf_with_every_component_that_has_a_file(tmp_path: Path) -> None:
    """Not one component file's name or field size stands in the way."""
    names = {n: name for name, n in default_catalog().component_names().items() if n >= 2}
    widest = {
        number: max(m.by_number[number].size for m in default_catalog().models()
                    if number in m.by_number)
        for number in names
    }  # fmt: skip
    leaf: dict[int, CpuidRegisters] = {}
    end = 576
    for number, size in widest.items():
        supervisor = number in (8, *range(10, 17))
        leaf[number] = (size, 0 if supervisor else end, int(supervisor), 0)
        end += 0 if supervisor else size
    user = 3 | sum(1 << n for n in leaf if not leaf[n][2])
    hidden = sum(1 << n for n in leaf if leaf[n][2])
    leaf[0] = (user & 0xFFFFFFFF, end, end, user >> 32)
    leaf[1] = (0x1F, 576, hidden, 0)
    (text,) = round_trip(CpuidRecord("GenuineIntel", 0x000D06F0, leaf), tmp_path)
    assert "number:" not in text
    assert all(f"  {name}:" in text for name in names.values())


@st.composite
def leaves(draw: st.DrawFn) -> dict[int, CpuidRegisters]:
    """A leaf 0xD that a CPU could have: legal masks, no overlap, sizes of the components."""
    groups: list[list[int]] = [[3, 4], [17, 18], [9], [19], [20], [33], [61], [62]]
    chosen = [n for group in groups if draw(st.booleans()) for n in group]
    if draw(st.booleans()):
        chosen += [2, *([5, 6, 7] if draw(st.booleans()) else [])]
    supervisor = draw(st.sets(st.sampled_from([8, 10, 11, 12, 13, 14, 15, 16, 21, 40])))
    sizes = {2: 256, 5: 64, 6: 512, 7: 1024, 18: 8192, 8: 128, 15: 808}
    leaf: dict[int, CpuidRegisters] = {}
    end = 576
    for number in draw(st.permutations(chosen)):
        end += draw(st.sampled_from([0, 0, 8, 64, 1024]))
        size = sizes.get(number, 128) + draw(st.sampled_from([0, 0, 8]))
        flags = draw(st.sampled_from([0, 2, 4, 6]))
        leaf[number] = (size, end, flags, 0)
        end += size
    for number in supervisor:
        leaf[number] = (sizes.get(number, 64), 0, 1 | draw(st.sampled_from([0, 2])), 0)
    user = 3 | sum(1 << number for number in chosen)
    hidden = sum(1 << number for number in supervisor)
    if draw(st.booleans()):  # described, but in neither mask
        leaf[50] = draw(st.sampled_from([(64, 0, 1, 0), (64, 576, 0, 0)]))
    instructions = draw(st.integers(0, 31)) | (8 if hidden else 0)  # IA32_XSS comes with XSAVES
    leaf[0] = (user & 0xFFFFFFFF, 576, end if chosen else 576, user >> 32)
    leaf[1] = (instructions, 0, hidden & 0xFFFFFFFF, hidden >> 32)
    return leaf


@settings(max_examples=25)
@given(
    leaf=leaves(),
    vendor=st.sampled_from(["GenuineIntel", "AuthenticAMD", "  Shanghai  ", "VIA VIA VIA ", "#:{}"
                            "\"'\\-,&*!"]),
    signature=st.sampled_from([None, 0x000806F8, 0x00A20F10, 0x000307B0, 0x00C20F10, 0x00050659]),
)  # fmt: skip
def test_any_cpu_that_could_be_gives_back_its_leaf(
    tmp_path_factory: pytest.TempPathFactory,
    leaf: dict[int, CpuidRegisters],
    vendor: str,
    signature: int | None,
) -> None:
    vendor = (vendor * 2)[:12]
    round_trip(CpuidRecord(vendor, signature, leaf), tmp_path_factory.mktemp("drafted"))


U32 = st.integers(0, 0xFFFFFFFF) | st.sampled_from([0, 1, 2, 3, 7, 64, 576, 1 << 20])


@settings(max_examples=60)
@given(leaf=st.dictionaries(st.integers(0, 63), st.tuples(U32, U32, U32, U32), max_size=8))
def test_what_no_cpu_can_have_is_refused_and_never_half_written(
    leaf: dict[int, CpuidRegisters],
) -> None:
    leaf[0] = (leaf.get(0, (7, 0, 0, 0))[0] | 3, *leaf.get(0, (0, 0, 0, 0))[1:])
    record = CpuidRecord("GenuineIntel", 0x000D06F0, leaf)
    try:
        seen = seen_model(record, "drafted")
        made = draft(record, seen, kin_of(seen).base, provenance="a dump")
    except XsaveError:
        return
    assert (made.model.xcr0, made.model.xss) == (record.xcr0, record.xss)


def test_a_component_that_leaf_0xd_describes_but_no_mask_enables(tmp_path: Path) -> None:
    # As on Centaur CNS: the CET components are there, and IA32_XSS has neither.
    record = changed(s1=(0xF, 0, 0, 0))
    for text in round_trip(record, tmp_path):
        assert (
            "  cet_u: {size: 16, supervisor: true, optional: absent}  "
            "# described, but IA32_XSS cannot enable it\n"
        ) in re.sub(" +{", " {", text).replace(",  ", ", ")
    assert "extends: zen3\n" in drafted(record)


def test_a_cpu_with_x87_and_sse_only() -> None:
    leaf: dict[int, CpuidRegisters] = {0: (3, 576, 576, 0), 1: (0, 0, 0, 0)}
    text = drafted(CpuidRecord("GenuineIntel", 0x00D10F10, leaf), full=True)
    assert "components: {}  # x87 and sse only\n" in text
    assert "instructions: []\n" in text


@pytest.mark.parametrize(
    ("signature", "line"),
    [
        # 55h is three models' by stepping; nobody has 15.
        pytest.param(
            0x0005065F,
            "  - {family: 0x06, models: [0x55], steppings: [15]}  "
            "# leaf 1 EAX 0x0005065F; other steppings are another model's",
            id="other steppings are taken",
        ),
        pytest.param(
            0x00050654,
            "# No signatures: family 0x06, model 0x55, stepping 4 is skylake-server's, and a "
            "signature belongs to one model.",
            id="taken",
        ),
        pytest.param(
            None,
            "# No signatures: the dump has no leaf 1, which tells family and model.",
            id="unknown",
        ),
    ],
)
def test_the_signature_is_one_that_lint_lets_pass(
    signature: int | None, line: str, tmp_path: Path
) -> None:
    record = CpuidRecord("GenuineIntel", signature, NEW)
    (text, *_) = round_trip(record, tmp_path)
    assert line in unwrapped(text)
    assert ("signatures:\n" in text) is line.startswith("  -")


def test_a_guest_confirms_nothing_and_the_file_says_so() -> None:
    record = CpuidRecord("AuthenticAMD", 0x00D10F10, NEW, hypervisor=True)
    text = drafted(record)
    assert "# Seen in a guest: its hypervisor may hide components." in text
    assert 'confirmed: false\nsource: "a guest: d.txt"\n' in text
    leaf = {n: NEW[n] for n in (2, 11, 12)}
    leaf |= {0: (7, 832, 832, 0), 1: (0xF, 872, 0x1800, 0)}
    text = drafted(CpuidRecord("AuthenticAMD", 0x00A20F10, leaf, hypervisor=True))
    assert "limited to these masks it is the same" in unwrapped(text)


def test_what_leaf_0xd_says_beyond_the_language_is_told() -> None:
    record = changed(s2=(256, 576, 8, 0), s11=(16, 99, 1, 0), s1=(0xF, 9999, 0x1800, 0))
    seen = seen_model(record, "mine")
    made = draft(record, seen, None, provenance="d.txt")
    said = [
        "Component 2: ECX bits 0x8 have no known meaning.",
        "Component 11: a supervisor component with an offset, EBX 99.",
    ]
    for line in said:
        assert f"# {line}\n" in made.text
        assert line in made.notes
    assert "D.1.EBX says 9999 bytes, but all components have 880" in made.notes
    assert "IA32_XSS 0x1800; CPUID D.1.EBX says 9999\n" in made.text
    assert "CPUID D.0.ECX says 1088\n" in drafted(changed(s0=(0x207, 0, 1088, 0)))


@pytest.mark.parametrize("title", ["no", "a: b", "# x", "é, ü", '"', "a\\b", "'", "-", "x ", "~"])
def test_any_title_comes_back_as_it_was(title: str) -> None:
    record = changed()
    seen = seen_model(record, "mine")
    for provenance in (title, "plain.txt"):
        made = draft(record, seen, None, provenance=provenance, title=title)
        assert made.model.title == title
        assert made.model.confirmed_by == (provenance,)


@pytest.mark.parametrize("name", ["no", "on", "123", "1e5", "0x1f", "y", "null", "2026-01-01"])
def test_a_name_that_yaml_would_misread_is_quoted(name: str) -> None:
    assert f'model: "{name}"\n' in drafted(changed(), name=name)


def test_the_schema_is_named_by_a_path_that_travels(tmp_path: Path) -> None:
    inside = shipped_directory() / "models" / "intel" / "x.yaml"
    assert schema_reference(inside) == "../../model.schema.json"
    shipped = (shipped_directory() / "models" / "intel" / "skylake.yaml").read_text()
    assert shipped.startswith(f"# yaml-language-server: $schema={schema_reference(inside)}\n")
    # Elsewhere it stands beside the file or above it, or the file names none.
    assert schema_reference(None) == ""
    (tmp_path / "mine").mkdir()
    assert schema_reference(tmp_path / "mine" / "x.yaml") == ""
    (tmp_path / "model.schema.json").write_text('{"title": "another\'s"}')
    assert schema_reference(tmp_path / "x.yaml") == ""
    shutil.copy(shipped_directory() / "model.schema.json", tmp_path)
    assert schema_reference(tmp_path / "x.yaml") == "model.schema.json"
    assert schema_reference(tmp_path / "mine" / "x.yaml") == "../model.schema.json"


def test_the_error_carries_the_unknown_components() -> None:
    leaf = {n: row for n, row in NEW.items() if n not in (9, 20)}
    with pytest.raises(DraftError) as caught:
        seen_model(CpuidRecord("AuthenticAMD", None, leaf), "mine")
    assert caught.value.unknown == ("pkru", "component20")
