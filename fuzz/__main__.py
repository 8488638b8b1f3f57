"""``python -m fuzz [ENTRY …] [--seconds N]``: fuzz, guided by coverage where atheris is installed.

Without atheris, good input is mutated at random. Prints the executions of each entry; the input
of a crash is written to the working folder and the exit code is 1.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

_NUMBERS = (
    0,
    1,
    8,
    63,
    64,
    512,
    576,
    4096,
    1 << 20,
    1 << 31,
    (1 << 32) - 1,
    1 << 40,
    (1 << 64) - 1,
)


def main() -> int:
    """Run the entries, one after the other."""
    if "--guided" in sys.argv:
        return _guided(sys.argv[sys.argv.index("--guided") + 1], sys.argv[-1])
    from fuzz.entries import ENTRIES

    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("entries", nargs="*", metavar="ENTRY", help=", ".join(ENTRIES))
    parser.add_argument("--seconds", type=float, default=10, help="for each entry (10)")
    parser.add_argument("--plain", action="store_true", help="mutate at random, without atheris")
    parser.add_argument(
        "--coverage", action="store_true", help="say how much of each module ran; with --plain"
    )
    options = parser.parse_args()
    measured = _measured() if options.coverage else None
    unknown = sorted(set(options.entries) - set(ENTRIES))
    if unknown:
        parser.error(f"no entry {', '.join(unknown)}: {', '.join(ENTRIES)}")
    failed = 0
    for name in options.entries or ENTRIES:
        if not options.plain and _has_atheris():
            # A process each: libFuzzer ends the one it runs in.
            command = [sys.executable, "-m", "fuzz", "--guided", name, str(int(options.seconds))]
            failed |= subprocess.run(command, check=False).returncode
        else:
            failed |= _plain(name, options.seconds)
    if measured is not None:
        measured()
    return min(failed, 1)


def _measured() -> Callable[[], None]:
    """Count the lines of the package that run from here on; gives what prints the result."""
    from coverage import Coverage

    counter = Coverage(source=["xsaveschema"], branch=False, data_file=None)
    counter.start()

    def report() -> None:
        counter.stop()
        counter.report(file=sys.stdout, skip_empty=True, ignore_errors=True)

    return report


def _has_atheris() -> bool:
    from importlib.util import find_spec

    return find_spec("atheris") is not None


def _guided(name: str, seconds: str) -> int:
    import atheris

    with atheris.instrument_imports(include=["xsaveschema"]):
        from fuzz.entries import ENTRIES, seeds

        ENTRIES[name](b"")
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds(name)):
            Path(corpus, str(number)).write_bytes(seed)
        arguments = [name, corpus, f"-max_total_time={seconds}", "-max_len=16384"]
        arguments += ["-timeout=20", "-rss_limit_mb=4096", f"-artifact_prefix={Path.cwd()}/crash-"]
        atheris.Setup([*arguments, "-print_final_stats=1", "-verbosity=0"], ENTRIES[name])
        print(f"{name}: guided by coverage, {seconds} s", flush=True)
        atheris.Fuzz()
    return 0


def _plain(name: str, seconds: float) -> int:
    from fuzz.entries import ENTRIES, seeds

    entry = ENTRIES[name]
    rng = random.Random(name)
    good = seeds(name)
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        data = _mutated(rng, rng.choice(good))
        count += 1
        try:
            entry(data)
        except BaseException:
            path = Path(f"crash-{name}-{count}")
            path.write_bytes(data)
            print(f"{name}: crashed after {count} executions, input in {path}", file=sys.stderr)
            raise
    print(f"{name}: {count} executions at random, no crash", flush=True)
    return 0


def _mutated(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(1 << rng.randrange(5)):
        kind = rng.randrange(6)
        at = (
            rng.randrange(len(changed) + 1)
            if rng.random() < 0.5
            else rng.randrange(min(512, len(changed)), min(577, len(changed) + 1))
        )
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(changed):
            changed[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            del changed[at : at + rng.choice((1, 4, 64, 1024))]
        elif kind == 5:  # a number that lies: a size, an offset or a count, in either byte order
            size = rng.choice((2, 4, 8))
            at -= at % min(size, 4)
            lie = rng.choice(_NUMBERS) & (1 << 8 * size) - 1
            if at + size <= len(changed):
                changed[at : at + size] = lie.to_bytes(size, rng.choice(("little", "big")))
        elif kind == 3:
            changed[at:at] = rng.randbytes(rng.choice((1, 4, 64)))
        else:
            start = rng.randrange(len(changed) + 1)
            changed[at:at] = changed[start : start + rng.choice((8, 64, 256))]
        if not changed:
            break
    return bytes(changed)


if __name__ == "__main__":
    sys.exit(main())
