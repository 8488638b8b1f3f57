"""The harness of `processor` tells the truth; no engine of the package takes part.

Each test is false if the machine code, the buffers, the fault handler or the child process are
wrong. What the processor must do is from the SDM (volume 1, chapter 13); nothing assumes which
components or instructions the machine has.
"""

import ctypes
import os
import platform
import random
import signal
import struct
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import processor
import pytest
from processor import ALL, INITIAL, Case, SaveInstruction, build_area, has, layout, restore, save

COMPACTED = 1 << 63
OPAQUE = frozenset({1, 2, 5, 6, 7, 19})  # any bytes are legal here
PKRU, TILECFG, TILEDATA = 9, 17, 18
SIGSEGV_GP = (signal.SIGSEGV, 13)


@pytest.fixture
def anywhere() -> None:
    """For a test that runs on any machine."""


@pytest.fixture
def real() -> None:
    """For a test that an emulator does not judge."""


@pytest.fixture(autouse=True)
def _ask_the_processor(request: pytest.FixtureRequest) -> None:
    if "anywhere" in request.fixturenames:
        return
    if reason := processor.real() if "real" in request.fixturenames else processor.available():
        pytest.skip(reason)


def needs(feature: str) -> None:
    if not has(feature):
        pytest.skip(f"the processor has no {feature}")


def standard_size() -> int:
    return processor.cpuid(0xD)[1]


def xcr0() -> int:
    return processor.xgetbv(0)


def header(area: bytes) -> tuple[int, int]:
    xstate_bv, xcomp_bv = struct.unpack_from("<QQ", area, 512)
    return xstate_bv, xcomp_bv


def mxcsr(area: bytes) -> int:
    return int.from_bytes(area[24:28], "little")


def random_state(seed: int) -> dict[int, bytes]:
    """Bytes that come back for each component of XCR0 that takes any, x87, PKRU and tiles."""
    source = random.Random(seed)
    state = {
        number: source.randbytes(slot.stop - slot.start)
        for number, slot in layout().items()
        if number in OPAQUE
    }
    x87 = bytearray(160)
    struct.pack_into("<HHB", x87, 0, 0x27F, 0x3800 & source.getrandbits(16), 0xFF)
    for at in range(32, 160, 16):
        x87[at : at + 10] = source.randbytes(7) + b"\x80\x00\x40"
    state[0] = bytes(x87)
    if PKRU in layout():
        state[PKRU] = struct.pack("<Q", source.getrandbits(32) & ~0b11)  # key 0 stays open
    if processor.request_amx():
        state[TILECFG] = processor.legal_tilecfg(source)
        state[TILEDATA] = source.randbytes(8192)
    return state


def proc_cpuinfo() -> dict[str, str]:
    first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    return {
        key.strip(): value.strip()
        for key, _, value in (p.partition(":") for p in first.split("\n"))
    }


# CPUID and XGETBV


@pytest.mark.usefixtures("anywhere")
def test_the_processor_is_available_where_the_kernel_says_so() -> None:
    if (sys.platform, platform.machine(), sys.maxsize) != ("linux", "x86_64", (1 << 63) - 1):
        pytest.skip("needs 64-bit Linux on x86-64")
    if processor.emulated():
        pytest.skip(processor.EMULATED)  # /proc/cpuinfo is of the machine that emulates it
    if "xsave" in proc_cpuinfo()["flags"].split():
        reason = processor.available()
        assert reason is None or "executable memory" in reason


@pytest.mark.usefixtures("real")
def test_cpuid_agrees_with_the_kernel() -> None:
    info = proc_cpuinfo()
    _, ebx, ecx, edx = processor.cpuid(0)
    eax = processor.cpuid(1)[0]
    family = (eax >> 8 & 15) + (eax >> 20 & 255 if eax >> 8 & 15 == 15 else 0)
    model = (eax >> 4 & 15) + (eax >> 12 & 0xF0 if family >= 6 else 0)

    assert struct.pack("<III", ebx, edx, ecx).decode() == info["vendor_id"]
    assert (family, model) == (int(info["cpu family"]), int(info["model"]))
    assert eax & 15 == int(info["stepping"])


