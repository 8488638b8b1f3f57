"""Live processes: every thread's registers, and the process as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cores
import processor
import pytest
from artefact_areas import host_areas, same_registers

import xsaveschema as xs
from xsaveschema import artefacts
from xsaveschema.artefacts import process
from xsaveschema.artefacts.ptrace import ptrace
from xsaveschema.errors import EvidenceError
from xsaveschema.identify.named import host_model

if why := processor.real():
    pytest.skip(why, allow_module_level=True)


def state(pid: int, name: str = "State") -> str:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return line.split()[1]
    raise AssertionError(name)


def wait_for(pid: int, value: str, name: str = "State") -> None:
    deadline = time.monotonic() + 10
    while state(pid, name) != value:
        assert time.monotonic() < deadline, state(pid, name)
        time.sleep(0.001)


@contextmanager
def running(program: str) -> Iterator[subprocess.Popen[str]]:
    """A Python program; it is killed in the end, and after 20 s whatever happens."""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        killer = threading.Timer(20, child.kill)
        killer.start()
        try:
            yield child
        finally:
            killer.cancel()
            child.kill()


@pytest.fixture
def sleeper() -> Iterator[int]:
    with subprocess.Popen(["sleep", "1000"]) as child:
        wait_for(child.pid, "S")
        yield child.pid
        child.kill()


def test_every_thread_has_what_it_loaded(tmp_path: Path) -> None:
    model, areas = host_areas(8)
    with cores.loaded(areas, tmp_path) as program:
        pid = program.process.pid
        for _ in range(2):  # the second time shows that the first did no harm
            seen = set()
            for found in artefacts.open(f"pid:{pid}"):
                index = program.threads.get(int(found.label.removeprefix("thread ")))
                assert found.layout_source == "this machine's CPUID leaf 0xD"
                assert (found.offset, found.notes) == (None, ())
                if index is not None:  # else it is the thread that announces the others
                    same_registers(found.area, model, areas[index])
                    seen.add(index)
            assert seen == set(range(8))
        assert state(pid, "TracerPid") == "0"


def test_a_sleeping_process_sleeps_on(sleeper: int) -> None:
    (found,) = artefacts.open(f"pid:{sleeper}")
    assert found.label == f"thread {sleeper}"
    wait_for(sleeper, "S")
    assert state(sleeper, "TracerPid") == "0"


def test_a_stopped_process_stays_stopped(sleeper: int) -> None:
    os.kill(sleeper, signal.SIGSTOP)
    wait_for(sleeper, "T")
    for _ in range(3):
        assert len(list(artefacts.open(f"pid:{sleeper}"))) == 1
        wait_for(sleeper, "T")  # it takes a moment to get from the tracer's stop to its own
    assert state(sleeper, "TracerPid") == "0"
    os.kill(sleeper, signal.SIGCONT)
    wait_for(sleeper, "S")


def test_no_signal_is_lost() -> None:
    """Queued signals arrive while the process is read again and again; each is delivered."""
    program = (
        "import os, signal, time\n"
        "read, write = os.pipe2(os.O_NONBLOCK)\n"
        "signal.set_wakeup_fd(write)\n"  # a byte each time that the handler in C runs
        "signal.signal(signal.SIGRTMIN, lambda *_: None)\n"
        "print('ready', flush=True)\n"
        "seen = b''\n"
        "while seen.count(signal.SIGRTMIN) < 100:\n"
        "    time.sleep(0.001)\n"
        "    try: seen += os.read(read, 4096)\n"
        "    except BlockingIOError: pass\n"
        "print('all', flush=True)\n"
        "time.sleep(100)\n"
    )
    with running(program) as child:
        assert child.stdout is not None
        child.stdout.readline()
        for _ in range(100):
            os.kill(child.pid, signal.SIGRTMIN)
            list(artefacts.open(f"pid:{child.pid}"))
        assert child.stdout.readline() == "all\n"


def test_a_signal_that_stops_the_thread_is_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal between seizing and interrupting: the thread stops for it, and gets it."""
    program = (
        "import signal, sys, time\n"
        "def handler(*_):\n"
        "    print('delivered', flush=True)\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGUSR1, handler)\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(100)\n"
    )
    with running(program) as child:
        assert child.stdout is not None
        child.stdout.readline()
        wait_for(child.pid, "S")

        def with_signal(request: int, thread: int, address: int, data: int) -> None:
            if request == process._INTERRUPT:
                os.kill(child.pid, signal.SIGUSR1)
                wait_for(child.pid, "t")
                return
            ptrace(request, thread, address, data)

        monkeypatch.setattr(process, "ptrace", with_signal)
        assert len(list(artefacts.open(f"pid:{child.pid}"))) == 1
        assert child.stdout.readline() == "delivered\n"
        assert child.wait(10) == 0


