# SPDX-License-Identifier: MIT
"""Files of ``virsh save``: a header, the domain's XML, and a QEMU migration stream.

Source: libvirt's ``src/qemu/qemu_saveimage.h``. The header's numbers are in the byte order of the
machine that wrote it. **Not yet seen from a real producer**: the tests' files are built from that
structure around streams that QEMU wrote.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from xsaveschema.artefacts.qemu_stream import vcpus
from xsaveschema.artefacts.reader import ArtefactError, Data, Found, Options, Struct
from xsaveschema.artefacts.source import behind

_HEADER: Final = Struct("<16sIIIII56x")  # magic, version, data_len, was_running, format, cookie
_VERSIONS: Final = (1, 2)
_FORMATS: Final = {1: "gzip", 2: "bzip2", 3: "xz", 4: "lzop", 5: "zstd", 6: "sparse (mapped-ram)"}


class LibvirtSaveReader:
    """Reads what ``virsh save`` and ``virsh managedsave`` write of x86 machines."""

    name = "libvirt-save"
    title = "file of virsh save"

    def recognises(self, data: Data) -> bool:
        """Whether this is a file of ``virsh save`` that was finished."""
        return bytes(data[:16]) == b"LibvirtQemudSave"

    def read(self, data: Data, options: Options) -> Iterator[Found]:
        """The state of every vCPU. ArtefactError names the format of a compressed stream."""
        if len(data) < _HEADER.size or not self.recognises(data):
            raise ArtefactError("ends within the header of virsh save", len(data))
        _, version, length, _, form, _ = _HEADER.unpack_from(data)
        if version not in _VERSIONS:
            raise ArtefactError(f"version {version:#x} of virsh save's header is not known", 16)
        if form in _FORMATS:
            raise ArtefactError(
                f"its stream is in the format {_FORMATS[form]}: set save_image_format = "
                '"raw" in qemu.conf and save the domain again',
                28,
            )
        if form:
            raise ArtefactError(f"its stream is in the format {form}, which is not known", 28)
        start = _HEADER.size + length
        if start >= len(data):
            raise ArtefactError(f"ends within its {length} bytes of XML", len(data))
        yield from vcpus(behind(data, start), options)


READER: Final = LibvirtSaveReader()
