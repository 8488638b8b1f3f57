# SPDX-License-Identifier: MIT
"""Values as people read and write them: lanes, tiles, named bits, 80-bit floating point.

This module stands alone: it needs nothing but the standard library of Python 3.6, because the
interpreters inside debuggers run it, too. Whatever it refuses is a ValueError.

Bytes stand in memory order; lane 0 is the lowest bytes. Numbers are read and written exactly: a
NaN keeps its sign and its payload, text is rounded once, to nearest even, and a floating-point
number is written as the shortest text that reads back to the same bits.
"""

import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from operator import index
from typing import TypeVar

_T = TypeVar("_T")

_NAMES = ("f16", "bf16", "f32", "f64", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64")
_CODES = dict(zip(_NAMES, "eHfdbhiqBHIQ"))  # bf16 has none: it is read as the upper half of f32
TYPES = (*_NAMES, "hex")
"""The types of lanes. ``hex`` is unsigned numbers of 8 bytes, or of the 4, 2 or 1 that divide."""

_FLOATS = {"f16": (5, 10), "bf16": (8, 7), "f32": (8, 23), "f64": (11, 52), "f80": (15, 63)}
"""Bits of the exponent and of the fraction. f80 is no type of lanes."""
_NUMBER = re.compile(r"([+-]?)([0-9]{0,800})(?:\.([0-9]{0,800}))?(?:e([+-]?[0-9]{1,6}))?", re.I)
_INTEGER = re.compile(r"[+-]?(?:0x[0-9a-f]{1,40}|[0-9]{1,40})", re.I)
_NAN = re.compile(r"([+-]?)nan(?:\((0x[0-9a-f]{1,16})\))?", re.I)
_INF = re.compile(r"([+-]?)inf(?:inity)?", re.I)
_BYTES_PER_LANE_OF_HEX = (8, 4, 2, 1)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


# Lanes


def lane_size(type: str, size: int) -> int:
    """The bytes of a lane where ``size`` bytes are seen in lanes of ``type``."""
    if type == "hex":
        return next(lane for lane in _BYTES_PER_LANE_OF_HEX if not size % lane)
    if type not in _CODES:
        raise ValueError("there is no type {!r}; types: {}".format(type, ", ".join(TYPES)))
    lane = struct.calcsize("<" + _CODES[type])
    if size % lane:
        raise ValueError(f"lanes of {type} have {lane} bytes, which do not divide {size}")
    return lane


def decode(data: bytes, type: str) -> "tuple[int | float, ...]":
    """The lanes of bytes, lowest first."""
    whole = _numbers(data, type)
    if type not in _FLOATS:
        return whole
    if type == "bf16":
        data = struct.pack(f"<{len(whole)}I", *(bits << 16 for bits in whole))
    code = "f" if type == "bf16" else _CODES[type]
    found = struct.unpack(f"<{len(whole)}{code}", data)
    if any(value != value for value in found):  # struct may make a signalling NaN quiet
        found = tuple(
            _nan(bits, type) if value != value else value for bits, value in zip(whole, found)
        )
    return found


def _numbers(data: bytes, type: str) -> "tuple[int, ...]":
    """The lanes as integers: of floating-point types the bits as they stand."""
    size = lane_size(type, len(data))
    code = _CODES[type] if type[:1] == "i" else {1: "B", 2: "H", 4: "I", 8: "Q"}[size]
    return struct.unpack(f"<{len(data) // size}{code}", data)


def encode(values: object, type: str, size: int, lane: int = 0) -> bytes:
    """The ``size`` bytes of lanes: numbers or texts, or one text with commas between them.

    ``lane`` has the bytes of a lane of hex where a tile's row, not ``size``, decides.
    """
    lane = lane or lane_size(type, size)
    if isinstance(values, str):
        values = values.split(",")
    try:
        items = list(values)  # type: ignore[call-overload]
    except TypeError:
        raise ValueError(f"lanes are a sequence of numbers, not {_shown(values)}") from None
    if len(items) != size // lane:
        count = size // lane
        lanes = "1 lane" if count == 1 else f"{count} lanes"
        raise ValueError(f"takes {lanes} of {type}, not {len(items)}")
    if type in _FLOATS:
        whole = [_float_bits(item, type) for item in items]
    else:
        whole = [_whole(item, type, lane) for item in items]
    return b"".join(number.to_bytes(lane, "little", signed=number < 0) for number in whole)


def _whole(value: object, type: str, size: int) -> int:
    number = None
    if isinstance(value, str):
        text = value.strip()
        if type == "hex" and "x" not in text.lower():
            # Without it a digit too few in hex:00ff, bytes in memory, would be a decimal number.
            raise ValueError(f"hex takes 0x and digits, or whole bytes, not {_shown(value)}")
        if _INTEGER.fullmatch(text):
            number = int(text, 16 if "x" in text.lower() else 10)
    elif not isinstance(value, bool):
        with suppress(TypeError):
            number = index(value)  # type: ignore[arg-type]
    if number is None:
        raise ValueError(f"{type} takes an integer, not {_shown(value)}")
    low, high = 0, (1 << 8 * size) - 1
    if type[0] == "i":
        low, high = -(1 << 8 * size - 1), high >> 1
    if not low <= number <= high:
        bounds = "{:#x}..{:#x}" if type == "hex" else "{}..{}"
        raise ValueError(f"{type} takes {bounds.format(low, high)}, not {_shown(value)}")
    return number


def _nan(bits: int, type: str) -> float:
    exponent, fraction = _FLOATS[type]
    payload = bits & (1 << fraction) - 1
    double = bits >> exponent + fraction << 63 | 0x7FF << 52 | payload << 52 - fraction
    return float(struct.unpack("<d", double.to_bytes(8, "little"))[0])


def _float_bits(value: object, type: str) -> int:
    """The bits of a number or a text as a floating-point type has it."""
    exponent, fraction = _FLOATS[type]
    if isinstance(value, str):
        negative, special, ratio = _read(value.strip(), type, fraction)
    else:
        negative, special, ratio = _taken_apart(value, type, fraction)
    infinite = (1 << exponent) - 1 << fraction
    bits = infinite | special if ratio is None else _rounded(*ratio, exponent, fraction)
    if ratio and bits >= infinite:
        limits = "less than 1.19e+4932"
        if type != "f80":
            most = texts((infinite - 1).to_bytes(lane_size(type, 8), "little"), type)[0]
            limits = f"-{most}..{most}"
        raise ValueError(f"{type} takes {limits}, not {_shown(value)}")
    return bits | negative << exponent + fraction


def _taken_apart(
    value: object, type: str, fraction: int
) -> "tuple[bool, int, tuple[int, int] | None]":
    """A number's sign, and its magnitude as a ratio; None where the second is a NaN's payload.

    The payload of infinity is 0.
    """
    if not isinstance(value, (bool, bytes, bytearray)):
        with suppress(TypeError):
            whole = index(value)  # type: ignore[arg-type]
            return whole < 0, 0, (abs(whole), 1)
        with suppress(TypeError, ValueError, OverflowError):
            number = float(value)  # type: ignore[arg-type]
            bits = int.from_bytes(struct.pack("<d", number), "little")
            negative = bool(bits >> 63)
            if bits >> 52 & 0x7FF < 0x7FF:
                return negative, 0, abs(number).as_integer_ratio()
            payload = (bits & (1 << 52) - 1) >> 52 - fraction
            return negative, payload or (1 << fraction - 1 if number != number else 0), None
    raise ValueError(f"{type} takes a number, not {_shown(value)}")


def _read(text: str, type: str, fraction: int) -> "tuple[bool, int, tuple[int, int] | None]":
    """The same of a text."""
    nan, inf = _NAN.fullmatch(text), _INF.fullmatch(text)
    if inf:
        return inf.group(1) == "-", 0, None
    if nan:
        payload = int(nan.group(2), 16) if nan.group(2) else 1 << fraction - 1
        if not 0 < payload < 1 << fraction:
            raise ValueError(f"a NaN of {type} has 0x1..{(1 << fraction) - 1:#x}, not {text}")
        return nan.group(1) == "-", payload, None
    negative, ratio = _ratio(text, type)
    return negative, 0, ratio


def _ratio(text: str, type: str) -> "tuple[bool, tuple[int, int]]":
    """Whether a decimal number is negative, and its magnitude as a ratio of integers."""
    found = _NUMBER.fullmatch(text)
    digits = (found.group(2) + (found.group(3) or "")) if found else ""
    if found is None or not digits:
        raise ValueError(f"{type} takes a number, not {_shown(text)}")
    power = int(found.group(4) or 0) - len(found.group(3) or "")
    whole = int(digits)
    if power + len(digits) < -5000:  # rounds to zero in all types
        whole = 0
    elif whole and power > 5000:
        power = 5000
    ratio = (whole * 10**power, 1) if power >= 0 and whole else (whole, 10 ** min(-power, 7000))
    return found.group(1) == "-", ratio


def _rounded(top: int, bottom: int, exponent_bits: int, fraction_bits: int) -> int:
    """A ratio to the nearest floating-point number, ties to even, as its bits."""
    if not top:
        return 0
    lowest = 2 - (1 << exponent_bits - 1)
    exponent = top.bit_length() - bottom.bit_length()
    if top << max(-exponent, 0) < bottom << max(exponent, 0):
        exponent -= 1
    exponent = max(exponent, lowest)
    shift = fraction_bits - exponent
    bottom <<= max(-shift, 0)
    units, rest = divmod(top << max(shift, 0), bottom)
    if 2 * rest > bottom or (2 * rest == bottom and units & 1):
        units += 1
    # The bit above the fraction counts the exponent up: by none where the number is subnormal.
    return units + (exponent - lowest << fraction_bits)


# Text of numbers


def texts(data: bytes, type: str) -> "tuple[str, ...]":
    """The lanes of bytes as texts that :func:`encode` reads back to the same bytes."""
    if type == "hex":
        digits = 2 * lane_size(type, len(data))
        return tuple(f"0x{number:0{digits}x}" for number in _numbers(data, type))
    if type not in _FLOATS:
        return tuple(map(str, _numbers(data, type)))
    numbers = _numbers(data, type)
    lanes = dict(zip(numbers, decode(data, type)))
    known = {bits: _float_text(bits, value, type) for bits, value in lanes.items()}
    return tuple(known[bits] for bits in numbers)


def told(data: bytes, type: str) -> "list[int | float | str]":
    """The lanes of bytes as JSON can hold them: numbers, but NaN, infinity and hex as text."""
    if type == "hex":
        return [*texts(data, type)]
    lanes = zip(_numbers(data, type), decode(data, type))
    return [
        value if value - value == 0 else _float_text(bits, value, type) for bits, value in lanes
    ]


def _float_text(bits: int, value: float, type: str) -> str:
    exponent, fraction = _FLOATS[type]
    if value != value:
        sign = "-" if bits >> exponent + fraction else ""
        payload = bits & (1 << fraction) - 1
        return sign + ("nan" if payload == 1 << fraction - 1 else f"nan({payload:#x})")
    if type == "f64" or value - value != 0:  # infinity
        return repr(value)
    sign = "-" if bits >> exponent + fraction else ""
    if not value:
        return sign + "0.0"
    text = _written(*_shortest(*abs(value).as_integer_ratio(), exponent, fraction), -4, 9)
    return sign + text + ("" if "e" in text or "." in text else ".0")


def float80(value: int) -> str:
    """An x87 register as a decimal number, the shortest that reads back.

    What no processor since the 80387 takes for a number is called unsupported (SDM 8.2.2).
    """
    significand, exponent = value & (1 << 64) - 1, value >> 64 & 0x7FFF
    sign = "-" if value >> 79 else ""
    if exponent and not significand >> 63:
        return "unsupported"
    if exponent == 0x7FFF:
        if significand == 1 << 63:
            return sign + "inf"
        return sign + ("nan" if significand >> 62 & 1 else "snan")
    if not significand:
        return sign + "0"
    power = (exponent or 1) - 16383 - 63
    digits = _shortest(significand << max(power, 0), 1 << max(-power, 0), *_FLOATS["f80"])
    return sign + _written(*digits, -5, 21)


def _shortest(top: int, bottom: int, exponent: int, fraction: int) -> "tuple[str, int]":
    """The fewest digits that read back to a ratio, and the power of ten of the first one."""
    bits = _rounded(top, bottom, exponent, fraction)
    power = int((top.bit_length() - bottom.bit_length()) * 0.30102) - 2
    while top * 10 ** max(-power - 1, 0) >= bottom * 10 ** max(power + 1, 0):
        power += 1
    unit = power
    while True:
        up, down = 10 ** max(unit, 0), 10 ** max(-unit, 0)
        number, rest = divmod(top * down, bottom * up)
        if 2 * rest > bottom * up or (2 * rest == bottom * up and number & 1):
            number += 1
        # The next one, too: a power of two has more room above than below.
        for near in (number, number + 1):
            if _rounded(near * up, down, exponent, fraction) == bits:
                text = str(near)
                return text.rstrip("0"), unit + len(text) - 1
        unit -= 1


def _written(digits: str, power: int, low: int, high: int) -> str:
    """Digits with a point, and with an exponent where that is not within ``low`` to ``high``."""
    if not low <= power < high:
        return f"{digits[0]}{'.' if len(digits) > 1 else ''}{digits[1:]}e{power:+03d}"
    if power < 0:
        return "0." + "0" * (-power - 1) + digits
    whole = digits[: power + 1].ljust(power + 1, "0")
    return whole + "." * (len(digits) > power + 1) + digits[power + 1 :]


def encode_float80(text: str) -> int:
    """The 80 bits that a decimal number is nearest to; ``inf`` and ``nan`` as well."""
    bits = _float_bits(text, "f80")
    exponent, fraction = bits >> 63 & 0x7FFF, bits & (1 << 63) - 1
    # The significand's highest bit is written out.
    return bits >> 78 << 79 | exponent << 64 | (exponent > 0) << 63 | fraction


# Lines


def hexadecimal(value: int, size: int, width: int) -> "list[str]":
    """A number of ``size`` bytes in lines of at most ``width`` cells, high qwords first.

    Up to 64 bits are written in full. Wider ones are grouped by qword, leading zero qwords left
    out, and set so that a qword always stands in the same column.
    """
    if size <= 8:
        return [f"0x{value:0{2 * size}x}"]
    if not value:
        return ["0"]
    qwords = -(-value.bit_length() // 64)
    per_line = 1
    while per_line < -(-size // 8) and 2 * per_line * 17 + 1 <= width:
        per_line *= 2
    # The highest line may have fewer qwords than those below it.
    groups = grouped(f"{value:0{16 * qwords}x}").split("_")
    ends = range((qwords - 1) % per_line + 1, qwords + 1, per_line)
    lines = ["_".join(groups[max(0, end - per_line) : end]) for end in ends]
    return [line.rjust(per_line * 17 + 1) for line in ["0x" + lines[0], *lines[1:]]]


def grouped(digits: str) -> str:
    """Digits, 16 at a time from the first one."""
    return "_".join(digits[at : at + 16] for at in range(0, len(digits), 16))


def lane_lines(data: bytes, type: str, width: int) -> "list[str]":
    """Lanes in lines of at most ``width`` cells, lane 0 first, set in columns.

    A power of two of them stands on a line. Lanes that are all equal are told once, and so are
    those that only repeat the last one shown.
    """
    cells = texts(data, type)
    last = len(cells)
    while last > 1 and cells[last - 1] == cells[last - 2]:
        last -= 1
    if last == 1 < len(cells):
        return [f"{cells[0]} in all {len(cells)} lanes"]
    rest = len(cells) - last
    if rest > 2:
        shown = _columns(cells[: last - 1], width)
        return [*shown, f"{cells[-1]} in the other {rest + 1} lanes"]
    return _columns(cells, width)


def _columns(cells: "tuple[str, ...]", width: int, apart: int = 2) -> "list[str]":
    cell = max(map(len, cells))
    per_line = 1
    while per_line < len(cells) and 2 * per_line * (cell + apart) <= width + apart:
        per_line *= 2
    return [
        (" " * apart).join(text.rjust(cell) for text in cells[at : at + per_line])
        for at in range(0, len(cells), per_line)
    ]


def fold(named: "Iterable[tuple[str, _T]]") -> "Iterator[tuple[str, _T]]":
    """Neighbours that count up and have one value as one: ``("zmm7-zmm16", value)``."""
    first = last = ""
    shared: list[_T] = []
    for name, value in named:
        if shared and value == shared[0] and _follows(last, name):
            last = name
            continue
        if shared:
            yield first if first == last else f"{first}-{last}", shared[0]
        first = last = name
        shared = [value]
    if shared:
        yield first if first == last else f"{first}-{last}", shared[0]


def _follows(name: str, other: str) -> bool:
    """Whether a name is the next one of a family: zmm8 behind zmm7."""
    stem = name.rstrip("0123456789")
    return stem != name and other == f"{stem}{int(name[len(stem) :]) + 1}"


# Tiles


def matrix(data: bytes, per_row: int, type: str) -> "tuple[tuple[int | float, ...], ...]":
    """A tile's rows, each the lanes of ``per_row`` bytes."""
    lane_size(type, per_row)
    return tuple(decode(row, type) for row in _rows(data, per_row))


def encode_matrix(rows: object, per_row: int, count: int, type: str) -> bytes:
    """The bytes of a tile of ``count`` rows of ``per_row`` bytes."""
    try:
        listed = list(rows)  # type: ignore[call-overload]
    except TypeError:
        raise ValueError(f"a tile is a sequence of rows, not {_shown(rows)}") from None
    if len(listed) != count:
        raise ValueError(f"takes {count} rows, not {len(listed)}")
    return b"".join(encode(row, type, per_row) for row in listed)


def _rows(data: bytes, per_row: int) -> "list[bytes]":
    return [data[at : at + per_row] for at in range(0, len(data), per_row)] if per_row else []


def tile_lines(data: bytes, per_row: int, type: str, width: int, full: bool = False) -> "list[str]":
    """A tile as a matrix in lines of at most ``width`` cells; equal neighbouring rows are one.

    Where a row has more lanes than fit, those in the middle are left out, unless ``full``: then a
    row takes several lines.
    """
    rows = [texts(row, type) for row in _rows(data, per_row)]
    if not rows:
        return []
    labels: list[str] = []
    shown: list[tuple[str, ...]] = []
    first = 0
    for number, row in enumerate(rows):
        if number + 1 < len(rows) and rows[number + 1] == row:
            continue
        labels.append(str(first) if first == number else f"{first}-{number}")
        shown.append(row)
        first = number + 1
    margin = max(map(len, labels))
    room = width - margin - len(": ")
    widths = [max(map(len, column)) for column in zip(map(str, range(len(rows[0]))), *shown)]
    kept: list[int | None] = [*range(len(widths))]
    if sum(widths) + len(widths) - 1 > room:
        if full:
            return [
                ("" if at else label).rjust(margin) + (": ", "  ")[at > 0] + line
                for label, row in zip(labels, shown)
                for at, line in enumerate(_columns(row, room, 1))
            ]
        kept = _edges(widths, room)
    cells = [["..." if at is None else str(at) for at in kept]]
    cells += [["..." if at is None else row[at] for at in kept] for row in shown]
    return [
        (label.rjust(margin) + ": " if label else " " * (margin + 2))
        + " ".join(text.rjust(3 if at is None else widths[at]) for at, text in zip(kept, line))
        for label, line in zip(["", *labels], cells)
    ]


def _edges(widths: "list[int]", room: int) -> "list[int | None]":
    """The first and the last columns that fit; None where those in the middle are left out."""
    first, last = 1, len(widths)
    room -= widths[0] + len(" ...")
    while True:
        grow_last = first > len(widths) - last
        at = last - 1 if grow_last else first
        room -= widths[at] + 1
        if room < 0:
            return [*range(first), None, *range(last, len(widths))]
        first, last = (first, at) if grow_last else (at + 1, last)


def tile_config_lines(rows: "Sequence[int]", colsb: "Sequence[int]") -> "list[str]":
    """The shapes of the tiles as TILECFG has them, as a table."""
    lines = ["tile  rows  bytes a row"]
    for number, row in enumerate(rows):
        lines.append(f"tmm{number}  {row:4}  {colsb[number]:11}")
    return lines


# Bits


def mask_bits(value: int) -> str:
    """The bits that a mask has, by number: ``0-7 12``."""
    return " ".join(f"{low}-{high}" if low < high else str(low) for low, high in bit_runs(value))


def bit_runs(mask: int) -> "Iterator[tuple[int, int]]":
    """The (lowest, highest) of each unbroken run of set bits, the lowest run first."""
    return spans(at for at in range(mask.bit_length()) if mask >> at & 1)


def binary(value: int, size: int) -> str:
    """A number of ``size`` bytes in bits, highest first, 16 at a time."""
    return grouped("{:0{}b}".format(value, 8 * size))


_ROUNDING = ("nearest", "down", "up", "zero")
_MEANINGS = {"rc": _ROUNDING, "pc": ("single", "reserved", "double", "extended")}
"""What the values of a range of bits are called: rounding and precision control (SDM 8.1.5)."""


def bit_names(bits: "Iterable[tuple[str, int, int]]", value: int) -> str:
    """The bits that are set, by name, and what ranges hold: ``IM DM PC=extended TOP=5``.

    ``bits`` are ranges: name, lowest bit, width.
    """
    flags, ranges = [], []
    for name, low, width in bits:
        found = value >> low & (1 << width) - 1
        if name in _MEANINGS:
            ranges.append(f"{name.upper()}={_MEANINGS[name][found]}")
        elif found and width == 1:
            flags.append(name.upper())
        elif found:
            ranges.append(f"{name.upper()}={found if found < 10 else hex(found)}")
    return " ".join(_runs(flags) + ranges)


def _runs(names: "list[str]") -> "list[str]":
    """Names that only count up are drawn together: AD1 AD2 AD3 as AD1-3."""
    groups: dict[str, list[int]] = {}
    for name in names:
        stem = name.rstrip("0123456789")
        groups.setdefault(stem, []).append(int(name[len(stem) :] or -1))
    found = []
    for stem, numbers in groups.items():
        for first, last in spans(sorted(numbers)):
            if last - first > 1:
                found.append(f"{stem}{first}-{last}")
            else:
                found += [stem + (str(n) if n >= 0 else "") for n in range(first, last + 1)]
    return found


def spans(numbers: "Iterable[int]") -> "Iterator[tuple[int, int]]":
    """Ascending numbers as (first, last) of each unbroken run."""
    for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        yield run[0], run[-1]
