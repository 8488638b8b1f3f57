# SPDX-License-Identifier: MIT
"""How much stack a signal takes under Linux on a CPU, by its parts: frames, MINSIGSTKSZ, SIGSTKSZ.

A frame is put together from the top of the stack down (arch/x86/kernel/signal.c, get_sigframe):
the XSAVE area in the standard format at a multiple of 64, with the second magic word behind it; in
32-bit frames an FSAVE image in front; then siginfo and ucontext. AT_MINSIGSTKSZ (Linux 5.14) is the
kernel's upper bound for every kind of frame (init_sigframe_size). All of it grows with XCR0, which
2048 and 8192 bytes, the constants of signal.h, do not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from xsaveschema.errors import MaskError, hex_mask
from xsaveschema.layout import Layout, check_user_mask, standard
from xsaveschema.model import EXTENDED_OFFSET, SSE, X87, CpuModel, require_model
from xsaveschema.traces import FSAVE_SIZE

MINSIGSTKSZ: Final = 2048
"""The constant of signal.h, which is the least that sigaltstack takes."""
SIGSTKSZ: Final = 8192
"""The constant of signal.h for a usual signal stack."""

_SINCE: Final = {
    "x87": "", "sse": "", "avx": "", "bndregs": "", "bndcsr": "", "opmask": "", "zmm_hi256": "",
    "hi16_zmm": "", "pkru": "", "tilecfg": "5.16", "tiledata": "5.16", "apx": "6.16",
}  # fmt: skip
"""The user components that Linux enables (XFEATURE_MASK_USER_SUPPORTED), and from which release on
where that is later than AT_MINSIGSTKSZ."""
_MAGIC2_SIZE: Final = 4
_AREA_ALIGNMENT: Final = 64
_FRAME_ALIGNMENT: Final = 16
_SIGFRAME_IA32: Final = 736
"""Bytes of struct sigframe_ia32 as a 64-bit kernel has it, an unused FXSAVE image among them."""
_RT_SIGFRAME: Final = 440
_RT_SIGFRAME_IA32: Final = 268


class Part(NamedTuple):
    """A part of a frame or of the kernel's bound: ``size`` in bytes; alignment at its most."""

    name: str
    size: int
    says: str


@dataclass(frozen=True)
class SignalFrame:
    """One kind of signal frame: the most that it takes of a stack, from its top down.

    ``bits`` are 64 or 32; ``siginfo`` is whether it has siginfo and ucontext (64-bit frames always
    do; in a 32-bit one the handler has SA_SIGINFO). ``layout`` is the standard layout of the area
    in it, whose mask is the frame's ``xfeatures``.
    """

    bits: int
    siginfo: bool
    layout: Layout

    @property
    def xstate_size(self) -> int:
        """Bytes of the XSAVE area, as the frame's own words say them."""
        return self.layout.size

    @property
    def _record(self) -> Part:
        if self.bits == 64:
            return Part("record", _RT_SIGFRAME, "rt_sigframe: ucontext, siginfo")
        if self.siginfo:
            return Part("record", _RT_SIGFRAME_IA32, "rt_sigframe_ia32: siginfo, ucontext")
        return Part("record", _SIGFRAME_IA32, "sigframe_ia32: sigcontext, an unused FXSAVE image")

    def taken(self, top: int) -> int:
        """The bytes between ``top``, where the stack is before the signal, and the handler's start.

        ``top`` is an address: the end of an alternate stack, or the stack pointer less the 128
        bytes of the red zone of 64-bit code. The handler's own frame comes below.
        """
        area = (top - self.xstate_size - _MAGIC2_SIZE) & -_AREA_ALIGNMENT
        record = area - self._record.size
        if self.bits == 64:
            return top - ((record & -_FRAME_ALIGNMENT) - 8)
        return top - (((record - FSAVE_SIZE + 4) & -_FRAME_ALIGNMENT) - 4)

    @property
    def parts(self) -> tuple[Part, ...]:
        """What the frame is made of, from the top of the stack down; alignment at its most."""
        most = _AREA_ALIGNMENT - 1
        found = [
            Part("alignment", most, "at most, for the area is at a multiple of 64"),
            Part("magic2", _MAGIC2_SIZE, "FP_XSTATE_MAGIC2"),
            Part("xstate", self.xstate_size, "the XSAVE area"),
        ]
        if self.bits == 32:
            found.append(Part("fsave", FSAVE_SIZE, "an FSAVE image"))
        # The area being aligned, what aligns the rest is the same for every stack.
        whole = self.taken(self.xstate_size + _MAGIC2_SIZE) + most
        rest = whole - sum(part.size for part in found) - self._record.size
        return (*found, Part("padding", rest, "the stack pointer's alignment"), self._record)

    @property
    def components(self) -> dict[str, int]:
        """Bytes of the area by what they are for: the legacy region and header, each component.

        ``unused`` is what lies between components, where any does.
        """
        found = {"legacy region and header": EXTENDED_OFFSET}
        found |= {slot.name: slot.size for slot in self.layout if not slot.component.legacy}
        unused = self.xstate_size - sum(found.values())
        return found | ({"unused": unused} if unused else {})

    @property
    def size(self) -> int:
        """The most bytes that the frame takes, wherever the stack begins."""
        return sum(part.size for part in self.parts)

    @property
    def label(self) -> str:
        """The kind in words: ``64-bit``, ``32-bit``, ``32-bit, SA_SIGINFO``."""
        return f"{self.bits}-bit" + (", SA_SIGINFO" if self.bits == 32 and self.siginfo else "")

    def to_dict(self) -> dict[str, Any]:
        """For JSON: sizes in bytes, the mask a string."""
        return {
            "bits": self.bits,
            "siginfo": self.siginfo,
            "xfeatures": hex(self.layout.mask),
            "xstate_size": self.xstate_size,
            "size": self.size,
            "components": self.components,
            "parts": [part._asdict() for part in self.parts],
        }


