# SPDX-License-Identifier: MIT
"""What Linux must be asked for before dynamic state components may be used, and what it costs.

Components that extended feature disable knows (``xfd``: AMX's TILEDATA) are enabled in XCR0, and
yet no task and no virtual machine has them until its process has asked; then buffers grow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from xsaveschema.area import XsaveArea
from xsaveschema.layout import check_mask, standard
from xsaveschema.model import CpuModel, require_model
from xsaveschema.traces import KVM_XSAVE_SIZE

ARCH_REQ_XCOMP_PERM: Final = 0x1023
"""arch_prctl's option by which a process asks for itself (Linux: uapi/asm/prctl.h, 5.16)."""
ARCH_REQ_XCOMP_GUEST_PERM: Final = 0x1025
"""The same for its virtual machines, before the first virtual CPU is made (5.17)."""


class Sizes(NamedTuple):
    """Bytes before permission was given and used, and after."""

    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Permission:
    """What must be asked for on ``model``: components by ``numbers``, none where it is false.

    A task asks by ``arch_prctl(ARCH_REQ_XCOMP_PERM, number)`` and has the component from its first
    use on; a process does by ``arch_prctl(ARCH_REQ_XCOMP_GUEST_PERM, number)`` for its virtual
    machines, before it makes the first virtual CPU (after that it is EBUSY). Sizes are in bytes:
    ``frame`` of the XSAVE area in a signal frame, ``kvm`` of what KVM_CAP_XSAVE2 tells,
    KVM_GET_XSAVE2 gives and KVM_SET_XSAVE reads. ``regset`` is ptrace's and a core's, which has
    every user component all the time. Source: Linux, xstate_request_perm, __xfd_enable_feature,
    kvm_vm_ioctl_check_extension.
    """

    model: CpuModel
    numbers: tuple[int, ...]
    frame: Sizes
    kvm: Sizes
    regset: int

    def __bool__(self) -> bool:
        return bool(self.numbers)

    @property
    def names(self) -> tuple[str, ...]:
        """The components by name."""
        return tuple(self.model.name_of(number) for number in self.numbers)

    @property
    def task(self) -> tuple[str, ...]:
        """The calls by which a process asks for its own tasks."""
        return tuple(self._calls("ARCH_REQ_XCOMP_PERM"))

    @property
    def guest(self) -> tuple[str, ...]:
        """The calls by which a process asks for its virtual machines."""
        return tuple(self._calls("ARCH_REQ_XCOMP_GUEST_PERM"))

    def _calls(self, option: str) -> Iterator[str]:
        for number in self.numbers:
            yield f"arch_prctl({option}, {number})"

    def to_dict(self) -> dict[str, Any]:
        """For JSON: names, arch_prctl's options as strings, numbers of components, bytes."""
        return {
            "components": list(self.names),
            "numbers": list(self.numbers),
            "task": {"option": hex(ARCH_REQ_XCOMP_PERM), "calls": list(self.task)},
            "guest": {"option": hex(ARCH_REQ_XCOMP_GUEST_PERM), "calls": list(self.guest)},
            "frame_size": self.frame._asdict(),
            "kvm_size": self.kvm._asdict(),
            "regset_size": self.regset,
        }


def permission(of: CpuModel | XsaveArea, mask: int | None = None) -> Permission:
    """Say which dynamic components a task or a virtual machine must ask Linux for.

    ``of`` is the CPU that runs it, or an area that shall be restored on the CPU that wrote it;
    ``mask`` the components that shall be used there, as an XSTATE_BV or a guest's XCR0 has them
    (default: all that the model has enabled; what an area has in use). Components that the model's
    XCR0 lacks cannot be asked for, nor any on a CPU without xfd, on which Linux enables none.
    WrongTypeError for what is neither, MaskError for no mask.
    """
    if isinstance(of, XsaveArea):
        model, wanted = of.model, of.xstate_bv
    else:
        require_model(of)
        model, wanted = of, of.xcr0
    if mask is not None:
        check_mask(mask, "mask")
        wanted = mask
    dynamic, enabled = dynamic_mask(model, model.xcr0), model.xcr0
    if "xfd" not in model.instructions:  # then Linux enables none (fpu__init_system_xstate)
        dynamic, enabled = 0, enabled & ~dynamic
    numbers = tuple(sorted(c.number for c in model.components.values() if c.bit & dynamic & wanted))
    without, whole = (standard(model, kept).size for kept in (enabled & ~dynamic, enabled))
    asked = whole if numbers else without
    return Permission(
        model=model,
        numbers=numbers,
        frame=Sizes(without, asked),
        kvm=Sizes(max(KVM_XSAVE_SIZE, without), max(KVM_XSAVE_SIZE, asked)),
        regset=whole,
    )


def dynamic_mask(model: CpuModel, xcr0: int) -> int:
    """The dynamic components that an XCR0 enables: permission is needed for each."""
    return sum(c.bit for c in model.components.values() if c.xfd) & xcr0
