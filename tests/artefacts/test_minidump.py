"""Windows minidumps: every register that the writer put into a context comes out."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from writers import minidump as w
from writers.hostile import cuts, mutations, survive
from writers.state import INTEL, SIZES, ZEN4, State

from xsaveschema import artefacts, load_model
from xsaveschema.artefacts.minidump import READER
from xsaveschema.artefacts.reader import ArtefactError, Found, Options, Writer
from xsaveschema.errors import XsaveError

AVX512 = 0xE7
SKYLAKE = 0x2FF
SAPPHIRE = 0x602E7


def rows(mask: int, places: dict[int, int]) -> list[tuple[int, int, int]]:
    return [(n, SIZES[n], at) for n, at in places.items() if mask >> n & 1]


def read(data: bytes, options: Options | None = None) -> list[Found]:
    view = memoryview(data)
    assert READER.recognises(view)
    return list(READER.read(view, options or Options()))


LAYOUTS = [
    pytest.param(INTEL, 0x7, id="avx"),
    pytest.param(INTEL, AVX512, id="avx512"),
    pytest.param(INTEL, SKYLAKE & ~0x100, id="skylake"),
    pytest.param(INTEL, SAPPHIRE, id="amx"),
    pytest.param(ZEN4, 0x2E7, id="zen4"),
]


@pytest.mark.parametrize("compact", [False, True], ids=["standard", "compacted"])
@pytest.mark.parametrize(("places", "mask"), LAYOUTS)
def test_registers_come_out(places: dict[int, int], mask: int, compact: bool) -> None:
    states = [State(seed) for seed in (1, 2, 3)]
    areas = [s.compacted(mask) if compact else s.standard(mask, places) for s in states]
    data = w.dump(
        [(100 + i, w.context(area)) for i, area in enumerate(areas)],
        misc=w.misc_info(rows(mask, places)),
    )
    found = read(data)
    assert [f.label for f in found] == ["thread 100", "thread 101", "thread 102"]
    for state, f in zip(states, found, strict=True):
        said = state.registers(mask)
        assert f.area.registers.read(said) == said
        assert f.area.xstate_bv == mask
        assert f.area.format == ("compacted" if compact else "standard")
        assert "MISC_INFO_5" in f.layout_source
        assert f.offset is not None
        assert data[f.offset : f.offset + 512] == state.legacy()


def test_an_initial_component_is_initial_whatever_stands_there() -> None:
    state = State()
    misc = w.misc_info(rows(AVX512, INTEL))
    data = w.dump([(1, w.context(state.standard(AVX512, INTEL, live=0x7)))], misc=misc)
    (found,) = read(data)
    assert found.area.registers["k1"] == 0
    assert found.area.registers["zmm3"] == state.zmm[3] & (1 << 256) - 1


def test_x87_and_sse_are_in_use_although_the_mask_leaves_them_out() -> None:
    state = State()
    data = w.dump(
        [(1, w.context(state.compacted(0x7, live=0x4)))], misc=w.misc_info([(2, 256, 576)])
    )
    (found,) = read(data)
    assert found.area.in_use("x87")
    assert found.area.registers["st1"] == state.st[1]
    assert found.area.registers["mxcsr"] == state.mxcsr


@pytest.mark.parametrize("processor", [w.AMD64, w.X86], ids=["amd64", "x86"])
def test_a_context_without_xstate_has_the_legacy_registers(processor: int) -> None:
    state = State()
    plain = w.context(state.standard(3, {}), processor, xstate=False)
    for known in (processor, None):  # with and without a system info stream
        (found,) = read(w.dump([(7, plain)], processor=known))
        said = state.registers(3)
        assert found.area.registers.read(said) == said
        assert found.layout_source == "no XState: the legacy region alone"
        assert len(found.area) == 576


def test_x86_contexts_have_xstate_too() -> None:
    state = State()
    area = state.compacted(AVX512)
    misc = w.misc_info(rows(AVX512, INTEL))
    (found,) = read(w.dump([(7, w.context(area, w.X86))], misc=misc, processor=w.X86))
    said = state.registers(AVX512)
    assert found.area.registers.read(said) == said


@pytest.mark.parametrize("aligned", [False, True])
def test_the_exception_context_and_threads_without_one(aligned: bool) -> None:
    state = State(5)
    misc = w.misc_info(rows(7, INTEL))
    crashed = w.context(state.standard(7, INTEL))
    data = w.dump([(1, b""), (2, crashed)], exception=(2, crashed), misc=misc, aligned=aligned)
    found = read(data)
    assert [f.label for f in found] == ["thread 2", "exception in thread 2"]
    assert found[1].area.registers["ymm5"] == state.zmm[5] & (1 << 256) - 1


def test_cet_in_a_chunk_of_its_own_as_crashpad_writes_it() -> None:
    """Component 11 alone, compacted: MISC_INFO_5 gives no offset to a supervisor component."""
    state = State()
    area = state.compacted(1 << 11)
    misc = w.misc_info([(11, 16, 0)])
    (found,) = read(w.dump([(1, w.context(area))], misc=misc))
    assert found.area["cet_u"]["ia32_pl3_ssp"] == state.ssp
    assert found.area["cet_u"]["ia32_u_cet"] == state.u_cet
    assert found.area.registers["xmm4"] == state.zmm[4] & (1 << 128) - 1
    both = w.misc_info([*rows(7, INTEL), (11, 16, 0)])
    (found,) = read(w.dump([(1, w.context(state.compacted(0x807)))], misc=both))
    assert found.area["cet_u"]["ia32_pl3_ssp"] == state.ssp
    assert found.area.registers["ymm4"] == state.zmm[4] & (1 << 256) - 1


def test_a_table_that_no_model_has_is_a_layout_all_the_same() -> None:
    state = State()
    places = {2: 1024, 5: 576, 9: 704}
    area = state.standard(0x227, places)
    (found,) = read(w.dump([(1, w.context(area))], misc=w.misc_info(rows(0x227, places))))
    assert found.area.model.name == "misc-info-5"
    assert found.area.registers["k5"] == state.k[5]
    assert found.area.registers["pkru"] == state.pkru


def test_a_table_that_no_model_has_with_tiles_and_cet() -> None:
    """The compacted format aligns TILECFG and TILEDATA, which the table does not say."""
    state, mask = State(), 0x60A27
    places = {2: 1024, 5: 576, 9: 704, 17: 2048, 18: 4096}
    misc = w.misc_info([*rows(mask, places), (11, 16, 0)])
    (found,) = read(w.dump([(1, w.context(state.compacted(mask)))], misc=misc))
    assert found.area.model.name == "misc-info-5"
    said = state.registers(mask & ~0x800)
    assert found.area.registers.read(said) == said
    assert found.area["cet_u"]["ia32_pl3_ssp"] == state.ssp


def test_without_misc_info_a_model_is_asked_for() -> None:
    state = State()
    data = w.dump([(1, w.context(state.standard(0x2E7, ZEN4)))])
    (found,) = read(data, Options(load_model("zen4")))
    assert found.area.registers["zmm9"] == state.zmm[9]
    assert found.layout_source == "model zen4"
    compact = w.dump([(1, w.context(state.compacted(0x27)))])
    (found,) = read(compact)
    assert found.area.registers["k1"] == state.k[1]
    assert found.layout_source.startswith("identified by XCOMP_BV")


def test_a_misc_info_without_a_table_is_as_none() -> None:
    """Systems without XSAVE leave XStateData zero; older structures end before it."""
    context = w.context(State().compacted(0x27))
    for misc in (w.misc_info(rows(7, INTEL), length=0), w.misc_info(rows(7, INTEL))[:1359]):
        (found,) = read(w.dump([(1, context)], misc=misc))
        assert found.layout_source.startswith("identified by")


def test_contexts_without_floating_point_say_so() -> None:
    area = State().standard(7, INTEL)
    misc = w.misc_info(rows(7, INTEL))
    (found,) = read(w.dump([(1, w.context(area, flags=0x100057))], misc=misc))
    assert not found.area.in_use("x87")
    assert "not there" in found.notes[0]
    other = w.context(area, xstate=False, flags=0x100007)
    assert len(read(w.dump([(1, other), (2, w.context(area))], misc=misc))) == 1
    with pytest.raises(ArtefactError, match="no context has x87"):
        read(w.dump([(1, other)]))


def edited(data: bytes, changes: Sequence[tuple[int, bytes]]) -> bytes:
    copy = bytearray(data)
    for at, new in changes:
        copy[at : at + len(new)] = new
    assert len(copy) == len(data)
    return bytes(copy)


@pytest.mark.parametrize("compact", [False, True], ids=["standard", "compacted"])
def test_an_edited_area_goes_back(compact: bool) -> None:
    assert isinstance(READER, Writer)
    state, mask = State(), 0x2E7
    area = state.compacted(mask) if compact else state.standard(mask, ZEN4)
    misc = w.misc_info(rows(mask, ZEN4))
    data = w.dump([(1, w.context(State(9).compacted(7))), (2, w.context(area))], misc=misc)
    found = read(data)[1]
    new = type(found.area).parse(bytearray(found.area.buffer), found.area.model)
    new.registers["zmm20"] = 0x1234
    new.registers["mxcsr"] = 0x1F81
    new.registers["st0"] = 5
    new.initialise("opmask")
    again = edited(data, list(READER.replace(memoryview(data), found, new)))
    back = read(again)[1].area
    said = state.registers(mask) | {"zmm20": 0x1234, "mxcsr": 0x1F81, "st0": 5}
    said |= {f"k{index}": 0 for index in range(8)}
    assert back.registers.read(said) == said
    assert not back.in_use("opmask")
    assert found.offset is not None
    assert again[found.offset - 0x100 + 0x34 :][:4] == (0x1F81).to_bytes(4, "little")
    chunk = again.index(struct.pack("<Q", 0x2C4), found.offset)  # without x87, SSE and opmask
    assert again[chunk + 8 : chunk + 16] == data[chunk + 8 : chunk + 16]
    assert read(again)[0].area.registers["xmm1"] == State(9).zmm[1] & (1 << 128) - 1


def test_x87_and_sse_become_initial_by_value() -> None:
    data = w.dump([(1, w.context(State().compacted(7)))], misc=w.misc_info(rows(7, INTEL)))
    (found,) = read(data)
    new = type(found.area).parse(bytearray(found.area.buffer), found.area.model)
    new.initialise("x87")
    new.initialise("sse")
    back = read(edited(data, list(READER.replace(memoryview(data), found, new))))[0].area
    assert back.registers["fcw"] == 0x37F
    assert back.registers["mxcsr"] == 0x1F80
    assert back.registers["st0"] == back.registers["xmm3"] == 0


def test_an_area_of_another_layout_is_not_written_back() -> None:
    data = w.dump([(1, w.context(State().compacted(7)))], misc=w.misc_info(rows(7, INTEL)))
    (found,) = read(data)
    other = type(found.area).new(load_model("haswell"))
    with pytest.raises(ArtefactError, match="XCOMP_BV"):
        list(READER.replace(memoryview(data), found, other))


def test_a_context_without_a_chunk_takes_the_legacy_registers_only() -> None:
    data = w.dump([(1, w.context(State().standard(3, {}), xstate=False))])
    (found,) = read(data)
    new = type(found.area).new(load_model("haswell"))
    new.registers["xmm1"] = 77
    (back,) = read(edited(data, list(READER.replace(memoryview(data), found, new))))
    assert back.area.registers["xmm1"] == 77
    new.registers["ymm1"] = 1 << 200
    with pytest.raises(ArtefactError, match="no XState chunk"):
        list(READER.replace(memoryview(data), found, new))


FINE = w.dump([(1, w.context(State().standard(7, INTEL)))], misc=w.misc_info(rows(7, INTEL)))


def patched(at: int, form: str, *values: int, data: bytes = FINE) -> bytes:
    copy = bytearray(data)
    struct.pack_into("<" + form, copy, at, *values)
    return bytes(copy)


CONTEXT = FINE.index(State().legacy()) - 0x100
CHUNK = CONTEXT + 0x500
DIRECTORY = 32
CRASH = w.dump([], exception=(1, FINE[CONTEXT:][:0x4D0]), processor=None)
CONFIG = struct.unpack_from("<I", FINE, DIRECTORY + 12 + 8)[0] + 832
BAD = [
    pytest.param(patched(8, "I", 1 << 20), "streams are more", id="streams"),
    pytest.param(patched(8, "I", 5000), "the stream directory takes", id="directory-count"),
    pytest.param(patched(12, "I", 1 << 31), "the stream directory takes", id="directory-place"),
    pytest.param(patched(DIRECTORY + 16, "I", 1 << 30), "the misc info stream", id="stream-size"),
    pytest.param(patched(DIRECTORY + 12, "I", 7), "a second system info", id="twice"),
    pytest.param(patched(DIRECTORY + 4, "I", 1), "system info stream is empty", id="no-system"),
    pytest.param(patched(44 + 24, "H", 12), "architecture is 12", id="arm64"),
    pytest.param(patched(CONTEXT + 0x30, "I", 0x400057), "another processor", id="flags"),
    pytest.param(patched(CONTEXT + 0x4D0 + 20, "I", 80), "avx stands at", id="live-cut"),
    pytest.param(patched(CHUNK + 8, "Q", 4), "XCOMP_BV", id="xcomp-bv"),
    pytest.param(patched(CHUNK, "Q", 1 << 40), "component40", id="xstate-bv"),
    pytest.param(patched(CONFIG, "I", 100), "not 528", id="config-size"),
    pytest.param(patched(CONFIG + 16 + 16, "I", 1 << 21), "outside the", id="row-offset"),
    pytest.param(patched(CONFIG + 16 + 20, "I", 0), "outside the", id="row-size"),
    pytest.param(patched(DIRECTORY + 28, "I", 3), "has no count", id="no-threads"),
    pytest.param(patched(48, "I", 167, data=CRASH), "has 167 bytes", id="exception"),
    pytest.param(w.dump([(1, bytes(2000))]), "another processor", id="zeros"),
    pytest.param(w.dump([(1, bytes(2000))], processor=None), "neither AMD64", id="unknown"),
    pytest.param(w.dump([(1, FINE[CONTEXT:][:0x4CF])]), "of 1232 bytes", id="short-context"),
    pytest.param(
        b"MDMP" + struct.pack("<7I", 0xA793, 0, 32, 0, 0, 0, 0), "neither a thread", id="empty"
    ),
    pytest.param(b"MDMP" + bytes(40), "no minidump", id="version"),
]


def test_the_places_used_above_are_right() -> None:
    assert len(read(FINE)) == 1
    assert struct.unpack_from("<Q", FINE, CHUNK)[0] == 4


@pytest.mark.parametrize(("data", "message"), BAD)
def test_what_is_wrong_is_said(data: bytes, message: str) -> None:
    with pytest.raises(XsaveError, match=message) as caught:
        list(READER.read(memoryview(data), Options()))
    if isinstance(caught.value, ArtefactError):
        assert caught.value.offset is not None


def test_a_thread_count_that_lies() -> None:
    at = FINE.index(struct.pack("<II", 1, 1), CONFIG)
    with pytest.raises(ArtefactError, match="do not fit") as caught:
        read(patched(at, "I", 1 << 30))
    assert caught.value.offset == at


LONG = w.dump(
    [(1, w.context(State().standard(7, INTEL).ljust(17 << 20, b"\0")))],
    misc=w.misc_info(rows(7, INTEL)),
)
NO_CHUNK = [
    pytest.param(patched(CONTEXT + 0x4D0 + 16, "i", -64), "not within", id="before"),
    pytest.param(patched(CONTEXT + 0x4D0 + 16, "i", 1 << 30), "not within", id="behind"),
    pytest.param(patched(CONTEXT + 0x4D0 + 20, "I", 1 << 31), "not within", id="long"),
    pytest.param(LONG, "more than any area", id="longer than any area"),
    pytest.param(patched(CONTEXT + 0x4D0 + 20, "I", 16), "its header 64", id="short"),
    pytest.param(w.dump([(1, FINE[CONTEXT:][:0x4D0])]), "cut off before its CONTEXT_EX", id="cut"),
    pytest.param(w.dump([(1, FINE[CONTEXT:][:0x4E7])]), "cut off before its CONTEXT_EX", id="half"),
]


@pytest.mark.parametrize(("data", "message"), NO_CHUNK)
def test_a_context_without_its_chunk_has_the_legacy_registers(data: bytes, message: str) -> None:
    """Windows writes such contexts for exceptions: the flag is set, the structure ends."""
    (found,) = read(data)
    said = State().registers(3)
    assert found.area.registers.read(said) == said
    assert found.origin == "assembled"
    assert any(message in note for note in found.notes)
    new = type(found.area).parse(bytearray(found.area.buffer), found.area.model)
    new.registers["xmm3"] = 5
    (back,) = read(edited(data, list(READER.replace(memoryview(data), found, new))))
    assert back.area.registers["xmm3"] == 5


def test_a_context_that_cannot_be_read_leaves_the_others() -> None:
    area, misc = w.context(State().standard(7, INTEL)), w.misc_info(rows(7, INTEL))
    bad = area[:0x30] + struct.pack("<I", 0x400057) + area[0x34:]
    data = w.dump([(1, bad), (2, area), (3, area[:900]), (4, area)], misc=misc)
    found: list[str] = []
    with pytest.raises(ArtefactError, match="another processor") as caught:
        found.extend(each.label for each in READER.read(memoryview(data), Options()))
    assert found == ["thread 2", "thread 4"]
    assert caught.value.__notes__ == ["thread 1"]
    loose = read(data, Options(strict=False))
    assert [each.label for each in loose] == found
    assert not loose[0].notes
    (note,) = loose[1].notes
    assert note.startswith("2 contexts left out: thread 1: at byte")
    assert "thread 3: at byte" in note


def test_the_contexts_left_out_are_counted_and_not_all_named() -> None:
    area = w.context(State().standard(7, INTEL))
    data = w.dump([(n, area[:900]) for n in range(50)] + [(99, area)], misc=None)
    (found,) = read(data, Options(load_model("haswell"), strict=False))
    assert found.notes[-1].startswith("50 contexts left out: thread 0:")
    assert "thread 8:" not in found.notes[-1]


def test_every_thread_may_have_an_exception_that_shares_its_context() -> None:
    """As LLDB 19 writes them; Breakpad lets the crashed thread share its one."""
    areas = [w.context(State(seed).standard(7, INTEL)) for seed in range(3)]
    data = w.dump(list(enumerate(areas)), misc=w.misc_info(rows(7, INTEL)), shared=(0, 2))
    found = read(data)
    labels = [f"thread {n}" for n in range(3)]
    assert [each.label for each in found] == [
        *labels,
        *(f"exception in thread {n}" for n in (0, 2)),
    ]
    assert found[4].offset == found[2].offset
    assert found[4].area.registers["ymm3"] == State(2).zmm[3] & (1 << 256) - 1


def test_threads_that_share_a_context_end() -> None:
    area = w.context(State().standard(7, INTEL).ljust(1 << 20, b"\0"))
    data = bytearray(w.dump([(0, area), *((n, b"x") for n in range(1, 100))]))
    first = data.index(struct.pack("<I", 100), 32) + 4
    for thread in range(100):
        data[first + 48 * thread + 40 : first + 48 * thread + 48] = data[first + 40 : first + 48]
    found: list[str] = []
    with pytest.raises(ArtefactError, match="contexts share bytes"):
        found.extend(
            each.label
            for each in READER.read(memoryview(bytes(data)), Options(load_model("haswell")))
        )
    assert len(found) <= 1


def test_cet_that_the_table_leaves_out_is_the_catalogues() -> None:
    """Windows' dumps of x86 programs: MISC_INFO_5 ends at AVX, XCOMP_BV has CET_U too."""
    state = State()
    area = state.compacted(0x807)
    misc = w.misc_info(rows(7, INTEL))
    (found,) = read(w.dump([(7, w.context(area, w.X86))], misc=misc, processor=w.X86))
    assert found.area["cet_u"]["ia32_pl3_ssp"] == state.ssp
    assert found.area.registers["ymm4"] == state.zmm[4] & (1 << 256) - 1
    odd = w.misc_info([(2, 256, 1024)])  # no model's
    (found,) = read(w.dump([(7, w.context(area))], misc=odd))
    assert found.area.model.name == "misc-info-5"
    assert found.area["cet_u"]["ia32_pl3_ssp"] == state.ssp
    with pytest.raises(XsaveError, match="component5"):  # a user component's place is not known
        read(w.dump([(7, w.context(state.compacted(0x27)))], misc=odd))


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "count", "said"),
    [
        ("write_av_non_canonical", 3, {"mxcsr": 0x1F80, "fcw": 0x27F}),
        ("tiny-exe-with-cet-xsave", 1, {"ia32_u_cet": 1, "ia32_pl3_ssp": 0xCBC83FEFC8}),
        ("tiny-exe-with-cet-xsave-x86", 3, {"fop": 0, "mxcsr": 0x1F80}),
    ],
)
def test_what_windows_wrote(name: str, count: int, said: dict[str, int], shared: Path) -> None:
    found = list(artefacts.open(shared / f"artefacts/breakpad-{name}.dmp"))
    assert len(found) == count
    assert found[-1].area.registers.read(said) == said
    cut = "write_av" in name
    assert any("cut off before its CONTEXT_EX" in note for note in found[-1].notes) == cut


def test_damaged_dumps_are_refused_or_read() -> None:
    whole = w.dump(
        [(1, w.context(State().compacted(0x2E7))), (2, w.context(State().standard(7, INTEL)))],
        exception=(1, w.context(State().standard(3, {}), xstate=False)),
        misc=w.misc_info(rows(0x2E7, ZEN4)),
    )
    assert survive(READER, cuts(whole, 500)) >= 500
    assert survive(READER, mutations(whole, 1000)) > 0
    head = w.dump([(1, w.context(State().standard(7, INTEL)))])  # mostly structure
    assert survive(READER, mutations(head, 1000), Options(load_model("haswell"), False)) > 0


def test_the_content_tells_what_the_file_is() -> None:
    (found,) = artefacts.read_bytes(FINE)
    assert found.label == "thread 1"
