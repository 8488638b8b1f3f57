"""The peak of a process's memory, as Linux tells the process itself."""

from __future__ import annotations

import re
from pathlib import Path


def peak() -> int:
    """KiB that this process had at most since it was started.

    Not ru_maxrss: that counts what its parent had, and pytest has much.
    """
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])
