"""A folder of CRIU images: a dump has one ``core-N.img`` for each task, N its thread's number."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from xsaveschema.artefacts.criu import READER
from xsaveschema.artefacts.reader import ArtefactError, Found, Options
from xsaveschema.artefacts.source import Source
from xsaveschema.errors import XsaveError

_IMAGE: Final = re.compile(r"core-([0-9]{1,10})\.img")
_MOST: Final = 1 << 16
"""Images of a folder: as many as Linux lets a process have threads by default, and more."""


def read(path: str | os.PathLike[str], options: Options) -> Iterator[Found]:
    """The area of each task, by number. ArtefactError for a folder without core images."""
    images: dict[int, Path] = {}
    with os.scandir(path) as entries:
        for entry in entries:
            if match := _IMAGE.fullmatch(entry.name):
                images[int(match[1])] = Path(entry.path)
                if len(images) > _MOST:
                    raise ArtefactError(f"has more than {_MOST} core images")
    if not images:
        raise ArtefactError("is a folder, and has no core-N.img of CRIU")
    return _areas(images, options)


def _areas(images: dict[int, Path], options: Options) -> Iterator[Found]:
    for number, image in sorted(images.items()):
        try:
            with Source(image) as source:
                for found in READER.read(source.data, options):
                    yield replace(found, label=_label(number, found.label))
        except XsaveError as error:
            error.add_note(image.name)
            raise


def _label(number: int, inner: str) -> str:
    return f"thread {number}" if inner == "task" else f"thread {number}, {inner}"
