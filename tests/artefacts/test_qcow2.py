"""qcow2 images: the vCPUs of their snapshots, as QEMU stores them inside."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from artefact_areas import qemu_stream, read, require_state
from writers import qcow2, qemu_guest
from writers.hostile import cuts, mutations, survive
from writers.state import State

from xsaveschema import artefacts
from xsaveschema.artefacts.qcow2 import READER
from xsaveschema.artefacts.reader import ArtefactError

SHAPES: dict[str, dict[str, Any]] = {
    "small clusters": {},
    "clusters of 64 KiB": {"bits": 16},
    "clusters of 2 MiB": {"bits": 21},
    "extended L2": {"wide": True, "bits": 14},
    "version 2": {"version": 2, "more": 0},
    "without the disk's size": {"more": 8},
    "a disk that has grown since": {"then": 5 << 20},
    "a disk that is no multiple": {"disk": (3 << 20) + 512},
    "no disk": {"disk": 0},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_vcpus_of_every_snapshot_come_out(shape: str) -> None:
    states = {"one": qemu_stream(1, 2, ram=100_000), "zwei": qemu_stream(3), "disk alone": b""}
    found = read(qcow2.image(states, **SHAPES[shape]))
    labels = ["snapshot one, vCPU 0", "snapshot one, vCPU 1", "snapshot zwei, vCPU 0"]
    assert [each.label for each in found] == labels
    for each, seed in zip(found, (1, 2, 3), strict=True):
        require_state(each, seed)


def test_what_qemu_wrote(tmp_path: Path) -> None:
    qemu, tool = shutil.which("qemu-system-x86_64"), shutil.which("qemu-img")
    if qemu is None or tool is None:
        pytest.skip("no qemu-system-x86_64 or qemu-img: made images were read instead")
    image = tmp_path / "disk.qcow2"
    subprocess.run([tool, "create", "-q", "-f", "qcow2", image, "3M"], check=True)
    with pytest.raises(ArtefactError, match="without the saved state"):
        list(artefacts.open(image))
    qemu_guest.savevm(qemu, tmp_path, State(), image, ["one", "two"])
    found = list(artefacts.open(image))
    labels = [f"snapshot {name}, vCPU {number}" for name in ("one", "two") for number in (0, 1)]
    assert [each.label for each in found] == labels
    for each in found[::2]:
        said = State().registers(each.area.xstate_bv)
        for name in ("fop", "fip", "fdp"):  # XRSTOR under TCG does not load them
            del said[name]
        assert each.area.xstate_bv & 0x207 == 0x207
        assert each.area.registers.read(said) == said


def test_qemu_takes_the_images_that_are_made_here(tmp_path: Path) -> None:
    tool = shutil.which("qemu-img")
    if tool is None:
        pytest.skip("no qemu-img")
    path = tmp_path / "made.qcow2"
    path.write_bytes(qcow2.image({"one": qemu_stream(1), "two": qemu_stream(2)}, bits=16))
    command = [tool, "info", "-U", "--output=json", str(path)]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    for name, seed in (("one", 1), ("two", 2)):
        assert f'"name": "{name}"' in said
        assert f'"vm-state-size": {len(qemu_stream(seed))}' in said


def test_a_state_that_was_taken_out_by_clusters() -> None:
    data = qemu_stream(1)
    (found,) = read(data.ljust(len(data) + 65536 & -65536, b"\0"))
    require_state(found, 1)
    with pytest.raises(ArtefactError, match="does not end with its own description"):
        read(data + bytes(20 << 20))


def test_a_name_cannot_move_the_cursor() -> None:
    (found,) = read(qcow2.image({"a\x1b[2J\u202eb": qemu_stream(1)}))
    assert found.label == "snapshot a\ufffd[2J\ufffdb, vCPU 0"


def one(**how: Any) -> bytes:
    return qcow2.image({"one": qemu_stream(1)}, **how)


ONE = one()
TABLE = struct.unpack_from(">Q", ONE, 64)[0]


def patched(at: int, form: str, *values: int) -> bytes:
    copy = bytearray(ONE)
    struct.pack_into(">" + form, copy, at, *values)
    return bytes(copy)


BAD = [
    pytest.param(qcow2.image({}), "without the saved state", id="no snapshot"),
    pytest.param(qcow2.image({"disk": b""}), "without the saved state", id="of the disk alone"),
    pytest.param(one(crypt=2), "encrypted", id="encrypted"),
    pytest.param(one(features=4), "features 0x4", id="external data"),
    pytest.param(one(features=32), "features 0x20", id="features"),
    pytest.param(one(flag=1 << 62), "compressed", id="compressed"),
    pytest.param(one(flag=1), "begin with QEVM", id="zero cluster"),
    pytest.param(qcow2.image({"one": b"QEVM"}), "begin with QEVM", id="no stream"),
    pytest.param(patched(4, "I", 1), "version 1", id="version"),
    pytest.param(patched(20, "I", 30), "cluster_bits is 30", id="cluster bits"),
    pytest.param(patched(60, "I", 1 << 30), "1073741824 snapshots", id="snapshots"),
    pytest.param(patched(64, "Q", 1 << 60), "snapshots takes 40 bytes, 0 are left", id="table"),
    pytest.param(patched(TABLE + 36, "I", 1 << 20), "1048576 bytes of extra", id="extra"),
    pytest.param(patched(TABLE + 14, "H", 60000), "table of snapshots takes", id="name"),
    pytest.param(patched(TABLE + 40, "Q", 1 << 50), "more bytes than the file", id="state"),
    pytest.param(patched(TABLE + 8, "I", 1), "L1 table has 1 entries", id="short L1"),
    pytest.param(patched(TABLE, "Q", 1 << 62), "snapshot one takes 8 bytes, 0 are", id="L1"),
    pytest.param(ONE[:60], "header of a qcow2 disk image takes 72 bytes, 60", id="short"),
    pytest.param(ONE[:75], "header of a qcow2 disk image takes 8 bytes, 3", id="short version 3"),
]


@pytest.mark.parametrize(("data", "message"), BAD)
def test_what_cannot_be_read_is_said(data: bytes, message: str) -> None:
    with pytest.raises(ArtefactError, match=message):
        read(data)


def test_snapshots_that_share_their_states_end() -> None:
    """Each entry of the table leads to the same clusters."""
    row = ONE[TABLE : TABLE + 72]
    data = bytearray(ONE[:TABLE] + row * 1000)
    struct.pack_into(">I", data, 60, 1000)
    seen: list[str] = []
    with pytest.raises(ArtefactError, match="more bytes than the file"):
        seen.extend(found.label for found in artefacts.read_bytes(data))
    assert 0 < len(seen) < 20


def test_a_cluster_in_parts() -> None:
    data = one(wide=True, bits=14)
    assert data.count(struct.pack(">Q", 0xFFFFFFFF)) > 0
    with pytest.raises(ArtefactError, match="a cluster in parts"):
        read(data.replace(struct.pack(">Q", 0xFFFFFFFF), struct.pack(">Q", 0xFFFF)))


def test_damaged_images_are_refused_or_read() -> None:
    assert survive(READER, cuts(ONE[: TABLE + 60], 150)) >= 150
    assert survive(READER, mutations(ONE, 300, start=TABLE)) > 0
    assert survive(READER, mutations(ONE[: TABLE + 100], 300)) >= 0
