# SPDX-License-Identifier: MIT
"""What the commands of a debugger say and take: ``info xsave``, and a register's new value.

Python 3.6 runs this module, inside debuggers.
"""

import re
from textwrap import fill
from typing import Any, NamedTuple

from xsaveschema.area.lines import (
    INDENT,
    area_facts,
    component_lines,
    fact_lines,
    row_lines,
    text_of,
    value_lines,
)
from xsaveschema.area.rows import View, laned, register_rows, stem
from xsaveschema.debuggers.areas import Area, RefusedError
from xsaveschema.values import TYPES, encode, encode_float80, lane_size
from xsaveschema.words import plain

_USAGE = (
    "NAME is a register (zmm17, mxcsr) or a family (zmm); without any, the header and the "
    "registers of the components in use are shown. --as shows vectors and tiles in lanes of a "
    "type, --all initial state too. --model names the CPU that wrote the area where the file does "
    "not say. Types: {}."
)
USAGE = "[NAME...] [--as TYPE] [--all] [--model CPU]\n\n{}".format(
    fill(_USAGE.format(", ".join(TYPES)), 76)
)

_WHOLE = re.compile(r"0x[0-9a-f]{1,128}|[0-9]{1,150}", re.I)
_BYTES = re.compile(r"hex:((?:[0-9a-f]{2})+)", re.I)
_ST_SIZE = 10  # bytes of ST(i)


class Asked(NamedTuple):
    """The words of ``info xsave``."""

    names: "tuple[str, ...]"
    view: View
    model: str
    core: str


def asked(words: "list[str]", *more: str) -> Asked:
    """What the words of the command ask for; ``more`` are further options with a value.

    RefusedError where they make no sense.
    """
    names, everything, given = [], False, dict.fromkeys(("--as", "--model", *more), "")
    rest = iter(words)
    for word in rest:
        option, sign, value = word.partition("=")
        if option in given:
            given[option] = value if sign else next(rest, "")
            if not given[option]:
                raise RefusedError(f"{option} needs a value")
        elif word == "--all":
            everything = True
        elif word.startswith("-"):
            raise RefusedError(f"there is no option {plain(word)}: --all {' '.join(given)}")
        else:
            names += [name for name in word.split(",") if name]
    type = given["--as"]
    if type and type not in TYPES:
        raise RefusedError(f"there is no type {plain(type)!r}; types: {', '.join(TYPES)}")
    if type and names and not any(map(laned, names)):
        raise RefusedError(
            f"--as is for vectors and tiles, and {', '.join(map(plain, names))} is none"
        )
    return Asked(
        tuple(names), View(everything, type or None), given["--model"], given.get("--core", "")
    )


def shown(area: Area, title: str, wanted: Asked, width: int) -> str:
    """What ``info xsave`` prints."""
    lines: Any
    if wanted.names:
        names = [name for word in wanted.names for name in _family(area, word)]
        rows = register_rows(area, names, width - INDENT, wanted.view)
        lines = row_lines(rows, width)
    else:
        facts = {"layout": area.layout.source}
        facts.update(area_facts(area))
        if area.layout.notes:
            facts["notes"] = "; ".join(area.layout.notes)
        lines = [
            [(title, "bold")],
            *fact_lines(facts, width),
            [],
            *component_lines(area),
            *value_lines(area, area.restored(), width, wanted.view),
        ]
    return text_of(lines)


def reason(error: Exception) -> str:
    """What an error says, without what a terminal would obey."""
    return plain(getattr(error, "strerror", None) or str(error))


def _family(area: Area, word: str) -> "list[str]":
    """The register of this name; a family's name means all of it. RefusedError for any other."""
    if word in area.registers:
        return [word]
    return [name for name in area.registers if stem(name) == word] or [_known(area, word)]


def _known(area: Area, name: str) -> str:
    """The name itself; RefusedError where the area has no such register."""
    area.registers.plan(plain(name))
    return name


def lanes_of(area: Area, name: str, type: str) -> "tuple[bytes, str]":
    """A register's bytes, and the type of its lanes; ``type`` may be empty, or f80 for ST(i)."""
    _known(area, name)
    value, size = area.registers[name], area.registers.size(name)
    data = value if isinstance(value, bytes) else value.to_bytes(size, "little")
    if size == _ST_SIZE:
        if type not in ("", "f80"):
            raise RefusedError(f"{name} is one 80-bit floating-point number: it has no lanes")
        return data, "f80"
    if isinstance(value, bytes):
        lane_size(type or "u8", area.registers.shape(name)[1] or 1)
        return data, type or "u8"
    lane = lane_size(type or "hex", size)
    return data, type if type not in ("", "hex") else f"u{8 * lane}"


def set_register(area: Area, words: "list[str]") -> str:
    """Write what ``REGISTER [TYPE] VALUES`` say; the register's name. ValueError where they do not.

    As ``patch`` takes them: a number, a type and all lanes of it, or ``hex:`` and bytes in memory.
    """
    if len(words) < 2:
        raise RefusedError(
            "say a register, the type of its lanes, and all of them: zmm3 f32 1,2,..."
        )
    name, *rest = words
    data, type = lanes_of(area, name, "")
    whole, in_memory = _WHOLE.fullmatch(rest[-1]), _BYTES.fullmatch(rest[-1])
    if rest[0] in (*TYPES, "f80") and len(rest) > 1:
        lanes_of(area, name, rest[0])
        values = ",".join(",".join(rest[1:]).replace(",", " ").split())
        if rest[0] == "f80":
            new = encode_float80(values).to_bytes(_ST_SIZE, "little") if type == "f80" else b""
        else:
            new = encode(values, rest[0], len(data))
    elif len(rest) == 1 and in_memory:
        new = bytes.fromhex(in_memory.group(1))
    elif len(rest) == 1 and whole and name in area.registers and not name.startswith("tmm"):
        number = int(rest[0], 16 if rest[0][:2].lower() == "0x" else 10)
        if number >> 8 * len(data):
            raise RefusedError(f"{name} has {8 * len(data)} bits")
        new = number.to_bytes(len(data), "little")
    else:
        raise RefusedError(
            f"{plain(' '.join(rest))} is no value: 0x1fa0, f32 1.0,2.5,... or hex:00ff"
        )
    if len(new) != len(data):
        raise RefusedError(f"{name} has {len(data)} bytes here, not {len(new)}")
    area.registers.put(name, new)
    return name
