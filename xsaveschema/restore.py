"""What a restore accepts: XRSTOR, XRSTORS, and Linux's ptrace and KVM.

The rules are the processor's own (SDM vol. 1, 13.8 and 13.12; those of headers and MXCSR were
also seen, case by case, on a Zen 4) and the Linux kernel's. ``check`` lists what an area breaks;
``mend`` makes an area pass where no state is lost by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Final, Literal, NamedTuple

from xsaveschema.convert import to_compacted
from xsaveschema.errors import Fault, TooShortError, XsaveError, hex_mask
from xsaveschema.header import MASKS, XCOMP_BV_OFFSET, XSTATE_BV_OFFSET, Buffer, view_of
from xsaveschema.layout import Layout, compacted, standard
from xsaveschema.model import (
    COMPACTED,
    EXTENDED_OFFSET,
    HEADER_OFFSET,
    MXCSR_OFFSET,
    SSE,
    CpuModel,
    bits_of,
)
from xsaveschema.supervisor import supervisor_faults

Target = Literal["xrstor", "xrstors", "linux"]

_AVX: Final = 1 << 2
_U32: Final = Struct("<I")
_RESERVED: Final = HEADER_OFFSET + 16
_RESERVED_END: Final = EXTENDED_OFFSET
_HW: Final = "; HW: Zen 4"


class Rule(NamedTuple):
    """Where a rule is from, what it says, and what mends an area that breaks it."""

    source: str
    says: str
    remedy: str


RULES: Final[dict[str, Rule]] = {
    "no-xsaves": Rule(
        "SDM vol. 2, XRSTORS",
        "XRSTORS is an invalid opcode where CPUID D.1:EAX[3] is 0.",
        "convert to the standard format and use XRSTOR",
    ),
    "alignment": Rule(
        "SDM 13.8, 13.12" + _HW,
        "An area that is not aligned to 64 bytes faults.",
        "put the area at a multiple of 64",
    ),
    "xcomp-bv-form": Rule(
        "SDM 13.8.1" + _HW,
        "In the standard form XCOMP_BV must be 0 in full, not only in bit 63.",
        "write 0 to XCOMP_BV",
    ),
    "xcomp-bv-no-xsavec": Rule(
        "SDM 13.8.1",
        "A processor without XSAVEC has no compacted form: XCOMP_BV must be 0.",
        "convert to the standard format",
    ),
    "xcomp-bv-xcr0": Rule(
        "SDM 13.8.2, 13.12" + _HW,
        "XCOMP_BV may have components of XCR0 only (XRSTORS: of XCR0 | IA32_XSS).",
        "repack with to_compacted and an XCOMP_BV within the mask",
    ),
    "xrstors-form": Rule(
        "SDM 13.12",
        "XRSTORS takes the compacted form only.",
        "convert with to_compacted",
    ),
    "xstate-bv-xcr0": Rule(
        "SDM 13.8.1" + _HW,
        "In the standard form XSTATE_BV may have components of XCR0 only.",
        "convert for the target's XCR0, dropping the component",
    ),
    "xstate-bv-xcomp-bv": Rule(
        "SDM 13.8.2, 13.12" + _HW,
        "In the compacted form XSTATE_BV must be a subset of XCOMP_BV[62:0].",
        "clear the bits: they have no place, hence no state",
    ),
    "header-16-23": Rule(
        "SDM 13.8.1, 13.8.2, 13.12" + _HW,
        "Header bytes 16..23 must be 0 in either form.",
        "zero the bytes",
    ),
    "header-24-63": Rule(
        "SDM 13.8.2, 13.12" + _HW,
        "Header bytes 24..63 must be 0 in the compacted form.",
        "zero the bytes",
    ),
    "mxcsr": Rule(
        "SDM 13.8.1, 13.8.2, 13.12" + _HW,
        "An MXCSR that is loaded may have no bit outside the processor's MXCSR_MASK. The standard "
        "form loads it if RFBM[1] or RFBM[2], the compacted form if RFBM[1] and XSTATE_BV[1].",
        "clear the reserved bits",
    ),
    "supervisor": Rule(
        "SDM 13.5, 13.12",
        "XRSTORS faults on values of supervisor components that the MSRs would refuse.",
        "correct the value",
    ),
    "linux-compacted": Rule(
        "Linux: validate_user_xstate_header",
        "ptrace and KVM take the standard form only: XCOMP_BV must be 0.",
        "convert with to_standard",
    ),
    "linux-header": Rule(
        "Linux: validate_user_xstate_header",
        "ptrace and KVM want header bytes 16..63 to be 0.",
        "zero the bytes",
    ),
    "linux-xstate-bv": Rule(
        "Linux: validate_user_xstate_header",
        "ptrace and KVM take XSTATE_BV bits of the user mask (KVM: the guest's XCR0) only.",
        "convert for the target's XCR0, dropping the component",
    ),
    "linux-mxcsr": Rule(
        "Linux: copy_uabi_to_xstate",
        "ptrace and KVM refuse reserved MXCSR bits if XSTATE_BV has x87, SSE or AVX.",
        "clear the reserved bits",
    ),
    "linux-size": Rule(
        "Linux: xstateregs_set; HW: Linux 6.18",
        "ptrace and KVM want at least the size of the user mask's standard layout.",
        "convert with to_standard for the target's XCR0",
    ),
}
"""Every rule by its stable identifier."""


@dataclass(frozen=True, slots=True)
class _Case:
    """An area before a restore, with the masks of the processor that is to restore it."""

    view: memoryview
    model: CpuModel
    xstate_bv: int
    xcomp_bv: int
    enabled: int
    rfbm: int
    mxcsr_mask: int

    @property
    def compacted(self) -> bool:
        return bool(self.xcomp_bv & COMPACTED)

    def names(self, mask: int) -> str:
        bits = ("bit 63" if n == 63 else self.model.name_of(n) for n in bits_of(mask))
        return ", ".join(bits) if mask.bit_count() <= 4 else hex_mask(mask)


def check(
    data: Buffer,
    model: CpuModel,
    target: Target = "xrstor",
    *,
    xcr0: int | None = None,
    xss: int | None = None,
    rfbm: int | None = None,
    mxcsr_mask: int | None = None,
    address: int | None = None,
) -> list[Fault]:
    """Say what keeps a processor, or Linux, from restoring an area; an empty list is acceptance.

    ``target`` is "xrstor", "xrstors" or "linux" (ptrace and KVM). ``xcr0``, ``xss`` and
    ``mxcsr_mask`` are the restoring machine's (default: the model's), ``rfbm`` is EDX:EAX
    (default: all), ``address`` the area's in memory, where alignment matters. Any header is
    judged; TooShortError only where the buffer lacks what the restore would read.
    """
    view = view_of(data)
    xstate_bv, xcomp_bv = MASKS.unpack_from(view, HEADER_OFFSET)
    enabled = _enabled(model, target, xcr0, xss)
    case = _Case(
        view=view,
        model=model,
        xstate_bv=xstate_bv,
        xcomp_bv=xcomp_bv,
        enabled=enabled,
        rfbm=enabled if rfbm is None else rfbm & enabled,
        mxcsr_mask=model.mxcsr_mask if mxcsr_mask is None else mxcsr_mask,
    )
    if target == "linux":
        return list(_linux(case))
    if target not in ("xrstor", "xrstors"):
        raise XsaveError(f"{target!r} is no target: xrstor, xrstors or linux")
    faults = list(_instruction(case, target, address))
    if not faults:
        _check_length(case)
        if target == "xrstors":
            faults += supervisor_faults(view, _layout(case), xstate_bv & case.rfbm)
    return faults


@dataclass(frozen=True, slots=True)
class Mended:
    """A mended area, and the faults that only losing state would mend."""

    data: bytes
    left: tuple[Fault, ...]


def mend(
    data: Buffer,
    model: CpuModel,
    target: Target = "xrstor",
    *,
    xcr0: int | None = None,
    xss: int | None = None,
    rfbm: int | None = None,
    mxcsr_mask: int | None = None,
) -> Mended:
    """Mend what ``check`` finds, as far as that loses no state; arguments are ``check``'s.

    Reserved bytes and bits are cleared, XCOMP_BV of a standard area is zeroed, XSTATE_BV loses
    bits that have no place, and an XCOMP_BV with too many components is repacked if those are
    initial. Bytes behind the area are kept.
    """
    area = bytearray(view_of(data))
    options = {"xcr0": xcr0, "xss": xss, "rfbm": rfbm, "mxcsr_mask": mxcsr_mask}
    rules = {fault.rule for fault in check(area, model, target, **options)}
    xstate_bv, xcomp_bv = MASKS.unpack_from(area, HEADER_OFFSET)
    if "xcomp-bv-form" in rules:
        xcomp_bv = 0
    if "xstate-bv-xcomp-bv" in rules:
        xstate_bv &= xcomp_bv & ~COMPACTED
    MASKS.pack_into(area, HEADER_OFFSET, xstate_bv, xcomp_bv)
    if "header-16-23" in rules:
        area[_RESERVED : _RESERVED + 8] = bytes(8)
    if rules & {"header-24-63", "linux-header"}:
        area[_RESERVED:_RESERVED_END] = bytes(_RESERVED_END - _RESERVED)
    if rules & {"mxcsr", "linux-mxcsr"}:
        (mxcsr,) = _U32.unpack_from(area, MXCSR_OFFSET)
        mask = model.mxcsr_mask if mxcsr_mask is None else mxcsr_mask
        _U32.pack_into(area, MXCSR_OFFSET, mxcsr & mask)
    if "xcomp-bv-xcr0" in rules:
        area = _repacked(area, model, _enabled(model, target, xcr0, xss))
    return Mended(bytes(area), tuple(check(area, model, target, **options)))


def _repacked(area: bytearray, model: CpuModel, enabled: int) -> bytearray:
    """The area with an XCOMP_BV within ``enabled``; as it was if that would lose state."""
    xstate_bv, xcomp_bv = MASKS.unpack_from(area, HEADER_OFFSET)
    places = xcomp_bv & ~COMPACTED
    if places & ~(model.user_mask | model.supervisor_mask) or xstate_bv & ~enabled:
        return area
    size = compacted(model, places).size
    repacked = to_compacted(area, model, xcomp_bv=places & enabled)
    return bytearray(repacked.data) + area[size:]


def _enabled(model: CpuModel, target: Target, xcr0: int | None, xss: int | None) -> int:
    """The components that the restoring machine has enabled for this target."""
    enabled = model.xcr0 if xcr0 is None else xcr0
    if target == "xrstors":
        enabled |= model.xss if xss is None else xss
    return enabled


def _fault(rule: str, offset: int, message: str) -> Fault:
    return Fault(rule, offset, message, RULES[rule].source, RULES[rule].remedy)


def _instruction(case: _Case, target: Target, address: int | None) -> Iterator[Fault]:
    """XRSTOR's and XRSTORS's checks, in the order in which the SDM lists them."""
    instructions = case.model.instructions
    if target == "xrstors" and "xsaves" not in instructions:
        yield _fault("no-xsaves", 0, f"{case.model.name} has no XRSTORS")
        return
    if address is not None and address % 64:
        yield _fault("alignment", 0, f"the address {address:#x} is not a multiple of 64")
    if case.compacted and "xsavec" not in instructions:
        yield _fault(
            "xcomp-bv-no-xsavec", XCOMP_BV_OFFSET, f"{case.model.name} has no compacted format"
        )
    elif case.compacted:
        if outside := case.xcomp_bv & ~COMPACTED & ~case.enabled:
            yield _fault(
                "xcomp-bv-xcr0",
                XCOMP_BV_OFFSET,
                f"XCOMP_BV has {case.names(outside)}, outside the enabled {hex_mask(case.enabled)}",
            )
        if outside := case.xstate_bv & ~(case.xcomp_bv & ~COMPACTED):
            yield _fault(
                "xstate-bv-xcomp-bv",
                XSTATE_BV_OFFSET,
                f"XSTATE_BV has {case.names(outside)}, which XCOMP_BV "
                f"{hex_mask(case.xcomp_bv)} gives no place",
            )
    elif target == "xrstors":
        yield _fault("xrstors-form", XCOMP_BV_OFFSET, "XCOMP_BV bit 63 is clear")
    else:
        if case.xcomp_bv:
            yield _fault(
                "xcomp-bv-form",
                XCOMP_BV_OFFSET,
                f"XCOMP_BV is {hex_mask(case.xcomp_bv)}: not 0, and bit 63 is clear",
            )
        if outside := case.xstate_bv & ~case.enabled:
            yield _fault(
                "xstate-bv-xcr0",
                XSTATE_BV_OFFSET,
                f"XSTATE_BV has {case.names(outside)}, outside XCR0 {hex_mask(case.enabled)}",
            )
    yield from _reserved(case, "header-16-23", _RESERVED, _RESERVED + 8)
    if case.compacted:
        yield from _reserved(case, "header-24-63", _RESERVED + 8, _RESERVED_END)
        loads = case.rfbm & SSE and case.xstate_bv & SSE
    else:
        loads = case.rfbm & (SSE | _AVX)
    if loads:
        yield from _mxcsr(case, "mxcsr")


def _linux(case: _Case) -> Iterator[Fault]:
    if case.xcomp_bv:
        yield _fault(
            "linux-compacted", XCOMP_BV_OFFSET, f"XCOMP_BV is {hex_mask(case.xcomp_bv)}, not 0"
        )
    if outside := case.xstate_bv & ~case.enabled:
        yield _fault(
            "linux-xstate-bv",
            XSTATE_BV_OFFSET,
            f"XSTATE_BV has {case.names(outside)}, outside the mask {hex_mask(case.enabled)}",
        )
    yield from _reserved(case, "linux-header", _RESERVED, _RESERVED_END)
    if case.xstate_bv & (1 | SSE | _AVX):
        yield from _mxcsr(case, "linux-mxcsr")
    size = standard(case.model, case.enabled & case.model.user_mask).size
    if len(case.view) < size:
        yield _fault("linux-size", len(case.view), f"{len(case.view)} bytes, {size} are needed")


def _reserved(case: _Case, rule: str, start: int, end: int) -> Iterator[Fault]:
    found = [at for at in range(start, end) if case.view[at]]
    if found:
        first = found[0]
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        yield _fault(
            rule,
            first,
            f"header byte {first - HEADER_OFFSET}{more} is not 0 ({case.view[first]:#04x})",
        )


def _mxcsr(case: _Case, rule: str) -> Iterator[Fault]:
    (mxcsr,) = _U32.unpack_from(case.view, MXCSR_OFFSET)
    if reserved := mxcsr & ~case.mxcsr_mask:
        yield _fault(
            rule,
            MXCSR_OFFSET,
            f"MXCSR {mxcsr:#010x} has bits {hex_mask(reserved)} outside MXCSR_MASK "
            f"{hex_mask(case.mxcsr_mask)}",
        )


def _layout(case: _Case) -> Layout:
    """Where the restore reads; the masks are legal by now, and within the machine's."""
    if case.compacted:
        return compacted(case.model, case.xcomp_bv & ~COMPACTED)
    return standard(case.model, case.xstate_bv)


def _check_length(case: _Case) -> None:
    for slot in _layout(case):
        read = slot.component.bit & case.xstate_bv & case.rfbm
        if read and slot.end > len(case.view):
            raise TooShortError(
                f"the restore would read {slot.name} at {slot.offset}..{slot.end}, but the buffer "
                f"ends at {len(case.view)}",
                slot.end,
                len(case.view),
                slot.name,
            )
