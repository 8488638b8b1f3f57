"""XML elements with their lines, straight from expat.

Expat rather than ElementTree: it tells the line, and a document type declaration, the way to every
XML bomb, can be refused where it begins.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from xsaveschema.cpuid.errors import CpuidDumpError

_MAX_ELEMENTS: Final = 1 << 18  # ten times the rows of a dump with 128 logical CPUs


@dataclass(slots=True)
class Element:
    """An XML element: its tag, attributes, line, children and the pieces of its own text."""

    tag: str
    attributes: dict[str, str]
    line: int
    children: list[Element] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The element's own text."""
        return "".join(self.pieces)


def parse(text: str, source: str) -> Element:
    """Parse a document and return its root; CpuidDumpError with the line."""
    from xml.parsers import expat

    parser = expat.ParserCreate()
    parser.buffer_text = True
    document = Element("", {}, 0)
    open_elements = [document]
    room = _MAX_ELEMENTS

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal room
        room -= 1
        if room < 0:
            message = f"more than {_MAX_ELEMENTS} elements: this is no CPUID dump"
            raise CpuidDumpError(message, source, parser.CurrentLineNumber)
        element = Element(tag, attributes, parser.CurrentLineNumber)
        open_elements[-1].children.append(element)
        open_elements.append(element)

    def end(_tag: str) -> None:
        open_elements.pop()

    def characters(data: str) -> None:
        open_elements[-1].pieces.append(data)

    def doctype(*_: object) -> None:
        message = "a document type declaration, which no CPUID dump needs, is refused"
        raise CpuidDumpError(message, source, parser.CurrentLineNumber)

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = characters
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        message = f"damaged XML: {expat.errors.messages[error.code]}"
        raise CpuidDumpError(message, source, error.lineno) from None
    return document.children[0]
