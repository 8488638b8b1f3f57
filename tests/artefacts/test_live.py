"""Registers of live threads: the program sees what was written, and all else goes on as it was."""

from __future__ import annotations

import errno
import os
import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

import cores
import processor
import ptrace_judge
import pytest
from artefact_areas import host_areas, same_registers
from command import fails, run, tell

import xsaveschema as xs
from xsaveschema import artefacts
from xsaveschema.artefacts import live, process
from xsaveschema.artefacts.ptrace import set_regset
from xsaveschema.diff import X87_POINTERS, diff
from xsaveschema.errors import EvidenceError, UnknownComponentError, XsaveError

if why := processor.real():
    pytest.skip(why, allow_module_level=True)

MODEL, AREAS = host_areas(4)
WIDE = next(name for name in ("zmm17", "ymm5", "xmm5") if name in xs.XsaveArea.new(MODEL).registers)


def seen(program: cores.Loaded, index: int) -> xs.XsaveArea:
    return xs.XsaveArea.parse(program.sees(index), MODEL)


def thread_of(program: cores.Loaded, index: int) -> int:
    return next(thread for thread, each in program.threads.items() if each == index)


def status(thread: int, name: str) -> str:
    text = Path(f"/proc/{thread}/status").read_text()
    return next(line.split()[1] for line in text.splitlines() if line.startswith(f"{name}:"))


def wait_for(thread: int, states: str) -> None:
    deadline = time.monotonic() + 10
    while status(thread, "State") not in states:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def values(registers: list[str], rng: random.Random) -> dict[str, int]:
    sizes = xs.XsaveArea.new(MODEL).registers
    return {name: rng.getrandbits(8 * sizes.size(name)) for name in registers}


def test_the_program_sees_it_and_no_other_thread_does(tmp_path: Path) -> None:
    """x87, MXCSR and whole vectors, by what the program itself saves with XSAVE64."""
    wanted: dict[str, int | bytes | str] = {
        **values([WIDE, "xmm3", "st2"], random.Random(1)),
        "mxcsr": 0x3F80,
        "fcw": 0x77F,
        "ftw": 0xFF,
    }
    if "k1" in xs.XsaveArea.new(MODEL).registers:
        wanted["k1"] = 0x1234_5678_9ABC_DEF0
    with cores.loaded(AREAS, tmp_path, watch=True) as program:
        target = thread_of(program, 2)
        before = seen(program, 2)
        done = artefacts.patch(f"pid:{program.process.pid}", None, wanted, str(target))
        assert (str(done.path), done.what) == (
            f"pid:{program.process.pid}",
            f"thread {target}",
        )
        assert done.layout_source == "this machine's CPUID leaf 0xD"
        assert done.before is not None
        assert done.after is not None
        now = seen(program, 2)
        assert now.registers.read(wanted) == wanted
        # The rest of the thread's state is what it was, and so are the other threads.
        expected = xs.XsaveArea.parse(bytearray(bytes(before)), MODEL)
        for name, value in wanted.items():
            assert isinstance(value, int)
            expected.registers[name] = value
        assert diff(expected, now, ignore=X87_POINTERS) == []
        changed = {delta.path for delta in done.deltas if delta.kind == "state"}
        assert changed == {d.path for d in diff(before, now, ignore=X87_POINTERS)}
        for index in (0, 1, 3):
            same_registers(seen(program, index), MODEL, AREAS[index])
        # What ptrace reads is what was written.
        (found,) = (
            each for each in artefacts.open(f"pid:{program.process.pid}") if each.label == done.what
        )
        assert bytes(found.area) == bytes(done.after)
        assert status(target, "TracerPid") == "0"


