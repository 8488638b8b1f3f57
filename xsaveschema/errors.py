# SPDX-License-Identifier: MIT
"""The errors of xsaveschema: one base class, and what a program needs as attributes.

Every error is an :class:`XsaveError`. Its text is one message for a person: what is wrong, where,
and what to do about it. The attributes carry the same facts for a program.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from xsaveschema.words import hex_mask as hex_mask
from xsaveschema.words import plain as plain

_LONGEST: Final = 80  # characters of a word that are compared: the time grows with their square


def near(word: str, known: Iterable[str], most: int = 1) -> list[str]:
    """The known words that look like this one, the most alike first."""
    from difflib import get_close_matches  # what few runs need takes long to import

    word, known = word[:_LONGEST], [*known]
    return get_close_matches(word, known, most) or get_close_matches(word.lower(), known, most)


def meant(word: str, known: Iterable[str], most: int = 3) -> str:
    """``did you mean zen4 or zen5?``; nothing where no known word is like this one."""
    return _suggested(near(word, known, most))


def _suggested(words: Iterable[str]) -> str:
    said = " or ".join(words)
    return f"did you mean {said}?" if said else ""


@dataclass(frozen=True, slots=True)
class Fault:
    """One rule that an area breaks.

    ``rule`` is a stable identifier, ``offset`` the byte of the area where the offending value
    stands, ``message`` one sentence for a person. ``source`` says which document or measurement
    the rule is from, ``remedy`` what would mend it; both may be empty.
    """

    rule: str
    offset: int
    message: str
    source: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        return f"byte {self.offset}: {self.message} [{self.rule}]"


class XsaveError(Exception):
    """Base of every error that xsaveschema raises on purpose. It can be pickled and copied."""

    def __reduce__(self) -> tuple[Any, ...]:
        # By its state: what an error's constructor takes is not what it keeps.
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(kind: type[XsaveError], args: tuple[Any, ...], state: dict[str, Any]) -> XsaveError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class _LookupError(XsaveError, KeyError):
    """A name that leads nowhere, also as mappings have it. ``name`` is what was asked."""

    def __init__(self, message: str, name: str):
        super().__init__(message)
        self.name = name

    __str__ = Exception.__str__  # KeyError shows the repr of its text


class WrongTypeError(XsaveError, TypeError):
    """A value of a type that a function does not take; the message says what to pass."""


def described(value: object) -> str:
    """A value of the wrong type as a message shows it: its type, and it itself where short."""
    kind = type(value).__name__
    if value is None:
        return "None"
    return f"{kind} {value!r}" if isinstance(value, str | int | float) else f"a value of {kind}"


def items(values: object, what: str) -> list[Any]:
    """What an iterable gives; WrongTypeError, with ``what`` to pass, for anything else."""
    try:
        return list(values)  # type: ignore[call-overload,no-any-return]  # what it is here to judge
    except (TypeError, NotImplementedError):  # numpy's arrays and memory views have shapes
        raise WrongTypeError(f"{what}, not {described(values)}") from None


class TooShortError(XsaveError):
    """A buffer ends before something that it must hold.

    Attributes: ``needed`` and ``actual`` in bytes; ``component`` is the name of the first state
    component that does not fit, or None where no component is to blame.
    """

    def __init__(self, message: str, needed: int, actual: int, component: str | None = None):
        super().__init__(message)
        self.needed = needed
        self.actual = actual
        self.component = component


class HeaderError(XsaveError):
    """An XSAVE header that says nothing a reader could trust. ``faults`` lists what is wrong."""

    def __init__(self, faults: Iterable[Fault]):
        self.faults = tuple(faults)
        what = "; ".join(fault.message for fault in self.faults)
        super().__init__(
            f"illegal XSAVE header: {what} "
            "(check() tells what a processor makes of it; XsaveArea.parse(…, strict=False) or "
            "decode --lenient shows it)"
        )


class EvidenceError(XsaveError):
    """What a file says of the CPU that wrote it contradicts what somebody says of it.

    ``said`` is the name of the model that was named, ``facts`` what speaks against it. ``needed``:
    nobody would identify the CPU where none was named.
    """

    def __init__(self, said: str, facts: Iterable[str], *, needed: bool = False):
        self.said = said
        self.facts = tuple(facts)
        super().__init__(
            f"model {said} did not write this: {'; '.join(self.facts)}; name the CPU that did, "
            f"{'' if needed else 'or none, '}or insist with --assume-model (assume=True)"
        )


class MaskError(XsaveError):
    """A mask that the processor or the model does not allow. ``mask`` is the mask as given."""

    def __init__(self, message: str, mask: int):
        super().__init__(message)
        self.mask = mask


class UnknownComponentError(_LookupError):
    """A state component, register or field that nobody knows here."""


class UnknownSampleError(_LookupError):
    """A sample that does not come with the package."""


class NoPlaceError(_LookupError):
    """A component or register has no place in this area. ``mask`` is the layout's mask."""

    def __init__(self, message: str, name: str, mask: int):
        super().__init__(message, name)
        self.mask = mask


