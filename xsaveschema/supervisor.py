"""Which values of supervisor components XRSTORS refuses (SDM vol. 1, 13.5 and 13.12).

XRSTORS loads supervisor components as WRMSR would: reserved bits and addresses that are not
canonical fault. What depends on the processor's configuration (TraceEn while loading PT, the LBR
depths it has) is not judged here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from xsaveschema.errors import Fault
from xsaveschema.layout import Layout, Slot
from xsaveschema.model import leaves

_SOURCE: Final = "SDM 13.5, 13.12"


class _Limit(NamedTuple):
    """A field's value must satisfy ``fits``; ``why`` says what it must be."""

    field: str
    fits: Callable[[int], bool]
    why: str


def _canonical(value: int) -> bool:
    # 57 bits: what no paging mode takes. With 48-bit addresses the processor is stricter.
    return value >> 56 in (0, 0xFF)


def _clear(mask: int) -> Callable[[int], bool]:
    return lambda value: not value & mask


_LIMITS: Final[dict[str, tuple[_Limit, ...]]] = {
    "cet_u": (
        _Limit("ia32_u_cet", _clear(0x3C0), "bits 9:6 must be 0"),
        _Limit("ia32_pl3_ssp", _clear(0x3), "bits 1:0 must be 0"),
        _Limit("ia32_pl3_ssp", _canonical, "must be canonical"),
    ),
    "cet_s": tuple(
        limit
        for name in ("ia32_pl0_ssp", "ia32_pl1_ssp", "ia32_pl2_ssp")
        for limit in (
            _Limit(name, _clear(0x3), "bits 1:0 must be 0"),
            _Limit(name, _canonical, "must be canonical"),
        )
    ),
    "pasid": (_Limit("ia32_pasid", _clear(~(1 << 31 | 0xFFFFF)), "bits 63:32, 30:20 must be 0"),),
    "hdc": (_Limit("ia32_pm_ctl1", _clear(~1), "bits 63:1 must be 0"),),
    "uintr": (
        _Limit("uihandler", _canonical, "must be canonical"),
        _Limit("uistackadjust", _canonical, "must be canonical"),
        _Limit("upidaddr", _canonical, "must be canonical"),
        _Limit("upidaddr", _clear(0x3F), "bits 5:0 must be 0"),
        _Limit("uittaddr", _canonical, "must be canonical"),
        _Limit("uittaddr", _clear(0xE), "bits 3:1 must be 0"),
    ),
    "lbr": (
        _Limit("ia32_lbr_depth", lambda v: v % 8 == 0 and v <= 64, "must be a multiple of 8 to 64"),
    ),
}
# Bytes that no field names and that must be 0.
_ZERO_BYTES: Final = {"pt": (72, 128)}
# IA32_UINTR_MISC stands in bytes 16..23; of its bits 62:40 (byte 23 bit 7 is UIF) none may be set.
_UINTR_MISC: Final = (16, 0x7FFFFF0000000000)


def supervisor_faults(view: memoryview, layout: Layout, live: int) -> Iterator[Fault]:
    """What XRSTORS refuses of the components in ``live``, which ``layout`` places in ``view``."""
    for slot in layout:
        if not slot.component.bit & live or not slot.component.supervisor:
            continue
        places = {leaf.path: leaf for leaf in leaves(slot.component.fields)}
        for limit in _LIMITS.get(slot.name, ()):
            leaf = places.get(limit.field)
            if leaf is None or leaf.offset + leaf.size > slot.size:
                continue
            at = slot.offset + leaf.offset
            value = int.from_bytes(view[at : at + leaf.size], "little")
            if not limit.fits(value):
                yield _fault(at, f"{slot.name}.{limit.field} is {value:#x}: {limit.why}")
        yield from _bytes(view, slot)


def _bytes(view: memoryview, slot: Slot) -> Iterator[Fault]:
    if slot.name in _ZERO_BYTES:
        start, end = (slot.offset + at for at in _ZERO_BYTES[slot.name])
        if any(view[start : min(end, slot.end)]):
            yield _fault(start, f"{slot.name} bytes 72..127 must be 0")
    if slot.name == "uintr":
        at = slot.offset + _UINTR_MISC[0]
        value = int.from_bytes(view[at : at + 8], "little")
        if reserved := value & _UINTR_MISC[1]:
            yield _fault(at, f"uintr: IA32_UINTR_MISC bits 62:40 must be 0 ({reserved:#x})")


def _fault(offset: int, message: str) -> Fault:
    return Fault("supervisor", offset, message, _SOURCE, "correct the value")
