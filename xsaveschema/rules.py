# SPDX-License-Identifier: MIT
"""What a component's file rules: which values a processor takes, what XCR0 must have beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from msgspec import Struct

from xsaveschema.values import bit_runs

Illegal = Literal["fault", "initial"]
"""What an illegal value does: the restore raises #GP, or loads the component's initial state."""


class Limits(Struct, frozen=True):
    """Which values of a field a processor takes.

    ``reserved`` are bits that must be 0; ``canonical`` says that the value is an address of 57
    bits, sign-extended: what every paging mode refuses otherwise (with 48 bits a processor is
    stricter). ``at_most`` is None where there is no such limit.
    """

    reserved: int = 0
    canonical: bool = False
    at_most: int | None = None
    multiple_of: int = 1

    def broken_by(self, value: int) -> Iterator[str]:
        """What a value must be and is not; nothing for a legal one."""
        if value & self.reserved:
            runs = ", ".join(
                f"{high}:{low}" if high > low else f"{low}"
                for low, high in reversed([*bit_runs(self.reserved)])
            )
            yield f"{'bits' if self.reserved.bit_count() > 1 else 'bit'} {runs} must be 0"
        if self.canonical and value >> 56 not in (0, 0xFF):
            yield "must be canonical"
        if value % self.multiple_of:
            yield f"must be a multiple of {self.multiple_of}"
        if self.at_most is not None and value > self.at_most:
            yield f"must be at most {self.at_most}"


NO_LIMITS: Final = Limits()


class Rules(Struct, frozen=True):
    """What a component's file says of the component as a whole.

    ``needs`` names the components without which XCR0 may not enable it, ``together`` those that
    XCR0 enables with it or not at all (SDM 13.3). ``reserved_bytes`` are (start, end) of bytes that
    must be 0, counted as field offsets are; ``predicate`` names what else makes its bytes illegal.
    ``illegal`` is what an illegal value does to a restore, empty where the file does not say.
    ``features`` are the CPUID features that need the component, as QEMU and libvirt call them,
    ``qemu_features`` those that only QEMU has a name for.
    """

    needs: tuple[str, ...] = ()
    together: tuple[str, ...] = ()
    reserved_bytes: tuple[tuple[int, int], ...] = ()
    predicate: str = ""
    illegal: Illegal | Literal[""] = ""
    features: tuple[str, ...] = ()
    qemu_features: tuple[str, ...] = ()
