"""Packed files and pipes: what the tools pack is read as it was, within bounds."""

from __future__ import annotations

import gzip
import io
import lzma
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cores
import pytest
from artefact_areas import FRAME, ZEN4, kvm
from places import TESTS

from xsaveschema import artefacts
from xsaveschema.artefacts import containers
from xsaveschema.artefacts.source import MAX_AT_ONCE, ArtefactError

NOTES = cores.threads([ZEN4, ZEN4])
LABELS = ["thread 100", "thread 101"]
EARLY = cores.core(NOTES)


def late(between: int) -> tuple[bytes, bytes]:
    """A core as GDB writes it, the notes behind the memory: what stands before and behind that."""
    head = bytearray(EARLY[: 64 + 2 * 56])
    start = len(head)
    struct.pack_into("<Q", head, 64 + 8, start + between)
    struct.pack_into("<QQQQ", head, 64 + 56 + 8, start, 0x400000, 0, between)
    return bytes(head), NOTES


def zstd(data: bytes) -> bytes:
    zstandard = pytest.importorskip("zstandard", reason="the extra containers is not installed")
    return bytes(zstandard.ZstdCompressor(write_checksum=True).compress(data))


def lz4(data: bytes) -> bytes:
    frame = pytest.importorskip("lz4.frame", reason="the extra containers is not installed")
    return bytes(frame.compress(data, content_checksum=True))


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "zstd": zstd,
    "lz4": lz4,
}
each_kind = pytest.mark.parametrize("kind", PACK)


def labels(data: bytes) -> list[str]:
    return [found.label for found in artefacts.read_bytes(data)]


class Pipe(io.RawIOBase):
    """Gives a few bytes at a time, and counts them."""

    def __init__(self, data: bytes, most: int = 1000):
        self.data, self.most, self.given = memoryview(data), most, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        found = self.data[self.given : self.given + min(size, self.most)]
        self.given += len(found)
        return bytes(found)


@each_kind
@pytest.mark.parametrize("name", ["early", "late", "raw", "frame", "kvm"])
def test_what_is_packed_is_read_as_it_was(kind: str, name: str, tmp_path: Path) -> None:
    head, notes = late(300_000)
    data = {
        "early": EARLY,
        "late": head + bytes(300_000) + notes,
        "raw": ZEN4,
        "frame": FRAME,
        "kvm": kvm(ZEN4),
    }[name]
    want = [(f.label, bytes(f.area), f.offset) for f in artefacts.read_bytes(data)]
    packed = PACK[kind](data)
    (tmp_path / "packed").write_bytes(packed)
    for found in (
        artefacts.open(tmp_path / "packed"),
        artefacts.read_bytes(packed),
        artefacts.open_stream(Pipe(packed)),
    ):
        assert [(f.label, bytes(f.area), f.offset) for f in found] == want


@pytest.mark.parametrize(
    ("tool", "options"), [("gzip", ""), ("xz", "-9"), ("zstd", ""), ("lz4", "")]
)
def test_what_the_tools_pack(tool: str, options: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"there is no {tool}")
    PACK[tool](b"")  # skips without the library
    packed = subprocess.run([tool, "-9", "-c"], input=EARLY, capture_output=True, check=True).stdout
    assert labels(packed) == LABELS


@each_kind
def test_frames_follow_one_another(kind: str) -> None:
    half = len(EARLY) // 2
    assert labels(PACK[kind](EARLY[:half]) + PACK[kind](EARLY[half:]) + bytes(512)) == LABELS


