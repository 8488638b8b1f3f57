"""QEMU migration streams: of QEMU itself under TCG, and built from vmstate.c and machine.c."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from places import DATA
from writers import qemu_guest
from writers import qemu_stream as w
from writers.hostile import cuts, mutations, survive
from writers.state import INTEL, State

from xsaveschema import artefacts, load_model
from xsaveschema.artefacts.qemu_stream import READER
from xsaveschema.artefacts.reader import ArtefactError, Found, Options
from xsaveschema.errors import XsaveError

STORED = DATA / "artefacts" / "qemu-7.2-tcg.stream.gz"
LEGACY_ONLY = ("fop", "fip", "fdp")


def read(data: bytes, options: Options | None = None) -> list[Found]:
    view = memoryview(data)
    assert READER.recognises(view)
    return list(READER.read(view, options or Options()))


def check_tcg(data: bytes) -> None:
    """The stream of the guest: the first vCPU loaded State(), the second one never ran."""
    first, second = read(data)
    assert (first.label, second.label) == ("vCPU 0", "vCPU 1")
    mask = first.area.xstate_bv
    assert mask & 0x207 == 0x207
    said = State().registers(mask)
    for name in LEGACY_ONLY:  # XRSTOR under TCG does not load them
        del said[name]
    assert first.area.registers.read(said) == said
    assert any("TCG's order" in note for note in first.notes)
    assert second.area.xstate_bv == 0
    assert second.area.registers["fcw"] == 0x37F
    assert second.area.registers["mxcsr"] == 0x1F80


def test_what_qemu_wrote() -> None:
    check_tcg(gzip.decompress(STORED.read_bytes()))


def test_what_qemu_writes_here(tmp_path: Path) -> None:
    qemu = shutil.which("qemu-system-x86_64")
    if qemu is None:
        pytest.skip("no qemu-system-x86_64: the stored stream of QEMU 7.2 was read instead")
    check_tcg(qemu_guest.migrate(qemu, tmp_path, State()))


MASKS = [0x3, 0x7, 0x1F, 0xE7, 0x2E7, 0x2FF & ~0x100, 0x602E7, 0xE02E7, 0x80007]


@pytest.mark.parametrize("footer", [True, False], ids=["footer", "no-footer"])
@pytest.mark.parametrize("mask", MASKS, ids=hex)
def test_registers_come_out(mask: int, footer: bool) -> None:
    states = {0: State(1), 3: State(2)}
    data = w.stream({i: w.cpu(s, mask) for i, s in states.items()}, footer=footer)
    found = read(data)
    assert [f.label for f in found] == ["vCPU 0", "vCPU 3"]
    for state, f in zip(states.values(), found, strict=True):
        said = state.registers(mask)
        assert f.area.registers.read(said) == said
        assert f.area.xstate_bv == mask
        assert f.offset is None
        assert f.notes == ()


def test_a_named_model_holds_the_fields_at_its_offsets() -> None:
    state = State()
    data = w.stream({0: w.cpu(state, 0x2FF & ~0x100)})
    (found,) = read(data, Options(load_model("skylake-server")))
    assert bytes(found.area) == state.standard(0x2FF & ~0x100, INTEL)
    with pytest.raises(ArtefactError, match="zen4"):
        read(data, Options(load_model("zen4")))


def test_the_x87_registers_of_tcg_stand_in_physical_order() -> None:
    state = State()
    (found,) = read(w.stream({0: w.cpu(state, 7, xstate_bv=0, physical=True)}))
    assert [found.area.registers[f"st{i}"] for i in range(8)] == state.st
    assert "XSTATE_BV lacks x87" in found.notes[0]
    assert "x87, sse, avx" in found.notes[1]


def test_xstate_bv_is_kept_and_zeros_may_be_in_use() -> None:
    """PKRU 0 has no subsection, but its bit says that it is in use."""
    (found,) = read(w.stream({0: w.cpu(State(), 0x7, xcr0=0x207, xstate_bv=0x207)}))
    assert found.area.xstate_bv == 0x207
    assert found.area.registers["pkru"] == 0
    (found,) = read(w.stream({0: w.cpu(State(), 0xE7, xcr0=0xE7, xstate_bv=3)}))
    assert found.area.xstate_bv == 0xE7
    assert found.notes == (
        "not in the stream's XSTATE_BV, but not initial: avx, opmask, zmm_hi256, hi16_zmm",
    )


@pytest.mark.parametrize(
    ("live", "given", "missing"),
    [
        pytest.param(0x602E7, 0x2E7, ("tilecfg", "tiledata"), id="no-xtile"),
        pytest.param(0x80007, 0x7, ("apx",), id="no-apx"),
        pytest.param(0x8807, 0x7, ("cet_u", "lbr"), id="kept-as-msrs"),
        pytest.param(0x7 | 1 << 20 | 1 << 40, 0x7, ("component20", "component40"), id="unknown"),
        pytest.param(0x2FF & ~0x100, 0x7, (), id="zero-is-not-sent"),
    ],
)
def test_what_is_in_use_without_its_field(live: int, given: int, missing: tuple[str, ...]) -> None:
    (found,) = read(w.stream({0: w.cpu(State(), given, xcr0=live, xstate_bv=live)}))
    area = found.area
    assert (area.missing, area.xstate_bv) == (missing, live)
    assert area.format == "standard"
    said = State().registers(given)
    assert area.registers.read(said) == said
    for slot in (slot for slot in area.layout if (live & ~given) >> slot.number & 1):
        assert not any(area.buffer[slot.offset : slot.end])


def test_avx_in_use_may_be_zero() -> None:
    (found,) = read(w.stream({0: w.cpu(State(), 3, xcr0=7, xstate_bv=7)}))
    assert found.area.missing == ()
    assert found.area.registers["ymm3"] == State().zmm[3] & (1 << 128) - 1


def test_a_named_model_needs_a_place_for_what_is_not_initial_under_tcg() -> None:
    """TCG leaves XSTATE_BV 0: what is not initial is in use, and haswell has no place for it."""
    data = w.stream({0: w.cpu(State(), 0xE7, xcr0=0xE7, xstate_bv=0)})
    with pytest.raises(ArtefactError, match=r"haswell cannot hold .* opmask, zmm_hi256, hi16_zmm"):
        read(data, Options(load_model("haswell")))


def test_a_stream_before_version_12_has_the_legacy_registers() -> None:
    (found,) = read(w.stream({0: w.cpu(State(), 3, version=11)}))
    assert found.area.registers["xmm15"] == State().zmm[15] & (1 << 128) - 1


def test_components_of_xcr0_that_are_initial_are_not_in_use() -> None:
    (found,) = read(w.stream({0: w.cpu(State(), 3, xcr0=0x2E7)}))
    assert found.area.xstate_bv == 3
    assert "pkru" in found.area.layout
    assert found.notes == ()
    (found,) = read(w.stream({0: w.cpu(State(), 3)}))
    assert len(found.area) == 576  # every stream has the upper halves of YMM


def test_every_x87_register_may_be_full() -> None:
    (found,) = read(w.stream({0: w.cpu(State(ftw=0xFF), 7)}))
    assert found.area.registers["ftw"] == 0xFF


def test_a_device_that_is_saved_before_guest_memory() -> None:
    data = w.stream({0: w.cpu(State(), 7)}, early=True, ram=bytes(100))
    assert read(data)[0].area.registers["st0"] == State().st[0]


def test_what_else_is_known_is_told() -> None:
    (found,) = read(
        w.stream({0: w.cpu(State(), 7, xfd=1 << 18, others=["cpu/arch_lbr", "cpu/cet"])})
    )
    assert found.notes == (
        "IA32_XFD is 0x40000",
        "the LBR MSRs are in the stream, not in this area",
        "the CET MSRs are in the stream, not in this area",
    )


def test_guest_memory_that_looks_like_a_section_is_not_taken_for_one() -> None:
    fake = w.section(w.cpu(State(9), 7), "cpu", 0, 77)
    (found,) = read(w.stream({0: w.cpu(State(1), 7)}, ram=fake * 3))
    assert found.area.registers["xmm0"] == State(1).zmm[0] & (1 << 128) - 1


def rewritten(change: Callable[[Any], Any], data: bytes | None = None) -> bytes:
    """A stream whose description was changed."""
    data = data or FINE
    at = data.rindex(b"\6", 0, data.index(b'{"page_size"'))
    text = json.loads(data[at + 5 :])
    changed = change(text) or text
    out = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
    return data[: at + 1] + struct.pack(">I", len(out)) + out


def field(text: Any, name: str) -> dict[str, Any]:
    (found,) = (f for f in text["devices"][2]["fields"] if f["name"] == name)
    assert isinstance(found, dict)
    return found


def set_field(name: str, /, **changes: Any) -> bytes:
    return rewritten(lambda text: field(text, name).update(changes))


def set_device(index: int, **changes: Any) -> bytes:
    return rewritten(lambda text: text["devices"][index].update(changes))


def renamed(old: bytes, new: bytes) -> bytes:
    """Bytes of the sections changed, the description left alone."""
    assert len(old) == len(new)
    assert FINE.index(old) < FINE.index(b'{"page_size"')
    return FINE.replace(old, new, 1)


FINE = w.stream({0: w.cpu(State(), 0xE7)})
END = FINE.index(b'{"page_size"')
START = FINE.index(b"\3cpu\0\0\0\0\0\0\0\x0c") + 12
BAD = [
    pytest.param(w.stream({}), "no section of an x86 vCPU", id="no-vcpu"),
    pytest.param(w.stream({0: w.cpu(State(), 7)}, described=False), "vmdesc", id="no-vmdesc"),
    pytest.param(FINE + b"x", "vmdesc", id="trailing"),
    pytest.param(FINE[: END - 6] + b"\1" + FINE[END - 5 :], "no end mark", id="end-mark"),
    pytest.param(rewritten(lambda _: b'{"a": 1}'), "has no devices", id="empty"),
    pytest.param(rewritten(lambda _: b'{"devices": 5}'), "no list of objects", id="no-list"),
    pytest.param(rewritten(lambda _: b'{"devices": [{}]}'), "named None", id="no-name"),
    pytest.param(rewritten(lambda _: b'{"devices": [5]}'), "no list of objects", id="no-object"),
    pytest.param(rewritten(lambda _: b'{"devices": [nonsense'), "no JSON", id="no-json"),
    pytest.param(rewritten(lambda _: b'{"a": 5 "b"'), "Expecting ',' delimiter", id="no-comma"),
    pytest.param(rewritten(lambda _: b'{"a": "\xe9"}'), "not ASCII", id="not-ascii"),
    pytest.param(rewritten(lambda _: b'{"devices": [' + b"[" * 200_000), "too deeply", id="deep"),
    pytest.param(
        rewritten(lambda _: b'{"devices": [' + b"9" * 5000 + b"]}"), "no JSON", id="digits"
    ),
    pytest.param(set_device(2, name="x" * 300), "a device named", id="long-name"),
    pytest.param(set_device(2, instance_id=-1), "has the instance -1", id="instance"),
    pytest.param(set_device(2, instance_id=1), "the section of cpu is not", id="other-instance"),
    pytest.param(set_device(3, name="other"), "the section of other is not", id="other-name"),
    pytest.param(set_device(3, fields=[{"name": "data", "size": 10}]), "is not where", id="short"),
    pytest.param(set_device(3, fields=[{"size": 1 << 39}]), "before the file", id="long"),
    pytest.param(set_device(3, fields=[{"size": 1 << 41}]), "no sound size", id="huge"),
    pytest.param(set_device(3, fields=[{"size": "1"}]), "no sound size", id="text-size"),
    pytest.param(set_device(3, fields=[5]), "fields are no list", id="no-field"),
    pytest.param(set_device(2, subsections={}), "subsections are no list", id="subsections"),
    pytest.param(set_field("env.fpuc", size=1), "is not where", id="field-size"),
    pytest.param(set_field("env.xmm_regs[0]", size=32, array_len=8), "8 times 32", id="elements"),
    pytest.param(set_field("env.fpuc", name="env.x"), "has no env.fpuc", id="no-fcw"),
    pytest.param(set_field("env.eip", name="env.xcr0"), "second field env.xcr0", id="twice"),
    pytest.param(renamed(b"cpu/avx512", b"cpu/avx513"), "no subsection cpu/avx512", id="subname"),
    pytest.param(renamed(b"\3cpu\0\0\0\0", b"\3cpv\0\0\0\0"), "section of cpu is not", id="name"),
    pytest.param(FINE[: START - 17] + b"\1" + FINE[START - 16 :], "section of cpu is", id="type"),
]


@pytest.mark.parametrize(("data", "message"), BAD)
def test_what_is_wrong_is_said(data: bytes, message: str) -> None:
    with pytest.raises(ArtefactError, match=message):
        read(data)


def test_devices_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xsaveschema.artefacts.qemu_stream._MAX_DEVICES", 3)
    with pytest.raises(ArtefactError, match="more than 3 devices"):
        read(FINE)


def cpu_with(at: int, value: bytes) -> bytes:
    return FINE[: START + at] + value + FINE[START + at + len(value) :]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(cpu_with(152, b"\1\0"), "more than 8 bits", id="tags"),
        pytest.param(cpu_with(154, b"\0\1"), "format of old", id="format"),
        pytest.param(w.stream({0: w.cpu(State(), 7, xcr0=7 | 1 << 63)}), "bit 63", id="xcr0"),
    ],
)
def test_values_that_cannot_be(data: bytes, message: str) -> None:
    with pytest.raises(XsaveError, match=message):
        read(data)


def test_two_sections_of_one_vcpu() -> None:
    twice = w.stream({0: w.cpu(State(), 7), 1: w.cpu(State(), 7)})
    at = twice.rindex(b"\3cpu\0\0\0\1")
    twice = twice[: at + 7] + b"\0" + twice[at + 8 :]
    data = rewritten(lambda text: text["devices"][4].update(instance_id=0), twice)
    with pytest.raises(ArtefactError, match="a second section of vCPU 0"):
        read(data)


def test_a_length_that_holds_a_brace_is_found_all_the_same() -> None:
    """0x7B is "{": the description's own length may hold it."""

    def pad(text: Any) -> bytes:
        plain = json.dumps(text).encode()
        return plain + b" " * (-len(plain) % 0x100 + 0x7B)

    data = rewritten(pad)
    assert data[data.index(b'{"page_size"') - 1] == 0x7B
    assert len(read(data)) == 1


