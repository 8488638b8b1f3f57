# SPDX-License-Identifier: MIT
"""What can be read only once, from the front: pipes, and files that gzip, xz, zstd or lz4 packed.

Such data is kept in memory, 256 MiB at most. Of an ELF core that is its headers and notes: what
stands between them is passed over, and what stands behind them is not read.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from xsaveschema.artefacts.elf_file import ElfCore, early_notes, is_elf
from xsaveschema.artefacts.registry import recognise
from xsaveschema.artefacts.source import MAX_AREA, MAX_AT_ONCE, ArtefactError, Data, Window

Chunks = Iterator[bytes]


class Readable(Protocol):
    """A binary file, of which ``read(size)`` gives ``size`` bytes at most, and none at the end."""

    def read(self, size: int, /) -> bytes: ...


_CHUNK: Final = 64 << 10
_HEAD: Final = 128
"""The ELF header and the first program header."""
_FURTHEST: Final = 64 << 30
"""Bytes that are passed over at most, on the way to the last note."""
_FREE: Final = 2 << 30
_RATIO: Final = 256
"""Packed data may grow to ``_FREE`` bytes, and by this ratio beyond."""
_XZ_MEMORY: Final = 256 << 20  # xz -9 takes 65 MiB
_WAY_OUT: Final = ": write what it holds to a file, and name that"
_TOO_MUCH: Final = f"has more than the {MAX_AT_ONCE >> 20} MiB that are kept{_WAY_OUT}"


class StreamError(ArtefactError):
    """What comes cannot be unpacked, or is more than is kept."""


_Decoding = tuple[Callable[[], Any], type[Exception]]
"""What makes a decoder, and what that raises."""


class Kind(NamedTuple):
    """A way to pack files: its name, which is its tool's too, its marks, and how to unpack it.

    A ``step`` of packed bytes becomes some 60 MiB at most: no decoder is asked for less.
    """

    name: str
    marks: tuple[bytes, ...]
    step: int
    decoding: Callable[[], _Decoding]


def _gzip() -> _Decoding:
    import zlib

    return partial(zlib.decompressobj, zlib.MAX_WBITS | 16), zlib.error


def _xz() -> _Decoding:
    import lzma

    return partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, _XZ_MEMORY), lzma.LZMAError


def _zstd() -> _Decoding:
    import zstandard

    return zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError


def _lz4() -> _Decoding:
    import lz4.frame

    return lz4.frame.LZ4FrameDecompressor, RuntimeError


KINDS: Final = (
    Kind("gzip", (b"\x1f\x8b\x08",), 32 << 10, _gzip),
    Kind("xz", (b"\xfd7zXZ\0",), 8 << 10, _xz),
    # pzstd begins with a frame to skip.
    Kind("zstd", (b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18"), 2 << 10, _zstd),
    Kind("lz4", (b"\x04\x22\x4d\x18",), 64 << 10, _lz4),
)


def packed(data: Data) -> Kind | None:
    """How a file is packed, by its first bytes."""
    head = bytes(data[:8])
    return next((kind for kind in KINDS if head.startswith(kind.marks)), None)


def unpacked(data: Data) -> Data:
    """What a packed file holds, and any other as it is. ArtefactError where it is damaged."""
    kind = packed(data)
    if kind is None:
        return data
    slices = (bytes(data[at : at + _CHUNK]) for at in range(0, len(data), _CHUNK))
    return _kept(_Stream(_unpacked(kind, _Stream(slices))))


def streamed(read: Callable[[int], bytes]) -> Data:
    """What ``read(size)`` gives piece by piece until it gives nothing, unpacked where it is packed.

    No more is read than is needed.
    """
    stream = _Stream(iter(lambda: read(_CHUNK), b""))
    kind = packed(memoryview(stream.peek(_HEAD)))
    return _kept(stream if kind is None else _Stream(_unpacked(kind, stream)))


class _Stream:
    """Bytes that come in chunks, of which parts are kept: ``at`` is how many have been taken."""

    def __init__(self, chunks: Chunks):
        self.at = 0
        self._chunks = chunks
        self._rest = memoryview(b"")
        self._starts = [0]
        self._parts = [b""]
        self._room = MAX_AT_ONCE

    def peek(self, size: int) -> bytes:
        """The next bytes, which stay; fewer at the end."""
        while len(self._rest) < size and (chunk := next(self._chunks, b"")):
            self._rest = memoryview(bytes(self._rest) + chunk)
        return bytes(self._rest[:size])

    def take(self, size: int) -> bytearray:
        """The next bytes; fewer at the end."""
        found = bytearray()
        for chunk in self._until(size):
            found += chunk
        return found

    def skip(self, size: int) -> None:
        """Pass over the next bytes."""
        for _ in self._until(size):
            if self.at > _FURTHEST:
                raise StreamError(f"has no more notes in its first {_FURTHEST >> 30} GiB{_WAY_OUT}")

    def keep(self, start: int, stop: int) -> None:
        """Read on up to byte ``stop``, or the end, and keep what stands from ``start`` on."""
        if start > self.at:
            self.skip(start - self.at)
            self._starts.append(self.at)
            self._parts.append(b"")
        more = stop - self.at
        if more > self._room:
            raise StreamError(_TOO_MUCH)
        if more > 0:
            self._room -= more
            self._parts[-1] += bytes(self.take(more))

    def fetch(self, start: int, size: int) -> memoryview:
        """These bytes, which come or have been kept; ArtefactError for others."""
        self.keep(start, start + size)
        number = bisect_right(self._starts, start) - 1
        at = start - self._starts[number]
        found = memoryview(self._parts[number])[at : at + size]
        if len(found) < size:
            raise ArtefactError(f"{size} bytes from here have not been kept{_WAY_OUT}", start)
        return found

    def _until(self, size: int) -> Iterator[memoryview]:
        while size:
            chunk = self._rest or memoryview(next(self._chunks, b""))
            if not chunk:
                return
            part, self._rest = chunk[:size], chunk[size:]
            self.at += len(part)
            size -= len(part)
            yield part


def _unpacked(kind: Kind, stream: _Stream) -> Chunks:
    """What is packed, in chunks that are not empty. Frames may follow one another."""
    try:
        new_decoder, fault = kind.decoding()
    except ModuleNotFoundError as error:
        raise StreamError(
            f"is compressed by {kind.name}, which needs {error.name}: "
            f"pip install 'xsaveschema[containers]', or decompress it first ({kind.name} -dc)"
        ) from None
    made, decoder = 0, None
    piece: bytes | bytearray
    while piece := stream.take(kind.step):
        while piece:
            if decoder is None:
                piece = piece.lstrip(b"\0")  # what tapes and blocks are filled up with
                decoder = new_decoder() if piece else None
                continue
            try:
                chunk = decoder.decompress(piece)
            except fault as error:
                raise StreamError(f"the {kind.name} data cannot be unpacked: {error}") from None
            piece, decoder = (decoder.unused_data, None) if decoder.eof else (b"", decoder)
            made += len(chunk)
            if made > _FREE + _RATIO * stream.at:
                raise StreamError(
                    f"{stream.at} bytes of {kind.name} data hold more than {made}{_WAY_OUT}"
                )
            if chunk:
                yield chunk
    if decoder is not None:
        raise StreamError(f"the {kind.name} data are cut off", stream.at)


def _kept(stream: _Stream) -> Data:
    """What readers need of a stream."""
    if is_elf(memoryview(stream.peek(_HEAD))):
        return _core(stream)
    found = stream.take(MAX_AREA + 1)
    if len(found) > MAX_AREA and recognise(memoryview(bytes(found))).name != "raw":
        found += stream.take(MAX_AT_ONCE + 1 - len(found))
    if len(found) > MAX_AT_ONCE:
        raise StreamError(_TOO_MUCH)
    return memoryview(found)


def _core(stream: _Stream) -> Data:
    """The headers and notes of an ELF core: the headers stand in front, and say where these are."""
    stream.keep(0, _HEAD)
    coming = Window(1 << 62, stream.fetch)
    try:
        stream.keep(0, early_notes(coming))  # before the stream is read to its end
        segments = ElfCore(coming).segments
        for segment in sorted(segments, key=lambda segment: segment.offset):
            stream.keep(segment.offset, segment.end)
    except StreamError:
        raise
    except (ArtefactError, struct.error):
        pass  # the reader says what is wrong with it
    return Window(stream.at, stream.fetch)
