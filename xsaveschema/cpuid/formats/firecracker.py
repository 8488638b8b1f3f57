# SPDX-License-Identifier: MIT
"""The JSON of Firecracker: fingerprints and CPU templates, registers as strings of bits.

Rows stand in ``cpuid_modifiers``, below ``guest_cpu_config`` in a fingerprint. A template that
leaves bits open (``x``) says nothing about a CPU and is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from xsaveschema.cpuid.gather import Processor, records
from xsaveschema.cpuid.record import CpuidRecord
from xsaveschema.errors import CpuidDumpError

NAME: Final = "Firecracker JSON"

_LEAF = re.compile(r"0x[0-9a-f]{1,8}", re.IGNORECASE)
_BITS = re.compile(r"0b[01]{32}")
_MAX_LENGTH: Final = 2 << 20  # a fingerprint has 50 KB, and JSON swells in memory
_REGISTERS = ("eax", "ebx", "ecx", "edx")


def recognises(head: str) -> bool:
    """Whether a text that begins like this is of the format."""
    return head.lstrip().startswith("{") and '"cpuid_modifiers"' in head


def read(text: str, source: str) -> Iterator[CpuidRecord]:
    """Yield the one record of the file; CpuidDumpError."""
    import json

    if len(text) > _MAX_LENGTH:
        raise CpuidDumpError(f"more than {_MAX_LENGTH} characters of JSON", source)
    try:
        document = json.loads(text, object_pairs_hook=_without_duplicates)
    except json.JSONDecodeError as error:
        raise CpuidDumpError(f"damaged JSON: {error.msg}", source, error.lineno) from None
    except (ValueError, RecursionError) as error:
        raise CpuidDumpError(f"damaged JSON: {error}", source) from None
    try:
        processor = _processor(document, source)
    except _DamagedError as error:
        raise CpuidDumpError(str(error), source) from None
    return records([processor], source, NAME)


class _DamagedError(Exception):
    """What is wrong in the document, with the path to it."""


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _processor(document: dict[str, Any], source: str) -> Processor:
    config = document.get("guest_cpu_config", document)
    rows = _member(config, "cpuid_modifiers", list, "guest_cpu_config")
    processor = Processor(source)
    for index, row in enumerate(rows):
        path = f"cpuid_modifiers[{index}]"
        leaf, sub_leaf = (_number(row, name, _LEAF, 16, path) for name in ("leaf", "subleaf"))
        registers: dict[str, int] = {}
        for each in _member(row, "modifiers", list, path):
            name = _member(each, "register", str, path)
            if name in registers:
                raise _DamagedError(f"{path}: {name[:40]} is given twice")
            registers[name] = _number(each, "bitmap", _BITS, 2, path)
        if set(registers) != set(_REGISTERS):
            raise _DamagedError(f"{path}: not the registers {', '.join(_REGISTERS)}")
        eax, ebx, ecx, edx = (registers[name] for name in _REGISTERS)
        processor.add(leaf, sub_leaf, (eax, ebx, ecx, edx), None)
    return processor


def _member(value: object, name: str, kind: type[Any], path: str) -> Any:
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, kind):
        raise _DamagedError(f"{path}: no {name}")
    return found


def _number(value: object, name: str, pattern: re.Pattern[str], base: int, path: str) -> int:
    text: str = _member(value, name, str, path)
    if not pattern.fullmatch(text):
        raise _DamagedError(f"{path}: {name} {text[:40]!r} is no number")
    return int(text, base)