def test_a_description_that_would_not_be_small_in_memory() -> None:
    text = b'{"devices":[{"name":"x","more":[' + b"{}," * (1 << 18) + b"0]}]}"
    data = b"QEVM\0\0\0\3" + bytes(20) + b"\0\6" + len(text).to_bytes(4, "big") + text
    with pytest.raises(ArtefactError, match="262144 objects and lists"):
        read(data)


def test_damaged_streams_are_refused_or_read() -> None:
    data = w.stream({0: w.cpu(State(), 0x2E7), 1: w.cpu(State(1), 0x7)})
    assert survive(READER, cuts(data, 500)) >= 500
    text = data.index(b'{"page_size"')
    assert survive(READER, mutations(data, 700)) > 0
    assert survive(READER, mutations(data, 700, start=text)) > 0
    real = gzip.decompress(STORED.read_bytes())
    assert survive(READER, mutations(real, 300, start=real.index(b"\3cpu\0\0\0\0"))) > 0


def test_other_files_are_left_to_others() -> None:
    for data in (b"", b"QEVM", b"QEVM\0\0\0\2", b"QEMV\0\0\0\3"):
        assert not READER.recognises(memoryview(data))
    with pytest.raises(ArtefactError, match="no migration stream"):
        list(READER.read(memoryview(b"QEVM\0\0\0\2"), Options()))
    (found,) = artefacts.read_bytes(FINE)
    assert found.label == "vCPU 0"
