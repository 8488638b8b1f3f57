"""The processor's tests under QEMU's user emulator: CPUs without XSAVE, without XSAVEC, with all.

    python tests/emulated.py [CPU…]

runs this Python itself under ``qemu-x86_64 -cpu CPU`` (Debian: qemu-user), once for each. It shows
that code and tests cope with what such a CPU announces. An emulator is no judge of the rest: what
`processor.real()` guards is skipped, aloud. Exits with 1 where a test fails, or too few ran.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

LEAST = {"Nehalem": 30, "Haswell": 60, "max": 60}
"""CPUs, and how many tests must pass: a Nehalem has no XSAVE, and tells so."""
TESTS = (
    *(
        "laws/test_processor.py",
        "laws/test_processor_harness.py",
        "qemu/test_qemu_processor.py",
        "laws/test_ptrace.py",
    ),
    "test_restore.py::test_the_machines_own_xrstor_on_generated_cases",
    "test_restore.py::test_the_processor_refuses_illegal_areas",
    "cpuid/test_host.py::test_host_is_what_the_kernel_says",
    "cpuid/test_host.py::test_host_can_be_written_and_read",
    "cpuid/test_host.py::test_xgetbv_is_within_the_mask",
    "cpuid/test_host.py::test_device_gives_what_the_instruction_gives",
    "cpuid/test_host.py::test_other_machines",
    "cli/test_cli_new.py::test_this_very_machine",
    "test_convert.py",
)
HERE = Path(__file__).parent


def main(cpus: list[str]) -> int:
    emulator = shutil.which("qemu-x86_64")
    if emulator is None:
        print("there is no qemu-x86_64: install qemu-user", file=sys.stderr)
        return 1
    runs = {cpu: start(emulator, cpu) for cpu in cpus or LEAST}
    return max([judge(cpu, run) for cpu, run in runs.items()])


def start(emulator: str, cpu: str) -> subprocess.Popen[str]:
    # One process: xdist's workers would be this Python without the emulator.
    command = [emulator, "-cpu", cpu, sys.executable, "-m", "pytest", "-q", "-p", "no:xdist"]
    command += ["-p", "no:cacheprovider", *(str(HERE / name) for name in TESTS)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=HERE.parent, stdout=pipe, stderr=pipe, text=True)


def judge(cpu: str, run: subprocess.Popen[str]) -> int:
    """Tell what a run printed: 0 if it passed and did something."""
    report, errors = run.communicate()
    print(f"--- {cpu}\n{report}", flush=True)
    passed = re.search(r"(\d+) passed", report.strip().rpartition("\n")[2])
    count = int(passed[1]) if passed else 0
    if run.returncode == 0 and count >= LEAST.get(cpu, 1):
        return 0
    print(f"{errors}{cpu}: exit code {run.returncode}, {count} tests passed", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
