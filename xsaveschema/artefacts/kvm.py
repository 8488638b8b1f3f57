# SPDX-License-Identifier: MIT
"""``struct kvm_xsave``: the 4096 bytes of KVM_GET_XSAVE, an area in the standard format.

The area is as long as its layout, the rest is zero; byte 464 has the host's XCR0 mask, which can
name TILEDATA although 4096 bytes have no room for it. KVM_GET_XSAVE2 gives longer areas, which are
as long as their layout: the raw reader takes those.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from xsaveschema.artefacts.layouts import Known, best, named
from xsaveschema.artefacts.raw import require_look
from xsaveschema.artefacts.reader import Data, Found, InPlace, Options
from xsaveschema.artefacts.source import MAX_AREA
from xsaveschema.errors import TooShortError
from xsaveschema.identify.match import identify
from xsaveschema.layout import standard
from xsaveschema.traces import KVM_XSAVE_SIZE, of_kvm

_ROOM: Final = 64 << 10
_LABEL: Final = "vCPU"


class KvmReader(InPlace):
    """One area, of one vCPU."""

    name = "kvm-xsave"
    title = "struct kvm_xsave of KVM_GET_XSAVE"

    def recognises(self, data: Data) -> bool:
        """Whether it has 4096 bytes, and a header as KVM writes it: standard, the rest zero."""
        return len(data) == KVM_XSAVE_SIZE and of_kvm(data[:])

    def read(self, data: Data, options: Options) -> Iterator[Found]:
        """The area. TooShortError names what is in use and beyond the 4096 bytes."""
        view = data[:]
        require_look(view, options)
        known = guest_layout(view, options)
        whole = standard(known.model, known.model.xcr0)
        if cut := [slot.name for slot in whole if slot.end > len(data)]:
            beyond = (
                f"{', '.join(cut)}: in XCR0, but beyond the {len(data)} bytes of struct kvm_xsave; "
                "KVM_GET_XSAVE2 gives all"
            )
            known = known._replace(notes=(*known.notes, beyond))
        try:
            yield known.found(view, options, _LABEL, 0)
        except TooShortError as error:
            raise TooShortError(
                f"{error}: struct kvm_xsave is too short for it; KVM_GET_XSAVE2 gives the whole",
                error.needed,
                error.actual,
                error.component,
            ) from None


def guest_layout(data: memoryview, options: Options) -> Known:
    """How an area of struct kvm_xsave is laid out; IdentificationError where models differ."""
    if options.model is not None:
        return named(data, options.model, options, guest=True)
    # As long as any layout: a host's mask may have TILEDATA, which the guest's area has not.
    padded = memoryview(bytes(data[:MAX_AREA]).ljust(_ROOM, b"\0"))
    match = identify(padded, catalog=options.catalog)
    said = f"{len(data)} bytes{match.shown.removeprefix(f'{_ROOM} bytes')}"
    return best(replace(match, shown=said), options.catalog)


READER: Final = KvmReader()
