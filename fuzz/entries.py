"""What is fuzzed: each entry takes bytes, and may raise XsaveError and nothing else.

Where an answer can be checked it is: a right answer or an XsaveError, never a wrong answer.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Final

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
    from pathlib import Path
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
    """A file of any kind that carries areas."""
    from xsaveschema import artefacts

    with suppress(XsaveError):
        for found in artefacts.read_bytes(data):
            found.area.registers.read()


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
}


def seeds(name: str) -> list[bytes]:
    """Good input to start from."""
    from pathlib import Path

    root = Path(__file__).parents[1]
    if name == "schema":
        found = sorted((root / "schemas").rglob("*.yaml"))
        return [path.read_bytes() for path in found if path.stat().st_size < 4096][:40]
    if name == "cpuid":
        found = sorted(path for path in (root / "tests/data/cpuid").rglob("*") if path.is_file())
        return [path.read_bytes() for path in found]
    areas = [samples.read(sample) for sample in samples.SAMPLES]
    if name in ("identify", "artefact"):
        return areas
    number = {model.name: n for n, model in enumerate(_models())}
    start = bytes([number["zen4"]]), bytes([number["tiger-lake"]])
    return [first + data for first in start for data in areas]
