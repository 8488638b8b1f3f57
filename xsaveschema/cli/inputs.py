# SPDX-License-Identifier: MIT
"""What a FILE holds: opened, its areas chosen, and what there is to note of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import click

from xsaveschema import cpuid
from xsaveschema.artefacts import select
from xsaveschema.artefacts.opened import PID, SAMPLE, Artefact, opened_stream
from xsaveschema.artefacts.opened import opened as opened_path
from xsaveschema.artefacts.reader import WHOLE, Found, Options
from xsaveschema.catalog import Catalog
from xsaveschema.cli.files import read_some
from xsaveschema.cli.options import area_option, assume_option, below, model_option, with_catalog
from xsaveschema.cli.output import note, until_fault
from xsaveschema.cpuid.files import MAX_BYTES
from xsaveschema.errors import UnknownSampleError, plain
from xsaveschema.identify.named import HOST, is_path, load_model
from xsaveschema.language.files import SUFFIXES
from xsaveschema.model import CpuModel, Format

_F = TypeVar("_F", bound=Callable[..., Any])
_T = TypeVar("_T", bound=Found | bytes)
_HEAD: Final = 1 << 16  # bytes by which a CPUID dump is known


class Input(NamedTuple):
    """FILE, and what the options say that go with it."""

    catalog: Catalog
    source: str
    model_name: str | None = None
    assume: bool = False
    selector: str | None = None

    @property
    def plural(self) -> bool:
        """Whether ``--area`` means any number of areas."""
        return select.is_plural(self.selector)

    def options(self, strict: bool = True) -> Options:
        """What is said of the CPU that wrote FILE; errors as its model is looked for."""
        if self.assume and self.model_name is None:
            raise click.UsageError("--assume-model insists on what --model says: give that, too")
        model = None if self.model_name is None else load_model(self.model_name, self.catalog)
        return Options(model, strict, self.catalog, self.assume)

    def opened(self, options: Options) -> Artefact:
        """What FILE is: a path, ``-``, ``pid:N`` or ``sample:NAME``; wrong usage for no sample."""
        if self.source == "-":
            return opened_stream(read_some, options)
        try:
            return opened_path(self.source, options)
        except UnknownSampleError as error:
            raise click.UsageError(str(error)) from None

    def areas(self, artefact: Artefact) -> Iterator[Found]:
        """The areas that are meant, as they come."""
        return select.selected(artefact.areas(), self.selector)

    def one(self, artefact: Artefact) -> Found:
        """The one that is meant; XsaveError where there are several."""
        return select.one(artefact.areas(), self.selector)

    def areas_or_bytes(
        self, artefact: Artefact, bare: bytes | None
    ) -> tuple[bool, Iterator[Found | bytes]]:
        """Whether several areas are meant, and they: ``bare`` alone where there is that."""
        if bare is not None:
            return self.plural, iter([bare])
        several, found = looked_ahead(self.areas(artefact))
        return several or self.plural, found


def reads_areas(text: str, *, area: bool = True) -> Callable[[_F], _F]:
    """FILE's options, as the argument ``file``: ``--model``, of which ``text`` is the help, …"""

    def decorate(command: _F) -> _F:
        @wraps(command)
        def wrapped(
            catalog: Catalog,
            source: str,
            model_name: str | None,
            assume: bool,
            selector: str | None = None,
            **options: Any,
        ) -> Any:
            file = Input(catalog, source, model_name, assume, selector)
            return command(file=file, **options)

        options = (model_option(text), assume_option, *[area_option] * area, with_catalog)
        found: _F = below(wrapped, *options)
        return found

    return decorate


def looked_ahead(areas: Iterator[Found]) -> tuple[bool, Iterator[Found]]:
    """Whether there are several areas, and all of them; a fault is raised where it stands."""
    first, fault = until_fault(islice(areas, 2))

    def again() -> Iterator[Found]:
        while first:
            yield first.pop(0)
        if fault is not None:
            raise fault
        yield from areas

    return len(first) + (fault is not None) > 1, again()


def noted(
    areas: Iterable[_T], several: bool, notes: Callable[[Found], Iterable[str]]
) -> Iterator[_T]:
    """The areas, each behind what there is to note of it; of several areas, each text once."""
    more: dict[str, int] = {}
    for found in areas:
        if isinstance(found, Found):
            for text in notes(found):
                more[text] = more.get(text, -1) + 1
                if not (several and more[text]):
                    note(text if found.label == WHOLE else f"{found.label}: {text}")
        yield found
    for text, count in more.items():
        if several and count:
            note(f"{text} (so in {count} more area{'s' * (count != 1)})")


def goal(
    writer: CpuModel,
    cpu: CpuModel | None,
    format: Format,
    mask: int | None,
    catalog: Catalog | None,
) -> tuple[CpuModel, int | None]:
    """The CPU whose layout a conversion's result has, and the mask where none is named.

    ``writer`` is the CPU that wrote the area, limited to what the area says that its system had
    enabled: the result has no more than that, in the same CPU's layout or in another's.
    """
    whole = catalog.model(writer.name) if catalog and writer.name in catalog else writer
    # A dump and host have the name of a model, too, and maybe less than that.
    if cpu is None or cpu in (writer, whole):
        return writer, mask
    if mask is None and format == "standard":
        mask = cpu.xcr0 if whole.xcr0 == writer.xcr0 else cpu.xcr0 & writer.xcr0
    return cpu, mask


def names_cpu(source: str, catalog: Catalog) -> bool:
    """Whether FILE|CPU says a CPU by itself; of other files the content says it (``dump_of``).

    A word that is neither a file nor a way to name one is a CPU's, too, though none may have it.
    """
    if source in catalog or source == HOST or source.endswith(SUFFIXES):
        return True
    if source == "-" or source.startswith((PID, SAMPLE)) or is_path(source):
        return is_dump_folder(source)
    return not os.path.lexists(source) or is_dump_folder(source)


def is_dump_folder(source: str) -> bool:
    """Whether this is a folder that hwloc-gather-cpuid made."""
    return Path(source).is_dir() and any(Path(source).glob("pu[0-9]*"))


def dump_of(artefact: Artefact) -> bytes | None:
    """The bytes of an artefact that is a CPUID dump; what comes by a pipe is read once."""
    data = artefact.unmarked
    if data is None or not cpuid.is_dump(bytes(data[:_HEAD])):
        return None
    return bytes(data[: MAX_BYTES + 1])


def limits(found: Found) -> list[str]:
    """Where the model is limited to what its system had enabled: that."""
    return [found.layout_source] if " limited to " in found.layout_source else []


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
