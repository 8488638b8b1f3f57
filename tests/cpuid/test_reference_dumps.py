"""The dumps of the reference collection, against what another reader made of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

from xsaveschema import cpuid
from xsaveschema.cpuid import CpuidRegisters

SHARED = Path(os.environ.get("XSAVESCHEMA_SHARED", ROOT.parent / "shared"))


def reference() -> dict[str, list[dict[str, Any]]]:
    """What another reader made of each file of the reference collection."""
    folder = SHARED / "cpuid"
    if not (folder / "raw" / "index.json").exists():
        pytest.skip(f"no reference dumps in {folder}")
    dumps = {each["id"]: each for each in json.loads((folder / "dumps.json").read_text())}
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in json.loads((folder / "raw" / "index.json").read_text()):
        found.setdefault(entry["file"], []).append(dumps[entry["id"]])
    return found


def registers(value: dict[str, int] | None) -> CpuidRegisters | None:
    return None if value is None else (value["eax"], value["ebx"], value["ecx"], value["edx"])


def summary(dump: dict[str, Any], *, with_identity: bool) -> object:
    components = [
        (each["component"], (each["size"], each["offset"], each["ecx"], each["edx"]))
        for each in dump["components"]
    ]
    signature = dump["leaf1_eax"]
    return (
        dump["vendor"] if with_identity else "",
        int(signature, 16) if signature and with_identity else None,
        registers(dump["leaf_d0"]),
        registers(dump["leaf_d1"]),
        components,
    )


@pytest.mark.shared
def test_reference_dumps_say_what_another_reader_made_of_them() -> None:
    differences: list[object] = []
    expected = reference()
    for name, dumps in expected.items():
        records = list(cpuid.read(SHARED / "cpuid" / "raw" / name))
        # Two mails quote leaf 0xD alone; their vendor stands in a remark of the collection.
        with_identity = all(record.vendor for record in records)
        got = [
            (r.vendor, r.signature, r.leaf_0xd[0], r.leaf_0xd.get(1), [*r.components.items()])
            for r in records
        ]
        want = [summary(dump, with_identity=with_identity) for dump in dumps]
        if sorted(map(repr, got)) != sorted(map(repr, want)):
            differences.append((name, got, want))
        for record, dump in zip(records, dumps, strict=True):
            if bool(record.unknown_components) != (
                dump["status"] == "truncated"
                or (dump["status"] == "leaf-d0-only" and record.xcr0 != 3)
            ):
                differences.append((name, record.unknown_components, dump["status"]))
    assert not differences
    assert len(expected) > 100


@pytest.mark.shared
def test_hybrid_reference_dumps_have_one_record_for_each_kind() -> None:
    labels = {
        name: [record.label for record in cpuid.read(SHARED / "cpuid" / "raw" / name)]
        for name, dumps in reference().items()
        if len(dumps) > 1
    }
    assert labels
    for found in labels.values():
        assert [label.split(", ")[1] for label in found] == ["Intel Core", "Intel Atom"]
