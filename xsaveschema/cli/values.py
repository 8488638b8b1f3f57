"""Values as people read them: grouped hexadecimal, named bits, 80-bit floating point."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from xsaveschema.model import BitRange

_QWORD: Final = 16  # hexadecimal digits
_ROUNDING: Final = ("nearest", "down", "up", "zero")
_MEANINGS: Final = {"rc": _ROUNDING, "pc": ("single", "reserved", "double", "extended")}
"""What the values of a range of bits are called: rounding and precision control (SDM 8.1.5)."""


def hexadecimal(value: int, size: int, width: int) -> list[str]:
    """A number of ``size`` bytes in lines of at most ``width`` cells, high qwords first.

    Up to 64 bits are written in full. Wider ones are grouped by qword, leading zero qwords left
    out, and set so that a qword always stands in the same column.
    """
    if size <= 8:
        return [f"0x{value:0{2 * size}x}"]
    if not value:
        return ["0"]
    groups = []
    while value:
        groups.append(f"{value & (1 << 64) - 1:0{_QWORD}x}")
        value >>= 64
    per_line = 1
    while per_line < -(-size // 8) and 2 * per_line * (_QWORD + 1) + 1 <= width:
        per_line *= 2
    lines = []
    while groups:
        line = "_".join(reversed(groups[:per_line]))
        del groups[:per_line]
        line = line if groups else f"0x{line}"
        lines.append(line.rjust(per_line * (_QWORD + 1) + 1))
    return lines[::-1]


def bit_names(bits: Iterable[BitRange], value: int) -> str:
    """The bits that are set, by name, and what ranges hold: ``IM DM PC=extended TOP=5``."""
    flags, ranges = [], []
    for part in bits:
        found = (value & part.mask) >> part.low
        if part.name in _MEANINGS:
            ranges.append(f"{part.name.upper()}={_MEANINGS[part.name][found]}")
        elif found and part.width == 1:
            flags.append(part.name.upper())
        elif found:
            shown = str(found) if found < 10 else f"{found:#x}"
            ranges.append(f"{part.name.upper()}={shown}")
    return " ".join([*_runs(flags), *ranges])


def _runs(names: list[str]) -> list[str]:
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
                found += [stem + str(n) if n >= 0 else stem for n in range(first, last + 1)]
    return found


def spans(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Ascending numbers as (first, last) of each unbroken run."""
    first = last = None
    for number in numbers:
        if first is None or last is None:
            first = last = number
        elif number == last + 1:
            last = number
        else:
            yield first, last
            first = last = number
    if first is not None and last is not None:
        yield first, last


def float80(value: int) -> str:
    """An x87 register as a decimal number: the shortest that no other 80-bit value is nearer to.

    What no processor since the 80387 takes for a number is called unsupported (SDM 8.2.2).
    """
    significand, exponent = value & (1 << 64) - 1, value >> 64 & 0x7FFF
    sign = "-" if value >> 79 else ""
    if exponent and not significand >> 63:
        return "unsupported"
    if exponent == 0x7FFF:
        if significand == 1 << 63:
            return f"{sign}inf"
        return f"{sign}nan" if significand >> 62 & 1 else f"{sign}snan"
    if not significand:
        return f"{sign}0"
    return sign + _shortest(significand, (exponent or 1) - 16383 - 63)


def _shortest(significand: int, exponent: int) -> str:
    # Imported here: 2 ms that only a register with a number pays.
    from decimal import Context, Decimal

    # 21 digits tell all 64-bit significands apart; 60 are enough to judge them.
    work = Context(prec=60, Emin=-99999, Emax=99999)
    unit = work.power(Decimal(2), exponent)
    exact = work.multiply(Decimal(significand), unit)
    for digits in range(1, 22):
        short = Context(prec=digits, Emin=-99999, Emax=99999).plus(exact)
        if abs(work.subtract(short, exact)) * 2 < unit:
            break
    low, high = Decimal("1e-5"), Decimal("1e21")
    return f"{short.normalize(work):f}" if low <= exact < high else f"{short:e}"
