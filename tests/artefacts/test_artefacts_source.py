"""Files that are read by position: as readers see them in memory, and while others cut them off."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cores
import pytest
from artefact_areas import FRAME, ZEN4, zen4_core
from writers import minidump, qemu_stream, xen
from writers.state import INTEL, State

from xsaveschema import artefacts
from xsaveschema.artefacts.reader import ArtefactError, Options
from xsaveschema.artefacts.source import MAX_AREA, MAX_AT_ONCE, Data, Source, Window

AREA = State().standard(7, INTEL)
FILES = {
    "core": zen4_core(areas=[ZEN4, ZEN4]),
    "frame": FRAME,
    "raw": ZEN4,
    "minidump": minidump.dump([(1, minidump.context(AREA)), (2, minidump.context(AREA))]),
    "xen": xen.xl_save(xen.libxl(xen.libxc(*xen.hvm_context(xen.hvm(xen.xsave(0, AREA, 7)))))),
    "qemu": qemu_stream.stream({0: qemu_stream.cpu(State(), 7)}),
}


def windowed(data: bytes) -> Window:
    return Window(len(data), lambda start, size: memoryview(data)[start : start + size])


def found(data: Data) -> list[tuple[str, bytes, int | None]]:
    reader = artefacts.recognise(data)
    return [(f.label, bytes(f.area), f.offset) for f in reader.read(data, Options())]


@pytest.mark.parametrize("name", FILES)
def test_every_reader_reads_windows(name: str) -> None:
    whole = found(memoryview(FILES[name]))
    assert whole
    assert found(windowed(FILES[name])) == whole


@pytest.mark.parametrize("name", FILES)
def test_files_that_end_in_a_window(name: str) -> None:
    """The same errors as in memory, whatever is missing."""
    data = FILES[name]

    def told(view: Data) -> str:
        with pytest.raises(artefacts.ArtefactError.__bases__[0]) as caught:
            found(view)
        return f"{type(caught.value).__name__}: {caught.value}"

    for cut in range(1, min(len(data), 500), 7):
        assert told(windowed(data[:cut])) == told(memoryview(data[:cut]))


def test_a_window_is_sliced_as_bytes_are() -> None:
    data = bytes(range(200))
    window = windowed(data)
    assert len(window) == 200
    assert bytes(window) == data
    for key in (slice(3, 9), slice(None, 5), slice(-5, None), slice(190, 300), slice(9, 3)):
        assert window[key] == data[key]
    assert (window[7], window[-1]) == (7, 199)
    for at in (200, -201):
        with pytest.raises(IndexError):
            _ = window[at]
    with pytest.raises(ValueError, match="no steps"):
        _ = window[::2]
    huge = Window(MAX_AT_ONCE * 2, lambda start, size: memoryview(b""))
    with pytest.raises(ArtefactError, match="would have to be looked at together"):
        _ = huge[: MAX_AT_ONCE + 1]


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A core that is not read whole: its notes stand in front of 40 MiB."""
    path = tmp_path / "core"
    path.write_bytes(cores.core(cores.threads([ZEN4] * 400)))
    os.truncate(path, 40 << 20)
    return path


def test_pages_are_the_files_bytes(large: Path) -> None:
    data = large.read_bytes()
    with Source(large) as source:
        assert isinstance(source.data, Window)
        for start in (0, 65000, 65536, 100_000, len(data) - 10, 131_072 - 1, 5):
            for size in (1, 600, 70_000, 300_000):
                assert source.data[start : start + size] == data[start : start + size]
        for page in range(0, 40 << 20, 1 << 20):  # more pages than are kept
            assert source.data[page] == data[page]
    # Another file has the descriptor's number now.
    with large.open("rb"), pytest.raises(OSError, match="descriptor"):
        _ = source.data[20 << 20]


@pytest.mark.parametrize("size", [0, 100, 3000, 70_000])
def test_a_file_that_is_cut_off_while_it_is_read(large: Path, size: int) -> None:
    coming = artefacts.open(large)
    first = next(coming)
    os.truncate(large, size)
    with pytest.raises(ArtefactError, match="the file became shorter while it was read"):
        list(coming)
    assert bytes(first.area) == ZEN4


def test_small_files_are_as_they_were_when_they_were_opened(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(FILES["core"])
    coming = artefacts.open(path)
    os.truncate(path, 0)
    assert [each.label for each in coming] == ["thread 100", "thread 101"]
    assert path.stat().st_size < MAX_AREA


@pytest.mark.parametrize("help_is_there", [True, False])
def test_a_core_that_is_cut_off_while_it_is_copied(
    large: Path, monkeypatch: pytest.MonkeyPatch, help_is_there: bool
) -> None:
    """What is gone is no hole."""
    with large.open("r+b") as file:
        file.seek(39 << 20)
        file.write(b"the end")
    lseek: Callable[[int, int, int], int] = os.lseek

    def cutting(file: int, at: int, how: int) -> int:
        os.truncate(large, 1 << 20)
        return lseek(file, at, how)

    monkeypatch.setattr(os, "lseek", cutting)
    if not help_is_there:
        monkeypatch.delattr(os, "SEEK_DATA")
        monkeypatch.delattr(os, "copy_file_range")
    with pytest.raises(ArtefactError, match="the file became shorter while it was copied"):
        artefacts.patch(large, large.with_name("out"), {"k1": 1}, "thread 100")
    assert [path.name for path in large.parent.iterdir()] == ["core"]
