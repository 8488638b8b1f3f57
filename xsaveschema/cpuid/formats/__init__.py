"""The formats of CPUID dumps, one module each.

A format's module has ``NAME``, ``recognises(head)`` for the first characters of a text, and
``read(text, source)``, which yields records or raises CpuidDumpError.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final, Protocol

from xsaveschema.cpuid.errors import CpuidDumpError
from xsaveschema.cpuid.record import CpuidRecord
from xsaveschema.errors import XsaveError
from xsaveschema.plugins import Plugin, asked, described, loaded

GROUP: Final = "xsaveschema.dumps"
"""The entry points by which a package adds formats; each loads a :class:`DumpFormat`."""
HEAD: Final = 1 << 16
"""By so many characters a format is recognised."""


class DumpFormat(Protocol):
    """What a format's module offers."""

    NAME: str

    def recognises(self, head: str) -> bool:
        """Whether a text that begins like this is of the format."""
        ...

    def read(self, text: str, source: str) -> Iterator[CpuidRecord]:
        """Yield one record for each kind of core."""
        ...


def known() -> tuple[DumpFormat, ...]:
    """Every format, the package's own first; imported when first asked for."""
    from xsaveschema.cpuid.formats import (
        aida64,
        cpuid_r,
        firecracker,
        hwloc,
        libcpuid,
        libvirt,
        rjcp,
        table,
        tycho,
    )

    own = (aida64, cpuid_r, firecracker, hwloc, libcpuid, libvirt, rjcp, table, tycho)
    return (*own, *_plugins())


class _PluggedIn:
    """A format of another package: what it raises is no end of the program."""

    def __init__(self, plugin: Plugin):
        self._plugin = plugin
        self.NAME = str(plugin.made.NAME)

    def recognises(self, head: str) -> bool:
        """What the format says; no, and a warning, where it raises."""
        return asked(self._plugin, lambda: self._plugin.made.recognises(head))

    def read(self, text: str, source: str) -> Iterator[CpuidRecord]:
        """The format's records. CpuidDumpError where it raises what formats do not raise."""
        try:
            for record in self._plugin.made.read(text, source):
                if not isinstance(record, CpuidRecord):
                    raise TypeError(f"it yields {type(record).__name__}, not CpuidRecord")
                yield record
        except XsaveError:
            raise
        except Exception as error:
            said = f"the plug-in {self._plugin.title} fails: {described(error)}"
            raise CpuidDumpError(said, source) from error


@cache
def _plugins() -> tuple[DumpFormat, ...]:
    """The formats of other packages."""
    needs = ("NAME", "recognises", "read")
    return tuple(_PluggedIn(plugin) for plugin in loaded(GROUP, needs))


def recognise(text: str, source: str) -> DumpFormat:
    """Find the one format of a text; CpuidDumpError where none or more than one fits."""
    found = [each for each in known() if each.recognises(text[:HEAD])]
    if not found:
        names = ", ".join(each.NAME for each in known())
        raise CpuidDumpError(f"not a CPUID dump of a known format ({names})", source)
    if len(found) > 1:
        names = " and ".join(each.NAME for each in found)
        raise CpuidDumpError(f"the file mixes formats: {names}", source)
    return found[0]
