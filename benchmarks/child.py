"""Runs a command and prints the seconds it took and the MiB it had at most.

    python child.py COMMAND ...

It stands between the benchmarks and what they measure because Linux counts a parent's memory as
its child's peak: so the parent has to be small.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

if __name__ == "__main__":
    start = time.perf_counter()
    done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=False)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    # Linux counts KiB, macOS bytes.
    print(seconds, peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))
    sys.exit(done.returncode)
