"""Which reader knows a file: the package's own by magic numbers, then those of other packages."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from typing import Final

from xsaveschema.artefacts import (
    cloud_hypervisor,
    criu,
    elf,
    frame,
    kvm,
    libvirt_save,
    minidump,
    qcow2,
    qemu_stream,
    raw,
    xen,
)
from xsaveschema.artefacts.data import Data
from xsaveschema.artefacts.foreign import foreign
from xsaveschema.artefacts.reader import ArtefactError, Reader

GROUP: Final = "xsaveschema.readers"
"""The entry points by which a package adds readers; each loads a :class:`Reader`."""


_MARKED: Final[tuple[Reader, ...]] = (
    elf.READER,
    minidump.READER,
    criu.READER,
    qemu_stream.READER,
    libvirt_save.READER,
    qcow2.READER,
    xen.READER,
    cloud_hypervisor.READER,
    frame.READER,
)
"""By what is sure: magic numbers before structures."""


def recognise(data: Data, assume: bool = False) -> Reader:
    """The reader for these bytes; the raw reader where no other one knows them.

    ArtefactError for no bytes at all, and for a file that is known to hold no area, unless
    ``assume`` insists.
    """
    if not len(data):
        raise ArtefactError("is empty")
    for reader in _sure():
        if reader.recognises(data):
            return reader
    if not assume and (kind := foreign(data)):
        raise ArtefactError(f"is {kind.name}: {kind.way_out}")
    return kvm.READER if kvm.READER.recognises(data) else raw.READER


def readers() -> Iterator[Reader]:
    """Every reader but the raw one, in the order in which they are asked."""
    yield from _sure()
    yield kvm.READER


def _sure() -> Iterator[Reader]:
    """Those that tell their files by a mark."""
    yield from _MARKED
    yield from _plugins()


@cache
def _plugins() -> tuple[Reader, ...]:
    """The readers of other packages. One that does not load is told of and left out."""
    # Most files have a mark, and need no plug-in.
    from importlib.metadata import entry_points

    found: list[Reader] = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            reader = entry.load()
            found.append(reader() if isinstance(reader, type) else reader)
        except Exception as error:
            warnings.warn(
                f"the reader {entry.name} ({entry.value}) cannot be loaded: {error!r}",
                RuntimeWarning,
                stacklevel=2,
            )
    return tuple(found)
