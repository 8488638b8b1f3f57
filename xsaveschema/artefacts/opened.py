# SPDX-License-Identifier: MIT
"""One path from what people name to areas: a file, a folder, a process, a sample, a stream."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Final

from xsaveschema import samples
from xsaveschema.artefacts import criu, raw
from xsaveschema.artefacts.containers import streamed, unpacked
from xsaveschema.artefacts.reader import WHOLE, Found, Options, Reader
from xsaveschema.artefacts.registry import recognise
from xsaveschema.artefacts.select import is_sole, numbered
from xsaveschema.artefacts.source import ArtefactError, Data, Source
from xsaveschema.identify.match import alike
from xsaveschema.io import is_pipe, open_pipe, path_of

PID: Final = "pid:"
SAMPLE: Final = "sample:"


class Artefact(AbstractContextManager["Artefact"]):
    """An artefact that is open: its areas; or its bytes, where nothing marks what they are.

    What is not in memory can be looked at until it is closed, as it is behind its last area.
    """

    def __init__(
        self,
        options: Options,
        data: Data | None = None,
        source: Source | None = None,
        read: Callable[[Options], Iterator[Found]] | None = None,
    ):
        self._options = options
        self._data = data
        self._source = source
        self._read = read

    @cached_property
    def _reader(self) -> Reader | None:
        return None if self._data is None else recognise(self._data, self._options.assume)

    @property
    def unmarked(self) -> Data | None:
        """The bytes, where no reader knows a mark of them: one area, or no artefact at all."""
        return self._data if self._reader is raw.READER else None

    def bare(self, selector: str | None = None) -> bytes | None:
        """The bytes of an area that is all of the artefact, whatever model wrote it.

        For what holds them against several models. None where the artefact says more, or
        ``selector`` means no such area; ArtefactError for bytes that are no area, as :meth:`areas`
        raises it.
        """
        data = self.unmarked
        if data is None or not is_sole(selector, WHOLE):
            return None
        return bytes(raw.bare(data, self._options))

    def with_what_follows(self, found: Found) -> bytes:
        """An area's bytes with the word behind it in the artefact, where a frame has its magic.

        The area's alone where it has no place there.
        """
        if self._data is None or found.offset is None:
            return bytes(found.area)
        return bytes(self._data[found.offset : found.offset + len(found.area) + 4])

    def areas(self) -> Iterator[Found]:
        """The areas, in the artefact's order; ArtefactError where there is none.

        The artefact is recognised at once and read while the result is iterated.
        """
        if self._read is not None:
            return self._some(self._read(self._options))
        assert self._reader is not None and self._data is not None  # noqa: S101, PT018 - no folder
        return self._some(self._reader.read(self._data, self._options))

    def _some(self, areas: Iterator[Found]) -> Iterator[Found]:
        with self:
            found = None
            for found in numbered(areas):
                yield self._labelled(found)
            if found is None:
                raise ArtefactError("holds no area")

    def _labelled(self, found: Found) -> Found:
        """With the count of models that the catalogue's choice might have been as well."""
        if found.origin != "assembled" or self._options.model is not None:
            return found
        return replace(found, others=alike(found.area.layout, self._options.catalog))

    def __exit__(self, *_: object) -> None:
        if self._source is not None:
            self._source.close()


def opened(path: str | os.PathLike[str], options: Options) -> Artefact:
    """What a path, ``pid:N`` or ``sample:NAME`` leads to; an open pipe is ``/dev/fd/63``.

    Raises OSError, ArtefactError for what is no file that can be read, UnknownSampleError.
    """
    where = path_of(path)
    name = path if isinstance(path, str) else ""
    if name.startswith(PID):
        from xsaveschema.artefacts import process  # of Linux alone

        return Artefact(options, read=partial(process.read, name.removeprefix(PID)))
    if name.startswith(SAMPLE):
        data = samples.read(name.removeprefix(SAMPLE))
        # A sample is what it says, whatever its bytes look like.
        return Artefact(replace(options, look=False), memoryview(data))
    if is_pipe(where):
        with os.fdopen(open_pipe(where), "rb") as pipe:
            return opened_stream(pipe.read1, options)
    if Path(where).is_dir():
        return Artefact(options, read=partial(criu.read_folder, where))
    source = Source(where)
    return Artefact(options, unpacked(source.data), source)


def opened_stream(read: Callable[[int], bytes], options: Options) -> Artefact:
    """What ``read(size)`` gives piece by piece until it gives nothing."""
    return Artefact(options, streamed(read))