def test_two_hundred_patches_of_fifty_threads(tmp_path: Path) -> None:
    model, areas = host_areas(50)
    rng = random.Random(7)
    held = [xs.XsaveArea.parse(bytearray(area), model) for area in areas]
    with cores.loaded(areas, tmp_path, watch=True) as program:
        for _ in range(200):
            index = rng.randrange(50)
            wanted = values([WIDE, "xmm0", "st0"], rng)
            artefacts.patch(
                f"pid:{program.process.pid}", None, wanted, str(thread_of(program, index))
            )
            for name, value in wanted.items():
                held[index].registers[name] = value
        for index, area in enumerate(held):
            saved = xs.XsaveArea.parse(program.sees(index), model)
            assert diff(area, saved, ignore=X87_POINTERS) == []


def test_which_thread(tmp_path: Path) -> None:
    with cores.loaded(AREAS, tmp_path, watch=True) as program:
        pid = program.process.pid
        with pytest.raises(XsaveError, match=r"holds more than one area .*choose one"):
            artefacts.patch(f"pid:{pid}", registers={"xmm0": 1})
        with pytest.raises(XsaveError, match="has no area '#99'; it has thread"):
            artefacts.patch(f"pid:{pid}", registers={"xmm0": 1}, area="#99")
        with pytest.raises(XsaveError, match="holds more than one area"):
            artefacts.patch(f"pid:{pid}", registers={"xmm0": 1}, area="thread *")
        # By the index that `areas` gives it, and by its own number.
        listed = {found.label: found.index for found in artefacts.open(f"pid:{pid}")}
        one, two = thread_of(program, 1), thread_of(program, 2)
        index = listed[f"thread {one}"]
        assert artefacts.patch(f"pid:{pid}", None, {"xmm0": 11}, f"#{index}").what.endswith(
            str(one)
        )
        assert artefacts.patch(f"pid:{two}", None, {"xmm0": 22}).what == f"thread {two}"
        assert [seen(program, each).registers["xmm0"] for each in (1, 2)] == [11, 22]
        same_registers(seen(program, 0), MODEL, AREAS[0])


