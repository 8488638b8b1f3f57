"""Which reader knows a file: the package's own by magic numbers, then those of other packages."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Final

from xsaveschema.artefacts.reader import Reader

PID: Final = "pid:"
GROUP: Final = "xsaveschema.readers"
"""The entry points by which a package adds readers; each loads a :class:`Reader`."""

# By what is sure: magic numbers before structures, and what has no mark of its own at the end.
_MARKED: Final = ("elf", "minidump", "criu", "qemu_stream", "xen", "cloud_hypervisor", "frame")
_UNMARKED: Final = ("kvm",)


def recognise(data: memoryview) -> Reader:
    """The reader for these bytes; the raw reader where no other one knows them."""
    for reader in readers():
        if reader.recognises(data):
            return reader
    from xsaveschema.artefacts import raw

    return raw.READER


def readers() -> Iterator[Reader]:
    """Every reader but the raw one, in the order in which they are asked."""
    for name in _MARKED:
        yield _own(name)
    yield from _plugins()
    for name in _UNMARKED:
        yield _own(name)


@cache
def _own(name: str) -> Reader:
    reader: Reader = import_module(f"xsaveschema.artefacts.{name}").READER
    return reader


@cache
def _plugins() -> tuple[Reader, ...]:
    """The readers of other packages. One that does not load is told of and left out."""
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
