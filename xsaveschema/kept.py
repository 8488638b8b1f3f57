"""What is computed of an object once, and kept as long as that object lives.

A cache of a module's own would hold every model that it ever saw: the layouts of a model refer to
it, and the fields of its components to the whole catalogue.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache, partial, update_wrapper
from typing import Any, Concatenate, ParamSpec, TypeVar

_Owner = TypeVar("_Owner", bound="Keeper")
_Rest = ParamSpec("_Rest")
_Result = TypeVar("_Result")


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


def kept(
    most: int,
) -> Callable[
    [Callable[Concatenate[_Owner, _Rest], _Result]], Callable[Concatenate[_Owner, _Rest], _Result]
]:
    """Keep up to ``most`` results of a function with its first argument, as ``lru_cache`` does.

    The other arguments are hashable and refer to no other Keeper: it would live as long as the
    first.
    """

    def decorate(
        function: Callable[Concatenate[_Owner, _Rest], _Result],
    ) -> Callable[Concatenate[_Owner, _Rest], _Result]:
        def found(owner: _Owner, /, *rest: _Rest.args, **named: _Rest.kwargs) -> _Result:
            results = owner.kept.get(function)
            if results is None:
                results = lru_cache(most)(partial(function, owner))
                results = owner.kept.setdefault(function, results)
            result: _Result = results(*rest, **named)
            return result

        update_wrapper(found, function)
        return found

    return decorate
