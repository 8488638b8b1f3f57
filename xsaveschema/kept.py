# SPDX-License-Identifier: MIT
"""What is computed of an object once, and kept as long as that object lives.

A cache of a module's own would hold every model that it ever saw: the layouts of a model refer to
it, and the fields of its components to the whole catalogue.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache, partial, update_wrapper
from typing import Any, TypeVar, cast

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Kept(dict[Any, Any]):
    """Results, by what they are of. They are no part of their object's value: copies are empty."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Kept, ()


class Keeper:
    """An object that keeps what is computed of it."""

    __slots__ = ("__dict__", "__weakref__")

    @cached_property
    def kept(self) -> Kept:
        """What other modules keep here, each under keys of its own."""
        return Kept()


def kept(most: int) -> Callable[[_Function], _Function]:
    """Keep up to ``most`` results of a function with its first argument, as ``lru_cache`` does.

    The other arguments are given by position, hashable, and refer to no other Keeper: it would live
    as long as the first.
    """

    def decorate(function: _Function) -> _Function:
        def found(owner: Any, *rest: Any) -> Any:
            results = owner.kept.get(function)
            if results is None:
                results = lru_cache(most)(partial(function, owner))
                results = owner.kept.setdefault(function, results)
            return results(*rest)

        return cast("_Function", update_wrapper(found, function))

    return decorate
