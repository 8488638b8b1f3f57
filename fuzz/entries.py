"""What is fuzzed: each entry takes bytes, and may raise XsaveError and nothing else.

Where an answer can be checked it is: a right answer or an XsaveError, never a wrong answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from fuzz.files import files
from xsaveschema import XsaveArea, XsaveError, check, identify, samples, to_compacted, to_standard
from xsaveschema.catalog import default_catalog
from xsaveschema.model import CpuModel


@cache
def _models() -> list[CpuModel]:
    return default_catalog().models()


def _model(data: bytes) -> tuple[CpuModel, bytes]:
    models = _models()
    return models[data[0] % len(models) if data else 0], data[1:]


def area(data: bytes) -> None:
    """XsaveArea.parse, strict and lenient, and everything that it shows."""
    model, data = _model(data)
    with suppress(XsaveError):
        seen = XsaveArea.parse(data, model)
        assert len(seen.values()) > 1
        seen.registers.read()
        assert bytes(seen) == data
    with suppress(XsaveError):
        loose = XsaveArea.parse(data, model, strict=False)
        loose.values()
        loose.registers.read()


def convert(data: bytes) -> None:
    """to_standard and to_compacted; the way back must give the same."""
    model, data = _model(data)
    with suppress(XsaveError):
        there = to_standard(data, model)
        back = to_compacted(there.data, model)
        again = to_standard(back.data, model).data
        # An MXCSR that is not initial puts SSE in use on the way; MXCSR_MASK is no state, and the
        # mask at byte 464 is a standard area's alone.
        there.data[512] |= again[512] & 2
        for place in (slice(0, 28), slice(32, 464), slice(472, None)):
            assert again[place] == there.data[place]


def construct(data: bytes) -> None:
    """The Construct struct: what it parses it builds again, byte for byte."""
    model, data = _model(data)
    struct = model.construct()
    with suppress(XsaveError):
        assert struct.build(struct.parse(data)) == data


def judge(data: bytes) -> None:
    """What a restore accepts, and mending it, for every target."""
    from xsaveschema.restore import mend

    model, data = _model(data)
    for target in ("xrstor", "xrstors", "ptrace", "kvm"):
        with suppress(XsaveError):
            faults = check(data, model, target)
            if not faults:
                assert mend(data, model, target).data == data


def identification(data: bytes) -> None:
    """identify, from an area's bytes."""
    with suppress(XsaveError):
        match = identify(data)
        if match.candidates:
            assert match.models
        XsaveArea.parse(data, match.model).values()


def schema(data: bytes) -> None:
    """A schema file: YAML text to a model."""
    from tempfile import TemporaryDirectory

    from xsaveschema import Catalog

    with TemporaryDirectory() as folder:
        path = Path(folder) / "fuzzed.yaml"
        path.write_bytes(data)
        with suppress(XsaveError):
            catalog = Catalog([path])
            for name in catalog:
                if catalog.model(name).file == str(path):
                    catalog.model(name).standard_layout()


def cpuid(data: bytes) -> None:
    """A CPUID dump of any format."""
    from xsaveschema.cpuid import read_bytes

    with suppress(XsaveError):
        for record in read_bytes(data, "fuzzed"):
            with suppress(XsaveError):
                identify(leaf_0xd=record.leaf_0xd, signature=record.signature).model  # noqa: B018


def artefact(data: bytes) -> None:
    """A file of any kind that carries areas, read strictly, leniently and under a named model."""
    from xsaveschema import artefacts

    for options in ({}, {"strict": False}, {"model": _named(), "assume": True}):
        with suppress(XsaveError):
            for found in artefacts.read_bytes(data, **options):
                found.area.registers.read()
                found.area.values()
                repr(found)


def edit(data: bytes) -> None:
    """Patching a file in place, and the layout note of a core: it changes whole or not at all."""
    from tempfile import TemporaryDirectory

    from xsaveschema import artefacts

    with TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(data)
        before = path.read_bytes()
        try:
            with suppress(OSError):
                artefacts.patch(path, registers={"mxcsr": 0x1FA0}, area="#0", in_place=True)
                read = next(artefacts.open(path, strict=False))
                assert read.area.registers["mxcsr"] == 0x1FA0
        except XsaveError:
            assert path.read_bytes() == before
        with suppress(XsaveError, OSError):
            artefacts.add_layout(path, Path(folder) / "out")


