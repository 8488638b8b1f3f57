# SPDX-License-Identifier: MIT
"""What a restore accepts: XRSTOR, XRSTORS, and Linux's ptrace and KVM.

The rules are the processor's own (SDM vol. 1, 13.8 and 13.12, and seen case by case on processors
of two vendors) and the Linux kernel's. ``check`` lists what an area breaks; ``notes`` what is no
fault and yet not loaded as it stands; ``mend`` makes an area pass where no state is lost by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Any, Final, NamedTuple, get_args

from xsaveschema.area import XsaveArea
from xsaveschema.area.loaded import as_restored
from xsaveschema.convert import to_compacted
from xsaveschema.errors import Fault, MaskError, WrongTypeError, XsaveError, described, hex_mask
from xsaveschema.header import MASKS, Buffer, view_of
from xsaveschema.layout import (
    Layout,
    check_mask,
    check_user_mask,
    compacted,
    legal_whole,
    names,
    places,
    standard,
)
from xsaveschema.legality import illegal_values
from xsaveschema.model import (
    COMPACTED,
    EXTENDED_OFFSET,
    HEADER_OFFSET,
    MXCSR_INITIAL,
    MXCSR_OFFSET,
    SSE,
    X87,
    CpuModel,
    require_model,
)
from xsaveschema.permission import dynamic_mask
from xsaveschema.restore_rules import RULES as RULES
from xsaveschema.restore_rules import Target as Target
from xsaveschema.traces import KVM_XSAVE_SIZE

_LEGACY: Final = X87 | SSE
_AVX: Final = 1 << 2
_U32: Final = Struct("<I")
_RESERVED: Final = HEADER_OFFSET + 16
_UNIT: Final = 8  # bytes: ptrace's register sets are counted in these


@dataclass(frozen=True, slots=True)
class _Case:
    """An area before a restore, with the masks of the processor that is to restore it."""

    view: memoryview
    model: CpuModel
    target: Target
    xstate_bv: int
    xcomp_bv: int
    enabled: int
    rfbm: int
    mxcsr_mask: int
    xfd: int

    @property
    def compacted(self) -> bool:
        return bool(self.xcomp_bv & COMPACTED)

    def names(self, mask: int) -> str:
        return names(self.model, mask, most=4)


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
    xfd: int = 0,
) -> list[Fault]:
    """Say what keeps a processor, or Linux, from restoring an area; an empty list is acceptance.

    ``target`` is "xrstor", "xrstors", "ptrace" (PTRACE_SETREGSET) or "kvm" (KVM_SET_XSAVE).
    ``xcr0``, ``xss`` and ``mxcsr_mask`` are the restoring machine's (default: the model's),
    ``rfbm`` is EDX:EAX (default: all; Linux has none), ``address`` the area's in memory, where
    alignment matters, and ``xfd`` IA32_XFD: for ptrace what the task has not used yet, for KVM what
    the virtual machine has no permission for. Memory ends where the buffer does.

    The fault that is raised is in front; behind it, in the same order, stands what else is wrong.
    Any header is judged; TooShortError only below 576 bytes. MaskError for an ``xfd`` that names a
    component of the model which extended feature disable does not know.
    """
    masks = {"xcr0": xcr0, "xss": xss, "rfbm": rfbm}
    case = _case(data, model, target, **masks, mxcsr_mask=mxcsr_mask, xfd=xfd)
    if address is not None and not (isinstance(address, int) and 0 <= address < 1 << 64):
        raise WrongTypeError(f"address: pass an integer of 64 bits, not {described(address)}")
    if target in ("ptrace", "kvm"):
        return list(_linux(case))
    return list(_instruction(case, address)) or list(_values(case))


def misplaced(area: XsaveArea, model: CpuModel) -> list[Fault]:
    """The live components of an area that a restore on ``model`` would take from other bytes.

    A processor cannot tell: it raises nothing and loads what stands there. Components that
    ``model`` lacks, or that its masks do not allow, are ``check``'s to say.
    """
    mask = area.xcomp_bv & ~COMPACTED
    if not area.xcomp_bv & COMPACTED:
        other = standard(model, area.layout.mask & model.user_mask)
    elif mask & ~(model.user_mask | model.supervisor_mask):
        return []
    else:
        other = compacted(model, mask)
    live = [slot for slot in area.layout if slot.component.bit & area.xstate_bv]
    pairs = [(slot, other[slot.number]) for slot in live if slot.number in other]
    return [
        _fault(
            "other-layout",
            f"{own.name} stands at {own.offset}..{own.end} as {area.model.label} has it; "
            f"{model.label} has it at {its.offset}..{its.end}",
            own.offset,
        )
        for own, its in pairs
        if places([own]) != places([its])
    ]


class Note(NamedTuple):
    """What is no fault, but not loaded as it stands, or needs more than the area's bytes.

    Of which component, and where it stands.
    """

    component: str
    offset: int
    message: str

    def __str__(self) -> str:
        return f"byte {self.offset}: {self.component}: {self.message}"


def notes(
    data: Buffer,
    model: CpuModel,
    target: Target = "xrstor",
    *,
    xcr0: int | None = None,
    xss: int | None = None,
    rfbm: int | None = None,
    xfd: int = 0,
) -> list[Note]:
    """Say which components a restore loads otherwise than they stand in memory, without a fault.

    So an illegal TILECFG becomes the initial one; see area/loaded.py. Of Linux, also what it wants
    asked for before it takes the area; see permission.py. The arguments are ``check``'s. What has
    no place by the header, or is cut off, is ``check``'s to say.
    """
    case = _case(data, model, target, xcr0=xcr0, xss=xss, rfbm=rfbm, xfd=xfd)
    # What another CPU wrote is judged as this one would find it.
    area = XsaveArea.parse(case.view, model, strict=False, assume=True)
    _, reasons = as_restored(area)
    slots = (area.layout[name] for name in reasons)
    own = [
        Note(slot.name, slot.offset, reasons[slot.name])
        for slot in slots
        if slot.component.bit & case.rfbm
    ]
    return [*own, *(_linux_notes(case) if target in ("ptrace", "kvm") else ())]


def _linux_notes(case: _Case) -> Iterator[Note]:
    (mxcsr,) = _U32.unpack_from(case.view, MXCSR_OFFSET)
    initial = mxcsr == MXCSR_INITIAL or case.xstate_bv & SSE
    if not initial and "xsaves" in case.model.instructions:
        # Linux keeps state compacted then, where MXCSR belongs to SSE alone.
        said = f"MXCSR {mxcsr:#010x} is not loaded, but {MXCSR_INITIAL:#x}: XSTATE_BV has no SSE"
        yield Note(case.model.name_of(1), MXCSR_OFFSET, said)
    dynamic = dynamic_mask(case.model, case.enabled) & ~case.xfd
    whole, length = standard(case.model, case.enabled).size, len(case.view)
    for slot in standard(case.model, dynamic):
        if slot.component.bit & case.xstate_bv:
            how = "a virtual machine has it if the process asked before its first virtual CPU: "
            option = "ARCH_REQ_XCOMP_GUEST_PERM"
            if case.target == "ptrace":
                how = "a task has it from its first use on, if the process asked: "
                option = "ARCH_REQ_XCOMP_PERM"
            yield Note(slot.name, slot.offset, f"{how}arch_prctl({option}, {slot.number})")
        elif case.target == "kvm" and length < whole:
            said = f"a virtual machine that may use it takes {whole} bytes, not {length}: "
            yield Note(slot.name, slot.offset, f"{said}KVM_CAP_XSAVE2, KVM_GET_XSAVE2")


@dataclass(frozen=True, slots=True)
class Mended:
    """A mended area, and the faults that only losing state would mend."""

    data: bytes = field(repr=False)
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
    xfd: int = 0,
) -> Mended:
    """Mend what ``check`` finds, as far as that loses no state; arguments are ``check``'s.

    Reserved bytes and bits are cleared, XCOMP_BV of a standard area is zeroed, that of a compacted
    one gets the bits of x87 and SSE that are in use, XSTATE_BV loses bits that have no place, an
    XCOMP_BV with too many components is repacked if those are initial, and an area that lacks
    places of initial components alone is extended with zeros. Bytes behind the area are kept.
    """
    area = bytearray(view_of(data))
    options: dict[str, Any] = {"xcr0": xcr0, "xss": xss, "rfbm": rfbm}
    options |= {"mxcsr_mask": mxcsr_mask, "xfd": xfd}
    rules = {fault.rule for fault in check(area, model, target, **options)}
    xstate_bv, xcomp_bv = MASKS.unpack_from(area, HEADER_OFFSET)
    if "xcomp-bv-form" in rules or ("linux-compacted" in rules and not xcomp_bv & COMPACTED):
        xcomp_bv = 0
    if "xstate-bv-xcomp-bv" in rules:
        # x87 and SSE have bytes whatever XCOMP_BV says; what has no place has no state.
        xcomp_bv |= xstate_bv & _LEGACY
        xstate_bv &= xcomp_bv & ~COMPACTED
    MASKS.pack_into(area, HEADER_OFFSET, xstate_bv, xcomp_bv)
    if "header-16-23" in rules:
        area[_RESERVED : _RESERVED + 8] = bytes(8)
    if rules & {"header-24-63", "linux-header"}:
        area[_RESERVED:EXTENDED_OFFSET] = bytes(EXTENDED_OFFSET - _RESERVED)
    if rules & {"mxcsr", "linux-mxcsr"}:
        (mxcsr,) = _U32.unpack_from(area, MXCSR_OFFSET)
        mask = model.mxcsr_mask if mxcsr_mask is None else mxcsr_mask
        _U32.pack_into(area, MXCSR_OFFSET, mxcsr & mask)
    if "xcomp-bv-xcr0" in rules:
        area = _repacked(area, model, _enabled(model, target, xcr0, xss))
    if rules & {"memory-ends", "ptrace-length", "linux-size"}:
        area += bytes(_missing(_case(bytes(area), model, target, **options)))
    return Mended(bytes(area), tuple(check(area, model, target, **options)))


def _repacked(area: bytearray, model: CpuModel, enabled: int) -> bytearray:
    """The area with an XCOMP_BV within ``enabled``; as it was if that would lose state."""
    xstate_bv, xcomp_bv = MASKS.unpack_from(area, HEADER_OFFSET)
    places = xcomp_bv & ~COMPACTED
    if places & ~(model.user_mask | model.supervisor_mask) or xstate_bv & ~enabled:
        return area
    size = compacted(model, places).size
    if len(area) < size:
        return area
    # Who wrote it does not matter here: it is judged as ``model`` would find it.
    repacked = to_compacted(area, model, xcomp_bv=places & enabled, assume=True)
    return bytearray(repacked.data) + area[size:]


def _missing(case: _Case) -> int:
    """How many bytes a restore misses at the end; 0 too where state in use is cut off there."""
    length = len(case.view)
    if case.target in ("ptrace", "kvm"):
        needed = max(length, _linux_size(case))
        if case.target == "ptrace":
            needed = -(-needed // _UNIT) * _UNIT
    else:
        needed = _read_end(case)
    layout = _layout(case)
    lost = case.xstate_bv & ~layout.mask
    lost |= sum(s.component.bit for s in layout if s.end > length) & case.xstate_bv
    return 0 if lost else max(0, needed - length)


def _case(
    data: Buffer,
    model: CpuModel,
    target: Target,
    *,
    xcr0: int | None,
    xss: int | None,
    rfbm: int | None,
    mxcsr_mask: int | None = None,
    xfd: int = 0,
) -> _Case:
    if not isinstance(target, str) or target not in get_args(Target):
        raise XsaveError(f"{target!r} is no target: {', '.join(get_args(Target))}")
    view = view_of(data)
    require_model(model)
    check_mask(xfd, "IA32_XFD")
    for what, mask in (("XCR0", xcr0), ("IA32_XSS", xss), ("RFBM", rfbm)):
        if mask is not None:
            check_mask(mask, what)
    if mxcsr_mask is not None:
        check_mask(mxcsr_mask, "MXCSR_MASK", 32)
    if xcr0 is not None:
        check_user_mask(model, xcr0)
    if alien := (xss or 0) & ~model.supervisor_mask:
        said = f"IA32_XSS {hex_mask(xss or 0)}: {model.label} has no {names(model, alien)} there"
        raise MaskError(said, xss or 0)
    if fixed := xfd & sum(c.bit for c in model.components.values() if not c.xfd):
        said = f"IA32_XFD {hex_mask(xfd)}: {model.label} cannot disable {names(model, fixed)}"
        raise MaskError(said, xfd)
    xstate_bv, xcomp_bv = MASKS.unpack_from(view, HEADER_OFFSET)
    enabled = _enabled(model, target, xcr0, xss)
    return _Case(
        view=view,
        model=model,
        target=target,
        xstate_bv=xstate_bv,
        xcomp_bv=xcomp_bv,
        enabled=enabled,
        rfbm=enabled if rfbm is None or target in ("ptrace", "kvm") else rfbm & enabled,
        mxcsr_mask=model.mxcsr_mask if mxcsr_mask is None else mxcsr_mask,
        xfd=xfd,
    )


def _enabled(model: CpuModel, target: Target, xcr0: int | None, xss: int | None) -> int:
    """The components that the restoring machine has enabled for this target."""
    enabled = model.xcr0 if xcr0 is None else xcr0
    if target == "xrstors":
        enabled |= model.xss if xss is None else xss
    return enabled


def _fault(rule: str, message: str, offset: int | None = None) -> Fault:
    """``offset`` where the rule does not say which field of the header breaks it."""
    said = RULES[rule]
    return Fault(rule, said.offset if offset is None else offset, message, said.source, said.remedy)


def _instruction(case: _Case, address: int | None) -> Iterator[Fault]:
    """XRSTOR's and XRSTORS's checks, in the order in which a processor makes them.

    Seen on Intel processors: alignment; XCOMP_BV, by which the compacted form reads; memory; the
    rest of the header; XFD; MXCSR.
    """
    if case.target == "xrstors" and "xsaves" not in case.model.instructions:
        yield _fault("no-xsaves", f"{case.model.label} has no XRSTORS", 0)
        return
    if address is not None and address % 64:
        yield _fault("alignment", f"the address {address:#x} is not a multiple of 64", 0)
    form = list(_form(case))
    yield from form
    end, length = _read_end(case), len(case.view)
    if not form and end > length:
        said = f"the restore reads up to byte {end}, but the buffer ends at {length}"
        yield _fault("memory-ends", said, length)
    yield from _header(case)
    if armed := case.rfbm & case.xstate_bv & case.xfd:
        said = f"XSTATE_BV has {case.names(armed)}, disabled by IA32_XFD {hex_mask(case.xfd)}"
        yield _fault("xfd-armed", said)
    if case.rfbm & (case.xstate_bv & SSE if case.compacted else SSE | _AVX):
        yield from _mxcsr(case, "mxcsr")


def _values(case: _Case) -> Iterator[Fault]:
    """The values of components that the instruction loads and refuses, each where it stands."""
    for slot in _layout(case):
        component = slot.component
        if not component.bit & case.xstate_bv & case.rfbm or component.illegal != "fault":
            continue
        rule = "supervisor" if component.supervisor else "illegal-value"
        for found in illegal_values(component, bytes(case.view[slot.origin : slot.end])):
            yield _fault(rule, found.message, slot.origin + found.offset)


def _form(case: _Case) -> Iterator[Fault]:
    """What keeps the form from telling where the instruction reads."""
    if not case.compacted:
        if case.target == "xrstors":
            yield _fault("xrstors-form", "XCOMP_BV bit 63 is clear")
    elif "xsavec" not in case.model.instructions:
        yield _fault("xcomp-bv-no-xsavec", f"{case.model.label} has no compacted format")
    elif outside := case.xcomp_bv & ~COMPACTED & ~case.enabled:
        said = f"XCOMP_BV has {case.names(outside)}, outside the enabled {hex_mask(case.enabled)}"
        yield _fault("xcomp-bv-xcr0", said)


def _header(case: _Case) -> Iterator[Fault]:
    xcomp_bv = hex_mask(case.xcomp_bv)
    if case.compacted:
        outside = case.xstate_bv & ~(case.xcomp_bv & ~COMPACTED)
        if outside and "xsavec" in case.model.instructions:
            said = f"XSTATE_BV has {case.names(outside)}, which XCOMP_BV {xcomp_bv} gives no place"
            yield _fault("xstate-bv-xcomp-bv", said)
    elif case.target == "xrstor":
        if case.xcomp_bv:
            yield _fault("xcomp-bv-form", f"XCOMP_BV is {xcomp_bv}: not 0, and bit 63 is clear")
        yield from _outside(case, "xstate-bv-xcr0", "XCR0")
    yield from _reserved(case, "header-16-23", _RESERVED, _RESERVED + 8)
    if case.compacted:
        yield from _reserved(case, "header-24-63", _RESERVED + 8, EXTENDED_OFFSET)


def _linux(case: _Case) -> Iterator[Fault]:
    """The checks of ptrace and KVM, in the kernel's order."""
    length, size = len(case.view), _linux_size(case)
    if case.target == "ptrace" and length % _UNIT:
        yield _fault("ptrace-length", f"{length} bytes are no multiple of {_UNIT}", length)
    if length < size:
        yield _fault("linux-size", f"{length} bytes, {size} are needed", length)
    yield from _outside(case, "linux-xstate-bv", "the mask")
    if dynamic := case.xstate_bv & case.enabled & case.xfd:
        why = "which the task has not used yet" if case.target == "ptrace" else "not permitted"
        yield _fault("linux-dynamic", f"XSTATE_BV has {case.names(dynamic)}, {why}")
    if case.xcomp_bv:
        yield _fault("linux-compacted", f"XCOMP_BV is {hex_mask(case.xcomp_bv)}, not 0")
    yield from _reserved(case, "linux-header", _RESERVED, EXTENDED_OFFSET)
    if case.xstate_bv & (X87 | SSE | _AVX):
        yield from _mxcsr(case, "linux-mxcsr")