@pytest.mark.parametrize(
    ("registers", "error", "said"),
    [
        ({"mxcsr": 1 << 31}, artefacts.ArtefactError, r"outside MXCSR_MASK .*\[linux-mxcsr\]"),
        ({"sse.mxcsr_mask": 1}, artefacts.ArtefactError, "no processor loads sse.mxcsr_mask"),
        ({"xmm0": 1, "k9": 5}, UnknownComponentError, "no register 'k9'"),
        ({"xmm0": 1, "xmm1": "f32:1"}, XsaveError, "xmm1: takes 4 lanes of f32"),
        ({"bnd0": 1}, XsaveError, "bnd0"),
        ({"lwp.data": 1}, XsaveError, "lwp"),
    ],
)
def test_what_is_refused_changes_nothing(
    registers: dict[str, int | bytes | str],
    error: type[XsaveError],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(thread: int, area: bytes) -> NoReturn:
        raise AssertionError("nothing may be written")

    monkeypatch.setattr(live, "set_regset", never)
    if "bnd0" in registers and processor.xgetbv(0) & 0x18:
        pytest.skip("this machine has MPX")
    with cores.loaded(AREAS[:1], tmp_path, watch=True) as program:
        target = f"pid:{thread_of(program, 0)}"
        with pytest.raises(error, match=said):
            artefacts.patch(target, None, registers, str(thread_of(program, 0)))
        same_registers(seen(program, 0), MODEL, AREAS[0])
        assert status(thread_of(program, 0), "TracerPid") == "0"


def test_what_the_processor_would_not_hold_is_refused(tmp_path: Path) -> None:
    """Intel's x87 reads bit 6 of FCW as 1; what a processor keeps of any FCW, it takes."""
    area = bytearray(processor.INITIAL.ljust(processor.cpuid(0xD)[1], b"\0"))
    area[512] |= 1
    kept = {}
    for fcw in (5, 0x45, 0x37F, 0xFFFF):
        area[0:2] = struct.pack("<H", fcw)
        kept[fcw] = int.from_bytes(processor.restore(bytes(area)).after[:2], "little")
    with cores.loaded(AREAS[:1], tmp_path, watch=True) as program:
        target = f"pid:{thread_of(program, 0)}"
        only = str(thread_of(program, 0))
        for fcw, held in kept.items():
            if MODEL.vendor == "GenuineIntel" and fcw != held:
                with pytest.raises(artefacts.ArtefactError, match=f"x87.fcw = {held:#x} in place"):
                    artefacts.patch(target, None, {"fcw": fcw}, only)
            elif fcw == held:
                artefacts.patch(target, None, {"fcw": fcw}, only)
                assert seen(program, 0)["x87"]["fcw"] == fcw


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    other = xs.load_model("zen4" if MODEL.vendor == "GenuineIntel" else "skylake-server")
    with cores.loaded(AREAS[:1], tmp_path, watch=True) as program:
        target, only = f"pid:{program.process.pid}", str(thread_of(program, 0))
        with pytest.raises(EvidenceError, match="did not write this"):
            artefacts.patch(target, None, {"xmm0": 1}, only, model=other)
        with pytest.raises(artefacts.ArtefactError, match="the kernel goes by this machine's"):
            artefacts.patch(target, None, {"xmm0": 1}, only, model=other, assume=True)
        with pytest.raises(artefacts.ArtefactError, match="name no output"):
            artefacts.patch(target, tmp_path / "out", {"xmm0": 1}, only)
        with pytest.raises(artefacts.ArtefactError, match="name no output"):
            artefacts.patch(target, None, {"xmm0": 1}, only, in_place=True)
    for which in ("self", str(os.getpid())):
        with pytest.raises(artefacts.ArtefactError, match="its own registers"):
            artefacts.patch(f"pid:{which}", registers={"xmm0": 1})
    with pytest.raises(artefacts.ArtefactError, match="has no notes"):
        artefacts.add_layout(target, tmp_path / "out")


def test_what_the_kernel_does_not_take_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bytes] = []

    def lossy(thread: int, area: bytes) -> None:
        calls.append(area)
        first = len(calls) == 1
        set_regset(thread, area[:160] + bytes(16) + area[176:] if first else area)

    monkeypatch.setattr(live, "set_regset", lossy)
    with cores.loaded(AREAS[:1], tmp_path, watch=True) as program:
        only = str(thread_of(program, 0))
        said = r"has not taken all that was written \(sse.xmm\[0\]\); the old state is back"
        with pytest.raises(artefacts.ArtefactError, match=said):
            artefacts.patch(f"pid:{program.process.pid}", None, {"xmm0": 5, "xmm1": 6}, only)
        assert len(calls) == 2
        same_registers(seen(program, 0), MODEL, AREAS[0])

        def refused(thread: int, area: bytes) -> NoReturn:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

        monkeypatch.setattr(live, "set_regset", refused)
        with pytest.raises(artefacts.ArtefactError, match="refuses this: Invalid argument; noth"):
            artefacts.patch(f"pid:{program.process.pid}", None, {"xmm0": 5}, only)
        same_registers(seen(program, 0), MODEL, AREAS[0])


def test_tiles_are_for_threads_that_use_them(tmp_path: Path) -> None:
    if not processor.xgetbv(0) >> 18 & 1:
        pytest.skip("this machine has no AMX")
    with cores.loaded(AREAS[:1], tmp_path, watch=True) as program:
        only = str(thread_of(program, 0))
        registers: dict[str, int | bytes | str] = {"tmm0": bytes(1024)}
        with pytest.raises(artefacts.ArtefactError, match="has permission for it"):
            artefacts.patch(f"pid:{program.process.pid}", None, registers, only)
        same_registers(seen(program, 0), MODEL, AREAS[0])


def test_a_stopped_job_stays_stopped(tmp_path: Path) -> None:
    with cores.loaded(AREAS[:1], tmp_path, watch=True) as program:
        pid, only = program.process.pid, str(thread_of(program, 0))
        os.kill(pid, signal.SIGSTOP)
        wait_for(pid, "T")
        for value in (3, 4):
            artefacts.patch(f"pid:{pid}", None, {"xmm0": value}, only)
            wait_for(pid, "T")
        assert status(pid, "TracerPid") == "0"
        os.kill(pid, signal.SIGCONT)
        assert seen(program, 0).registers["xmm0"] == 4


