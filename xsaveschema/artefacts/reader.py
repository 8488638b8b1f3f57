# SPDX-License-Identifier: MIT
"""What a reader of an artefact is: it recognises a file by its content and yields its areas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, runtime_checkable

from xsaveschema.area import XsaveArea
from xsaveschema.artefacts.source import ArtefactError as ArtefactError
from xsaveschema.artefacts.source import Data as Data
from xsaveschema.artefacts.source import Struct as Struct
from xsaveschema.catalog import Catalog, require_catalog
from xsaveschema.model import CpuModel, require_model

WHOLE: Final = "area"
"""The label of an area that is the whole file: messages name the file alone."""


Origin = Literal["told", "identified", "assembled", "host"]
"""Where a layout is from: the artefact or the user tells it; the catalogue's models were held
against the area; the artefact has no offsets, and the area was put together; it is this machine's.
"""


@dataclass(frozen=True, slots=True)
class Found:
    """One area in an artefact.

    ``label`` says whose it is ("thread 1234", "vCPU 0"), ``layout_source`` how its layout is
    known, ``offset`` where its bytes stand in the file (None where the artefact holds no area but
    fields, from which one was assembled). ``notes`` are for the person who reads the result.
    ``others`` is how many more models of the catalogue lay the area out alike, None where the
    user names the model. ``origin`` says how much the model is worth, ``index`` which area of the
    artefact it is, from 0. ``exception`` marks the state at what stopped the program, where the
    artefact tells that apart.
    """

    label: str
    area: XsaveArea
    layout_source: str
    offset: int | None = None
    notes: tuple[str, ...] = field(default=(), repr=False)
    others: int | None = field(default=None, repr=False)
    origin: Origin = field(default="told", repr=False)
    index: int = 0
    exception: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """What the user said: the model that wrote the areas (None: find out), and how strict to be.

    ``assume`` takes the user's word for the model even where the file contradicts it; ``look``
    wants a bare area, which nothing marks as one, to look like it.
    """

    model: CpuModel | None = None
    strict: bool = True
    catalog: Catalog | None = None
    assume: bool = False
    look: bool = True

    def __post_init__(self) -> None:
        if self.model is not None:
            require_model(self.model)
        require_catalog(self.catalog)


class Reader(Protocol):
    """Reads one kind of artefact. ``name`` is short (``elf-core``), ``title`` for people."""

    name: str
    title: str

    def recognises(self, data: Data) -> bool:
        """Whether the content is of this kind, by its first bytes; cheap, and never raises."""

    def read(self, data: Data, options: Options) -> Iterator[Found]:
        """The areas, in the file's order. ``data`` may be a window of a file of any size.

        ArtefactError where the file is cut off or contradicts itself; other XsaveErrors from
        the areas. Memory stays constant in the number of areas.
        """


@runtime_checkable
class Writer(Protocol):
    """What a reader offers besides where an edited area can be written back."""

    def replace(self, data: Data, found: Found, area: XsaveArea) -> Iterable[tuple[int, bytes]]:
        """The (offset, bytes) to write into a copy of the file to hold ``area`` instead."""


class InPlace:
    """A Writer for artefacts in which an area stands as it is: it goes back where it was."""

    def replace(self, data: Data, found: Found, area: XsaveArea) -> Iterable[tuple[int, bytes]]:
        """One write, at the area's own bytes. ArtefactError where the area's length changed."""
        if found.offset is None or len(area) != len(found.area):
            raise ArtefactError(
                f"{found.label}: the area had {len(found.area)} bytes and has {len(area)} now; "
                "it can be written back only where it stood"
            )
        return [(found.offset, bytes(area))]