@each_kind
def test_what_is_cut_off_or_damaged_is_refused(kind: str) -> None:
    packed = PACK[kind](ZEN4)
    for cut in (len(packed) - 1, len(packed) // 2, 8):
        with pytest.raises(ArtefactError, match=f"the {kind} data are cut off"):
            labels(packed[:cut])
    damaged = bytearray(packed)
    damaged[len(packed) // 2] ^= 0xFF
    with pytest.raises(ArtefactError, match=f"the {kind} data c|are cut off"):
        labels(bytes(damaged))
    with pytest.raises(ArtefactError, match=f"the {kind} data cannot be unpacked"):
        labels(packed + b"something else")


def test_nothing_in_it() -> None:
    with pytest.raises(ArtefactError, match="is empty"):
        labels(gzip.compress(b""))
    with pytest.raises(ArtefactError, match="is compressed by gzip: decompress it first"):
        labels(gzip.compress(gzip.compress(EARLY)))


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("count", [0, 65535])
def test_a_pipe_is_read_up_to_the_notes(bits: int, count: int) -> None:
    """Where there are more segments than the header can count, to its end."""
    core = cores.core(NOTES, bits=bits, many=count, load=bytes(3_000_000))
    want = [bytes(found.area) for found in artefacts.read_bytes(core)]
    pipe = Pipe(core, 1 << 16)
    assert [bytes(found.area) for found in artefacts.open_stream(pipe)] == want
    assert len(want) == 2
    assert (pipe.given < 200_000) == (not count)


def test_a_pipe_that_ends_early() -> None:
    with pytest.raises(ArtefactError, match="the file ends here, within the notes that go on"):
        list(artefacts.open_stream(Pipe(EARLY[:3000])))
    lenient = artefacts.open_stream(Pipe(EARLY[:5000]), strict=False)
    assert [found.label for found in lenient] == LABELS[:1]
    for cut in (0, 4, 63, 100, 150):
        with pytest.raises(ArtefactError):
            list(artefacts.open_stream(Pipe(EARLY[:cut])))


def test_what_was_not_kept_is_no_zero() -> None:
    head, notes = late(1000)
    data = containers.streamed(Pipe(head + b"x" * 1000 + notes).read)
    assert len(data) == len(head) + 1000 + len(notes)
    assert bytes(data[: len(head)]) == head
    for place in (slice(500, 510), slice(len(head) + 900, len(head) + 1100)):
        with pytest.raises(ArtefactError, match="have not been kept: write what it holds to a fi"):
            _ = data[place]
    with pytest.raises(IndexError):
        _ = data[len(data)]


def test_notes_larger_than_what_is_kept() -> None:
    head = bytearray(EARLY[:4096])
    struct.pack_into("<Q", head, 64 + 32, MAX_AT_ONCE + 1)
    with pytest.raises(ArtefactError, match="more than the 256 MiB that are kept: write what it"):
        list(artefacts.open_stream(Pipe(bytes(head))))


def test_a_stream_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless:
        def __init__(self, head: bytes):
            self.head, self.given = head, 0

        def read(self, size: int) -> bytes:
            head, self.head = self.head, b""
            self.given += size
            return head or bytes(size)

    unknown = Endless(b"\1")
    with pytest.raises(ArtefactError, match="is no file that a reader knows, and longer than 16"):
        list(artefacts.open_stream(unknown))
    assert unknown.given < 17 << 20
    monkeypatch.setattr(containers, "MAX_AT_ONCE", 32 << 20)
    known = Endless(b"QEVM\0\0\0\3")
    with pytest.raises(ArtefactError, match="that are kept: write what it holds to a file"):
        list(artefacts.open_stream(known))
    assert known.given < 33 << 20
    monkeypatch.setattr(containers, "_FURTHEST", 64 << 20)
    far = Endless(late(1 << 62)[0])
    with pytest.raises(ArtefactError, match="no more notes in its first"):
        list(artefacts.open_stream(far))
    assert far.given < 65 << 20


BOMB = """
import sys
from memory import peak
from xsaveschema import artefacts
from xsaveschema.artefacts import containers
containers._FREE = 256 << 20  # for speed
before = peak()
try:
    list(artefacts.open(sys.argv[1]))
except artefacts.ArtefactError as error:
    print(error)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is told by /proc")
@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_bombs_are_bounded(kind: str, tmp_path: Path) -> None:
    """Notes behind 32 GiB of zeros, in 32 MB or 1 MB: given up early, by what has been read."""
    head, _ = late(32 << 30)
    zeros = bytes(16 << 20)
    path = tmp_path / "bomb"
    path.write_bytes(PACK[kind](head) + PACK[kind](zeros) * 2048)
    done = subprocess.run(
        [sys.executable, "-c", BOMB, str(path)],
        env={"PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said, grown = done.stdout.splitlines()
    assert f"of {kind} data hold more than" in said
    assert int(grown) < 200_000  # KiB


@pytest.mark.parametrize(("kind", "module"), [("zstd", "zstandard"), ("lz4", "lz4")])
def test_without_the_extra(kind: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = PACK[kind](ZEN4)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, "lz4.frame", None)
    with pytest.raises(ArtefactError) as caught:
        labels(packed)
    assert f"is compressed by {kind}, which needs {module}" in str(caught.value)
    assert f"pip install 'xsaveschema[containers]', or decompress it first ({kind} -dc)" in str(
        caught.value
    )


def test_packed_files_are_not_edited(tmp_path: Path) -> None:
    path = tmp_path / "core.gz"
    path.write_bytes(gzip.compress(EARLY))
    with pytest.raises(ArtefactError, match="compressed by gzip"):
        artefacts.patch(path, registers={"k1": 1}, area="100", in_place=True)
    with pytest.raises(ArtefactError, match="is no ELF core"):
        artefacts.add_layout(path, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [path]
