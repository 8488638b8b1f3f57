"""Which models of the catalogue a CPU resembles."""

from __future__ import annotations

from drafts import (
    NEW,
    NEW_CPU,
    changed,
    drafted,
    kin,
    names,
)

from xsaveschema.cpuid import CpuidRecord, CpuidRegisters


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


def test_no_more_is_written_than_differs_from_a_model_that_is_close() -> None:
    assert "components" not in drafted(changed())  # Zen 3's own layout
    text = drafted(changed(s0=(7, 832, 832, 0), s9=None))
    assert "components:\n  pkru: null  # this CPU lacks it\nsizes" in text
    assert "extends: zen3\n" in text
    text = drafted(changed(s1=(1, 0, 0x1800, 0)))
    assert "instructions: [xsaveopt]\n" in text
    assert "sizes: {standard: 2440}  #" in text
    assert "mxcsr_mask" not in text


def test_a_cpu_with_the_signature_of_another_layout_is_not_told_to_add_it_elsewhere() -> None:
    # Skylake without AVX has Goldmont's layout, but it is no Goldmont.
    leaf: dict[int, CpuidRegisters] = {
        0: (0x1B, 1088, 1088, 0), 1: (0xF, 832, 0x100, 0),
        3: (64, 960, 0, 0), 4: (64, 1024, 0, 0), 8: (128, 0, 1, 0),
    }  # fmt: skip
    assert names(kin(CpuidRecord("GenuineIntel", 0x00D10F10, leaf)))[0] == "goldmont"
    found = names(kin(CpuidRecord("GenuineIntel", 0x000806F8, leaf)))
    assert found == (None, "sapphire-rapids", None)


def test_the_owner_of_the_signature_is_told_what_differs() -> None:
    leaf = {**NEW, 0: (0x7, 832, 832, 0), 1: (0xF, 872, 0x1800, 0)}
    record = CpuidRecord("AuthenticAMD", 0x00A20F10, {n: leaf[n] for n in (0, 1, 2, 11, 12)})
    text = drafted(record)
    assert "extends: zen3\n" in text
    assert "# The layout of zen3 differs in pkru, which may be optional there.\n" in text