@dataclass(frozen=True)
class SigStack:
    """What signals take of a stack on a CPU under Linux; sizes are in bytes.

    ``frames`` has a 64-bit frame, one with the dynamic components where there are any (Linux: once
    the task has permission and has used one; AMX's tiles), and with ``ia32`` the two 32-bit ones.
    ``left_out`` names user components of the mask that Linux does not enable; ``dynamic`` is a mask
    of components. ``ia32``: whether the kernel has IA32_EMULATION, as those of distributions have.
    """

    model: CpuModel
    frames: tuple[SignalFrame, ...]
    dynamic: int
    left_out: tuple[str, ...]
    ia32: bool

    @property
    def frame(self) -> SignalFrame:
        """A 64-bit task's frame as long as it has used no dynamic component."""
        return self.frames[0]

    @property
    def largest(self) -> SignalFrame:
        """A 64-bit task's frame with everything in it that it can have, dynamic components too."""
        return self.frames_64[-1]

    @property
    def frames_64(self) -> tuple[SignalFrame, ...]:
        """The frames of 64-bit tasks: one, or two where there are dynamic components."""
        return tuple(frame for frame in self.frames if frame.bits == 64)

    @property
    def frame_size(self) -> int:
        """The most bytes that a 64-bit frame takes, dynamic components in it."""
        return self.largest.size

    @property
    def minsigstksz_parts(self) -> tuple[Part, ...]:
        """What Linux adds up for AT_MINSIGSTKSZ: the worst of all kinds of frames in each part."""
        size, name = _RT_SIGFRAME, "rt_sigframe"
        if self.ia32:
            size, name = _SIGFRAME_IA32, "sigframe_ia32"
        found = [
            Part("record", size, f"{name}, the largest"),
            Part("padding", _FRAME_ALIGNMENT - 1, "what aligns the stack pointer, at most"),
            Part("xstate", self.largest.xstate_size, "the XSAVE area, dynamic components too"),
            Part("magic2", _MAGIC2_SIZE, "FP_XSTATE_MAGIC2"),
        ]
        if self.ia32:
            found.append(Part("fsave", FSAVE_SIZE, "the FSAVE image of 32-bit frames"))
        found.append(Part("alignment", _AREA_ALIGNMENT - 1, "what aligns the area, at most"))
        rounding = -sum(part.size for part in found) % _FRAME_ALIGNMENT
        return (*found, Part("rounding", rounding, "up to a multiple of 16"))

    @property
    def minsigstksz(self) -> int:
        """AT_MINSIGSTKSZ, and what sysconf(_SC_MINSIGSTKSZ) of glibc 2.34 and later says.

        Linux 5.14 and later; the same before and after permission for dynamic components.
        """
        return sum(part.size for part in self.minsigstksz_parts)

    @property
    def sigstksz(self) -> int:
        """sysconf(_SC_SIGSTKSZ) of glibc 2.34 and later."""
        return max(SIGSTKSZ, 4 * max(MINSIGSTKSZ, self.minsigstksz))

    @property
    def emulated_minsigstksz(self) -> int:
        """What glibc 2.34 and later takes for AT_MINSIGSTKSZ where an older kernel tells none.

        For 64-bit programs; glibc, dl_check_minsigstacksize.
        """
        record = _RT_SIGFRAME + 8 + _FRAME_ALIGNMENT - 1
        record -= record % _FRAME_ALIGNMENT
        return record + _AREA_ALIGNMENT - _FRAME_ALIGNMENT + self.largest.xstate_size + _MAGIC2_SIZE

    @property
    def sigaltstack_above(self) -> int | None:
        """What an alternate stack must exceed once a dynamic component is permitted, else ENOMEM.

        None without dynamic components: then Linux asks for 2048, whatever the frames take. The
        permission itself (ARCH_REQ_XCOMP_PERM) is ENOSPC while a thread's alternate stack is below
        ``minsigstksz``. Linux 5.16, sigaltstack_size_valid and validate_sigaltstack.
        """
        if not self.dynamic:
            return None
        bound = ("magic2", "fsave")
        return self.minsigstksz - sum(p.size for p in self.minsigstksz_parts if p.name in bound)

    @property
    def notes(self) -> tuple[str, ...]:
        """What depends on the kernel's release, and what its frames lack."""
        found = []
        if self.sigaltstack_above is not None:
            names = ", ".join(self.model.names_of(self.dynamic))
            said = f"sigaltstack refuses {self.sigaltstack_above} bytes and less (ENOMEM)"
            found.append(f"with permission for {names}, {said}")
        if self.left_out:
            found.append(f"{', '.join(self.left_out)}: not enabled by Linux, and in no frame")
        later: dict[str, list[str]] = {}
        for slot in self.largest.layout.by_number():
            if since := _SINCE[slot.name]:
                later.setdefault(since, []).append(slot.name)
        for since, those in later.items():
            found.append(f"{', '.join(those)}: in frames from Linux {since} on")
        return tuple(found)

    @property
    def constants(self) -> dict[str, int]:
        """The constants of signal.h, which were made for 512 bytes of FXSAVE, by name."""
        return {"MINSIGSTKSZ": MINSIGSTKSZ, "SIGSTKSZ": SIGSTKSZ}

    def short(self, stack: int) -> int:
        """How many bytes a signal stack of so many lacks for the largest 64-bit frame; 0: none.

        What the handler needs for itself comes on top. One byte above the frame is needed: Linux
        takes a frame that begins at a stack's first byte for an overflow.
        """
        return max(0, self.frame_size + 1 - stack)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: sizes in bytes, masks strings."""
        return {
            "model": self.model.label,
            "ia32": self.ia32,
            "minsigstksz": self.minsigstksz,
            "minsigstksz_parts": [part._asdict() for part in self.minsigstksz_parts],
            "sigstksz": self.sigstksz,
            "emulated_minsigstksz": self.emulated_minsigstksz,
            "sigaltstack_above": self.sigaltstack_above,
            "frame_size": self.frame_size,
            "frames": [frame.to_dict() for frame in self.frames],
            "dynamic": hex(self.dynamic),
            "left_out": list(self.left_out),
            "constants": {
                name: {"size": size, "short": self.short(size)}
                for name, size in self.constants.items()
            },
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        from xsaveschema.area.lines import text_of
        from xsaveschema.text import sigstack_lines

        return text_of(sigstack_lines(self))

    def __repr__(self) -> str:
        sizes = f"{self.frame_size} bytes, AT_MINSIGSTKSZ {self.minsigstksz}"
        return f"<SigStack {self.model.label}: {sizes}>"


def sigstack(model: CpuModel, xcr0: int | None = None, *, ia32: bool = True) -> SigStack:
    """What a signal takes of a stack under Linux on a CPU, and what MINSIGSTKSZ is there.

    ``xcr0`` is a mask of user components (default: the model's); any that has x87 and SSE, for
    Linux uses no XSAVE without both. What Linux does not enable is left out of it. ``ia32`` says
    whether the kernel has IA32_EMULATION. MaskError for bits that are no user component of the
    silicon, and for components that share bytes.
    """
    require_model(model)
    mask = model.xcr0 if xcr0 is None else xcr0
    check_user_mask(model, mask)
    if (X87 | SSE) & ~mask:
        said = f"XCR0 {hex_mask(mask)} on {model.label}: Linux uses no XSAVE without x87 and SSE"
        raise MaskError(said, mask)
    components = [c for c in model.components.values() if c.bit & mask]
    known = [c for c in components if c.name in _SINCE]
    dynamic = sum(c.bit for c in known if c.xfd)
    if "xfd" not in model.instructions:  # then Linux enables none (fpu__init_system_xstate)
        known, dynamic = [c for c in known if not c.bit & dynamic], 0
    enabled = sum(c.bit for c in known)
    always = standard(model, enabled & ~dynamic)
    frames = [SignalFrame(64, True, always)]
    if dynamic:
        frames.append(SignalFrame(64, True, standard(model, enabled)))
    if ia32:
        frames += [SignalFrame(32, False, always), SignalFrame(32, True, always)]
    left_out = tuple(c.name for c in components if not c.bit & enabled)
    return SigStack(model, tuple(frames), dynamic, left_out, ia32)
