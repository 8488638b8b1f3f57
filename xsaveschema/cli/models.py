"""``xsaveschema models``: the catalogue, or what of it is looked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import click

from xsaveschema.authoring.page import in_order, signature_text, vendor_name
from xsaveschema.catalog import Catalog
from xsaveschema.cli.options import catalog_of, json_option, listed, schemas_option
from xsaveschema.cli.output import number, print_json, print_lines
from xsaveschema.cli.plain import terminal_width, wrapped
from xsaveschema.errors import XsaveError, hex_mask, meant
from xsaveschema.model import CpuModel

if TYPE_CHECKING:
    from xsaveschema.area.lines import Line

_HEADINGS: Final = ("model", "XCR0", "IA32_XSS", "standard", "compacted", "confirmed")
_MORE: Final = ("signatures", "aliases", "title")
"""Columns where a line may be as long as it gets; lines of their own where it may not."""
_RIGHT: Final = range(1, 5)


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
@schemas_option
@click.pass_context
def command(
    ctx: click.Context,
    pattern: str | None,
    vendor: str | None,
    having: tuple[str, ...],
    as_json: bool,
    schemas: tuple[str, ...],
) -> None:
    """List the CPU models of the catalogue.

    PATTERN is a part of a model's name, alias, title or vendor, or a glob for all of one: spr,
    xeon, 'zen*'. Exits with 1 where no model is like that.

    Signatures are display family and models, hexadecimal, with /steppings where only some are
    meant. XCR0 and IA32_XSS are what is enabled by default. The sizes, in bytes, are the standard
    format's for XCR0 and the compacted format's for both masks. A model is confirmed if a CPUID
    dump of a real CPU shows its layout.
    """
    catalog = catalog_of(ctx, schemas)
    models = catalog.models()
    found = models
    if vendor is not None:
        found = [model for model in found if vendor.casefold() in _vendors(model)]
        if not found:
            known = sorted({word for model in models for word in _vendors(model)})
            raise click.UsageError(f"--vendor: there is no {vendor!r}; {', '.join(known)}")
    wanted = {n for word in listed(having) for n in _components(catalog, word)}
    found = [model for model in found if wanted <= set(model.by_number)]
    if pattern is not None:
        found = [model for model in found if _is_like(model, pattern.casefold())]
    if not found:
        names = [name for model in models for name in (model.name, *model.aliases)]
        hint = meant(pattern, names) if pattern and not (vendor or having) else ""
        raise XsaveError(f"no model of the catalogue is like that; {hint}".rstrip("; "))
    if as_json:
        print_json([_facts(model) for model in found])
    else:
        _show(sorted(found, key=in_order))


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


def _is_like(model: CpuModel, pattern: str) -> bool:
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
            {
                "vendor": signature.vendor,
                "family": signature.family,
                "models": list(signature.models),
                "steppings": signature.steppings and list(signature.steppings),
            }
            for signature in model.signatures
        ],
        "xcr0": number(model.xcr0),
        "xss": number(model.xss),
        "standard_size": model.standard_layout().size,
        "compacted_size": _compacted_size(model),
        "instructions": sorted(model.instructions),
        "components": [
            {
                "number": component.number,
                "name": component.name,
                "size": component.size,
                "offset": component.offset,
                "supervisor": component.supervisor,
                "align64": component.align64,
                "xfd": component.xfd,
                "optional": component.optional,
            }
            for component in model.components.values()
        ],
        "confirmed": model.confirmed,
        "confirmed_by": list(model.confirmed_by),
        "source": model.source,
    }


def _compacted_size(model: CpuModel) -> int | None:
    """None where the CPU has no instruction that knows the compacted format."""
    known = {"xsavec", "xsaves"} & model.instructions
    return model.compacted_layout().size if known else None


def _show(models: list[CpuModel]) -> None:
    rows = {model.name: _row(model) for model in models}
    more = {model.name: _more(model) for model in models}
    widths = [
        max(len(heading), *(len(row[at]) for row in rows.values()))
        for at, heading in enumerate(_HEADINGS)
    ]
    last = [
        max(len(heading), *(len(row[at]) for row in more.values()))
        for at, heading in enumerate(_MORE)
    ]
    width = terminal_width()
    # What a program reads has no last column.
    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    wide = not on_terminal or width >= sum(widths) + sum(last) + 2 * len(widths + last)

    def line(cells: list[str]) -> str:
        each = zip(cells, widths + last if wide else widths, strict=True)
        padded = (
            cell.rjust(w) if at in _RIGHT else cell.ljust(w) for at, (cell, w) in enumerate(each)
        )
        return "  ".join(padded).rstrip()

    lines: list[Line] = [[(line([*_HEADINGS, *(_MORE if wide else ())]), "bold")]]
    for vendor, own in groupby(models, key=lambda model: model.vendor):
        lines.append([(vendor_name(vendor), "bold")])
        for model in own:
            if wide:
                lines.append([(line([*rows[model.name], *more[model.name]]), "")])
                continue
            lines.append([(line(rows[model.name]), "")])
            lines += ([(text, "dim")] for text in _below(model, width))
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


def _below(model: CpuModel, width: int) -> Iterator[str]:
    """What a narrow terminal gets below a model's row."""
    signatures, aliases, title = _more(model)
    said = [title]
    if aliases:
        said.append(f"also {', '.join(model.aliases)}")
    if signatures:
        said.append(f"signatures {signatures}")
    for text in said:
        yield from wrapped(text, width, indent=4, hanging=6)