def test_a_thread_that_does_not_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent of a vfork is in uninterruptible sleep until its child is gone."""
    monkeypatch.setattr(process, "_SECONDS", 0.1)
    program = (
        "import ctypes, mmap\n"
        "code = mmap.mmap(-1, 4096, prot=7)\n"
        "code.write(bytes.fromhex('b83a0000000f05 85c0 7501 90 7506 b8220000000f05 c3'))\n"
        "ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()\n"
    )
    # vfork (58); the child waits in pause (34) and shares its parent's memory meanwhile.
    with running(program) as parent:
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        while not children.read_text():
            time.sleep(0.001)
        try:
            wait_for(parent.pid, "D")
            message = "does not stop within 0.1 s: its state is D, uninterruptible sleep"
            with pytest.raises(artefacts.ArtefactError, match=message):
                list(artefacts.open(f"pid:{parent.pid}"))
            wait_for(parent.pid, "0", "TracerPid")
        finally:
            for child in children.read_text().split():
                os.kill(int(child), signal.SIGKILL)


def test_an_ended_process() -> None:
    child = subprocess.Popen(["true"])
    wait_for(child.pid, "Z")
    with pytest.raises(artefacts.ArtefactError, match=f"process {child.pid} has ended"):
        list(artefacts.open(f"pid:{child.pid}"))
    assert child.wait() == 0  # how it ended was left for its parent
    with pytest.raises(artefacts.ArtefactError, match=f"there is no process {child.pid}"):
        list(artefacts.open(f"pid:{child.pid}"))


def test_one_that_is_traced_already(sleeper: int, tmp_path: Path) -> None:
    said = cores.gdb(
        f"shell {sys.executable} -c 'from xsaveschema import artefacts;"
        f'list(artefacts.open("pid:{sleeper}"))\'',
        folder=tmp_path,
        arguments=["-p", str(sleeper)],
    )
    assert f"thread {sleeper} cannot be traced: process " in said
    assert "traces it already" in said


def test_what_cannot_be_traced() -> None:
    for which in ("", "x", "0", "-1", "1x", "99999999999", "self "):
        with pytest.raises(artefacts.ArtefactError, match="is no process"):
            list(artefacts.open(f"pid:{which}"))
    if state(2, "Kthread") == "1":
        with pytest.raises(artefacts.ArtefactError, match="it is a thread of the kernel"):
            list(artefacts.open("pid:2"))


def test_another_users_process(sleeper: int) -> None:
    if os.geteuid():
        pytest.skip("only root can be somebody else")
    os.setresuid(65534, 65534, 0)
    try:
        with pytest.raises(artefacts.ArtefactError, match="no permission"):
            list(artefacts.open(f"pid:{sleeper}"))
    finally:
        os.setresuid(0, 0, 0)


def test_oneself() -> None:
    """XSAVE64 in this process: MXCSR is what LDMXCSR put there, the layout the processor's."""
    for which in ("self", str(os.getpid())):
        (found,) = artefacts.open(f"pid:{which}")
        assert found.area.registers["mxcsr"] & 0xFFC0 == 0x1F80
        assert found.area.model.xcr0 == processor.xgetbv(0)
        assert len(found.area) == processor.cpuid(0xD)[1]
        assert found.area.xcomp_bv == 0
    own = artefacts.process.own(artefacts.Options())
    assert own.label.startswith("thread ")


def test_this_machine_outranks_a_named_model(sleeper: int) -> None:
    host = host_model()
    other = "zen4" if host.vendor == "GenuineIntel" else "skylake-server"
    model = xs.load_model(other)
    with pytest.raises(EvidenceError, match=f"did not write this: .*{other}'s"):
        list(artefacts.open(f"pid:{sleeper}", model))
    (found,) = artefacts.open(f"pid:{sleeper}", model, assume=True)
    assert (found.layout_source, found.area.assumed) == (f"model {other}, assumed", True)
    (found,) = artefacts.open(f"pid:{sleeper}", xs.load_model(host.name))
    assert (found.layout_source, found.origin) == ("this machine's CPUID leaf 0xD", "host")


def test_without_cpuid_the_area_is_identified(
    sleeper: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(catalog: object) -> None:
        raise xs.XsaveError("executable memory is forbidden")

    monkeypatch.setattr(process, "host_model", forbidden)
    (found,) = artefacts.open(f"pid:{sleeper}")
    assert found.layout_source == "identified by XCR0 mask at byte 464 and size"
    assert found.notes == ("this machine's CPUID: executable memory is forbidden",)
