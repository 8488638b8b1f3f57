"""`new`: a model file from a CPU's own leaf 0xD, read back and compared with that leaf."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from places import DATA
from test_match import dumps, leaf_of

from xsaveschema import Catalog, cpuid
from xsaveschema.authoring.draft import Draft, DraftError, draft, schema_reference, seen_model
from xsaveschema.authoring.lint import lint
from xsaveschema.authoring.resemblance import Kin, kin_of
from xsaveschema.catalog import default_catalog
from xsaveschema.cli.program import program
from xsaveschema.cpuid import CpuidRecord, CpuidRegisters
from xsaveschema.errors import XsaveError
from xsaveschema.language.files import shipped_directory
from xsaveschema.model import CpuModel

DATA = DATA / "cpuid"
COMPLETE = [
    "aida64-hybrid.txt",
    "aida64.txt",
    "cpuid-r.txt",
    "firecracker.json",
    "hwloc",
    "libvirt.xml",
    "rjcp.xml",
    "table.txt",
    "tycho.txt",
]
GUEST = 1 << 31  # leaf 1 ECX

# A CPU that nobody has made: Zen 3 with one more component, and one that no mask enables.
NEW: dict[int, CpuidRegisters] = {
    0: (0x100207, 2560, 2560, 0),
    1: (0xF, 960, 0x1800, 0),
    2: (256, 576, 0, 0),
    9: (8, 2432, 0, 0),
    11: (16, 0, 1, 0),
    12: (24, 0, 1, 0),
    17: (64, 2752, 2, 0),
    20: (64, 2496, 2, 0),
}
NEW_CPU = CpuidRecord("AuthenticAMD", 0x00D10F10, NEW, source="new-cpu.txt")
SCHEMA = "model.schema.json"


@pytest.fixture(autouse=True)
def _no_schemas_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XSAVESCHEMA_PATH", raising=False)


# --- what a file must be like, whoever wrote it -------------------------------------------------


def enabled(leaf: dict[int, CpuidRegisters]) -> list[int]:
    """The extended components of both masks, from the leaf alone."""
    mask = leaf[0][0] | leaf[0][3] << 32 | leaf[1][2] | leaf[1][3] << 32
    return [number for number in range(2, 63) if mask >> number & 1]


def hold_against_leaf(model: CpuModel, leaf: dict[int, CpuidRegisters]) -> None:
    """Compare a model with the leaf that it is from, by the SDM's rules written out once more."""
    assert model.xcr0 == leaf[0][0] | leaf[0][3] << 32
    assert model.xss == leaf[1][2] | leaf[1][3] << 32
    numbers = enabled(leaf)

    slots = {slot.number: (slot.offset, slot.size) for slot in model.standard_layout()}
    assert (slots.pop(0), slots.pop(1)) == ((0, 160), (160, 256))
    assert slots == {n: (leaf[n][1], leaf[n][0]) for n in numbers if not leaf[n][2] & 1}

    slots = {slot.number: (slot.offset, slot.size) for slot in model.compacted_layout()}
    end = 576
    for number in numbers:
        size, _, flags, _ = leaf[number]
        if flags & 2:
            end = -(-end // 64) * 64
        assert slots[number] == (end, size), number
        end += size
    assert set(slots) == {0, 1, *numbers}
    assert model.compacted_layout().size == end

    implied = model.cpuid_leaf_0xd()
    assert set(implied) == {0, 1, *numbers}
    for number in numbers:
        assert implied[number] == leaf[number]
    assert (implied[0][0], implied[0][3]) == (leaf[0][0], leaf[0][3])
    assert (implied[1][0], *implied[1][2:]) == (leaf[1][0] & 0x1F, *leaf[1][2:])


def write(folder: Path, name: str, made: Draft) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(made.text, encoding="utf-8")
    return path


def round_trip(record: CpuidRecord, folder: Path, *, vendor: str = "") -> list[str]:
    """Draft a file with and without a base, load each anew, compare; the texts."""
    seen = seen_model(record, "drafted", vendor=vendor)
    texts = []
    for base in dict.fromkeys((kin_of(seen).base, None)):
        made = draft(record, seen, base, provenance="a dump", schema=SCHEMA)
        path = write(folder, "drafted", made)
        catalog = Catalog([path])
        assert catalog.overrides == ()
        model = catalog.model("drafted")
        assert model.vendor == (record.vendor or vendor)
        assert model.mxcsr_mask == (0x2FFFF if model.vendor[:5] in ("Authe", "Hygon") else 0xFFFF)
        hold_against_leaf(model, record.leaf_0xd)
        assert model.confirmed is not bool(record.hypervisor)
        assert lint([path]) == []
        texts.append(made.text)
    return texts


@pytest.mark.parametrize("name", COMPLETE)
def test_a_file_from_a_dump_gives_back_its_leaf(name: str, tmp_path: Path) -> None:
    for record in cpuid.read(DATA / name):
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
    instructions = draw(st.integers(0, 31))
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


# --- the text -----------------------------------------------------------------------------------


FULL = """\
model: zen9
title: AMD Zen 9
vendor: AuthenticAMD
signatures:
  - {family: 0x1C, models: [0x11]}  # leaf 1 EAX 0x00D10F10, stepping 0
instructions: [xsaveopt, xsavec, xgetbv1, xsaves]
components:
  avx:         {size: 256, offset: 576}
  pkru:        {size: 8,   offset: 2432}
  cet_u:       {size: 16,  supervisor: true}
  cet_s:       {size: 24,  supervisor: true}
  tilecfg:     {size: 64,  offset: 2752, align64: true, optional: absent}  # described, but XCR0 \
cannot enable it
  component20: {number: 20, size: 64,  offset: 2496, align64: true}  # no component file: opaque \
bytes
sizes: {standard: 2560, compacted: 960}  # XCR0 0x100207, IA32_XSS 0x1800
mxcsr_mask: 0x2FFFF  # as on every AuthenticAMD CPU with XSAVE
confirmed_by:
  - new-cpu.txt
"""

EXTENDING = """\
model: zen9
title: AMD Zen 9
extends: zen3
signatures:
  - {family: 0x1C, models: [0x11]}  # leaf 1 EAX 0x00D10F10, stepping 0
components:
  tilecfg:     {size: 64, offset: 2752, align64: true, optional: absent}  # described, but XCR0 \
cannot enable it
  component20: {number: 20, size: 64, offset: 2496, align64: true}  # no component file: opaque \
bytes
sizes: {standard: 2560, compacted: 960}  # XCR0 0x100207, IA32_XSS 0x1800
confirmed_by:
  - new-cpu.txt
"""


def drafted(record: CpuidRecord, *, full: bool = False, name: str = "mine") -> str:
    seen = seen_model(record, name)
    base = None if full else kin_of(seen).base
    return draft(record, seen, base, provenance="d.txt").text


def unwrapped(text: str) -> str:
    """The text with every comment in one line."""
    return re.sub(r"(?<!model\.schema\.json)\n# (?=[a-z])", " ", text)


def changed(**rows: CpuidRegisters | None) -> CpuidRecord:
    """The new CPU with other sub-leaves, without component 17 and 20: ``s9=...``."""
    leaf: dict[int, CpuidRegisters] = {
        **NEW, 0: (0x207, 2440, 2440, 0), 1: (0xF, 880, 0x1800, 0)}  # fmt: skip
    del leaf[17], leaf[20]
    for key, row in rows.items():
        if row is None:
            del leaf[int(key[1:])]
        else:
            leaf[int(key[1:])] = row
    return CpuidRecord("AuthenticAMD", 0x00D10F10, leaf)


def test_no_more_is_written_than_differs_from_a_model_that_is_close() -> None:
    assert "components" not in drafted(changed())  # Zen 3's own layout
    text = drafted(changed(s0=(7, 832, 832, 0), s9=None))
    assert "components:\n  pkru: null  # this CPU lacks it\nsizes" in text
    assert "extends: zen3\n" in text
    text = drafted(changed(s1=(1, 0, 0x1800, 0)))
    assert "instructions: [xsaveopt]\n" in text
    assert "sizes: {standard: 2440}  #" in text
    assert "mxcsr_mask" not in text


def test_a_component_that_leaf_0xd_describes_but_no_mask_enables(tmp_path: Path) -> None:
    # As on Centaur CNS: the CET components are there, and IA32_XSS has neither.
    record = changed(s1=(0xF, 0, 0, 0))
    for text in round_trip(record, tmp_path):
        assert (
            "  cet_u: {size: 16, supervisor: true, optional: absent}  "
            "# described, but IA32_XSS cannot enable it\n"
        ) in re.sub(" +{", " {", text).replace(",  ", ", ")
    assert "extends: zen3\n" in drafted(record)


def test_a_model_of_which_too_much_differs_is_not_extended() -> None:
    extra = {f"s{n}": (64, 0, 1, 0) for n in (40, 41, 42)}
    three = sum(1 << n - 32 for n in (40, 41, 42))
    assert "extends: zen3" in drafted(changed(s1=(0xF, 0, 0x1800, three), **extra))
    four = three | 1 << 43 - 32
    text = drafted(changed(s1=(0xF, 0, 0x1800, four), s43=(64, 0, 1, 0), **extra))
    assert "extends" not in text
    # Where nearly everything differs, the whole is shorter than the differences.
    lone = changed(s0=(3, 576, 576, 0), s1=(0xF, 0, 1 << 11, 0), s2=None, s9=None, s12=None)
    assert "extends" not in drafted(lone)


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


def test_the_owner_of_the_signature_is_told_what_differs() -> None:
    leaf = {**NEW, 0: (0x7, 832, 832, 0), 1: (0xF, 872, 0x1800, 0)}
    record = CpuidRecord("AuthenticAMD", 0x00A20F10, {n: leaf[n] for n in (0, 1, 2, 11, 12)})
    text = drafted(record)
    assert "extends: zen3\n" in text
    assert "# The layout of zen3 differs in pkru, which may be optional there.\n" in text


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


# --- kinship ------------------------------------------------------------------------------------


def kin(record: CpuidRecord, name: str = "mine") -> Kin:
    return kin_of(seen_model(record, name))


def names(found: Kin) -> tuple[str | None, ...]:
    return tuple(model.name if model else None for model in (found.same, found.owner, found.base))


def test_kin() -> None:
    assert names(kin(changed())) == ("zen3", None, "zen3")
    zen4 = {
        **changed().leaf_0xd,
        0: (0x2E7, 2440, 2440, 0),
        5: (64, 832, 0, 0),
        6: (512, 896, 0, 0),
        7: (1024, 1408, 0, 0),
    }
    # Zen 4 and Zen 5 have one layout; family 1Ah is Zen 5's.
    assert names(kin(CpuidRecord("AuthenticAMD", 0x00BF0F00, zen4))) == ("zen5", None, "zen5")
    assert names(kin(CpuidRecord("AuthenticAMD", 0x00A10F11, zen4))) == ("zen4",) * 3
    assert names(kin(CpuidRecord("GenuineIntel", 0x00BF0F00, zen4)))[0] is None
    assert names(kin(CpuidRecord("AuthenticAMD", None, zen4)))[0] in ("zen4", "zen5")
    # The same layout with other instructions is another model, which may extend this one.
    assert names(kin(changed(s1=(1, 0, 0x1800, 0)))) == (None, None, "zen3")
    # Nobody extends the model that the file replaces.
    assert names(kin(CpuidRecord("AuthenticAMD", 0x00A10F11, zen4), "zen4")) == (
        "zen4", "zen4", None)  # fmt: skip
    assert names(kin(NEW_CPU, "zen4")) == (None, None, None)
    # A model's optional components may lack, or be there.
    alder: dict[int, CpuidRegisters] = {
        0: (0x207, 2696, 2696, 0), 1: (0xF, 0, 0x9900, 0), 2: (256, 576, 0, 0),
        8: (128, 0, 1, 0), 9: (8, 2688, 0, 0), 11: (16, 0, 1, 0), 12: (24, 0, 1, 0),
        15: (808, 0, 1, 0),
    }  # fmt: skip
    assert names(kin(CpuidRecord("GenuineIntel", 0x00090672, alder)))[0] == "alder-lake"


def test_a_cpu_with_the_signature_of_another_layout_is_not_told_to_add_it_elsewhere() -> None:
    # Skylake without AVX has Goldmont's layout, but it is no Goldmont.
    leaf: dict[int, CpuidRegisters] = {
        0: (0x1B, 1088, 1088, 0), 1: (0xF, 832, 0x100, 0),
        3: (64, 960, 0, 0), 4: (64, 1024, 0, 0), 8: (128, 0, 1, 0),
    }  # fmt: skip
    assert names(kin(CpuidRecord("GenuineIntel", 0x00D10F10, leaf)))[0] == "goldmont"
    found = names(kin(CpuidRecord("GenuineIntel", 0x000806F8, leaf)))
    assert found == (None, "sapphire-rapids", None)


# --- the command --------------------------------------------------------------------------------


def run(*args: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(program, ["new", *map(str, args)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    assert result.exit_code == code, result.output
    if code:
        assert result.stdout == ""
        assert result.stderr.count("error: ") == 1
    return result


def dump(folder: Path, record: CpuidRecord, name: str = "new-cpu.txt") -> Path:
    path = folder / name
    path.write_text(cpuid.format_cpuid_r(record))
    return path


@pytest.fixture
def new_cpu(tmp_path: Path) -> Path:
    return dump(tmp_path, NEW_CPU)


def test_the_text_of_a_whole_file(new_cpu: Path, tmp_path: Path) -> None:
    args = ("zen9", new_cpu, "--title", "AMD Zen 9")
    assert run(*args).stdout == EXTENDING
    assert run(*args, "--full").stdout == FULL
    assert run(*args, "--full", "-o", "-").stdout == FULL
    stepping = FULL.replace("[0x11]}  #", "[0x11], steppings: [0]}  #").replace(
        ", stepping 0\n", "\n"
    )
    assert run(*args, "--full", "--stepping").stdout == stepping
    result = run(*args, "-o", tmp_path / "zen9.yaml")
    assert result.stdout == ""
    assert f"note: wrote {tmp_path / 'zen9.yaml'}: extends zen3" in result.stderr
    assert (tmp_path / "zen9.yaml").read_text() == EXTENDING
    assert lint([tmp_path / "zen9.yaml"]) == []
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_without_a_title_the_file_asks_for_one(new_cpu: Path) -> None:
    line = "title: AuthenticAMD family 1Ch model 11h  # say what people call it\n"
    assert line in run("zen9", new_cpu).stdout


def test_a_model_with_this_layout_and_signature_leaves_nothing_to_write() -> None:
    result = run("mine", DATA / "cpuid-r.txt", code=1)
    assert "skylake has exactly this layout and this CPU's signature: there is nothing to add" in (
        result.stderr
    )
    text = run("mine", DATA / "cpuid-r.txt", "--force").stdout
    assert "extends: skylake\n" in text
    assert "components:" not in text


def test_a_model_with_this_layout_gets_the_signature_instead(tmp_path: Path) -> None:
    path = dump(tmp_path, changed())
    told = run("mine", path, code=1).stderr
    assert "zen3 has exactly this layout: rather than a file, add the signature" in told
    assert f"in {shipped_directory() / 'models' / 'amd' / 'zen3.yaml'}\n" in told
    line = "\n  - {family: 0x1C, models: [0x11]}\n"
    assert line in told
    assert "--force" in told
    # The line is fit to be pasted: with it, the CPU is a Zen 3.
    shipped = (shipped_directory() / "models" / "amd" / "zen3.yaml").read_text()
    mended = tmp_path / "zen3.yaml"
    mended.write_text(shipped.replace("signatures:", f"signatures:{line.rstrip()}"))
    assert lint([mended]) == []
    args = ("mine", path, "--schemas", mended)
    assert "and this CPU's signature: there is nothing to add" in run(*args, code=1).stderr
    assert "extends: zen3\n" in run(*args, "--force").stdout


def test_the_line_to_add_names_a_stepping_or_a_vendor_where_it_must(tmp_path: Path) -> None:
    leaf = default_catalog().model("skylake-server").cpuid_leaf_0xd()
    path = dump(tmp_path, CpuidRecord("GenuineIntel", 0x0005065F, leaf))
    told = run("mine", path, code=1).stderr
    assert "\n  - {family: 0x06, models: [0x55], steppings: [15]}\n" in told
    leaf = default_catalog().model("zhaoxin-shijidadao").cpuid_leaf_0xd()
    path = dump(tmp_path, CpuidRecord("  Shanghai  ", 0x000307F0, leaf))
    told = run("mine", path, code=1).stderr
    assert '\n  - {vendor: "  Shanghai  ", family: 0x07, models: [0x3F]}\n' in told
    text = run("mine", path, "--force").stdout
    assert 'vendor: "  Shanghai  "\n' in text
    path = dump(tmp_path, CpuidRecord("  Shanghai  ", None, leaf))
    assert "(the dump has no leaf 1, which tells it)" in run("mine", path, code=1).stderr


def test_a_model_may_be_replaced_by_its_name(tmp_path: Path) -> None:
    leaf = {**default_catalog().model("zen4").cpuid_leaf_0xd(), 20: (64, 2496, 0, 0)}
    leaf[0] = (0x1002E7, 2560, 2560, 0)
    path = dump(tmp_path, CpuidRecord("AuthenticAMD", 0x00A10F11, leaf))
    result = run("zen5", path)
    assert "zen5 is in the catalogue; where this file is loaded, it replaces" in result.stderr
    assert "extends" not in result.stdout
    # Zen 5 extends Zen 4, and its self-check would fail.
    zen3 = changed(s9=(16, 2432, 0, 0), s0=(0x207, 2448, 2448, 0))
    path = dump(tmp_path, zen3)
    told = run("zen3", path, code=1).stderr
    assert "with this zen3, other models have faults; take another name" in told
    assert "zen4.yaml" in told


def test_components_and_models_of_the_user_are_known(tmp_path: Path, new_cpu: Path) -> None:
    (tmp_path / "20-matrix.yaml").write_text(
        "component: matrix\nnumber: 20\ntitle: made up\nfields:\n  - {name: m, type: u512}\n"
    )
    args = ("zen9", new_cpu, "--schemas", tmp_path / "20-matrix.yaml")
    text = run(*args).stdout
    assert "  matrix:  {size: 64, offset: 2496, align64: true}\n" in text
    result = CliRunner().invoke(program, ["--schemas", str(args[-1]), "new", *map(str, args[:2])])
    assert result.stdout == text


def test_an_opaque_component_keeps_the_name_that_the_base_gives_it(tmp_path: Path) -> None:
    base = tmp_path / "base.yaml"
    base.write_text(FULL.replace("component20", "matrix").replace("model: zen9", "model: zen8"))
    leaf = {**NEW, 20: (128, 2496, 2, 0), 0: (0x100207, 2624, 2624, 0)}
    path = dump(tmp_path, CpuidRecord("AuthenticAMD", 0x00D20F10, leaf))
    text = run("zen9", path, "--schemas", base).stdout
    assert "extends: zen8\n" in text
    assert "  matrix: {number: 20, size: 128, offset: 2496, align64: true}" in text


def test_an_existing_file_is_kept(new_cpu: Path, tmp_path: Path) -> None:
    target = tmp_path / "zen9.yaml"
    target.write_text("mine")
    link = tmp_path / "link.yaml"
    link.symlink_to(tmp_path / "nowhere")
    for path in (target, link):
        told = run("zen9", new_cpu, "-o", path, code=2).stderr
        assert f"{path} exists; --force replaces it" in told
    assert target.read_text() == "mine"
    assert link.is_symlink()
    run("zen9", new_cpu, "-o", target, "--force", "--title", "AMD Zen 9")
    assert target.read_text() == EXTENDING
    shutil.copy(shipped_directory() / "model.schema.json", tmp_path)
    run("zen9", new_cpu, "-o", target, "--force", "--title", "AMD Zen 9")
    assert target.read_text() == f"# yaml-language-server: $schema={SCHEMA}\n{EXTENDING}"


def test_a_refusal_leaves_no_file(tmp_path: Path) -> None:
    target = tmp_path / "mine.yaml"
    run("mine", DATA / "cpuid-r.txt", "-o", target, code=1)
    run("mine", DATA / "libcpuid.test", "-o", target, code=1)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_shipped_folder_refers_to_its_schema_as_they_do(new_cpu: Path) -> None:
    target = shipped_directory() / "models" / "amd" / f"zen9-{os.getpid()}.yaml"
    seen = seen_model(NEW_CPU, "zen9")
    made = draft(NEW_CPU, seen, None, provenance="d", schema=schema_reference(target))
    assert made.text.startswith("# yaml-language-server: $schema=../../model.schema.json\n")


# Hybrid CPUs


def hybrid(folder: Path) -> Path:
    """Two kinds of core, the second of which lacks PKRU."""
    text = (DATA / "aida64-hybrid.txt").read_text()
    head, mark, tail = text.partition("------[ Logical CPU #2 ]------")
    tail = tail.replace("00000207-00000A88-00000A88", "00000007-00000340-00000340")
    tail = re.sub(r".*\[SL 09\].*\n", "", tail)
    path = folder / "hybrid.txt"
    path.write_text(head + mark + tail)
    return path


def test_cores_that_differ_only_in_type_are_one_model() -> None:
    result = run("mine", DATA / "aida64-hybrid.txt")
    assert "  - aida64-hybrid.txt\n" in result.stdout


def test_cores_that_differ_need_a_choice(tmp_path: Path) -> None:
    path = hybrid(tmp_path)
    told = run("mine", path, code=1).stderr
    assert f"{path}: the kinds of core differ; name one (--core): core 0, Intel Core; core 2, " in (
        told
    )
    for label in ("core 2, Intel Atom", "Core 2", "intel atom"):
        text = run("mine", path, "--core", label).stdout
        assert "XCR0 0x7, IA32_XSS 0x1800" in text
        assert "  - hybrid.txt, core 2, Intel Atom\n" in text
    assert "XCR0 0x207," in run("mine", path, "--core", "Intel Core").stdout
    for label in ("core", "core 1", ""):
        told = run("mine", path, "--core", label, code=2).stderr
        assert f"--core: no kind of core is called {label!r}; it has core 0, Intel Core; c" in told


# Incomplete records


@pytest.mark.parametrize(
    ("record", "message"),
    [
        pytest.param(
            {n: row for n, row in NEW.items() if n not in (9, 20)},
            "does not describe component 9 (pkru), component 20 (component20): unknown, not absent",
            id="components",
        ),
        pytest.param(
            {n: row for n, row in NEW.items() if n != 1},
            "does not describe sub-leaf 1 (the instructions and IA32_XSS)",
            id="sub-leaf 1",
        ),
        pytest.param({0: NEW[0]}, "component 2 (avx), component 9 (pkru), ", id="sub-leaf 0 only"),
    ],
)
def test_an_incomplete_dump_is_refused_by_name(
    record: dict[int, CpuidRegisters], message: str, tmp_path: Path
) -> None:
    path = dump(tmp_path, CpuidRecord("AuthenticAMD", 0x00D10F10, record))
    told = run("mine", path, code=1).stderr
    assert told.startswith(f"xsaveschema: error: {path}: the record does not describe ")
    assert message in told
    assert "Dump every sub-leaf of leaf 0xD, 0 to 63 (cpuid -r), or run this on the machine" in told


def test_the_error_carries_the_unknown_components() -> None:
    leaf = {n: row for n, row in NEW.items() if n not in (9, 20)}
    with pytest.raises(DraftError) as caught:
        seen_model(CpuidRecord("AuthenticAMD", None, leaf), "mine")
    assert caught.value.unknown == ("pkru", "component20")


def test_a_dump_without_a_vendor_needs_one(tmp_path: Path) -> None:
    path = dump(tmp_path, CpuidRecord("", None, NEW))
    assert "the vendor is unknown; name it (--vendor)" in run(
        "mine", path, code=1
    ).stderr  # fmt: skip
    text = run("mine", path, "--vendor", "HygonGenuine", "--full").stdout
    assert "vendor: HygonGenuine\n" in text
    assert "mxcsr_mask: 0x2FFFF" in text
    assert "title: HygonGenuine CPU  #" in text


def test_a_component_63_cannot_be() -> None:
    record = CpuidRecord("GenuineIntel", None, {**NEW, 0: (7, 832, 832, 1 << 31)})
    with pytest.raises(DraftError, match="a component 63, but bit 63 of XCOMP_BV marks the format"):
        seen_model(record, "mine")


NO_MODEL = "leaf 0xD describes what no model can have: "


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({2: (256, 100, 0, 0)}, "leaf 0xD sub-leaf 2: a user component at 100"),
        ({2: (256, 2400, 0, 0)}, "leaf 0xD contradicts itself: avx"),
        ({2: (1 << 21, 576, 0, 0)}, "leaf 0xD sub-leaf 2: 2097152 bytes cannot be"),
        ({2: (8, 576, 0, 0)}, f"{NO_MODEL}components.avx.size: 8 bytes are too few for the"),
        ({0: (0x20F, 2440, 2440, 0), 3: (64, 960, 0, 0)}, "bndregs without bndcsr"),
    ],
)
def test_a_leaf_that_no_cpu_can_have(
    rows: dict[int, CpuidRegisters], message: str, tmp_path: Path
) -> None:
    path = dump(tmp_path, CpuidRecord("AuthenticAMD", 0x00D10F10, changed().leaf_0xd | rows))
    told = run("mine", path, code=1).stderr
    assert message in told
    assert "/xsaveschema-" not in told


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "Missing argument 'NAME'"),
        (("mine",), "Missing argument 'CPU'"),
        (("mine", "host", "x"), "unexpected extra argument"),
        (("mine", "zen4"), "zen4 is a model of the catalogue"),
        (("mine", "dump"), "'dump' is no CPU: say host, or the path of a CPUID dump with a slash"),
        (("Mine", "host"), "'Mine' is no model name: lower-case letters and digits"),
        (("a_b", "host"), "'a_b' is no model name"),
        (("a\n", "host"), "is no model name"),
        (("", "host"), "'' is no model name"),
        (("host", "host"), "host is this machine, wherever a model is named"),
        (("mine", "host", "--title", " "), "--title: a text of printable characters"),
        (("mine", "host", "--title", "a\nb"), "--title: a text of printable characters"),
        (("mine", "host", "--vendor", "Intel"), "--vendor: 12 ASCII characters"),
        (("mine", "host", "--vendor", "é" * 12), "--vendor: 12 ASCII characters"),
        (
            ("mine", str(DATA / "table.txt"), "--vendor", "AuthenticAMD"),
            "--vendor: leaf 0 says 'GenuineIntel'",
        ),
        (
            ("mine", str(DATA / "table.txt"), "--core", "core 0"),
            "--core: no kind of core is called 'core 0'; all cores of the dump are alike",
        ),
        (("mine", "--nope"), "No such option"),
    ],
)
def test_wrong_usage(args: tuple[str, ...], message: str) -> None:
    assert message in run(*args, code=2).stderr


