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
_MAX_SNAPSHOTS: Final = 1 << 16
_MAX_MORE: Final = 1024
_NAME_MAX: Final = 128


class _Snapshot(NamedTuple):
    """A snapshot: its name, its L1 table, the sizes of its state and of the disk in bytes."""

    name: str
    table: int
    entries: int
    state: int
    disk: int


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
        bits, wide, disk, found = _snapshots(data)
        left = len(data)
        seen = False
        for snapshot in found:
            if not snapshot.state:
                continue  # of the disk alone
            # Each is looked at as far as a description reaches: together no more than the file.
            left -= min(snapshot.state, MAX_DESCRIPTION)
            if left < 0:
                raise ArtefactError("the snapshots' states take more bytes than the file has")
            seen = True
            state = _State(data, snapshot, bits, wide, disk)
            yield from vcpus(state, options, f"snapshot {snapshot.name}, ")
        if not seen:
            raise ArtefactError(
                "is a qcow2 disk image without the saved state of a machine (savevm); what the "
                "disk holds is not looked at"
            )


class _State:
    """The bytes of a saved state, cluster by cluster."""

    def __init__(self, data: Data, snapshot: _Snapshot, bits: int, wide: bool, disk: int):
        self._data = data
        self._snapshot = snapshot
        self._bits = bits
        self._entry = 4 if wide else 3  # the size of an L2 entry, as a power of two
        self._per_table = bits - self._entry
        size = snapshot.disk or disk
        self._first = -(-size >> (bits + self._per_table))

    def __len__(self) -> int:
        return self._snapshot.state

    def __getitem__(self, key: slice, /) -> bytes:
        start, end, _ = key.indices(len(self))
        parts = []
        while start < end:
            within = start & ((1 << self._bits) - 1)
            size = min(end - start, (1 << self._bits) - within)
            place = self._cluster(start >> self._bits)
            parts.append(bytes(size) if place is None else self._at(place + within, size))
            start += size
        return b"".join(parts)

    def _at(self, place: int, size: int) -> bytes:
        if place + size > len(self._data):
            raise ArtefactError(
                f"snapshot {self._snapshot.name} has {size} bytes here, behind the file's end",
                place,
            )
        return bytes(self._data[place : place + size])

    def _cluster(self, number: int) -> int | None:
        """Where a cluster of the state stands in the file; None for zeros."""
        index = self._first + (number >> self._per_table)
        if index >= self._snapshot.entries:
            raise ArtefactError(
                f"snapshot {self._snapshot.name}: its L1 table has {self._snapshot.entries} "
                f"entries, and the state goes on in entry {index}",
                self._snapshot.table,
            )
        (entry,) = _ENTRY.unpack(self._at(self._snapshot.table + _ENTRY.size * index, _ENTRY.size))
        table = entry & _PLACE
        if not table:
            return None
        at = table + ((number & ((1 << self._per_table) - 1)) << self._entry)
        (entry,) = _ENTRY.unpack(self._at(at, _ENTRY.size))
        if entry & _COMPRESSED:
            raise ArtefactError(f"snapshot {self._snapshot.name} has a compressed cluster", at)
        if self._entry == 4:
            return self._whole(entry, at)
        return None if entry & _ZERO or not entry & _PLACE else entry & _PLACE

    def _whole(self, entry: int, at: int) -> int | None:
        """As above, where a bitmap says which 32nds of the cluster are there, and which zero."""
        (bitmap,) = _ENTRY.unpack(self._at(at + _ENTRY.size, _ENTRY.size))
        there = bitmap & 0xFFFF_FFFF
        if there not in (0, 0xFFFF_FFFF):
            raise ArtefactError(f"snapshot {self._snapshot.name} has a cluster in parts", at)
        return entry & _PLACE if there and entry & _PLACE else None


def _snapshots(data: Data) -> tuple[int, bool, int, Iterator[_Snapshot]]:
    """cluster_bits, whether L2 entries are extended, the disk's size, and the snapshots."""
    if len(data) < _HEADER.size:
        raise ArtefactError("ends within the header of a qcow2 disk image", len(data))
    _, version, bits, size, crypt, count, at = _HEADER.unpack_from(data)
    if version not in (2, 3):
        raise ArtefactError(f"is a qcow disk image of version {version}; 2 and 3 are read", 4)
    features = 0
    if version == 3:
        if len(data) < _FEATURES_AT + _FEATURES.size:
            raise ArtefactError("ends within the header of a qcow2 disk image", len(data))
        (features,) = _FEATURES.unpack_from(data, _FEATURES_AT)
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
    return bits, bool(features & _EXTENDED_L2), size, _table(data, at, count)


def _table(data: Data, at: int, count: int) -> Iterator[_Snapshot]:
    for _ in range(count):
        head = data[at : at + _SNAPSHOT.size]
        if len(head) < _SNAPSHOT.size:
            raise ArtefactError("the file ends within its table of snapshots", at)
        table, entries, id_size, name_size, state, more = _SNAPSHOT.unpack(head)
        if more > _MAX_MORE:
            raise ArtefactError(f"a snapshot with {more} bytes of extra data", at)
        body = at + _SNAPSHOT.size
        name_at = body + more + id_size
        disk = 0
        if name_at + name_size > len(data):
            raise ArtefactError("the file ends within its table of snapshots", at)
        if more >= _MORE.size:
            state, disk = _MORE.unpack_from(data, body)
        elif more >= _ENTRY.size:
            (state,) = _ENTRY.unpack_from(data, body)
        raw = bytes(data[name_at : name_at + min(name_size, _NAME_MAX)]).decode("utf-8", "replace")
        name = "".join(letter if letter.isprintable() else "\ufffd" for letter in raw)
        yield _Snapshot(name, table, entries, state, disk)
        at = name_at + name_size + 7 & ~7


READER: Final = Qcow2Reader()