@pytest.mark.usefixtures("real")
@pytest.mark.parametrize(
    ("flag", "leaf", "subleaf", "register", "bit"),
    [
        *[("sse2", 1, 0, 3, 26), ("xsave", 1, 0, 2, 26), ("avx", 1, 0, 2, 28)],
        *[("avx2", 7, 0, 1, 5), ("avx512f", 7, 0, 1, 16), ("ospke", 7, 0, 2, 4)],
        *[("xsaveopt", 13, 1, 0, 0), ("xsavec", 13, 1, 0, 1), ("xgetbv1", 13, 1, 0, 2)],
        ("xsaves", 13, 1, 0, 3),
    ],
)
def test_flags_agree_with_the_kernel(
    flag: str, leaf: int, subleaf: int, register: int, bit: int
) -> None:
    listed = flag in proc_cpuinfo()["flags"].split()
    told = bool(processor.cpuid(leaf, subleaf)[register] >> bit & 1)
    # A kernel hides what it does not use (clearcpuid=, errata), but never shows more than there is.
    assert told or not listed
    if flag in ("sse2", "xsave"):
        assert listed


def test_xcr0_is_legal_and_agrees_with_cpuid() -> None:
    bits, (eax, _, _, edx) = xcr0(), processor.cpuid(0xD)
    assert bits & 1
    assert not bits & ~(edx << 32 | eax)
    assert bits >> 1 & 1 or not bits >> 2 & 1
    assert bits >> 5 & 7 in (0, 7)
    assert bits >> 3 & 3 in (0, 3)
    assert bits >> 17 & 3 in (0, 3)
    assert max(576, *(slot.stop for slot in layout().values())) == standard_size()


def test_xgetbv_of_an_unknown_register_is_refused() -> None:
    with pytest.raises(ValueError, match=r"XGETBV\(7\)"):
        processor.xgetbv(7)


def test_mxcsr_mask_is_the_one_that_xsave_stores() -> None:
    assert processor.mxcsr_mask() & 0xFFBF == 0xFFBF
    stored = int.from_bytes(save("xsave64", size=standard_size())[28:32], "little")
    assert stored == processor.mxcsr_mask()


# Saving what was loaded


@pytest.mark.usefixtures("real")
@pytest.mark.parametrize("instruction", ["xsave64", "xsaveopt64", "xsavec64", "fxsave64"])
def test_fip_and_fdp_are_64_bits_wide(instruction: SaveInstruction) -> None:
    if instruction in ("xsaveopt64", "xsavec64"):
        needs(instruction.removesuffix("64"))
    # An invalid-operation exception is pending, without which AMD does not keep the pointers.
    x87 = struct.pack("<HHBxHQQ136x", 0x37E, 0x8081, 0, 0x123, 0x7123456789AB, 0x7FEDCBA98765)
    assert save(instruction, build_area({0: x87}), size=standard_size())[:24] == x87[:24]


@pytest.mark.parametrize("compacted", [False, True], ids=["standard", "compacted"])
@pytest.mark.parametrize("seed", range(8))
def test_xsave_gives_back_the_registers_loaded(seed: int, compacted: bool) -> None:
    state = random_state(seed)
    if compacted:
        needs("xsavec")
    area = build_area(state, mxcsr=0x9FC5, xcomp_bv=(COMPACTED | xcr0()) if compacted else 0)
    after = save("xsave64", area, size=standard_size(), prefill=0)

    for number, slot in layout().items():
        if number in state and number:
            assert after[slot] == state[number], f"component {number}"
    assert after[:5] + after[32:160] == state[0][:5] + state[0][32:160]
    assert mxcsr(after) == 0x9FC5
    assert header(after)[0] & sum(1 << number for number in state) == header(area)[0]


@pytest.mark.parametrize("seed", range(4))
def test_xsavec_gives_back_the_registers_loaded(seed: int) -> None:
    needs("xsavec")
    state = random_state(seed)
    after = save("xsavec64", build_area(state), size=standard_size())
    assert header(after)[1] == COMPACTED | xcr0()
    for number, slot in layout(COMPACTED | xcr0()).items():
        if number in state and number:
            assert after[slot] == state[number], f"component {number}"


def test_fxsave_gives_back_xmm_and_leaves_what_is_behind_it() -> None:
    state = random_state(1)
    after = save("fxsave64", build_area(state), size=standard_size(), prefill=0xA5)
    assert after[160:416] == state[1]
    assert set(after[512:]) == {0xA5}


@pytest.mark.parametrize("instruction", ["xsave64", "xsaveopt64"])
def test_rfbm_selects_and_the_rest_of_the_memory_is_left(instruction: SaveInstruction) -> None:
    if instruction == "xsaveopt64":
        needs("xsaveopt")
    area = build_area(random_state(2))
    after = save(instruction, area, 0b10, size=standard_size(), prefill=0xA5)

    assert after[160:416] == area[160:416]
    assert set(after[:24] + after[32:160]) == {0xA5}
    assert header(after) == (0xA5A5A5A5A5A5A5A5 | 0b10, 0xA5A5A5A5A5A5A5A5)
    assert set(after[416:512] + after[520:]) == {0xA5}