class MissingStateError(NoPlaceError):
    """State that is live, but whose bytes the file did not have. ``missing`` names the components.

    ``what`` is what was asked for: a register, a component, or the area's bytes. ``remedy`` is what
    to do where that is not what one does with an area.
    """

    def __init__(self, missing: Iterable[str], what: str, mask: int, remedy: str = ""):
        self.missing = tuple(missing)
        names = ", ".join(self.missing)
        be, them = ("is", "it") if len(self.missing) == 1 else ("are", "them")
        said = "" if names == what else f"{what}: "
        remedy = remedy or (
            f"a conversion with drop= (on the command line --drop {','.join(self.missing)}) goes "
            f"on without {them}, initialise() makes {them} initial"
        )
        super().__init__(f"{said}{names} {be} live, but not in this file; {remedy}", what, mask)


class StateLossError(XsaveError):
    """A conversion would drop live state. ``lost`` names every component; ``drop=`` permits it."""

    def __init__(self, lost: Iterable[str], where: str):
        self.lost = tuple(lost)
        super().__init__(
            f"live state would be lost: {', '.join(self.lost)} ({where}); "
            f"permit it with drop= (on the command line --drop {','.join(self.lost)})"
        )


class ValueRangeError(XsaveError):
    """A value that does not fit the field or register it is written to. ``name`` says which."""

    def __init__(self, message: str, name: str):
        super().__init__(message)
        self.name = name


class IdentificationError(XsaveError):
    """No model fits, or several fit with different layouts. ``candidates`` are their names."""

    def __init__(self, message: str, candidates: Iterable[str] = ()):
        super().__init__(message)
        self.candidates = tuple(candidates)


class ModelNotFoundError(XsaveError):
    """A model name that no schema directory has. ``near`` are names that look alike."""

    def __init__(self, name: str, near: Sequence[str]):
        self.name = name
        self.near = tuple(near)
        super().__init__(f"there is no model {name!r}; {_suggested(near) or 'see `models`'}")


class StructError(XsaveError):
    """Parsing or building with a Construct struct failed. ``path`` says at which member."""

    def __init__(self, message: str, path: str):
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


@dataclass(frozen=True, slots=True, order=True)
class SchemaFault:
    """One fault of a schema file, with its place.

    ``line`` and ``column`` count from 1 (0: the file as a whole); ``path`` is the place in the
    document (``components.avx.size``); ``text`` is the source line, ``width`` how many characters
    of it are meant.
    """

    file: str
    line: int
    column: int
    rule: str
    path: str
    message: str
    hint: str = ""
    text: str = ""
    width: int = 1

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        head = ": ".join(part for part in (place, self.path, self.message) if part)
        lines = [f"{head} [{self.rule}]"]
        if self.text:
            lines.append(f"    {self.text}")
            lines.append("    " + " " * (self.column - 1) + "^" * max(1, self.width))
        if self.hint:
            lines.append(f"    hint: {self.hint}")
        return "\n".join(lines)


class CpuidDumpError(XsaveError):
    """A CPUID dump that cannot be read, or that must not be believed.

    Attributes: ``message``; ``source``, the file's name as it was given, and ``line``, counted
    from 1 (None: the dump as a whole), say where.
    """

    def __init__(self, message: str, source: str = "", line: int | None = None):
        shown = plain(source)
        place = f"{shown}:{line}" if line is not None else shown
        super().__init__(f"{place}: {message}" if place else message)
        self.message = message
        self.source = source
        self.line = line


class SchemaError(XsaveError):
    """Schema files have faults. ``faults`` holds all of them, sorted by place."""

    def __init__(self, faults: Iterable[SchemaFault]):
        self.faults = tuple(sorted(set(faults)))
        super().__init__("\n".join(str(fault) for fault in self.faults))