def _outside(case: _Case, rule: str, what: str) -> Iterator[Fault]:
    if outside := case.xstate_bv & ~case.enabled:
        enabled = hex_mask(case.enabled)
        yield _fault(rule, f"XSTATE_BV has {case.names(outside)}, outside {what} {enabled}")


def _linux_size(case: _Case) -> int:
    """How many bytes ptrace or KVM reads, at least.

    A virtual machine without permission for the dynamic components has KVM read struct kvm_xsave
    alone, whatever the host has enabled; one with state of them has it.
    """
    # A frame's mask lacks what its task has not used; the kernel's is an XCR0.
    user = legal_whole(case.model, case.enabled & case.model.user_mask)
    whole = standard(case.model, user).size
    if case.target == "ptrace":
        return whole
    dynamic = dynamic_mask(case.model, user)
    if (
        not case.xstate_bv & dynamic & ~case.xfd
        and standard(case.model, user & ~dynamic).size <= KVM_XSAVE_SIZE
    ):
        return KVM_XSAVE_SIZE
    return max(whole, KVM_XSAVE_SIZE)


def _reserved(case: _Case, rule: str, start: int, end: int) -> Iterator[Fault]:
    found = [at for at in range(start, end) if case.view[at]]
    if found:
        first = found[0]
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        said = f"header byte {first - HEADER_OFFSET}{more} is not 0 ({case.view[first]:#04x})"
        yield _fault(rule, said, first)


def _mxcsr(case: _Case, rule: str) -> Iterator[Fault]:
    (mxcsr,) = _U32.unpack_from(case.view, MXCSR_OFFSET)
    if reserved := mxcsr & ~case.mxcsr_mask:
        bits = f"{hex_mask(reserved)} outside MXCSR_MASK {hex_mask(case.mxcsr_mask)}"
        yield _fault(rule, f"MXCSR {mxcsr:#010x} has bits {bits}", MXCSR_OFFSET)


def _layout(case: _Case) -> Layout:
    """Where components stand, as far as the model knows them."""
    user, supervisor = case.model.user_mask, case.model.supervisor_mask
    if case.compacted:
        return compacted(case.model, case.xcomp_bv & ~COMPACTED & (user | supervisor))
    return standard(case.model, case.enabled & user)


def _read_end(case: _Case) -> int:
    """The first byte that the instruction does not read; every place is known to the model."""
    ends = [slot.end for slot in _layout(case) if slot.component.bit & case.rfbm]
    return max([EXTENDED_OFFSET, *ends])