@pytest.mark.usefixtures("real")
def test_xsave_writes_initial_components_and_xsavec_does_not() -> None:
    size = standard_size()
    bits, _ = header(save("xsave64", size=size))
    assert bits & ~0b11 == 0
    plain = save("xsave64", size=size, prefill=0xA5)
    assert plain[160:416] == bytes(256)
    assert all(plain[slot] == bytes(len(plain[slot])) for n, slot in layout().items() if n > 1)

    needs("xsavec")
    compacted = save("xsavec64", size=size, prefill=0xA5)
    bits, xcomp_bv = header(compacted)
    assert bits & ~0b11 == 0
    assert xcomp_bv == COMPACTED | xcr0()
    assert set(compacted[528:]) == {0xA5}
    assert bits & 0b10 or set(compacted[24:32] + compacted[160:416]) == {0xA5}


def test_prefill_may_be_bytes_and_the_result_is_as_long_as_asked_for() -> None:
    after = save("xsave64", rfbm=0, size=1000, prefill=bytes(range(100)))
    assert after == bytes(range(100)) + bytes(900)
    after = save("xsave64", rfbm=0, size=64, prefill=bytes(range(100)))
    assert after == bytes(range(64))


def test_mxcsr_alone_sets_the_sse_bit_in_xsavec_only() -> None:
    area = build_area({}, mxcsr=0x1FA0)
    plain = save("xsave64", area, size=standard_size())
    assert mxcsr(plain) == 0x1FA0
    assert header(plain) == header(save("xsave64", size=standard_size()))
    needs("xsavec")
    compacted = save("xsavec64", area, size=standard_size(), prefill=0xA5)
    assert mxcsr(compacted) == 0x1FA0
    assert header(compacted)[0] & 0b10
    assert compacted[160:416] == bytes(256)


def test_xinuse_is_what_xsavec_writes_in_xstate_bv() -> None:
    needs("xsavec")
    needs("xgetbv1")
    for state in (dict[int, bytes](), random_state(3)):
        after, xinuse = processor.save_with_xinuse(
            "xsavec64", Case(build_area(state)), ALL, standard_size()
        )
        assert xinuse is not None
        assert header(after)[0] == xinuse
        assert xinuse & ~0b11 == sum(1 << number for number in state) & ~0b11


def test_load_rfbm_leaves_the_other_components_initial() -> None:
    area = build_area(random_state(4))
    after = save("xsave64", area, size=standard_size(), load_rfbm=0b1)
    assert after[32:160] == area[32:160]
    assert after[160:416] == bytes(256)
    assert mxcsr(after) == 0x1F80


def test_the_threads_own_state_comes_back() -> None:
    libc = ctypes.CDLL(None)
    before = (libc.fegetround(), libc.fetestexcept(0x3F), 0.1 + 0.2)
    # Everything unmasked and pending, rounding up, in x87 and SSE alike.
    x87 = struct.pack("<HHB155x", 0xF40, 0x80BF, 0)
    area = build_area(random_state(5) | {0: x87}, mxcsr=0x403F)
    assert mxcsr(save("xsave64", area, size=standard_size())) == 0x403F
    assert not restore(area).faulted
    for rfbm in (0, 0b1, 0b10):
        save("xsave64", area, rfbm, size=standard_size())
    assert (libc.fegetround(), libc.fetestexcept(0x3F), 0.1 + 0.2) == before


# Restoring, and faults


def test_restore_gives_the_state_after_it() -> None:
    state = random_state(6)
    area = build_area(state)
    result = restore(area, 0b10, prior=build_area(random_state(7)))
    assert not result.faulted
    assert result.after[160:416] == state[1]
    assert result.after[32:160] == random_state(7)[0][32:160]
    assert len(result.after) == standard_size()
    assert result.xinuse is None or result.xinuse & 0b11 == 0b11


def with_bytes(area: bytes, at: int, data: bytes) -> bytes:
    return area[:at] + data + area[at + len(data) :]


def compacted_area() -> bytes:
    return build_area({}, xcomp_bv=COMPACTED | xcr0())


