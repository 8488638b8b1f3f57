"""Files of virsh save: a QEMU stream behind a header."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from artefact_areas import qemu_stream, read, require_state
from writers.hostile import cuts, mutations, survive

from xsaveschema import artefacts
from xsaveschema.artefacts import libvirt_save
from xsaveschema.artefacts.reader import ArtefactError


def saved(body: bytes, *, version: int = 2, form: int = 0, xml: bytes = b"<domain/>\0") -> bytes:
    numbers = (version, len(xml), 1, form, 0)
    return struct.pack("<16sIIIII56x", b"LibvirtQemudSave", *numbers) + xml + body


def test_virsh_save() -> None:
    first, second = read(saved(qemu_stream(1, 2)))
    assert (first.label, second.label) == ("vCPU 0", "vCPU 1")
    require_state(first, 1)
    require_state(second, 2)


SAVED = [
    pytest.param(saved(b"", form=1), "the format gzip: set save_image_format", id="gzip"),
    pytest.param(saved(b"", form=5), "the format zstd", id="zstd"),
    pytest.param(saved(b"", form=6), "sparse", id="sparse"),
    pytest.param(saved(b"", form=77), "the format 77, which is not known", id="format"),
    pytest.param(saved(qemu_stream(1), version=3), "version 0x3", id="version"),
    pytest.param(saved(b""), "within its 10 bytes of XML", id="no stream"),
    pytest.param(saved(b"x" * 100), "begin with QEVM", id="another stream"),
    pytest.param(saved(qemu_stream(1))[:-1], "own description", id="cut off"),
    pytest.param(b"LibvirtQemudSave" + bytes(20), "within the header", id="short"),
    pytest.param(b"LibvirtQemudPart" + bytes(200), "unfinished", id="unfinished"),
]


@pytest.mark.parametrize(("data", "message"), SAVED)
def test_what_virsh_save_left_is_said(data: bytes, message: str) -> None:
    with pytest.raises(ArtefactError, match=message):
        read(data)


def test_damaged_files_of_virsh_save() -> None:
    data = saved(qemu_stream(1))
    assert survive(libvirt_save.READER, cuts(data, 100)) >= 100
    assert survive(libvirt_save.READER, mutations(data, 200)) > 0


def test_a_machine_of_gigabytes_is_not_taken_into_memory(tmp_path: Path) -> None:
    """Memory stands in front of the vCPUs: a hole of a sparse file here, as large as a machine."""
    path, body = tmp_path / "saved", qemu_stream(1)
    head, gap = saved(b""), 600 << 20
    with path.open("wb") as file:
        file.write(head + body[:8])
        file.seek(len(head) + 8 + gap)
        file.write(body[8:])
    (found,) = artefacts.open(path)
    require_state(found, 1)
