# SPDX-License-Identifier: MIT-0
"""Plug-ins for xsaveschema: a reader of files with areas, a format of CPUID dumps, an exporter.

A crate is ``CRATE1``, then for each area its length (u32), the length of a label (u8), the label
(UTF-8) and the area. A tally is text: ``tally of GenuineIntel 0x806f8``, then a line for each
sub-leaf of leaf 0xD: its number, EAX, EBX, ECX, EDX in hexadecimal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from xsaveschema import CpuModel
from xsaveschema.artefacts import ArtefactError, Data, Found, InPlace, Options, Struct, layout_of
from xsaveschema.cpuid import CpuidDumpError, CpuidRecord, Processor, records
from xsaveschema.export import banner

MAGIC = b"CRATE1"
HEAD = Struct("<IB")
LONGEST = 1 << 20  # bytes: no area is longer, and a length from a file is not to be trusted


class CrateReader(InPlace):
    """``InPlace``: an area stands in the file as it is, so ``patch`` can write it back."""

    name = "crate"
    title = "a crate of areas"

    def recognises(self, data: Data) -> bool:
        return bytes(data[: len(MAGIC)]) == MAGIC

    def read(self, data: Data, options: Options) -> Iterator[Found]:
        at = len(MAGIC)
        while at < len(data):
            size, length = HEAD.read(data, at, "the head of an area")
            label = bytes(data[at + HEAD.size : at + HEAD.size + length]).decode("utf-8", "replace")
            at += HEAD.size + length
            if size > LONGEST or at + size > len(data):
                raise ArtefactError(f"{label}: an area of {size} bytes is cut off", at)
            view = data[at : at + size]
            # Which CPU wrote it: the user's word, held against the area, or what the area shows.
            yield layout_of(view, options).found(view, options, label, at)
            at += size


class TallyFormat:
    NAME = "tally"

    def recognises(self, head: str) -> bool:
        return head.startswith("tally of ")

    def read(self, text: str, source: str) -> Iterator[CpuidRecord]:
        first, *lines = text.splitlines()
        processor = Processor(source)
        try:
            vendor, signature = first.split()[2:]
            processor.vendor = vendor
            processor.add(1, 0, (int(signature, 16), 0, 0, 0), 1)
        except ValueError:
            raise CpuidDumpError(
                "tally of VENDOR SIGNATURE is what the first line says", source, 1
            ) from None
        for number, line in enumerate(lines, 2):
            try:
                sub_leaf, *registers = (int(word, 16) for word in line.split())
                eax, ebx, ecx, edx = registers
            except ValueError:
                raise CpuidDumpError(f"no row of a tally: {line[:40]!r}", source, number) from None
            processor.add(0xD, sub_leaf, (eax, ebx, ecx, edx), number)
        # It judges the rows together, as those of every dump.
        yield from records([processor], source, self.NAME)


class CsvExporter:
    target, title, suffix = "csv", "offsets in the standard format, as CSV", ".csv"

    def render(self, cpus: Sequence[CpuModel], **options: Any) -> dict[str, str]:
        # By what the banner says, the next export knows that it may replace the file.
        lines = [f"# {line}" for line in banner(cpus)]
        for cpu in cpus:
            lines += [f"{cpu.label},{slot.name},{slot.offset}" for slot in cpu.standard_layout()]
        return {"offsets.csv": "\n".join(lines) + "\n"}
