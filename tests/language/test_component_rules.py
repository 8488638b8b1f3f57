"""Rules that stand in the component files: what XCR0 takes, and values that a restore refuses."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from command import run
from test_legality import put

from xsaveschema import Catalog, CpuModel, XsaveArea, diff, load_model, to_standard
from xsaveschema.errors import MaskError, SchemaError
from xsaveschema.evidence import contradictions
from xsaveschema.identify.from_leaf import model_from_leaf
from xsaveschema.layout import takes_xcr0
from xsaveschema.restore import check, notes
from xsaveschema.traces import mxcsr_mask_of


def legal(xcr0: int) -> bool:
    """SDM vol. 1, 13.3, in its own words: bit 0; AVX; MPX; AVX-512; AMX."""
    bit = [xcr0 >> n & 1 for n in range(20)]
    return bool(
        bit[0]
        and (not bit[2] or bit[1])
        and bit[3] == bit[4]
        and bit[5] == bit[6] == bit[7]
        and (not bit[5] or bit[2])
        and bit[17] == bit[18]
    )


@pytest.mark.parametrize("name", ["skylake-server", "sapphire-rapids"])
def test_every_xcr0_is_judged_as_the_manual_has_it(name: str) -> None:
    model = load_model(name)
    found = set()
    mask = 0
    while True:  # every subset of the user components
        assert takes_xcr0(model, mask) == legal(mask), hex(mask)
        found.add(mask)
        mask = (mask - model.user_mask) & model.user_mask
        if not mask:
            break
    assert len(found) == 1 << model.user_mask.bit_count()


@pytest.mark.parametrize(
    ("name", "xcr0", "message"),
    [
        ("zen4", 0x5, "avx without sse"),
        ("zen4", 0x27, "opmask without zmm_hi256 and hi16_zmm"),
        ("zen4", 0xC7, "zmm_hi256 and hi16_zmm without opmask"),
        ("zen4", 0xE3, "opmask without avx"),
        ("zen4", 0x6, "bit 0 (x87) must be set"),
        ("skylake-server", 0xB, "bndregs without bndcsr"),
        ("skylake-server", 0x13, "bndcsr without bndregs"),
        ("sapphire-rapids", 0x20007, "tilecfg without tiledata"),
        ("sapphire-rapids", 0x40007, "tiledata without tilecfg"),
    ],
)
def test_a_refused_xcr0_says_what_is_missing(name: str, xcr0: int, message: str) -> None:
    with pytest.raises(MaskError) as caught:
        load_model(name).limited(xcr0=xcr0)
    assert str(caught.value).endswith(f" on {name}: {message}")


USER = """\
component: matrix
number: 20
title: a user component of the next CPU
needs: [avx]
fields:
  - {name: control, type: u64, reserved: "63:8"}
  - {name: depth, type: u8, multiple_of: 4, at_most: 16}
"""
SUPERVISOR = """\
component: vault
number: 21
title: a supervisor component of the next CPU
reserved_bytes: ["24:31"]
fields:
  - {name: control, type: u64, reserved: "63:8"}
  - {name: target, type: u64, canonical: true}
"""
MODEL = """\
model: next
title: the next CPU
extends: sapphire-rapids
components:
  matrix: {size: 64, offset: 11008}
  vault: {size: 32, supervisor: true}
