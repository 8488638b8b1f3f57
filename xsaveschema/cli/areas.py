"""What a FILE holds: its areas, and the CPU models that wrote them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from xsaveschema import artefacts
from xsaveschema.artefacts.containers import streamed, unpacked
from xsaveschema.artefacts.data import Data
from xsaveschema.artefacts.raw import require_look
from xsaveschema.artefacts.reader import WHOLE, Found, Options
from xsaveschema.artefacts.registry import PID, recognise
from xsaveschema.artefacts.source import MAX_AREA, Source
from xsaveschema.catalog import Catalog
from xsaveschema.cli.files import SAMPLE, read_sample, read_some
from xsaveschema.errors import XsaveError
from xsaveschema.header import MASKS, view_of
from xsaveschema.layout import Slot
from xsaveschema.model import COMPACTED, HEADER_OFFSET, CpuModel
from xsaveschema.traces import shown


def options_of(
    catalog: Catalog, model_name: str | None, assume: bool = False, strict: bool = True
) -> Options:
    """What ``--model``, ``--assume-model`` and ``--lenient`` say of the CPU that wrote FILE."""
    if assume and model_name is None:
        raise click.UsageError("--assume-model insists on what --model says: give that, too")
    model = None if model_name is None else catalog.model(model_name)
    return Options(model, strict, catalog, assume)


def find(source: str, options: Options) -> Iterator[Found]:
    """The areas of FILE: a path, ``-``, ``pid:N`` or ``sample:NAME``; the content says of what."""
    if _is_no_file(source):
        yield from artefacts.open(
            source, options.model, options.strict, options.catalog, assume=options.assume
        )
        return
    with _data(source) as data:
        options = _of(source, options)
        yield from recognise(data, options.assume).read(data, options)


def _is_no_file(source: str) -> bool:
    """Whether FILE is a process or a folder, which hold areas in another way than files."""
    return source.startswith(PID) or (source != "-" and Path(source).is_dir())


def some(areas: Iterable[Found]) -> Iterator[Found]:
    """The same areas; XsaveError where there are none."""
    found = None
    for found in areas:
        yield found
    if found is None:
        raise XsaveError("holds no area")


def one(source: str, options: Options, label: str | None) -> Found:
    """The one area of FILE that a command works on; XsaveError lists them where there are more."""
    return chosen(find(source, options), label)


def bare_or_one(source: str, options: Options, label: str | None) -> bytes | Found:
    """The bytes of FILE where it is one area and nothing else, whatever model wrote it.

    For what holds the bytes against several models. Else the area, as :func:`one` has it.
    """
    if _is_no_file(source):
        return one(source, options, label)
    with _data(source) as data:
        return bare_or_chosen(data, _of(source, options), label)


def bare_or_chosen(data: Data, options: Options, label: str | None) -> bytes | Found:
    """As :func:`bare_or_one`, for what a file holds."""
    reader = recognise(data, options.assume)
    if reader.name != "raw" or len(data) > MAX_AREA:
        return chosen(reader.read(data, options), label)
    require_look(data[:], options)
    return bytes(data[:])


@contextmanager
def _data(source: str) -> Iterator[Data]:
    """What FILE holds, unpacked. It can be looked at inside the block."""
    if source == "-":
        yield streamed(read_some)
    elif source.startswith(SAMPLE):
        yield memoryview(read_sample(source))
    else:
        with Source(source) as file:
            yield unpacked(file.data)


def _of(source: str, options: Options) -> Options:
    """The options for FILE: a sample is what it says, whatever its bytes look like."""
    return replace(options, look=False) if source.startswith(SAMPLE) else options


def chosen(areas: Iterable[Found], label: str | None) -> Found:
    """The one of these areas that a command works on; XsaveError lists them where it is open."""
    found: list[Found] = []
    seen: list[str] = []
    for each in areas:
        seen.append(each.label)
        if label in (None, each.label):
            found.append(each)
        if len(found) > 1:
            raise XsaveError(
                f"holds more than one area ({found[0].label}, {found[1].label}, ...): choose one "
                "with --area"
            )
    if not found:
        if seen == [WHOLE]:
            raise XsaveError(f"holds one area, called {WHOLE!r}, and no {label!r}")
        said = f"has no area called {label!r}; decode lists them" if label else "holds no area"
        raise XsaveError(said)
    return found[0]


def tells(data: bytes) -> bool:
    """Whether a bare area says which components its writer's system had enabled."""
    view = view_of(data)
    xstate_bv, xcomp_bv = MASKS.unpack_from(view, HEADER_OFFSET)
    return not xcomp_bv & COMPACTED and shown(view, xstate_bv) is not None


def called(found: Found) -> str:
    """The model of an area by name, and how many others it may as well be."""
    return "host" if found.origin == "host" else naming(found.area.model, found.others)


def naming(model: CpuModel, others: int | None) -> str:
    """A model's name, which is a label for a layout that ``others`` have too."""
    if not others:
        return model.name
    return f"{model.name}, or {others} other{'s' * (others > 1)} laid out alike"


def slot_facts(slot: Slot) -> dict[str, Any]:
    """A component's place as ``--json`` tells it."""
    return {
        "number": slot.number,
        "name": slot.name,
        "offset": slot.offset,
        "size": slot.size,
        "supervisor": slot.component.supervisor,
        "align64": slot.component.align64,
    }


def places(slots: Sequence[Slot]) -> tuple[tuple[int, int, int], ...]:
    """What two layouts must have in common to be the same: numbers, offsets and sizes."""
    return tuple((slot.number, slot.offset, slot.size) for slot in slots)
