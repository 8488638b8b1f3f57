"""Reading one area: every stored field, every whole register, one register."""

from __future__ import annotations

import random
from functools import partial
from struct import Struct
from typing import Final

import xsaveschema as xs
from benchmarks import peers
from benchmarks.measure import Claim, Effort, Goal, Outcome, Skipped, Task, race
from benchmarks.work import standard_area

VALUES: Final = "values"
REGISTERS: Final = "registers"
BASE: Final = "struct.Struct"
CONSTRUCT: Final = "interpreted Construct"
OURS: Final = "the library"


def all_fields(effort: Effort) -> Outcome:
    """``XsaveArea.values`` and every peer, against one struct.Struct unpacked into a dict."""
    layout, data = _skylake()
    expected = peers.expected(layout, data)
    tasks, claims = [], []
    for peer in peers.peers(layout):
        if isinstance(peer, Skipped):
            yield peer
            continue
        peers.verify(peer, data, expected)
        tasks.append(Task(peer.name, partial(peer.read, data)))
        if peer.name != BASE:
            # Interpreted Construct has its headline below, against the library.
            headline = "" if peer.name == CONSTRUCT else f"the same by {peer.name}"
            claims.append(Claim(peer.name, peer.name, BASE, headline=headline))
    parse, model = xs.XsaveArea.parse, layout.model
    area = parse(data, model)
    tasks.append(Task(OURS, area.values))
    tasks.append(Task("parse().values()", lambda: parse(data, model).values()))
    fields = f"all {len(expected)} stored fields"
    ours = [
        Claim("values()", OURS, BASE, Goal(1.5), f"`area.values()`: {fields}"),
        Claim(
            CONSTRUCT,
            CONSTRUCT,
            OURS,
            Goal(15, "at least"),
            f"the same by {CONSTRUCT}",
        ),
        Claim("parse().values()", "parse().values()", BASE),
    ]
    yield from race(VALUES, tasks, [*ours, *claims], effort)


def registers(effort: Effort) -> Outcome:
    """Whole registers: all of them, then one read and one written."""
    layout, data = _skylake()
    plain = peers.plain_struct(layout)
    area = xs.XsaveArea.parse(data, layout.model)
    tasks = [Task(BASE, partial(plain.read, data)), Task(OURS, area.registers.read)]
    headline = f"`area.registers.read()`: {len(area.registers)} whole registers"
    claims = [Claim("registers.read()", OURS, BASE, Goal(4), headline)]
    yield from race(REGISTERS, tasks, claims, effort)
    yield from _one_register(layout, data, effort)


def _one_register(layout: xs.Layout, data: bytes, effort: Effort) -> Outcome:
    parse, model = xs.XsaveArea.parse, layout.model
    raw = Struct(f"<{layout['hi16_zmm'].offset + 64}x64s").unpack_from
    construct = model.construct(layout).parse
    area = parse(bytearray(data), model)
    value = area.registers["zmm17"]

    def unpack() -> int:
        return int.from_bytes(raw(data)[0], "little")

    def read() -> int:
        return parse(data, model).registers["zmm17"]  # type: ignore[no-any-return]

    def write() -> None:
        area.registers["zmm17"] = value

    if not unpack() == read() == construct(data).hi16_zmm.zmm[1]:
        raise peers.Disagreement("zmm17 is not the same everywhere")
    tasks = [
        Task("unpack_from", unpack),
        Task(OURS, read),
        Task("write", write),
        Task(CONSTRUCT, lambda: construct(data).hi16_zmm.zmm[1]),
    ]
    microseconds = Goal(2, of="microseconds")
    claims = [
        Claim(
            'parse().registers["zmm17"]',
            OURS,
            "unpack_from",
            microseconds,
            'check an area, read one register: `parse(…).registers["zmm17"]`',
        ),
        Claim(
            'registers["zmm17"] = value',
            "write",
            "unpack_from",
            microseconds,
            'write one register: `area.registers["zmm17"] = …`',
        ),
        Claim(
            f"{CONSTRUCT}, one register",
            CONSTRUCT,
            OURS,
            Goal(100, "at least"),
            f"one register by {CONSTRUCT}",
        ),
    ]
    yield from race(REGISTERS, tasks, claims, effort)


def _skylake() -> tuple[xs.Layout, bytes]:
    model = xs.load_model("skylake-server")
    return model.standard_layout(), standard_area(model, random.Random(0))