def test_a_thread_that_another_traces() -> None:
    with ptrace_judge.Tracee() as child:
        before = child.get()
        # By another process, as this one is the tracer.
        done = subprocess.run(
            [sys.executable, "-m", "xsaveschema", "patch", f"pid:{child.pid}", "xmm0=1"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert f"process {os.getpid()} traces it already" in done.stderr
        assert child.get() == before


def test_a_stop_that_another_thread_has_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "waitid", lambda *_: None)
    monkeypatch.setattr(process, "_SECONDS", 0.1)
    child = subprocess.Popen(["sleep", "60"])
    try:
        with pytest.raises(artefacts.ArtefactError, match="t, a stop that another thread of this"):
            artefacts.patch(f"pid:{child.pid}", registers={"xmm0": 1})
    finally:
        child.kill()
        child.wait()


def test_processes_that_are_gone() -> None:
    child = subprocess.Popen(["true"])
    wait_for(child.pid, "Z")
    with pytest.raises(artefacts.ArtefactError, match=f"process {child.pid} has ended"):
        artefacts.patch(f"pid:{child.pid}", registers={"xmm0": 1})
    child.wait()
    with pytest.raises(artefacts.ArtefactError, match=f"there is no process {child.pid}"):
        artefacts.patch(f"pid:{child.pid}", registers={"xmm0": 1})


# Loops until XMM0 begins with 0x12345678, then exits with 7, by the system calls of i386.
COMPAT = bytes.fromhex("660f7ec0 3d78563412 75f5 bb07000000 b801000000 cd80")


def test_a_32_bit_program(tmp_path: Path) -> None:
    path = tmp_path / "compat"
    head = struct.pack("<16sHHI", b"\x7fELF\1\1\1", 2, 3, 1)
    head += struct.pack("<IIIIHHHHHH", 0x8048054, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    size = 84 + len(COMPAT)
    head += struct.pack("<8I", 1, 0, 0x8048000, 0x8048000, size, size, 5, 4096)
    path.write_bytes(head + COMPAT)
    path.chmod(0o755)
    try:
        child = subprocess.Popen([path])
    except OSError as error:
        pytest.skip(f"this kernel runs no 32-bit programs: {error.strerror}")
    try:
        with pytest.raises(artefacts.ArtefactError, match="linux-mxcsr"):
            artefacts.patch(f"pid:{child.pid}", registers={"mxcsr": 1 << 31})
        assert child.poll() is None
        artefacts.patch(f"pid:{child.pid}", registers={"xmm0": 0x12345678, "xmm9": 1})
        assert child.wait(10) == 7
    finally:
        child.kill()
        child.wait()


# Runs the command line over and over in a fork of itself, which it kills at a random moment.
KILLER = """
import os, random, signal, sys, time
from xsaveschema.cli.program import program
pid, threads, rng = sys.argv[1], sys.argv[2].split(","), random.Random(5)
first = ["patch", "pid:" + pid, "--area", threads[0], "xmm1=0", "xmm2=0"]
program.main(first, standalone_mode=False)  # has imported all
for turn in range(30):
    # Python forgets the signals that come to a child before it has begun.
    begun, begins = os.pipe()
    child = os.fork()
    if not child:
        os.write(begins, b"!")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        value = turn << 32
        while True:
            value += 1
            args = ["--area", rng.choice(threads), f"xmm1={value}", f"xmm2={value}"]
            try:
                program.main(["patch", "pid:" + pid, *args])
            except SystemExit as done:
                if done.code:
                    os._exit(done.code)
    os.read(begun, 1)
    os.close(begun)
    os.close(begins)
    time.sleep(rng.uniform(0.02, 0.06))
    number = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)[turn % 3]
    os.kill(child, number)
    gone = status = 0
    for _ in range(200):
        gone, status = os.waitpid(child, os.WNOHANG)
        if gone:
            break
        time.sleep(0.05)
    else:
        os.kill(child, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(status) if gone else "lives on", flush=True)
    sys.stdin.readline()
"""


def test_the_tool_is_killed_and_the_program_goes_on(tmp_path: Path) -> None:
    """Thirty times, by SIGINT, SIGTERM and SIGKILL: each patch is there whole, or not at all."""
    with cores.loaded(AREAS, tmp_path, watch=True) as program:
        threads = list(program.threads)
        for index in range(4):
            registers: dict[str, int | bytes | str] = {"xmm1": 0, "xmm2": 0}
            artefacts.patch(
                f"pid:{program.process.pid}", None, registers, str(thread_of(program, index))
            )
        arguments = [str(program.process.pid), ",".join(map(str, threads))]
        with subprocess.Popen(
            [sys.executable, "-c", KILLER, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as killer:
            assert killer.stdin is not None
            assert killer.stdout is not None
            highest = 0
            for turn in range(30):
                line = killer.stdout.readline()
                code = int(line) if line.strip("-\n").isdecimal() else None
                assert code in ((130, 1, -2), (143, -15), (-9,))[turn % 3], line
                for index in range(4):
                    assert status(thread_of(program, index), "TracerPid") == "0"
                    registers_now = seen(program, index).registers
                    assert registers_now["xmm1"] == registers_now["xmm2"]
                    highest = max(highest, registers_now["xmm1"])
                killer.stdin.write("\n")
                killer.stdin.flush()
            assert highest >> 32 > 20, "hardly any patch was made"


# The command line.


def test_the_command(tmp_path: Path) -> None:
    with cores.loaded(AREAS[:1], tmp_path, watch=True) as program:
        pid, only = program.process.pid, str(thread_of(program, 0))
        args = ["patch", f"pid:{pid}", "--area", only]
        run(*args, "mxcsr=0x1f80", "xmm1=f32:1,2,3,4")
        shown = run(*args, "mxcsr=0x3f80")
        assert shown.stdout == "mxcsr: 0x1f80 -> 0x3f80 (rc 0 -> 1)\n"
        assert shown.stderr == (
            f"pid:{pid}: thread {only} patched (this machine's CPUID leaf 0xD)\n"
        )
        again = run(*args, "mxcsr=0x3f80")
        assert again.stdout == ""
        assert "nothing differs from what was there" in again.stderr
        told = tell(*args, "mxcsr=0x1f80")
        assert (told["file"], told["area"], told["notes"]) == (f"pid:{pid}", f"thread {only}", [])
        (delta,) = told["deltas"]
        assert (delta["path"], delta["a"], delta["b"]) == ("sse.mxcsr", "0x3f80", "0x1f80")
        assert seen(program, 0).registers.lanes("xmm1", "f32") == (1.0, 2.0, 3.0, 4.0)
        for more in (["-o", str(tmp_path / "out")], ["--in-place"]):
            assert "written to where it is" in fails(*args, "mxcsr=0", *more, code=2)
        said = fails(*args, "mxcsr=0x80001f80")
        assert said.startswith(f"pid:{pid}: thread {only}: the kernel refuses this: MXCSR ")
        assert said.endswith("[linux-mxcsr]; nothing was written\n")


def test_an_interruption_behind_the_write_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = process.while_stopped

    def interrupted(*arguments: object) -> NoReturn:
        whole(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(live, "while_stopped", interrupted)
    with cores.loaded(AREAS[:1], tmp_path, watch=True) as program:
        only = str(thread_of(program, 0))
        result = run("patch", f"pid:{program.process.pid}", "--area", only, "xmm1=5", code=130)
        assert f"note: thread {only}: the registers were written all the same" in result.stderr
        assert seen(program, 0).registers["xmm1"] == 5
