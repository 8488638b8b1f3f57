"""What a FILE holds: its areas, and the CPU models that wrote them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import click

from xsaveschema.artefacts.opened import Artefact, opened_stream
from xsaveschema.artefacts.opened import opened as opened_path
from xsaveschema.artefacts.reader import Found, Options
from xsaveschema.catalog import Catalog
from xsaveschema.cli.files import read_some
from xsaveschema.cli.plain import plain
from xsaveschema.errors import UnknownSampleError, XsaveError
from xsaveschema.header import MASKS, view_of
from xsaveschema.identify import load_model
from xsaveschema.model import COMPACTED, HEADER_OFFSET, CpuModel
from xsaveschema.spans import Slot
from xsaveschema.traces import shown

_TOLD: Final = 8
"""Labels that a message names."""


def options_of(
    catalog: Catalog, model_name: str | None, assume: bool = False, strict: bool = True
) -> Options:
    """What ``--model``, ``--assume-model`` and ``--lenient`` say of the CPU that wrote FILE."""
    if assume and model_name is None:
        raise click.UsageError("--assume-model insists on what --model says: give that, too")
    model = None if model_name is None else load_model(model_name, catalog)
    return Options(model, strict, catalog, assume)


def opened(source: str, options: Options) -> Artefact:
    """What FILE is: a path, ``-``, ``pid:N`` or ``sample:NAME``; wrong usage for no sample."""
    if source == "-":
        return opened_stream(read_some, options)
    try:
        return opened_path(source, options)
    except UnknownSampleError as error:
        raise click.UsageError(str(error)) from None


def one(source: str, options: Options, label: str | None) -> Found:
    """The one area of FILE that a command works on; XsaveError lists them where there are more."""
    with opened(source, options) as artefact:
        return chosen(artefact.areas(), label)


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
        there = ", ".join(seen[:_TOLD]) + (", ..." if seen[_TOLD:] else "")
        raise XsaveError(f"has no area called {label!r}; it has {there}")
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
    if model.host or not others:
        return model.label
    return f"{model.name}, or {others} other{'s' * (others > 1)} laid out alike"


def presented(model: CpuModel, others: int | None) -> str:
    """The same as a heading has it: with the title where the name is more than a label."""
    if model.host and model.file:  # else it was built from the CPU's own leaf
        more = f" or {others} other{'s' * (others > 1)}" if others else ""
        return f"host, laid out as {model.name}{more}"
    name = naming(model, others)
    return name if others else f"{name}  {plain(model.title)}"


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
