"""Writes the Kaitai Struct description of a model's standard format.

``kaitai_skylake_server.py`` was compiled from it:

    python -m benchmarks.kaitai skylake-server > kaitai_skylake_server.ksy
    kaitai-struct-compiler -t python kaitai_skylake_server.ksy

Kaitai's compiler is not a Python package, so what it made stands beside this file.
"""

from __future__ import annotations

import sys

from benchmarks.work import Member, without_holes
from xsaveschema import Layout, load_model


def description(name: str, layout: Layout) -> str:
    """The .ksy of a layout: its fields one after the other, and the gaps between."""
    head = f"meta:\n  id: {name}\n  endian: le\nseq:\n"
    return head + "".join(map(_attribute, without_holes(layout)))


def _attribute(member: Member) -> str:
    what = f"type: u{member.size}" if member.number else f"size: {member.size}"
    return f"  - id: {member.identifier}\n    {what}\n"


if __name__ == "__main__":
    named = sys.argv[1]
    identifier = f"kaitai_{named.replace('-', '_')}"
    sys.stdout.write(description(identifier, load_model(named).standard_layout()))
