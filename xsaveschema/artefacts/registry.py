"""Which reader knows a file: the package's own by magic numbers, then those of other packages."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from typing import Any, Final

from xsaveschema.area import XsaveArea
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
from xsaveschema.artefacts.foreign import foreign
from xsaveschema.artefacts.reader import ArtefactError, Found, Options, Reader, Writer
from xsaveschema.artefacts.source import Data
from xsaveschema.plugins import Plugin, asked, given, loaded

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


class _PluggedIn:
    """A reader of another package: what it raises is no end of the program."""

    def __init__(self, plugin: Plugin):
        self._plugin = plugin
        self.name = str(plugin.made.name)
        self.title = str(plugin.made.title)

    def recognises(self, data: Data) -> bool:
        """What the reader says; no, and a warning, where it raises."""
        return asked(self._plugin, lambda: self._plugin.made.recognises(data))

    def read(self, data: Data, options: Options) -> Iterator[Found]:
        """The reader's areas. ArtefactError where it raises what readers do not raise."""
        areas = partial(self._plugin.made.read, data, options)
        return given(self._plugin, areas, Found, _whole, ArtefactError)


class _PluggedInWriter(_PluggedIn):
    """One that is a Writer, too."""

    def replace(self, data: Data, found: Found, area: XsaveArea) -> Iterator[tuple[int, bytes]]:
        """The writer's changes. ArtefactError where it raises what writers do not raise."""
        changes = partial(self._plugin.made.replace, data, found, area)
        return given(self._plugin, changes, tuple, _fits, ArtefactError)


def _whole(found: Found) -> bool:
    texts = (found.label, found.layout_source, *found.notes)
    return isinstance(found.area, XsaveArea) and all(isinstance(text, str) for text in texts)


def _fits(change: tuple[Any, ...]) -> bool:
    offset, data = change
    return isinstance(offset, int) and isinstance(data, bytes | bytearray | memoryview)


@cache
def _plugins() -> tuple[Reader, ...]:
    """The readers of other packages."""
    needs = ("name", "title", "recognises", "read")
    return tuple(
        (_PluggedInWriter if isinstance(plugin.made, Writer) else _PluggedIn)(plugin)
        for plugin in loaded(GROUP, needs)
    )
