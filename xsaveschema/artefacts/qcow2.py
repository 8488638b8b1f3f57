# SPDX-License-Identifier: MIT
"""QEMU snapshots within a qcow2 disk image (``savevm``): a migration stream for each of them.

A snapshot has its own L1 table, which leads by L2 tables to the clusters of the disk; behind the
disk's last one begins the saved state, ``vm_state_size`` bytes long. Sources: QEMU's
``docs/interop/qcow2.rst`` and ``block/qcow2.h`` (``qcow2_vm_state_offset``); images that QEMU 7.2
wrote under TCG.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from xsaveschema.artefacts.qemu_stream import MAX_DESCRIPTION, vcpus
from xsaveschema.artefacts.reader import ArtefactError, Data, Found, Options, Struct
from xsaveschema.artefacts.source import Window, part, require

_HEADER: Final = Struct(">4sI12xIQI24xIQ")
"""Magic, version, cluster_bits, size, crypt_method, nb_snapshots, snapshots_offset."""
_FEATURES: Final = Struct(">Q")
_FEATURES_AT: Final = 72
_EXTERNAL_DATA, _EXTENDED_L2 = 1 << 2, 1 << 4
_KNOWN: Final = 0b11111
_SNAPSHOT: Final = Struct(">QIHH16xII")
"""L1 table, its entries, lengths of id and name, vm_state_size (32 bits), length of extra data."""
_MORE: Final = Struct(">QQ")  # vm_state_size, the disk's size
_ENTRY: Final = Struct(">Q")
_PLACE: Final = 0x00FF_FFFF_FFFF_FE00
_COMPRESSED, _ZERO = 1 << 62, 1
_ALL: Final = 0xFFFF_FFFF  # the 32nds of a cluster
_MAX_SNAPSHOTS: Final = 1 << 16
_MAX_MORE: Final = 1024
_NAME_MAX: Final = 128


class _Snapshot(NamedTuple):
    """A snapshot: its name, its L1 table, the sizes of its state and of the disk in bytes.

    ``bits`` is the image's cluster_bits, ``extended`` whether its L2 entries are.
    """

    name: str
    table: int
    entries: int
    state: int
    disk: int
    bits: int
    extended: bool


class Qcow2Reader:
    """Reads the saved states of machines within a disk image."""

    name = "qcow2"
    title = "qcow2 disk image with QEMU snapshots (savevm)"

    def recognises(self, data: Data) -> bool:
        """Whether this is a qcow2 disk image, with a saved state or without."""
        return bytes(data[:4]) == b"QFI\xfb"

    def read(self, data: Data, options: Options) -> Iterator[Found]:
        """The state of every vCPU of every snapshot, labelled ``snapshot NAME, vCPU 0``.

        ArtefactError for an image that has none, or that is encrypted or split.
        """
        left = len(data)
        seen = False
        for snapshot in _snapshots(data):
            if not snapshot.state:
                continue  # of the disk alone
            # Each is looked at as far as a description reaches: together no more than the file.
            left -= min(snapshot.state, MAX_DESCRIPTION)
            if left < 0:
                raise ArtefactError("the snapshots' states take more bytes than the file has")
            seen = True
            state = _state(data, snapshot)
            yield from vcpus(state, options, f"snapshot {snapshot.name}, ")
        if not seen:
            raise ArtefactError(
                "is a qcow2 disk image without the saved state of a machine (savevm); what the "
                "disk holds is not looked at"
            )


def _state(data: Data, snapshot: _Snapshot) -> Window:
    """The bytes of a saved state, which stand in clusters."""
    called = f"snapshot {snapshot.name}"
    bits, extended = snapshot.bits, snapshot.extended
    entry_bits = 4 if extended else 3
    table_bits = bits - entry_bits
    first = -(-snapshot.disk >> (bits + table_bits))

    def word(at: int) -> int:
        return int(_ENTRY.read(data, at, called)[0])

    def place(number: int) -> int | None:
        """Where a cluster of the state stands in the file; None for zeros."""
        index = first + (number >> table_bits)
        if index >= snapshot.entries:
            raise ArtefactError(
                f"{called}: its L1 table has {snapshot.entries} entries, and the state goes on in "
                f"entry {index}",
                snapshot.table,
            )
        table = word(snapshot.table + _ENTRY.size * index) & _PLACE
        if not table:
            return None
        at = table + ((number & (1 << table_bits) - 1) << entry_bits)
        entry = word(at)
        if entry & _COMPRESSED:
            raise ArtefactError(f"{called} has a compressed cluster", at)
        there = not entry & _ZERO
        if extended:  # a bitmap says which 32nds of the cluster are there, and which zero
            bitmap = word(at + _ENTRY.size) & _ALL
            if bitmap not in (0, _ALL):
                raise ArtefactError(f"{called} has a cluster in parts", at)
            there = bitmap != 0
        return entry & _PLACE or None if there else None

    def fetch(start: int, size: int) -> memoryview:
        found = bytearray()
        while len(found) < size:
            number, within = divmod(start + len(found), 1 << bits)
            length = min(size - len(found), (1 << bits) - within)
            at = place(number)
            found += bytes(length) if at is None else part(data, at + within, length, called)
        return memoryview(bytes(found))

    return Window(snapshot.state, fetch)


def _snapshots(data: Data) -> Iterator[_Snapshot]:
    """The snapshots of an image, by its table of them."""
    what = "the header of a qcow2 disk image"
    _, version, bits, size, crypt, count, at = _HEADER.read(data, 0, what)
    if version not in (2, 3):
        raise ArtefactError(f"is a qcow disk image of version {version}; 2 and 3 are read", 4)
    features = _FEATURES.read(data, _FEATURES_AT, what)[0] if version == 3 else 0
    if not 9 <= bits <= 21:
        raise ArtefactError(f"cluster_bits is {bits}, not 9 to 21", 20)
    if crypt:
        raise ArtefactError("is an encrypted qcow2 disk image", 32)
    if features & _EXTERNAL_DATA or features & ~_KNOWN:
        raise ArtefactError(
            f"is a qcow2 disk image with incompatible features {features:#x}: an external data "
            "file, or what is not known here",
            _FEATURES_AT,
        )
    if count > _MAX_SNAPSHOTS:
        raise ArtefactError(f"{count} snapshots are more than QEMU writes", 60)
    extended = bool(features & _EXTENDED_L2)
    what = "an entry of the table of snapshots"
    for _ in range(count):
        table, entries, id_size, name_size, state, more = _SNAPSHOT.read(data, at, what)
        if more > _MAX_MORE:
            raise ArtefactError(f"a snapshot with {more} bytes of extra data", at)
        body = at + _SNAPSHOT.size
        name_at = body + more + id_size
        require(data, at, name_at + name_size - at, what)
        disk = 0
        if more >= _MORE.size:
            state, disk = _MORE.unpack_from(data, body)
        elif more >= _ENTRY.size:
            (state,) = _ENTRY.unpack_from(data, body)
        raw = bytes(data[name_at : name_at + min(name_size, _NAME_MAX)]).decode("utf-8", "replace")
        name = "".join(letter if letter.isprintable() else "\ufffd" for letter in raw)
        yield _Snapshot(name, table, entries, state, disk or size, bits, extended)
        at = name_at + name_size + 7 & ~7


READER: Final = Qcow2Reader()
