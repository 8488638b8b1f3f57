# SPDX-License-Identifier: MIT
"""Several CPUs by one word: a glob of models' names, all of them, or a folder of CPUID dumps."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from xsaveschema import cpuid
from xsaveschema.catalog import Catalog
from xsaveschema.cli.inputs import is_dump_folder
from xsaveschema.cli.models import is_like
from xsaveschema.cli.output import note
from xsaveschema.cpuid.formats import HEAD
from xsaveschema.errors import XsaveError, plain
from xsaveschema.identify.named import is_path, load_model, model_of_dump
from xsaveschema.io import read_regular
from xsaveschema.language.files import SUFFIXES
from xsaveschema.model import CpuModel

ALL: Final = "all"
"""The word for every model of the catalogue."""
MAX_FILES: Final = 4096
"""A folder of dumps has no more; past it stands somebody's home, or malice."""
_SHOWN: Final = 4  # files and CPUs that a note names
_GLOB: Final = re.compile(r"[*?\[]")


class _NotRegularError(XsaveError):
    """A file of a folder that is none: a FIFO, a device, a folder."""


@dataclass
class Fleet:
    """CPUs by the words that name them.

    ``told`` are those of a model's file: unlike of ``host`` and of dumps, of which it is known, of
    these some parts may lack what is ``optional``. ``cut_off`` are dumps without sub-leaf 1, which
    count as CPUs without IA32_XSS and XSAVEC. ``passed_over`` are the files of folders that are no
    CPUID dumps.
    """

    cpus: dict[str, CpuModel] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    cut_off: list[str] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)

    @property
    def optional(self) -> dict[str, list[str]]:
        """By CPU, the components it has enabled that some parts of the model lack."""
        return {
            word: names for word in sorted(self.told) if (names := [*_optional(self.cpus[word])])
        }


def _optional(model: CpuModel) -> Iterator[str]:
    enabled = model.xcr0 | model.xss
    return (
        c.name for c in model.components.values() if c.optional == "present" and c.bit & enabled
    )


def load_fleet(words: Iterable[str], catalog: Catalog) -> Fleet:
    """The CPUs that words mean: each what ``load_model`` takes, a glob, ``all``, or a folder.

    A glob (``'zen*'``) is what ``models`` takes. Of a folder every CPUID dump counts,
    and every folder in it that ``hwloc-gather-cpuid`` made; no others are looked into. A dump that
    cannot be read or believed is an error: a host that is left out makes every answer wrong.
    Raises what ``load_model`` raises; XsaveError for a glob that no model is like, and for a folder
    without dumps or with more than MAX_FILES files.
    """
    fleet = Fleet()
    for word in words:
        there = os.path.lexists(word)
        if word in catalog:
            _add(fleet, word, catalog.model(word))
        elif word == ALL or (_GLOB.search(word) and not there):
            found = [m for m in catalog.models() if word == ALL or is_like(m, word.casefold())]
            if not found:
                raise XsaveError(f"{plain(word)}: no model of the catalogue is like that")
            for model in found:
                _add(fleet, model.name, model)
        elif is_path(word) and Path(word).is_dir() and not is_dump_folder(word):
            _add_folder(fleet, word, catalog)
        else:
            _add_one(fleet, word, catalog)
    return fleet


def note_of_dumps(fleet: Fleet) -> None:
    """Say which files count for nothing, and of which CPUs not all is known."""
    if fleet.passed_over:
        note(f"no CPUID dump, and passed over: {some(fleet.passed_over)}")
    if fleet.cut_off:
        said = f"sub-leaf 1 is not in {some(fleet.cut_off)}"
        note(f"{said}: taken for CPUs without IA32_XSS, xsaveopt, xsavec, ...")


def some(words: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return ", ".join(words[:_SHOWN]) + more


def _add_one(fleet: Fleet, word: str, catalog: Catalog) -> None:
    """What ``load_model`` takes; what a dump that is cut off does not tell, a CPU does not have."""
    if word.endswith(SUFFIXES) or not (is_path(word) and os.path.lexists(word)):
        model = load_model(word, catalog)
        _add(fleet, word, model, told=not model.host)
        return
    records = list(cpuid.read(word))
    model = model_of_dump(records, word, catalog)
    if any(record.xss is None for record in records):
        model = replace(model, instructions=frozenset())
        fleet.cut_off.append(word)
    _add(fleet, word, model, told=False)


def _add(fleet: Fleet, word: str, model: CpuModel, *, told: bool = True) -> None:
    fleet.cpus[word] = model
    if told:
        fleet.told.add(word)


def _add_folder(fleet: Fleet, folder: str, catalog: Catalog) -> None:
    found: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if len(found) == MAX_FILES:
                raise XsaveError(
                    f"{plain(folder)}: more than {MAX_FILES} files: no folder of dumps"
                )
            found.append(entry.name)
    dumps, refused = 0, []
    for name in sorted(found):
        path = os.path.join(folder, name)  # noqa: PTH118 - as the user wrote it, ./ and all
        try:
            if not _is_a_dump(path):
                fleet.passed_over.append(path)
                continue
            _add_one(fleet, path, catalog)
        except XsaveError as error:
            refused.append(": ".join([*reversed(getattr(error, "__notes__", ())), str(error)]))
        dumps += 1
    if not dumps:
        raise XsaveError(f"{plain(folder)}: no file in this folder is a CPUID dump")
    if refused:
        raise XsaveError(
            f"{plain(folder)}: {len(refused)} of {dumps} dumps cannot be used, and a host that is "
            "left out makes the answer wrong: move them out of the folder, and name their CPUs' "
            "models beside it\n" + "\n".join(f"  {each}" for each in refused)
        )


def _is_a_dump(path: str) -> bool:
    if Path(path).is_dir():
        return is_dump_folder(path)
    if path.endswith(SUFFIXES):
        return False
    try:
        return cpuid.is_dump(read_regular(path, HEAD, _NotRegularError))
    except _NotRegularError:
        return False
    except OSError as error:
        raise XsaveError(f"{plain(path)}: {error.strerror}; it may be a host's dump") from None