confirmed: false
source: made up
"""


def next_cpu(folder: Path, user: str = USER) -> CpuModel:
    """A model with two components that no line of Python knows."""
    (folder / "20-matrix.yaml").write_text(user)
    (folder / "21-vault.yaml").write_text(SUPERVISOR)
    (folder / "next.yaml").write_text(MODEL)
    return Catalog([folder]).model("next")


def test_an_xcr0_with_a_component_of_a_users_is_judged_by_its_file(tmp_path: Path) -> None:
    model = next_cpu(tmp_path)
    assert model.limited(xcr0=0x100007).xcr0 == 0x100007
    with pytest.raises(MaskError, match=r"matrix without avx$"):
        model.limited(xcr0=0x100003)


@pytest.mark.parametrize("key", ["needs", "with"])
def test_a_supervisor_component_has_no_companions_in_xcr0(tmp_path: Path, key: str) -> None:
    next_cpu(tmp_path)
    (tmp_path / "21-vault.yaml").write_text(f"{SUPERVISOR}{key}: [avx]\n")
    with pytest.raises(SchemaError) as caught:
        Catalog([tmp_path]).model("next")
    (fault,) = caught.value.faults
    assert (fault.rule, fault.line, fault.path) == (
        "component-companion",
        6,
        "components.vault.supervisor",
    )
    assert fault.message.startswith(f"{key}: of vault says nothing")


VALUES = [
    (0, 0xFF, ""),
    (0, 0x100, "vault.control is 0x100: bits 63:8 must be 0"),
    (0, 1 << 63, "vault.control is 0x8000000000000000: bits 63:8 must be 0"),
    (8, 0x00FF_FFFF_FFFF_FFFF, ""),
    (8, 0xFF00_0000_0000_0000, ""),
    (8, 0x0100_0000_0000_0000, "vault.target is 0x100000000000000: must be canonical"),
    (8, 0xFE00_0000_0000_0000, "vault.target is 0xfe00000000000000: must be canonical"),
    (16, (1 << 64) - 1, ""),
    (24, 1, "vault bytes 24..31 must be 0"),
    (24, 1 << 63, "vault bytes 24..31 must be 0"),
]


@pytest.mark.parametrize(("at", "value", "message"), VALUES)
def test_xrstors_judges_a_supervisor_component_of_a_users_by_its_file(
    tmp_path: Path, at: int, value: int, message: str
) -> None:
    model = next_cpu(tmp_path)
    data = put(model, "vault", at, value)
    faults = check(data, model, "xrstors")
    found = [(f.rule, f.offset, f.message) for f in faults]
    offset = model.compacted_layout()["vault"].offset + at
    assert found == ([("supervisor", offset, message)] if message else [])
    # What is not in use, or not asked for, is not looked at.
    assert check(data, model, "xrstors", rfbm=model.xcr0) == []
    file = tmp_path / "area.bin"
    file.write_bytes(data)
    command = ("check", str(file), "--model", "next", "--target", "xrstors")
    done = run("--schemas", str(tmp_path), *command, code=1 if message else 0)
    assert message in " ".join(done.stdout.split())


def test_a_user_component_is_judged_where_its_file_says_what_happens(tmp_path: Path) -> None:
    wrong = {"control": (0, 0x100, 8), "depth": (8, 6, 1)}
    for field, (at, value, size) in wrong.items():
        model = next_cpu(tmp_path)
        data = put(model, "matrix", at, value, size)
        assert check(data, model, "xrstors") == []
        assert notes(data, model, "xrstors") == []

        model = next_cpu(tmp_path, USER + "illegal: fault\n")
        (fault,) = check(data, model, "xrstors")
        assert (fault.rule, fault.offset) == (
            "illegal-value",
            model.compacted_layout()["matrix"].offset + at,
        )
        assert fault.message.startswith(
            f"matrix.{field} is {value:#x}: must be a multiple of 4"
        ) or (fault.message == "matrix.control is 0x100: bits 63:8 must be 0")
        standard = to_standard(data, model).data
        assert [f.rule for f in check(standard, model, "xrstor")] == ["illegal-value"]
        assert check(standard, model, "xrstor", rfbm=7) == []
        assert check(standard, model, "ptrace") == []

        model = next_cpu(tmp_path, USER + "illegal: initial\n")
        assert check(data, model, "xrstors") == []
        (note,) = notes(data, model, "xrstors")
        assert note.component == "matrix"
        assert note.message.startswith("illegal, so the initial MATRIX is loaded: matrix.")
        assert diff(data, bytes(XsaveArea.new(model, "compacted")), model) == []


def test_equal_bytes_differ_where_one_cpu_loads_the_initial_state(tmp_path: Path) -> None:
    takes = next_cpu(tmp_path, USER)
    data = put(takes, "matrix", 0, 0x100)
    refuses = next_cpu(tmp_path, USER + "illegal: initial\n")
    (delta,) = diff(data, data, takes, refuses)
    assert (delta.path, delta.a, delta.b, delta.kind) == ("matrix.control", 0x100, 0, "state")
    assert diff(data, data, refuses) == []


def test_a_batch_is_judged_by_the_values_of_each_area(tmp_path: Path) -> None:
    np = pytest.importorskip("numpy", reason="the extra batch is not installed")
    batch = pytest.importorskip("xsaveschema.many.batch")
    model = next_cpu(tmp_path, USER + "illegal: fault\n")
    good, bad = (to_standard(put(model, "matrix", 0, value), model).data for value in (1, 0x100))
    for areas, refused in (([good, bad, good], [1]), ([bad, good, good], [0])):
        array = np.frombuffer(b"".join(areas), np.uint8).reshape(3, -1)
        found = batch.check(array, model)
        assert list(found) == refused
        assert found[refused[0]] == check(bad, model)


def test_a_depth_has_a_largest_value_as_well(tmp_path: Path) -> None:
    model = next_cpu(tmp_path, USER + "illegal: fault\n")
    legal = [n for n in range(256) if not check(put(model, "matrix", 8, n, 1), model, "xrstors")]
    assert legal == [0, 4, 8, 12, 16]


COUNTED = """\
component: matrix
number: 20
title: a list of as many elements as a field says
fields:
  - {name: used, type: u64}
  - {name: element, type: u8, count: 16, counted_by: used}
  - {name: plain, type: u8, at: 32, count: 8}