def test_files_that_are_no_dumps(tmp_path: Path) -> None:
    assert "No such file" in run("mine", tmp_path / "x", code=1).stderr
    (tmp_path / "x").write_bytes(os.urandom(100))
    assert "not a CPUID dump" in run("mine", tmp_path / "x", code=1).stderr
    assert "no such file or folder of schema files" in run(
        "mine", DATA / "table.txt", "--schemas", tmp_path / "y", code=1
    ).stderr  # fmt: skip


def test_a_place_that_cannot_be_written(new_cpu: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "none" / "x.yaml", tmp_path):
        assert str(path) in run("zen9", new_cpu, "-o", path, code=1).stderr
    assert [path.name for path in tmp_path.iterdir()] == [new_cpu.name]


def test_a_dump_with_a_name_that_no_terminal_should_see(tmp_path: Path) -> None:
    path = dump(tmp_path, NEW_CPU, "a\n\x1b[31m.txt")
    result = run("zen9", path)
    assert "\x1b" not in result.output
    assert '  - "a\\\\n\\\\x1b[31m.txt"\n' in result.stdout


# This machine


def test_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xsaveschema.cpuid.host", lambda: NEW_CPU)
    text = run("zen9", "host").stdout
    assert re.search(r"confirmed_by:\n  - .?host, CPUID leaf 0xD, \d{4}-\d\d-\d\d", text)
    guest = CpuidRecord("AuthenticAMD", 0x00D10F10, NEW, hypervisor=True)
    monkeypatch.setattr("xsaveschema.cpuid.host", lambda: guest)
    result = run("zen9", "host")
    assert "note: the dump was taken in a guest, whose masks may hide components" in result.stderr
    assert "confirmed: false\nsource: " in result.stdout
    assert "--core is for the dump of a hybrid CPU" in run(
        "zen9", "host", "--core", "x", code=2
    ).stderr  # fmt: skip


def test_this_very_machine(tmp_path: Path) -> None:
    try:
        record = cpuid.host()
    except XsaveError as error:
        pytest.skip(f"no leaf 0xD here: {error}")
    target = tmp_path / "this.yaml"
    run("this", "host", "--force", "-o", target)
    hold_against_leaf(Catalog([target]).model("this"), record.leaf_0xd)
    assert lint([target]) == []
