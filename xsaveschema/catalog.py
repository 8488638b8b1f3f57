# SPDX-License-Identifier: MIT
"""The catalogue: CPU models by name, from the shipped schema files and a user's.

The shipped files come first, then the paths in the environment variable ``XSAVESCHEMA_PATH``,
then the caller's. A later path wins over an earlier one with the same names, and ``overrides``
says so.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, lru_cache, reduce
from operator import or_
from pathlib import Path

from xsaveschema.errors import (
    ModelNotFoundError,
    SchemaError,
    WrongTypeError,
    described,
    items,
    near,
)
from xsaveschema.kept import Keeper
from xsaveschema.language.files import PATH_VARIABLE, schema_files, user_files
from xsaveschema.language.library import Library
from xsaveschema.model import MXCSR_MASK, CpuModel, Field, Register
from xsaveschema.rules import Rules


class Catalog(Keeper):
    """CPU models by name, from the shipped schema files and those below ``paths``.

    The files of ``paths`` (files or folders) and of ``XSAVESCHEMA_PATH`` are read and checked at
    once, and SchemaError has all their faults; a shipped file is read when its model is first
    asked for. ``shipped=False`` leaves the shipped models out; components and registers stay.
    ``overrides`` has a line for each name that a file of the user's replaces. XsaveError where a
    path does not exist. Iteration and ``in`` are by the models' names, :meth:`model` takes aliases,
    too.
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
        *,
        shipped: bool = True,
    ):
        if isinstance(paths, str | os.PathLike):
            paths = [paths]
        given = items(paths, "pass paths of schema files")
        if wrong := [path for path in given if not isinstance(path, str | os.PathLike)]:
            raise WrongTypeError(f"pass paths of schema files, not {described(wrong[0])}")
        self._paths, self._with_shipped = given, shipped
        library = self._library = Library()
        library.add_shipped(models=shipped)
        for files in [*user_files(), *(schema_files(Path(path)) for path in given)]:
            library.add(files)
        faults = [*library.faults(library.given), *library.shared_faults(library.given)]
        if faults:
            raise SchemaError(faults)

    @property
    def overrides(self) -> tuple[str, ...]:
        """One line for each name that a later file defines anew: the name, and both files."""
        return self._library.overrides

    def __repr__(self) -> str:
        return f"<Catalog: {len(self)} models>"

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._library.models))

    def __len__(self) -> int:
        return len(self._library.models)

    def __bool__(self) -> bool:
        return True  # one without models is a catalogue, too, and not to be taken for none

    def __contains__(self, name: object) -> bool:
        return name in self._library.models

    def extended(self, paths: Iterable[str | os.PathLike[str]]) -> Catalog:
        """A catalogue of the same files and these behind them; errors are those of making one."""
        return Catalog([*self._paths, *paths], shipped=self._with_shipped)

    def names_in(self, path: str | os.PathLike[str]) -> tuple[str, ...]:
        """The names of the models that a file, or a folder's files, define here."""
        wanted = {os.path.realpath(file) for file in schema_files(Path(path))}
        models = self._library.models
        return tuple(name for name in self if os.path.realpath(models[name]) in wanted)

    def model(self, name: str) -> CpuModel:
        """The model of this name, or of this alias: ``spr``. A model's name wins over an alias.

        ModelNotFoundError suggests near names; SchemaError has faults.
        """
        if not isinstance(name, str):
            raise WrongTypeError(f'pass a model\'s name, "zen4", not {described(name)}')
        models = self._library.models
        path = models.get(name)
        if path is None:  # only now are all files read
            aliases = self._library.aliases()
            path = models.get(aliases.get(name, ""))
        if path is None:
            raise ModelNotFoundError(name, near(name, [*models, *aliases], 3))
        return self._library.model(path)

    def models(self) -> list[CpuModel]:
        """Every model, in order of vendor and name.

        SchemaError has all faults of all files, signatures that two models claim among them.
        """
        return list(self._models)

    @cached_property
    def _models(self) -> list[CpuModel]:
        library = self._library
        paths = list(library.models.values())
        users = [path for path in paths if not library.shipped(path)]
        faults = [*library.faults(paths), *library.shared_faults(users, against=paths)]
        if faults:
            raise SchemaError(faults)
        found = [self.model(name) for name in self]
        return sorted(found, key=lambda model: (model.vendor, model.name))

    @cached_property
    def user_components(self) -> int:
        """Every user component that a model of the catalogue has, as a bit mask."""
        return reduce(or_, (model.user_mask for model in self.models()), 0)

    @cached_property
    def mxcsr_masks(self) -> frozenset[int]:
        """Every MXCSR_MASK that a model of the catalogue has."""
        masks = (mask for found in self._library.mxcsr_masks.values() for mask in found)
        return frozenset({MXCSR_MASK, *masks})

    def mxcsr_mask(self, vendor: str) -> int:
        """The MXCSR_MASK that most models of a vendor have (by CPUID leaf 0's string)."""
        found = Counter(self._library.mxcsr_masks.get(vendor, (MXCSR_MASK,)))
        return found.most_common(1)[0][0]

    def component_names(self) -> Mapping[str, int]:
        """Every component that has a file, with its number."""
        names = self._library.component_names()
        return {name: number for name, number in names.items() if number is not None}

    def component_titles(self) -> Mapping[str, str]:
        """Every component that has a file without a fault, with its title."""
        return self._library.component_titles()

    def component_fields(self, name: str) -> tuple[Field, ...]:
        """The fields of a component that has a file; SchemaError if the file has faults."""
        return self._library.component_fields(name)

    def component_rules(self, name: str) -> Rules:
        """The rules of a component, none without a file; SchemaError if the file has faults."""
        return self._library.component_rules(name)

    def registers(self) -> Mapping[str, Register]:
        """Every whole register by name; a later file's definition wins."""
        return self._library.registers()

    def files(self) -> list[Path]:
        """Every schema file of the catalogue."""
        return self._library.files()


def require_catalog(catalog: object) -> Catalog:
    """This catalogue, or the default one for None; WrongTypeError for what is neither."""
    if catalog is None:
        return default_catalog()
    if not isinstance(catalog, Catalog):
        raise WrongTypeError(
            f"catalog: pass a Catalog, as Catalog(paths) makes one, not {described(catalog)}"
        )
    return catalog


@lru_cache(maxsize=4)
def _default(path: str) -> Catalog:
    return Catalog()


def default_catalog() -> Catalog:
    """The catalogue of the shipped files and those of ``XSAVESCHEMA_PATH``."""
    return _default(os.environ.get(PATH_VARIABLE, ""))
