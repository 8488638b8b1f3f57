"""What other packages add, by entry points. One that fails is told of and left out, never fatal."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from xsaveschema.errors import plain


class PluginWarning(RuntimeWarning):
    """A plug-in that failed: it is left out."""


class Plugin(NamedTuple):
    """What an entry point gave: ``made`` is the object, ``title`` what messages call it."""

    made: Any
    title: str

    def tell(self, what: str, error: Exception) -> None:
        """Warn that it failed, and at what."""
        tell(f"the plug-in {self.title} {what}: {described(error)}; it is left out")


def loaded(group: str, needs: tuple[str, ...]) -> Iterator[Plugin]:
    """The objects that a group's entry points name, in order of name; a class is called.

    ``needs`` are the attributes that each must have.
    """
    # Most runs need no plug-in, and this takes longer to import than they take.
    from importlib.metadata import entry_points

    for entry in sorted(entry_points(group=group), key=lambda entry: (entry.name, entry.value)):
        title = plain(f"{entry.name} ({entry.value}, {group})")
        try:
            made = entry.load()
            made = made() if isinstance(made, type) else made
            lacking = [name for name in needs if not hasattr(made, name)]
        except Exception as error:
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
    except Exception as error:
        plugin.tell("fails to recognise a file", error)
        return False


def tell(message: str) -> None:
    """Warn once of each thing that is wrong with a plug-in."""
    warnings.warn(message, PluginWarning, stacklevel=2)


def described(error: Exception) -> str:
    """An exception in one line that any terminal may have."""
    return plain(f"{type(error).__name__}: {error}")
