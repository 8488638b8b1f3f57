# SPDX-License-Identifier: MIT
"""The one way to name a CPU: a model's name, ``host``, a CPUID dump, or a model's YAML file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from xsaveschema.catalog import Catalog, require_catalog
from xsaveschema.cpuid import CpuidRecord, host, read, xgetbv
from xsaveschema.errors import IdentificationError, ModelNotFoundError, XsaveError, hex_mask, plain
from xsaveschema.identify.match import identify
from xsaveschema.language.files import SUFFIXES
from xsaveschema.layout import places
from xsaveschema.model import CpuModel

HOST = "host"


def load_model(name: str | os.PathLike[str], catalog: Catalog | None = None) -> CpuModel:
    """The CPU model of this name, of this machine (``host``), of a CPUID dump, or of a YAML file.

    A name is looked for in the ``catalog`` first (None: the default one). A path is said with a
    slash or a suffix, ``./zen4`` or ``dump.txt``, or is a Path. A file ``*.yaml`` or ``*.yml``
    adds to the catalogue and defines one model; what else there is is a CPUID dump, of which the
    model is what :func:`identify` finds, limited to the dump's masks, or is built from its leaf.

    Raises ModelNotFoundError with near names; SchemaError for a model whose file has faults;
    CpuidDumpError for a dump that cannot be read or believed; and IdentificationError where its
    kinds of core, or the models that fit it, have different layouts.
    """
    catalog = require_catalog(catalog)
    if isinstance(name, os.PathLike):
        return _of_file(os.fsdecode(name), catalog)
    if name == HOST and name not in catalog:
        return host_model(catalog)
    if name not in catalog and isinstance(name, str) and is_path(name):
        return _of_file(name, catalog)
    try:
        return catalog.model(name)
    except ModelNotFoundError as error:
        if os.path.lexists(name):
            error.add_note(f"a path is said with a slash, ./{plain(name)}")
        raise


def host_model(catalog: Catalog | None = None) -> CpuModel:
    """This machine's CPU model: the XCR0 that its system enabled, the IA32_XSS of leaf 0xD.

    XCR0 is read by XGETBV; where the system enabled no XSAVE, it is what leaf 0xD allows. The
    shipped model where one has the layout, else one built from the leaf, named ``cpuid``.
    XsaveError where the machine has no CPUID or no XSAVE.
    """
    model = replace(_of_record(host(), catalog), host=True)
    try:
        enabled = xgetbv()
    except XsaveError:
        return model
    return model.limited(xcr0=enabled & model.xcr0)


def is_path(word: str) -> bool:
    """Whether a word that could be a CPU's name says a file: by a slash or a suffix."""
    return "/" in word or os.sep in word or bool(Path(word).suffix)


def _of_file(path: str, catalog: Catalog) -> CpuModel:
    said = plain(path)
    if not os.path.lexists(path):
        raise XsaveError(f"{said}: there is no such file, nor a model of this name")
    if path.endswith(SUFFIXES):
        return _of_yaml(path, said, catalog)
    return model_of_dump(read(path), path, catalog)


def _of_yaml(path: str, said: str, catalog: Catalog) -> CpuModel:
    beyond = catalog.extended([path])
    names = beyond.names_in(path)
    if len(names) != 1:
        what = "no model" if not names else f"several models: {', '.join(names)}"
        raise XsaveError(f"{said} defines {what}; a CPU is a file that defines one")
    return beyond.model(names[0])


def model_of_dump(records: Iterable[CpuidRecord], name: str, catalog: Catalog) -> CpuModel:
    """The model that all kinds of core of a CPUID dump have in common; ``name`` is for messages.

    Errors are :func:`load_model`'s.
    """
    said = plain(name)
    records, models = list(records), []
    for record in records:
        try:
            models.append(_of_record(record, catalog))
        except XsaveError as error:
            error.add_note(f"{said}: {plain(record.label)}".rstrip(": "))
            raise
    if len({_enabled(model) for model in models}) > 1:
        kinds = "; ".join(
            f"{plain(record.label) or 'a core'} is {model.name} with XCR0 {hex_mask(model.xcr0)}, "
            f"IA32_XSS {hex_mask(model.xss)}"
            for record, model in zip(records, models, strict=True)
        )
        raise IdentificationError(
            f"{said}: its kinds of core differ: {kinds}; name the model that is meant",
            [model.name for model in models],
        )
    first = models[0]
    common = frozenset.intersection(*(model.instructions for model in models))
    return first if first.instructions == common else replace(first, instructions=common)


def _enabled(model: CpuModel) -> tuple[object, ...]:
    """What kinds of core have in common that are one CPU: the masks, and both layouts."""
    layouts = model.standard_layout(), model.compacted_layout()
    return (model.xcr0, model.xss, *map(places, layouts))


def _of_record(record: CpuidRecord, catalog: Catalog | None) -> CpuModel:
    return identify(
        leaf_0xd=record.leaf_0xd,
        signature=record.signature,
        vendor=record.vendor or None,
        catalog=catalog,
    ).model
