# SPDX-License-Identifier: MIT
"""The formats of CPUID dumps: texts with a row a line, XML, JSON; and which one a text is of."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from typing import Final, Protocol

from xsaveschema.cpuid.record import CpuidRecord
from xsaveschema.errors import CpuidDumpError
from xsaveschema.plugins import Plugin, asked, given, loaded

GROUP: Final = "xsaveschema.dumps"
"""The entry points by which a package adds formats; each loads a :class:`DumpFormat`."""
HEAD: Final = 1 << 16
"""By so many characters a format is recognised."""


class DumpFormat(Protocol):
    """A format of dumps; what is wrong with a text is a CpuidDumpError."""

    NAME: str

    def recognises(self, head: str) -> bool:
        """Whether a text that begins like this is of the format."""
        ...

    def read(self, text: str, source: str) -> Iterator[CpuidRecord]:
        """Yield one record for each kind of core."""
        ...


def known() -> tuple[DumpFormat, ...]:
    """Every format of the package, imported when first asked for."""
    from xsaveschema.cpuid.formats import firecracker
    from xsaveschema.cpuid.formats.hwloc import HWLOC
    from xsaveschema.cpuid.formats.texts import AIDA64, CPUID_R, LIBCPUID, TABLE, TYCHO
    from xsaveschema.cpuid.formats.xml import LIBVIRT, RJCP

    return (AIDA64, CPUID_R, firecracker, HWLOC, LIBCPUID, LIBVIRT, RJCP, TABLE, TYCHO)


def knowing(head: str) -> list[DumpFormat]:
    """The formats that a text which begins like this may be of: the package's own, if any is.

    Those of other packages are asked for what no own one knows, as readers of artefacts are.
    """
    own: list[DumpFormat] = [each for each in known() if each.recognises(head)]
    return own or [each for each in _plugins() if each.recognises(head)]


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
        made = partial(self._plugin.made.read, text, source)
        fault = partial(CpuidDumpError, source=source)
        found = False
        for record in given(self._plugin, made, CpuidRecord, _whole, fault):
            found = True
            yield record
        if not found:
            raise fault(f"the plug-in {self._plugin.title} finds no CPU in it")


def _whole(record: CpuidRecord) -> bool:
    rows = [(number, *row) for number, row in record.leaf_0xd.items()]
    return (
        all(isinstance(text, str) for text in (record.vendor, record.label, *record.notes))
        and isinstance(record.signature, int | None)
        and all(len(row) == 5 and all(isinstance(n, int) for n in row) for row in rows)
    )


@cache
def _plugins() -> tuple[DumpFormat, ...]:
    """The formats of other packages."""
    needs = ("NAME", "recognises", "read")
    return tuple(_PluggedIn(plugin) for plugin in loaded(GROUP, needs))


def recognise(text: str, source: str) -> DumpFormat:
    """Find the one format of a text; CpuidDumpError where none or more than one fits."""
    found = knowing(text[:HEAD])
    if not found:
        names = ", ".join(each.NAME for each in (*known(), *_plugins()))
        raise CpuidDumpError(f"not a CPUID dump of a known format ({names})", source)
    if len(found) > 1:
        names = " and ".join(each.NAME for each in found)
        raise CpuidDumpError(f"the file mixes formats: {names}", source)
    return found[0]