"""


def test_elements_that_a_field_does_not_count_mean_nothing(tmp_path: Path) -> None:
    model = next_cpu(tmp_path, COUNTED)

    def told(used: int) -> list[str]:
        first, second = XsaveArea.new(model), XsaveArea.new(model)
        for area in (first, second):
            area["matrix"]["used"] = used
        for index in (1, 5, 15):
            second["matrix"][f"element[{index}]"] = 1
        second["matrix"]["plain[7]"] = 1
        return [delta.path.removeprefix("matrix.") for delta in diff(first, second)]

    assert told(1) == ["plain[7]"]
    assert told(2) == ["element[1]", "plain[7]"]
    assert told(6) == ["element[1]", "element[5]", "plain[7]"]
    assert (
        told(0) == told(16) == told(99) == ["element[1]", "element[5]", "element[15]", "plain[7]"]
    )


def test_a_count_of_zero_on_one_side_counts_all_of_it(tmp_path: Path) -> None:
    model = next_cpu(tmp_path, COUNTED)
    every, few = XsaveArea.new(model), XsaveArea.new(model)
    few["matrix"]["used"] = 2
    every["matrix"]["element[5]"] = 1
    assert [delta.path for delta in diff(every, few)] == ["matrix.used", "matrix.element[5]"]
    assert [delta.path for delta in diff(few, every)] == ["matrix.used", "matrix.element[5]"]
    few.initialise("matrix")
    every["matrix"]["used"] = 5
    assert [delta.path for delta in diff(few, every)] == ["matrix.used"], "initial counts none"


@pytest.mark.parametrize("illegal", ["fault", "initial"])
def test_elements_that_are_not_counted_are_not_judged(tmp_path: Path, illegal: str) -> None:
    limited = COUNTED.replace("counted_by: used", "counted_by: used, at_most: 9")
    model = next_cpu(tmp_path, f"{limited}illegal: {illegal}\n")
    area = XsaveArea.new(model)
    area["matrix"]["element[4]"] = 10

    def judged(used: int) -> bool:
        area["matrix"]["used"] = used
        return bool(check(bytes(area), model) or notes(bytes(area), model))

    assert [judged(used) for used in (0, 4, 5, 16, 99)] == [True, False, True, True, True]


def test_only_a_counted_field_may_have_fewer_elements_on_a_cpu(tmp_path: Path) -> None:
    nine = "count: 9, type: bytes, size: 64"
    text = f"component: matrix\nnumber: 20\ntitle: x\nfields: [{{name: row, {nine}}}]\n"
    with pytest.raises(SchemaError, match=r"64 bytes are too few .* which end at 576"):
        next_cpu(tmp_path, text)
    text = text.replace("fields: [", "fields: [{name: used, type: u8}, ").replace(
        nine, nine + ", counted_by: used"
    )
    with pytest.raises(SchemaError, match=r"64 bytes are too few .* which end at 65"):
        next_cpu(tmp_path, text)
    text = text.replace("size: 64", "size: 21")
    model = next_cpu(tmp_path, text)
    assert [leaf.path for leaf in model.components["matrix"].leaves] == [
        "used",
        "row[0]",
        "row[1]",
        "row[2]",
    ]


def test_bytes_between_and_within_elements_may_be_reserved(tmp_path: Path) -> None:
    text = """\
component: matrix
number: 20
title: elements with bytes that no field names
illegal: fault
reserved_bytes: ["8:15", "24:31", "44:47"]
fields:
  - {name: apart, type: u64, count: 2, stride: 16}
  - {name: group, at: 32, size: 16, count: 2, fields: [{name: inner, type: u32, at: 8}]}
