"""What a FILE holds: its areas, and the CPU models that wrote them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from xsaveschema.area import XsaveArea
from xsaveschema.catalog import Catalog
from xsaveschema.catalog.identify import FP_XSTATE_MAGIC1, identify, limited_to_shown
from xsaveschema.cli.files import MAX_AREA, SAMPLE, read_area
from xsaveschema.errors import XsaveError, hex_mask
from xsaveschema.layout import Slot
from xsaveschema.model import XCR0_OFFSET, CpuModel

if TYPE_CHECKING:
    from xsaveschema import artefacts

WHOLE: Final = "area"
"""The label of the area that is the whole file."""


class Found(NamedTuple):
    """An area in a file: ``label`` says which, ``layout_source`` how its layout is known.

    ``others`` is how many more models lay it out alike, None for a model that was named or that
    the artefact itself tells; ``notes`` are for the person who reads the result.
    """

    label: str
    layout_source: str
    area: XsaveArea
    others: int | None = None
    notes: tuple[str, ...] = ()


def find(
    source: str, catalog: Catalog, model_name: str | None, strict: bool = True
) -> Iterator[Found]:
    """The areas of FILE, whatever kind of artefact it is; see :func:`view_of_file`."""
    model = None if model_name is None else catalog.model(model_name)
    with view_of_file(source) as view:
        if view is None:
            from xsaveschema import artefacts

            yield from map(_told, artefacts.open(source, model, strict, catalog))
            return
        from xsaveschema.artefacts.reader import Options
        from xsaveschema.artefacts.registry import recognise

        reader = recognise(view)
        if reader.name == "raw":
            yield whole(_bounded(view), catalog, model_name, strict)
        else:
            yield from map(_told, reader.read(view, Options(model, strict, catalog)))


def one(source: str, catalog: Catalog, model_name: str | None, label: str | None) -> Chosen:
    """The bytes of the area that :func:`chosen` finds; MissingStateError if not all are there."""
    found = chosen(source, catalog, model_name, label)
    if isinstance(found, bytes):
        return Chosen(found, None)
    return Chosen(bytes(found.area), found.area.model, found.others)


def chosen(
    source: str, catalog: Catalog, model_name: str | None, label: str | None
) -> Found | bytes:
    """The one area of FILE that a command works on; bytes where the whole file is one.

    XsaveError lists them where there are more.
    """
    with view_of_file(source) as view:
        if view is not None:
            from xsaveschema.artefacts.registry import recognise

            if recognise(view).name == "raw":
                if label not in (None, WHOLE):
                    raise XsaveError(f"holds one area, called {WHOLE!r}, and no {label!r}")
                return _bounded(view)
    found = []
    for each in find(source, catalog, model_name):
        if label in (None, each.label):
            found.append(each)
        if len(found) > 1:
            break
    if not found:
        said = f"has no area called {label!r}; decode lists them" if label else "holds no area"
        raise XsaveError(said)
    if len(found) > 1:
        raise XsaveError(
            f"holds more than one area ({found[0].label}, {found[1].label}, ...): choose one with "
            "--area"
        )
    return found[0]


class Chosen(NamedTuple):
    """An area's bytes, and the model that the artefact says wrote it (None: a bare area).

    ``others`` is as in :class:`Found`.
    """

    data: bytes
    model: CpuModel | None
    others: int | None = None


@contextmanager
def view_of_file(source: str) -> Iterator[memoryview | None]:
    """The bytes of FILE: a path, ``-`` or ``sample:NAME``; None for ``pid:N``, a live process.

    A large file is mapped, not read.
    """
    if source.startswith("pid:"):
        yield None
    elif source == "-" or source.startswith(SAMPLE):
        yield memoryview(read_area(source))
    else:
        from xsaveschema.artefacts.source import Source

        with Source(source) as file:
            yield file.data


def _bounded(view: memoryview) -> bytes:
    if len(view) > MAX_AREA:
        raise XsaveError(
            f"is no file that a reader knows, and longer than {MAX_AREA >> 20} MiB, which no area "
            "is"
        )
    return bytes(view)


def _told(found: artefacts.Found) -> Found:
    return Found(found.label, found.layout_source, found.area, found.others, found.notes)


def whole(data: bytes, catalog: Catalog, model_name: str | None, strict: bool = True) -> Found:
    """The area that a whole file is. Errors are those of :meth:`XsaveArea.parse`."""
    if model_name is None:
        match = identify(data, catalog=catalog)
        model, source = match.model, f"identified by {match.candidates[0].by}"
        area = XsaveArea.parse(data, model, strict)
        return Found(WHOLE, source, area, len(match.candidates) - 1)
    model, source = as_shown(catalog.model(model_name), data)
    return Found(WHOLE, source, XsaveArea.parse(data, model, strict))


def as_shown(model: CpuModel, data: bytes) -> tuple[CpuModel, str]:
    """A named model, limited to the XCR0 that software left in the area, and words for it.

    They end in the byte where the XCR0 stands, if that limits the model.
    """
    seen = limited_to_shown(model, data)
    if seen is model:
        return model, f"model {model.name}"
    magic = FP_XSTATE_MAGIC1.to_bytes(4, "little")
    offset = XCR0_OFFSET + 8 * (data[XCR0_OFFSET : XCR0_OFFSET + 4] == magic)
    return seen, f"model {model.name} limited to XCR0 {hex_mask(seen.xcr0)} at byte {offset}"


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