@pytest.mark.usefixtures("real")
def test_faults_and_their_near_misses() -> None:
    """One area of each kind faults with #GP; the same but for the fault is accepted."""
    outside = 1 << 61
    reserved_mxcsr = (1 << 31 | 0x1F80).to_bytes(4, "little")
    sse = build_area({1: bytes(256)})
    faults = {
        "XCOMP_BV without bit 63": Case(with_bytes(INITIAL, 520, b"\x04")),
        "XCOMP_BV without bit 63, RFBM 0": Case(with_bytes(INITIAL, 520, b"\x04"), 0),
        "header byte 16": Case(with_bytes(INITIAL, 528, b"\x01")),
        "header byte 23": Case(with_bytes(INITIAL, 535, b"\x01")),
        "XSTATE_BV outside XCR0": Case(build_area({}, xstate_bv=outside)),
        "reserved MXCSR": Case(with_bytes(INITIAL, 24, reserved_mxcsr), 0b10),
        "reserved MXCSR, SSE in use": Case(with_bytes(sse, 24, reserved_mxcsr), 0b10),
    }
    accepted = {
        "initial": Case(INITIAL),
        "RFBM 0": Case(INITIAL, 0),
        "header byte 24": Case(with_bytes(INITIAL, 536, b"\x01")),
        "header byte 63": Case(with_bytes(INITIAL, 575, b"\x01")),
        "MXCSR not loaded": Case(with_bytes(INITIAL, 24, reserved_mxcsr), 0b1),
        "MXCSR_MASK of the area": Case(with_bytes(INITIAL, 28, b"\xff\xff\xff\xff")),
        "XCR0 mask at byte 464": Case(with_bytes(INITIAL, 464, b"\xff" * 48)),
    }
    if xcr0() & 0b100:
        faults["reserved MXCSR, AVX"] = Case(with_bytes(INITIAL, 24, reserved_mxcsr), 0b100)
    if has("xsavec"):
        whole, bits = compacted_area(), COMPACTED | xcr0()
        accepted["compacted"] = Case(whole)
        accepted["compacted, MXCSR not in use"] = Case(with_bytes(whole, 24, reserved_mxcsr))
        faults["compacted, XSTATE_BV beyond XCOMP_BV"] = Case(
            build_area({}, xcomp_bv=bits & ~0b10, xstate_bv=0b10)
        )
        faults["compacted, XCOMP_BV outside XCR0"] = Case(build_area({}, xcomp_bv=bits | outside))
        faults["compacted, reserved MXCSR"] = Case(
            with_bytes(build_area({1: bytes(256)}, xcomp_bv=bits), 24, reserved_mxcsr)
        )
        for at in (528, 536, 575):
            faults[f"compacted, header byte {at - 512}"] = Case(with_bytes(whole, at, b"\x01"))

    cases = {**faults, **accepted}
    results = dict(zip(cases, processor.restore_all(list(cases.values())), strict=True))
    assert {name: (results[name].signal, results[name].trap) for name in faults} == dict.fromkeys(
        faults, SIGSEGV_GP
    )
    assert {name: results[name].signal for name in accepted} == dict.fromkeys(accepted, 0)


@pytest.mark.usefixtures("real")
def test_only_a_64_byte_boundary_is_accepted() -> None:
    results = processor.restore_all([Case(INITIAL, offset=offset) for offset in range(64)])
    assert [offset for offset, result in enumerate(results) if not result.faulted] == [0]
    assert {(result.signal, result.trap) for result in results[1:]} == {SIGSEGV_GP}


@pytest.mark.usefixtures("real")
@pytest.mark.parametrize(
    ("rfbm", "xstate_bv", "standard", "compacted"),
    [
        *[(0b001, 0b000, 0x5F80, 0x5F80), (0b010, 0b000, 0x3F80, 0x1F80)],
        *[(0b010, 0b010, 0x3F80, 0x3F80), (0b100, 0b000, 0x3F80, 0x5F80)],
    ],
)
def test_which_restore_loads_mxcsr(
    rfbm: int, xstate_bv: int, standard: int, compacted: int
) -> None:
    if rfbm & ~xcr0():
        pytest.skip("the processor or the operating system has no AVX")
    prior = build_area({1: bytes(256)}, mxcsr=0x5F80)
    after = restore(build_area({}, mxcsr=0x3F80, xstate_bv=xstate_bv), rfbm, prior=prior).after
    assert mxcsr(after) == standard
    needs("xsavec")
    area = build_area({}, mxcsr=0x3F80, xstate_bv=xstate_bv, xcomp_bv=COMPACTED | xcr0())
    assert mxcsr(restore(area, rfbm, prior=prior).after) == compacted


