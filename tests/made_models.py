"""Models that nobody has made, in files that the catalogue loads."""

from __future__ import annotations

from pathlib import Path

from xsaveschema import Catalog, CpuModel

SOURCE = "confirmed: false\nsource: made up\n"
BASE = """\
model: base
title: a base
vendor: GenuineIntel
signatures: [{family: 5, models: [1]}]
instructions: [xsavec]
mxcsr_mask: 0x2FFFF
components:
  avx:  {size: 256, offset: 576}
  pkru: {size: 8, offset: 832, optional: present}
  pt:   {size: 128, supervisor: true}
sizes: {standard: 840, compacted: 968}
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def child(folder: Path, text: str, name: str = "child", base: str = "base") -> CpuModel:
    """A model that extends ``base``, loaded from a folder that has both."""
    write(folder, "base.yaml", BASE + SOURCE)
    head = f"model: {name}\ntitle: {name}\nextends: {base}\n"
    write(folder, f"{name}.yaml", head + text + SOURCE)
    return Catalog([folder]).model(name)
