# SPDX-License-Identifier: MIT
"""The XML of libvirt's ``cputestdata`` and of RJCP.DLL.CpuId.

Straight from expat rather than by ElementTree: it tells the line, and a document type declaration,
the way to every XML bomb, can be refused where it begins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from xsaveschema.cpuid.gather import Processor, records
from xsaveschema.cpuid.record import XSAVE_LEAF, CpuidRecord
from xsaveschema.errors import CpuidDumpError

_MAX_ELEMENTS: Final = 1 << 18  # ten times the rows of a dump with 128 logical CPUs
_NUMBER: Final = re.compile(r"0x[0-9a-f]{1,8}", re.IGNORECASE)
_ROW: Final = re.compile(
    r"(?P<leaf>[0-9a-f]{1,8});(?P<sub>[0-9a-f]{1,8});(?P<eax>[0-9a-f]{1,8}),(?P<ebx>[0-9a-f]{1,8}),"
    r"(?P<ecx>[0-9a-f]{1,8}),(?P<edx>[0-9a-f]{1,8})",
    re.IGNORECASE,
)


@dataclass(slots=True)
class _Element:
    """An XML element: its tag, attributes, line, children and the pieces of its own text."""

    tag: str
    attributes: dict[str, str]
    line: int
    children: list[_Element] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)


@dataclass(slots=True)
class XmlFormat:
    """A format that is known by an element, and what makes CPUs of the document's root."""

    NAME: str
    element: str
    processors: Callable[[_Element, str], Iterator[Processor]]

    def recognises(self, head: str) -> bool:
        """Whether a text that begins like this is of the format."""
        return re.search(rf"<{self.element}[\s>]", head) is not None

    def read(self, text: str, source: str) -> Iterator[CpuidRecord]:
        """Yield one record for each kind of core; CpuidDumpError."""
        return records(self.processors(_parse(text, source), source), source, self.NAME)


def _libvirt(root: _Element, source: str) -> Iterator[Processor]:
    """``<cpudata>`` of one CPU, each row ``<cpuid eax_in= ecx_in= eax= …/>``."""
    processor = Processor(source)
    for element in root.children:
        if element.tag == "cpuid":
            leaf, sub_leaf, eax, ebx, ecx, edx = (
                _number(element, name, source)
                for name in ("eax_in", "ecx_in", "eax", "ebx", "ecx", "edx")
            )
            processor.add(leaf, sub_leaf, (eax, ebx, ecx, edx), element.line)
    if not processor.empty:
        yield processor


def _number(element: _Element, name: str, source: str) -> int:
    value = element.attributes.get(name, "")
    if not _NUMBER.fullmatch(value):
        raise CpuidDumpError(f"{name}={value[:40]!r} is no 32-bit number", source, element.line)
    return int(value, 16)


def _rjcp(root: _Element, source: str) -> Iterator[Processor]:
    """``<register eax="0000000D" ecx="…">EAX,EBX,ECX,EDX</register>`` in each ``<processor>``.

    What its authors made of old AIDA64 texts, which number no sub-leaf, says ecx="00000000"
    throughout: where every row of leaf 0xD says sub-leaf 0, none says which it is.
    """
    cpus = [each for each in root.children if each.tag == "processor"]
    for number, cpu in enumerate(cpus):
        processor = Processor(source, number)
        for element in cpu.children:
            if element.tag == "register":
                given = element.attributes
                text = "".join(element.pieces).strip()
                row = f"{given.get('eax', '')};{given.get('ecx', '')};{text}"
                found = _ROW.fullmatch(row)
                if not found:
                    raise CpuidDumpError(f"damaged register {row[:80]!r}", source, element.line)
                leaf, sub_leaf, eax, ebx, ecx, edx = (int(each, 16) for each in found.groups())
                processor.add(leaf, sub_leaf, (eax, ebx, ecx, edx), element.line)
        told = [row.sub_leaf for row in processor.rows if row.leaf == XSAVE_LEAF]
        if len(told) > 1 and not any(told):
            processor.rows = [
                row._replace(sub_leaf=None) if row.leaf == XSAVE_LEAF else row
                for row in processor.rows
            ]
        yield processor


def _parse(text: str, source: str) -> _Element:
    """The root of a document; CpuidDumpError with the line."""
    from xml.parsers import expat

    parser = expat.ParserCreate()
    parser.buffer_text = True
    document = _Element("", {}, 0)
    open_elements = [document]
    room = _MAX_ELEMENTS

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal room
        room -= 1
        if room < 0:
            message = f"more than {_MAX_ELEMENTS} elements: this is no CPUID dump"
            raise CpuidDumpError(message, source, parser.CurrentLineNumber)
        element = _Element(tag, attributes, parser.CurrentLineNumber)
        open_elements[-1].children.append(element)
        open_elements.append(element)

    def doctype(*_: object) -> None:
        message = "a document type declaration, which no CPUID dump needs, is refused"
        raise CpuidDumpError(message, source, parser.CurrentLineNumber)

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _tag: open_elements.pop()
    parser.CharacterDataHandler = lambda data: open_elements[-1].pieces.append(data)
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        message = f"damaged XML: {expat.errors.messages[error.code]}"
        raise CpuidDumpError(message, source, error.lineno) from None
    return document.children[0]


LIBVIRT = XmlFormat("libvirt XML", "cpudata", _libvirt)
RJCP = XmlFormat("RJCP XML", "processor", _rjcp)
