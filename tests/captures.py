"""Areas that a real Zen 4, Linux and the Bochs emulator wrote: tests/data/captures."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "data" / "captures"

Record = dict[str, Any]


@cache
def records(name: str) -> list[Record]:
    """The records of a capture (``zen4-saves``); masks stay hexadecimal text."""
    lines = gzip.decompress((FOLDER / f"{name}.jsonl.gz").read_bytes()).splitlines()
    return [json.loads(line) for line in lines]


@cache
def image(name: str) -> bytes:
    """The bytes that the records' offsets point into."""
    return gzip.decompress((FOLDER / f"{name}.bin.gz").read_bytes())


def cut(name: str, offset: int, length: int) -> bytes:
    """A record's bytes."""
    return image(name)[offset : offset + length]