def test_many_saves_and_many_faults() -> None:
    good = [build_area(random_state(seed)) for seed in range(10)]
    for number in range(1000):
        area = good[number % 10]
        assert save("xsave64", area, 0b10, size=576)[160:416] == area[160:416]
    bad = with_bytes(INITIAL, 520, b"\x04")
    cases = [Case(bad if number % 2 else good[number % 10]) for number in range(600)]
    for number, result in enumerate(processor.restore_all(cases)):
        assert result.faulted == bool(number % 2)
        if not result.faulted:
            assert result.after[160:416] == good[number % 10][160:416]


def test_a_batch_survives_the_death_of_its_child(monkeypatch: pytest.MonkeyPatch) -> None:
    def let_it_die() -> AbstractContextManager[None]:  # called in the child only
        import resource

        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        return nullcontext()

    monkeypatch.setattr(processor, "_catching_faults", let_it_die)
    bad = Case(with_bytes(INITIAL, 520, b"\x04"))
    results = processor.restore_all([Case(INITIAL), bad, bad, Case(INITIAL)])
    assert [result.signal for result in results] == [0, signal.SIGSEGV, signal.SIGSEGV, 0]
    assert results[0].after == results[3].after != b""


def test_an_experiment_is_repeated_until_two_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = [b"a", b"b", b"a", b"a", *map(bytes, range(200))]
    monkeypatch.setattr(processor._Experiment, "_run_once", lambda _: outcomes.pop(0))
    save("xsave64", size=576)
    assert len(outcomes) == 200
    with pytest.raises(RuntimeError, match="agree"):
        save("xsave64", size=576)


def test_an_exception_in_the_child_ends_the_child_only(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        raise KeyError(os.getpid())

    monkeypatch.setattr(processor._Experiment, "run", fail)
    with pytest.raises(RuntimeError, match="child"):
        restore(INITIAL)
    told = capfd.readouterr().err
    assert "KeyError" in told
    assert str(os.getpid()) not in told.splitlines()[-1]


@pytest.mark.usefixtures("real")
def test_areas_that_fault_where_they_must_not_are_named() -> None:
    bad = with_bytes(INITIAL, 520, b"\x04")
    with pytest.raises(ValueError, match="cannot be loaded: signal 11, trap 13"):
        save("xsave64", bad, size=576)
    with pytest.raises(ValueError, match="prior area cannot be loaded"):
        restore(INITIAL, prior=bad)


def test_the_signal_handlers_of_the_process_come_back() -> None:
    def handler(number: int) -> int | None:
        action = processor._SigAction()
        assert processor._libc().sigaction(number, None, ctypes.byref(action)) == 0
        address: int | None = action.handler
        return address

    numbers = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL)
    before = [handler(number) for number in numbers]
    with processor._catching_faults():
        during = [handler(number) for number in numbers]
    assert [handler(number) for number in numbers] == before
    assert not set(during) & set(before)


def test_a_pkru_that_locks_the_process_out_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "layout", lambda _: {9: slice(576, 584)})
    area = INITIAL + b"\x02" + bytes(7)
    in_use = with_bytes(area, 512, (1 << 9).to_bytes(8, "little"))
    with pytest.raises(ValueError, match="PKRU at byte 576"):
        processor._refuse_lockout(in_use, ALL)
    processor._refuse_lockout(in_use, ALL & ~(1 << 9))
    processor._refuse_lockout(area, ALL)
    processor._refuse_lockout(with_bytes(in_use, 576, b"\xfc"), ALL)


def test_a_pkru_that_denies_other_keys_is_loaded_and_undone() -> None:
    if PKRU not in layout():
        pytest.skip("the processor or the operating system has no PKRU")
    area = build_area({PKRU: struct.pack("<Q", 0xFFFFFFFC)})
    for number in (0, 1):
        after = save("xsave64", area if number == 0 else INITIAL, size=standard_size())
        assert after[layout()[PKRU]] == struct.pack("<Q", 0 if number else 0xFFFFFFFC)
    with pytest.raises(ValueError, match="PKRU at byte"):
        restore(build_area({PKRU: struct.pack("<Q", 1)}))


def test_an_offset_stays_below_64() -> None:
    with pytest.raises(ValueError, match="offset"):
        restore(INITIAL, offset=64)


def test_amx_is_granted_only_where_it_is() -> None:
    script = "import processor; print(processor.request_amx())"
    told = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(processor.__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert told == "False" or (told == "True" and xcr0() >> 18 & 1)


@pytest.mark.usefixtures("anywhere")
@pytest.mark.parametrize(("system", "machine"), [("linux", "aarch64"), ("darwin", "x86_64")])
def test_another_machine_gets_a_reason(
    system: str, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    reason = processor.available.__wrapped__()
    assert reason is not None
    assert f"{system} on {machine}" in reason
