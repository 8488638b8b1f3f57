"""Which reader takes a file, and which files are refused by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from artefact_areas import MADE_UP

from xsaveschema import artefacts
from xsaveschema.artefacts.registry import FOREIGN, Foreign


@pytest.mark.parametrize("name", MADE_UP)
def test_readers_recognise_by_content(name: str, tmp_path: Path) -> None:
    data = MADE_UP[name]
    assert artefacts.recognise(memoryview(data)).name == name.split(" ")[0]
    path = tmp_path / "any.name"
    path.write_bytes(data)
    opened = list(artefacts.open(path))
    assert [bytes(f.area) for f in opened] == [bytes(f.area) for f in artefacts.read_bytes(data)]
    assert [f.label for f in opened] == [f.label for f in artefacts.open(os.fspath(path))]
    for found in opened:
        assert data[found.offset : (found.offset or 0) + 2432] == bytes(found.area)[:2432]


def test_every_reader_is_whole() -> None:
    names = [reader.name for reader in artefacts.readers()]
    assert len(names) == len(set(names))
    assert {"elf-core", "signal-frame", "kvm-xsave"} <= set(names)
    for reader in artefacts.readers():
        assert reader.title
        for data in (b"", b"\x7f", bytes(4096), b"{", bytes(range(256)) * 4):
            assert reader.recognises(memoryview(data)) in (True, False)


@pytest.mark.parametrize("kind", FOREIGN, ids=lambda kind: kind.name)
def test_files_without_areas_are_refused_unless_somebody_insists(kind: Foreign) -> None:
    data = memoryview(bytes(kind.offset) + kind.magic.ljust(600, b"\0"))
    if kind.offset:  # what stands in front of the mark may be another file's
        data = memoryview(b"\x01" + bytes(data[1:]))
    with pytest.raises(artefacts.ArtefactError) as caught:
        artefacts.recognise(data)
    assert str(caught.value) == f"is {kind.name}: {kind.way_out}"
    assert artefacts.recognise(data, assume=True).name == "raw"
