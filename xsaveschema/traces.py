# SPDX-License-Identifier: MIT
"""What its writer leaves in an area besides state: the mask of its system, its MXCSR_MASK.

No instruction writes bytes 464..511 of a standard area. Linux puts the mask of its user components
at byte 464 (for ptrace, cores and KVM), and ``struct _fpx_sw_bytes`` into the area of a signal
frame. Whatever else stands there is software's own, and says nothing. MXCSR_MASK the processor
stores itself, and CPUs of different vendors have different ones.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from xsaveschema.catalog import Catalog, require_catalog
from xsaveschema.model import (
    EXTENDED_OFFSET,
    HEADER_OFFSET,
    MXCSR_MASK,
    MXCSR_OFFSET,
    SSE,
    X87,
    XCR0_OFFSET,
    CpuModel,
)
from xsaveschema.reading import enabled_mask

FP_XSTATE_MAGIC1: Final = 0x46505853
"""What Linux puts at byte 464 of the area in a signal frame (struct _fpx_sw_bytes)."""
FP_XSTATE_MAGIC2: Final = 0x46505845
"""What stands behind that area, at its ``xstate_size``."""
KVM_XSAVE_SIZE: Final = 4096
"""Bytes of struct kvm_xsave, which is all that KVM_GET_XSAVE gives."""
FSAVE_SIZE: Final = 112
"""Bytes of the FSAVE image in front of the area of a 32-bit signal frame."""

WORDS: Final = Struct("<IIQI")
"""The words of a signal frame: magic1, extended_size, xfeatures, xstate_size."""
XFEATURES_OFFSET: Final = XCR0_OFFSET + 8

_U32: Final = Struct("<I")
_U64: Final = Struct("<Q")
_LEGACY: Final = X87 | SSE


class Shown(NamedTuple):
    """The user components that the writer's system had enabled, as it left them in the area.

    ``mask`` is a bit mask, ``at`` the byte where it stands; ``size`` is the xstate_size of a signal
    frame in bytes, None where the mask stands alone.
    """

    mask: int
    at: int
    size: int | None = None


def shown(view: memoryview, xstate_bv: int) -> Shown | None:
    """What a standard area of at least 576 bytes shows, whether a CPU has such components or not.

    A mask has x87 and SSE, covers XSTATE_BV and is followed by zeros to byte 511. A frame's words
    are whole, and the area ends at their xstate_size or is followed by the second magic word there.
    """
    (mask,) = _U64.unpack_from(view, XCR0_OFFSET)
    if not mask:
        return None
    if mask & 0xFFFF_FFFF == FP_XSTATE_MAGIC1:
        return _frame(view)
    return Shown(mask, XCR0_OFFSET) if enabled_mask(view, xstate_bv) else None


def credible(
    view: memoryview, xstate_bv: int, catalog: Catalog | None = None, model: CpuModel | None = None
) -> Shown | None:
    """What a standard area shows, if the catalogue's CPUs, or ``model``, have its components.

    The words of a signal frame always count. The catalogue is asked where ``model`` does not do.
    """
    found = shown(view, xstate_bv)
    own = model.user_mask if model else 0
    if found is None or found.size is not None or not found.mask & ~own:
        return found
    known = own | require_catalog(catalog).user_components
    return found if not found.mask & ~known else None


def _frame(view: memoryview) -> Shown | None:
    _, extended_size, xfeatures, size = WORDS.unpack_from(view, XCR0_OFFSET)
    ends = size == len(view) or (
        size + 4 <= len(view) and _U32.unpack_from(view, size)[0] == FP_XSTATE_MAGIC2
    )
    if (
        size < EXTENDED_OFFSET
        or not ends
        or extended_size - size not in (4, 4 + FSAVE_SIZE)
        or xfeatures & _LEGACY != _LEGACY
        or xfeatures >> 63
        or any(view[XCR0_OFFSET + WORDS.size : HEADER_OFFSET])
    ):
        return None
    return Shown(xfeatures, XFEATURES_OFFSET, size)


def mxcsr_mask_word(view: memoryview) -> int:
    """What stands in the area at the place of MXCSR_MASK, whoever wrote it."""
    mask: int = _U32.unpack_from(view, MXCSR_OFFSET + 4)[0]
    return mask


def mxcsr_mask_of(
    view: memoryview, model: CpuModel | None = None, catalog: Catalog | None = None
) -> int:
    """MXCSR_MASK as a processor stored it in the area; 0 where no processor did.

    Processors are ``model`` and those of the catalogue, which is asked where that does not do.
    """
    mask = mxcsr_mask_word(view)
    if mask in (0, MXCSR_MASK) or (model is not None and mask == model.mxcsr_mask):
        return mask
    return mask if mask in mxcsr_masks(catalog) else 0


def mxcsr_masks(catalog: Catalog | None = None) -> frozenset[int]:
    """Every MXCSR_MASK that a CPU of the catalogue has."""
    return require_catalog(catalog).mxcsr_masks


def of_kvm(view: memoryview, size: int | None = None) -> bool:
    """Whether this is ``struct kvm_xsave``: 4096 bytes, and a header as KVM writes it.

    The header is the standard format's, with zeros behind XSTATE_BV. ``size`` is how many bytes the
    area has where ``view`` is no more than its beginning.
    """
    if (len(view) if size is None else size) != KVM_XSAVE_SIZE or view[HEADER_OFFSET + 7] & 0x80:
        return False
    return not any(view[HEADER_OFFSET + 8 : EXTENDED_OFFSET])


def without_frame(data: bytes) -> bytes:
    """The area of a signal frame as an area of its own: a plain mask in place of the frame's words.

    Without its second magic word, which stands behind it, a frame's area is none.
    """
    found = shown(memoryview(data), 0)
    if found is None or found.size is None:
        return data
    return data[:XCR0_OFFSET] + found.mask.to_bytes(48, "little") + data[HEADER_OFFSET:]