def difference(data: bytes) -> None:
    """diff, both ways, between an area and the same with a byte changed; and its bytes' owners."""
    from xsaveschema import diff
    from xsaveschema.diff import byte_differences

    model, data = _model(data)
    other = bytearray(data)
    if other:
        other[data[0] * len(other) // 256] ^= 1
    with suppress(XsaveError):
        first = diff(data, bytes(other), model, everything=True)
        second = diff(bytes(other), data, model, everything=True)
        assert [delta.path for delta in first] == [delta.path for delta in second]
        assert diff(data, data, model, everything=True) == []
        byte_differences(data, bytes(other), model)


def comparison(data: bytes) -> None:
    """compare: what may move between two CPU models is what relayout moves."""
    from xsaveschema import compare, relayout

    source, data = _model(data)
    target, data = _model(data)
    compare(source, target)
    with suppress(XsaveError):
        moved = relayout(data, source=source, target=target, drop=range(63))
        XsaveArea.parse(moved.data, target)


def helper(data: bytes) -> None:
    """QEMU's helper, bit for bit, and what is said of it."""
    from xsaveschema import qemu

    model, data = _model(data)
    leaf = model.cpuid_leaf_0xd()
    common = {"guest_leaf": leaf, "host_leaf": leaf, "guest_xcr0": model.xcr0}
    with suppress(XsaveError):
        qemu.decompact_xsave_area(data, bytearray(16384), **common)  # type: ignore[arg-type]
    with suppress(XsaveError):
        masks = {"guest_xcr0": model.xcr0, "xcr0": model.xcr0}
        qemu.compact_xsave_area(data, bytearray(16384), host_leaf=leaf, **masks)
    for format in ("standard", "compacted"):
        with suppress(XsaveError):
            qemu.differences(data, to=format, **common)  # type: ignore[arg-type]


def many(data: bytes) -> None:
    """Batches: each row has the result that the area alone has; and registers as columns."""
    import numpy as np

    from xsaveschema import batch

    model, data = _model(data)
    if len(data) < 576:
        return
    rows = np.frombuffer(data * 3, np.uint8).reshape(3, -1)
    for single, several in (
        (to_standard, batch.to_standard),
        (to_compacted, batch.to_compacted),
    ):
        result = several(rows, model, errors="skip")
        wanted, refused = b"", type(None)
        try:
            wanted = bytes(single(data, model).data)
        except XsaveError as error:
            refused = type(error)  # type: ignore[assignment]
        assert type(result.errors.get(1)) is refused
        assert result.data[1].tobytes() == wanted or result.errors
    batch.decode(rows, model, errors="skip")
    batch.check(rows, model)


def arrow(data: bytes) -> None:
    """Conversion and decoding as functions of a record batch."""
    import numpy as np
    import pyarrow as pa

    from xsaveschema.many.arrow import Convert, Decode, array_of

    model, data = _model(data)
    if len(data) < 576:
        return
    rows = array_of(np.frombuffer(data * 2, np.uint8).reshape(2, -1))
    table = pa.record_batch({"area": rows})
    with suppress(XsaveError):
        Convert(model, "compacted", column="area", errors="null")(table)
    with suppress(XsaveError):
        Decode(model, column="area", errors="null")(table)


_COMMANDS: Final = (
    ["decode"],
    ["decode", "--json"],
    ["decode", "--lenient", "--all"],
    ["check", "--json"],
    ["check", "--target", "kvm"],
    ["identify"],
    ["convert", "--format", "compacted", "-o", os.devnull],
    ["convert", "--cpu", "ice-lake-server", "-o", os.devnull],
)


def commands(data: bytes) -> None:
    """The command line on a file: an exit code, one message, no traceback."""
    from tempfile import TemporaryDirectory

    from click.testing import CliRunner

    from xsaveschema.cli.program import program

    with TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(data)
        for name, *options in _COMMANDS:
            done = CliRunner().invoke(program, [name, str(path), *options])
            assert done.exit_code in (0, 1), (name, options, done.output)
            ended = done.exception is None or isinstance(done.exception, SystemExit)
            assert ended, (name, options, done.exception)


def _named() -> CpuModel:
    return next(model for model in _models() if model.name == "sapphire-rapids")


Entry = Callable[[bytes], None]

ENTRIES: Final[dict[str, Entry]] = {
    "area": area,
    "convert": convert,
    "construct": construct,
    "check": judge,
    "identify": identification,
    "schema": schema,
    "cpuid": cpuid,
    "artefact": artefact,
    "edit": edit,
    "diff": difference,
    "compare": comparison,
    "qemu": helper,
    "batch": many,
    "arrow": arrow,
    "commands": commands,
}


def seeds(name: str) -> list[bytes]:
    """Good input to start from."""

    root = Path(__file__).parents[1]
    if name == "schema":
        found = sorted((root / "schemas").rglob("*.yaml"))
        return [path.read_bytes() for path in found if path.stat().st_size < 4096][:40]
    if name == "cpuid":
        found = sorted(path for path in (root / "tests/data/cpuid").rglob("*") if path.is_file())
        return [path.read_bytes() for path in found]
    areas = [samples.read(name) for name in samples.SAMPLES if name != "avx512-core"]
    if name == "identify":
        return areas
    if name in ("artefact", "edit", "commands"):
        return [data for kind in files().values() for data in kind]
    number = {model.name: n for n, model in enumerate(_models())}
    start = bytes([number["zen4"]]), bytes([number["tiger-lake"]])
    return [first + data for first in start for data in areas]
