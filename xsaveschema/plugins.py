# SPDX-License-Identifier: MIT
"""What other packages add, by entry points. One that fails is told of and left out, never fatal."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from xsaveschema.errors import XsaveError, plain

_MOST: Final = 300
"""Characters of an exception's text that are told."""


class PluginWarning(RuntimeWarning):
    """A plug-in that failed: it is left out."""


class Terminated(SystemExit):
    """The program was told to end (SIGTERM), whoever runs just then."""


class Plugin(NamedTuple):
    """What an entry point gave: ``made`` is the object, ``title`` what messages call it."""

    made: Any
    title: str

    def tell(self, what: str, error: BaseException) -> None:
        """Warn that it failed, and at what."""
        tell(f"the plug-in {self.title} {what}: {described(error)}; it is left out")


def loaded(group: str, needs: tuple[str, ...]) -> Iterator[Plugin]:
    """The objects that a group's entry points name, in order of name, each once.

    A class is called. ``needs`` are the attributes that each must have.
    """
    # Most runs need no plug-in, and this takes longer to import than they take.
    from importlib.metadata import entry_points

    try:
        entries = {(entry.name, entry.value): entry for entry in entry_points(group=group)}
    except Exception as error:  # of any package that is installed, whatever it has to do with this
        tell(f"no plug-in of {group} is loaded, as entry points are damaged: {described(error)}")
        return
    for (name, value), entry in sorted(entries.items()):
        title = plain(f"{name} ({value}, {group})")
        try:
            made = entry.load()
            made = made() if isinstance(made, type) else made
            lacking = [name for name in needs if not hasattr(made, name)]
        except (Exception, SystemExit) as error:  # a program, where a library was expected
            pass_on(error)
            tell(f"the plug-in {title} cannot be loaded: {described(error)}")
            continue
        if lacking:
            tell(f"the plug-in {title} has no {', no '.join(lacking)}; it is left out")
            continue
        yield Plugin(made, title)


def asked(plugin: Plugin, question: Callable[[], object]) -> bool:
    """Whether a plug-in says yes; no, and a warning, where it raises."""
    try:
        return bool(question())
    except (Exception, SystemExit) as error:
        pass_on(error)
        plugin.tell("fails to recognise a file", error)
        return False


def given(
    plugin: Plugin,
    made: Callable[[], Iterable[Any]],
    wanted: type,
    whole: Callable[[Any], bool],
    fault: Callable[[str], XsaveError],
) -> Iterator[Any]:
    """What a plug-in makes of a file, each of the type ``wanted`` and ``whole``.

    XsaveErrors and OSErrors are about the file, and pass. Any other exception is the plug-in's own
    fault: a ``fault`` that names it, with the exception as its cause.
    """
    try:
        for each in made():
            if not isinstance(each, wanted):
                raise TypeError(f"it yields {type(each).__name__}, not {wanted.__name__}")
            if not whole(each):
                raise TypeError(f"it yields a {wanted.__name__} with values of a wrong type")
            yield each
    except (XsaveError, OSError):
        raise
    except (Exception, SystemExit) as error:
        pass_on(error)
        raise fault(f"the plug-in {plugin.title} fails: {described(error)}") from error


def pass_on(error: BaseException) -> None:
    """Raise again what is no fault of a plug-in's."""
    if isinstance(error, Terminated):
        raise error


def tell(message: str) -> None:
    """Warn once of each thing that is wrong with a plug-in."""
    warnings.warn(message, PluginWarning, stacklevel=2)


def described(error: BaseException) -> str:
    """An exception in one line that any terminal may have."""
    try:
        text = f"{type(error).__name__}: {error}".removesuffix(": ")
    except Exception:  # it cannot even say what it is
        text = type(error).__name__
    return plain(text if len(text) <= _MOST else f"{text[:_MOST]}...")
