# SPDX-License-Identifier: MIT
"""``xsaveschema models``: the catalogue, or what of it is looked for."""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import groupby
from typing import Any, Final

import click

from xsaveschema.authoring.page import in_order, signature_text, vendor_name
from xsaveschema.catalog import Catalog
from xsaveschema.cli.options import json_option, listed, with_catalog
from xsaveschema.cli.output import (
    number,
    on_terminal,
    picked,
    print_json,
    print_lines,
    terminal_width,
)
from xsaveschema.errors import XsaveError, hex_mask, meant
from xsaveschema.model import CpuModel
from xsaveschema.text import columns

_COMPONENT: Final = (
    "number",
    "name",
    "size",
    "offset",
    "supervisor",
    "align64",
    "xfd",
    "optional",
)
_HEADINGS: Final = ("model", "XCR0", "IA32_XSS", "standard", "compacted", "confirmed")
_MORE: Final = ("signatures", "aliases", "title")
"""Columns where a line may be as long as it gets; lines of their own where it may not."""


@click.command("models")
@click.argument("pattern", metavar="[PATTERN]", required=False)
@click.option("--vendor", metavar="NAME", help="Only this vendor's: intel, amd, zhaoxin, ...")
@click.option(
    "--with",
    "having",
    metavar="NAMES",
    multiple=True,
    help="Only those that have these state components, or some parts of which have: names, "
    "numbers, or a feature (amx, avx512, cet, ...), separated by commas; may be repeated.",
)
@json_option
@with_catalog
def command(
    catalog: Catalog,
    pattern: str | None,
    vendor: str | None,
    having: tuple[str, ...],
    as_json: bool,
) -> None:
    """List the CPU models of the catalogue.

    PATTERN is a part of a model's name, alias, title or vendor, or a glob for all of one: spr,
    xeon, 'zen*'. Exits with 1 where no model is like that.

    Signatures are display family and models, hexadecimal, with /steppings where only some are
    meant. XCR0 and IA32_XSS are what is enabled by default. The sizes, in bytes, are the standard
    format's for XCR0 and the compacted format's for both masks. A model is confirmed if a CPUID
    dump of a real CPU shows its layout.
    """
    models = catalog.models()
    found = models
    if vendor is not None:
        found = of_vendor(models, vendor)
    wanted = {n for word in listed(having) for n in _components(catalog, word)}
    found = [model for model in found if wanted <= set(model.by_number)]
    if pattern is not None:
        found = [model for model in found if is_like(model, pattern.casefold())]
    if not found:
        names = [name for model in models for name in (model.name, *model.aliases)]
        hint = meant(pattern, names) if pattern and not (vendor or having) else ""
        raise XsaveError(f"no model of the catalogue is like that; {hint}".rstrip("; "))
    if as_json:
        print_json([_facts(model) for model in found])
    else:
        _show(sorted(found, key=in_order))


def of_vendor(models: list[CpuModel], vendor: str) -> list[CpuModel]:
    """The models of a vendor; wrong usage, with the words that there are, for no vendor's."""
    found = [model for model in models if vendor.casefold() in _vendors(model)]
    if not found:
        known = sorted({word for model in models for word in _vendors(model)})
        raise click.UsageError(f"--vendor: there is no {vendor!r}; {', '.join(known)}")
    return found


def _vendors(model: CpuModel) -> set[str]:
    """The words by which a model's vendor is asked for: its name's, and what CPUID says."""
    told = {model.vendor, *(signature.vendor for signature in model.signatures)}
    names = vendor_name(model.vendor).split(" with ")[0].replace(",", " ").split()
    return {word.strip().casefold() for word in (*told, *names)} - {"and"}


def _components(catalog: Catalog, word: str) -> set[int]:
    """The numbers of the components that a word means: a name, a number, or a title's word."""
    if word.isdecimal() and len(word) < 3:
        return {int(word)}
    # A model's component need not have a file.
    names = {c.name: c.number for model in catalog.models() for c in model.components.values()}
    names |= catalog.component_names()
    if word in names:
        return {names[word]}
    features: dict[str, set[int]] = {}
    for name, title in catalog.component_titles().items():
        for part in title.casefold().replace("-", "").split():
            features.setdefault(part, set()).add(names[name])
    found = features.get(word.casefold().replace("-", ""))
    if found is None:
        hint = meant(word, names) or f"there are {', '.join(names)}"
        raise click.UsageError(f"--with: there is no state component {word!r}; {hint}")
    return found


def is_like(model: CpuModel, pattern: str) -> bool:
    """Whether a name, alias, title or the vendor has a part like this, or is like a glob."""
    texts = [model.name, *model.aliases, model.title, model.vendor, vendor_name(model.vendor)]
    if any(each in pattern for each in "*?["):
        return any(fnmatchcase(text.casefold(), pattern) for text in texts)
    return any(pattern in text.casefold() for text in texts)


def _facts(model: CpuModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "aliases": list(model.aliases),
        "title": model.title,
        "vendor": model.vendor,
        "signatures": [
            picked(signature, "vendor", "family", "models", "steppings")
            for signature in model.signatures
        ],
        "xcr0": number(model.xcr0),
        "xss": number(model.xss),
        "standard_size": model.standard_layout().size,
        "compacted_size": _compacted_size(model),
        "instructions": sorted(model.instructions),
        "components": [picked(each, *_COMPONENT) for each in model.components.values()],
        **picked(model, "confirmed", "confirmed_by", "source"),
    }


def _compacted_size(model: CpuModel) -> int | None:
    """None where the CPU has no instruction that knows the compacted format."""
    known = {"xsavec", "xsaves"} & model.instructions
    return model.compacted_layout().size if known else None


def _show(models: list[CpuModel]) -> None:
    rows = {model.name: _row(model) for model in models}
    more = {model.name: _more(model) for model in models}
    wide = [[*_HEADINGS, *_MORE], *([*rows[name], *more[name]] for name in rows)]
    heading, *table = columns(wide, indent=0, right=_HEADINGS[1:5])
    # What a program reads has no last column.
    width = terminal_width() if on_terminal() else None
    narrow = width and max(sum(len(cell) for cell, _ in line) for line in table) > width
    if narrow:
        heading, *table = columns([_HEADINGS, *rows.values()], indent=0, right=_HEADINGS[1:5])
    lines = [heading]
    for vendor, own in groupby(zip(models, table, strict=True), lambda each: each[0].vendor):
        lines.append([(vendor_name(vendor), "bold")])
        for model, line in own:
            lines.append(line)
            if narrow:
                signatures, _, title = more[model.name]
                also = f"also {', '.join(model.aliases)}" if model.aliases else ""
                said = (title, also, f"signatures {signatures}" if signatures else "")
                lines += [[(f"    {text}", "dim")] for text in said if text]
    count = f"{len(models)} model{'s' * (len(models) != 1)}"
    print_lines([*lines, [(count, "")]])


def _row(model: CpuModel) -> list[str]:
    compacted = _compacted_size(model)
    return [
        model.name,
        hex_mask(model.xcr0),
        hex_mask(model.xss) if model.xss else "-",
        str(model.standard_layout().size),
        "-" if compacted is None else str(compacted),
        "yes" if model.confirmed else "no",
    ]


def _more(model: CpuModel) -> list[str]:
    return [signature_text(model), " ".join(model.aliases), model.title]