"""
    model = next_cpu(tmp_path, text)
    for at, refused in {7: 0, 8: 1, 15: 1, 16: 0, 31: 1, 43: 0, 44: 1, 63: 0}.items():
        data = put(model, "matrix", at, 1, 1)
        assert len(check(data, model, "xrstors")) == refused, at
    for bytes_, taken in (("6:7", "apart[0]"), ("12:16", "apart[1]"), ("40:40", "group[0].inner")):
        with pytest.raises(SchemaError, match=f"bytes {bytes_} and {taken}".replace("[", r"\[")):
            next_cpu(tmp_path, text.replace('"8:15", "24:31", "44:47"', f'"{bytes_}"'))


def test_the_mxcsr_mask_of_a_users_model_is_one_of_a_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "next.yaml").write_text(
        "model: next\ntitle: x\nextends: zen4\nmxcsr_mask: 0x3FFFF\nconfirmed: false\nsource: x\n"
    )
    catalog = Catalog([tmp_path])
    area = memoryview(bytes(XsaveArea.new(catalog.model("next"))))
    zen4 = load_model("zen4")
    assert mxcsr_mask_of(area) == 0
    assert contradictions(area, zen4) == ()
    assert mxcsr_mask_of(area, catalog=catalog) == 0x3FFFF
    assert mxcsr_mask_of(area, catalog.model("next")) == 0x3FFFF
    (said,) = contradictions(area, zen4, catalog)
    assert said.startswith("MXCSR_MASK is 0x3FFFF, with bits 0x10000 that zen4's")
    batch = pytest.importorskip("xsaveschema.many.batch.writers")
    rows = batch.np.frombuffer(area, "u1")[None]
    words = pytest.importorskip("xsaveschema.many.batch.rows").seen(rows)
    assert batch.contradicted(rows, words, zen4) == {}
    monkeypatch.setenv("XSAVESCHEMA_PATH", str(tmp_path))
    assert mxcsr_mask_of(area) == 0x3FFFF
    assert list(batch.contradicted(rows, words, load_model("zen4"))) == [0]


@pytest.mark.parametrize(
    ("vendor", "mask"),
    [("AuthenticAMD", 0x2FFFF), ("HygonGenuine", 0x2FFFF), ("GenuineIntel", 0xFFFF), ("", 0xFFFF)],
)
def test_a_cpu_without_a_file_has_the_mxcsr_mask_of_its_vendors_models(
    vendor: str, mask: int
) -> None:
    leaf = load_model("zen4").cpuid_leaf_0xd()
    for catalog in (Catalog(), Catalog(shipped=False)):
        made = model_from_leaf(leaf, name="made", vendor=vendor, catalog=catalog)
        assert made.mxcsr_mask == mask
    shipped = {model.mxcsr_mask for model in Catalog().models() if model.vendor == vendor}
    assert shipped <= {mask}


def test_a_named_model_is_read_without_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    area = bytes(XsaveArea.new(load_model("zen4")))
    asked: list[object] = []
    monkeypatch.setattr(Catalog, "mxcsr_masks", property(asked.append))
    monkeypatch.setattr(Catalog, "models", asked.append)
    for name in ("zen4", "zen5"):
        assert XsaveArea.parse(area, load_model(name)).model.name == name
    run("decode", "-", "--model", "zen4", data=area)
    assert asked == []


def test_each_component_that_a_guest_may_see_has_words_of_hypervisors() -> None:
    """What of a group, which XCR0 enables as a whole, stands in the file that says so."""
    rules = {name: Catalog().component_rules(name) for name in Catalog().component_names()}
    silent = {name for name, each in rules.items() if not each.features + each.qemu_features}
    grouped = {name for each in rules.values() for name in each.together}
    assert silent - grouped == {"x87", "sse", "pasid", "hdc", "uintr", "hwp"}
    assert rules["pkru"].features == ("pku",)
    assert rules["cet_u"].qemu_features == rules["cet_s"].qemu_features == ("cet-ss", "cet-ibt")


@pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="needs qemu-system-x86_64")
def test_qemu_knows_the_words() -> None:
    """An older one knows fewer; those of the state that it saves, it must know."""
    done = subprocess.run(["qemu-system-x86_64", "-cpu", "help"], capture_output=True, text=True)
    known = set(done.stdout.partition("CPUID flags:")[2].split())
    rules = [Catalog().component_rules(name) for name in Catalog().component_names()]
    words = {word for each in rules for word in (*each.features, *each.qemu_features)}
    assert {"avx", "mpx", "avx512f", "pku", "intel-pt", "arch-lbr", "lwp"} <= words & known
    assert {word for word in known if word.startswith(("avx", "amx-", "cet-", "apx"))} <= {
        *words,
        *(f"{word}-alias" for word in words),
    }
