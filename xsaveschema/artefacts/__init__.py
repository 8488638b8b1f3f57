# SPDX-License-Identifier: MIT
"""Artefacts that carry XSAVE areas: core dumps, live processes, signal frames, VM state.

::

    for found in artefacts.open("core.1234"):  # or "pid:1234", "sample:zen4-sigframe"
        found.label, found.layout_source, found.area.registers["zmm17"]

The content says what a file is; what gzip, xz, zstd or lz4 packed is unpacked. A package can add
readers by entry points of the group ``xsaveschema.readers``, each an object with the methods of
:class:`Reader`; ``layout_of``, ``told``, ``assemble`` and ``InPlace`` are what the package's own
readers are made of. :func:`patch` writes registers, :func:`add_layout` adds the layout note to a
core, :func:`build_frame` makes a signal frame of an area, and :func:`check_frame` says what
sigreturn makes of one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from xsaveschema.artefacts.assemble import LEGACY, assemble
from xsaveschema.artefacts.containers import Readable, unpacked
from xsaveschema.artefacts.layouts import Known, layout_of, told
from xsaveschema.artefacts.opened import Artefact, opened, opened_stream
from xsaveschema.artefacts.reader import (
    WHOLE,
    ArtefactError,
    Found,
    InPlace,
    Options,
    Origin,
    Reader,
    Writer,
)
from xsaveschema.artefacts.registry import readers, recognise
from xsaveschema.artefacts.source import MAX_AREA, Data, Struct, behind
from xsaveschema.catalog import Catalog
from xsaveschema.errors import WrongTypeError, described
from xsaveschema.header import buffer_of
from xsaveschema.model import CpuModel

if TYPE_CHECKING:
    from xsaveschema.artefacts.edit import Edited as Edited
    from xsaveschema.artefacts.edit import add_layout as add_layout
    from xsaveschema.artefacts.edit import normalise as normalise
    from xsaveschema.artefacts.edit import patch as patch
    from xsaveschema.artefacts.frame_writer import build_frame as build_frame
    from xsaveschema.artefacts.sigreturn import check_frame as check_frame

__all__ = [
    "LEGACY",
    "MAX_AREA",
    "WHOLE",
    "ArtefactError",
    "Data",
    "Edited",
    "Found",
    "InPlace",
    "Known",
    "Options",
    "Origin",
    "Reader",
    "Struct",
    "Writer",
    "add_layout",
    "assemble",
    "behind",
    "build_frame",
    "check_frame",
    "layout_of",
    "normalise",
    "open",
    "open_stream",
    "patch",
    "read_bytes",
    "readers",
    "recognise",
    "told",
]

# What reading does without is imported when it is first used.
_HOMES: Final = {
    "Edited": "edit",
    "add_layout": "edit",
    "build_frame": "frame_writer",
    "check_frame": "sigreturn",
    "normalise": "edit",
    "patch": "edit",
}


if not TYPE_CHECKING:  # which knows the names above, and takes no other

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def open(
    path: str | os.PathLike[str],
    model: CpuModel | None = None,
    strict: bool = True,
    catalog: Catalog | None = None,
    *,
    assume: bool = False,
) -> Iterator[Found]:
    """The areas of a file, a folder of CRIU's images, a process or a sample of the package.

    A process is ``"pid:1234"`` or ``"pid:self"``, a sample ``"sample:zen4-sigframe"``, a pipe that
    is open already ``"/dev/fd/63"``, as shells call ``<(...)``.

    ``model`` is the CPU that wrote the areas, where the artefact does not say: EvidenceError where
    it, or an area, says that another one did, unless ``assume`` insists. ``strict`` is that of
    :meth:`XsaveArea.parse`, and where it is false what can be read of a damaged file is. The file
    is recognised at once and read while the result is iterated. Raises OSError, ArtefactError for
    a file that is cut off, contradicts itself or holds no area, and the errors of the areas.
    """
    return opened(path, Options(model, strict, catalog, assume)).areas()


def open_stream(
    stream: Readable,
    model: CpuModel | None = None,
    strict: bool = True,
    catalog: Catalog | None = None,
    *,
    assume: bool = False,
) -> Iterator[Found]:
    """As :func:`open`, for what can be read only once, from the front: a pipe.

    It is read as far as is needed: an ELF core to its last note, anything else to its end, which
    has to come within 256 MiB. Raises ArtefactError where it does not, too.
    """
    read = getattr(stream, "read1", getattr(stream, "read", None))
    if read is None:
        raise WrongTypeError(f"pass a binary stream that is open, not {described(stream)}")
    return opened_stream(read, Options(model, strict, catalog, assume)).areas()


def read_bytes(
    data: bytes | bytearray | memoryview,
    model: CpuModel | None = None,
    strict: bool = True,
    catalog: Catalog | None = None,
    *,
    assume: bool = False,
) -> Iterator[Found]:
    """As :func:`open`, for an artefact that is in memory already."""
    held = unpacked(buffer_of(data, "the artefact"))
    return Artefact(Options(model, strict, catalog, assume), held).areas()
