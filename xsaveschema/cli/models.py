"""``xsaveschema models``: the catalogue."""

from __future__ import annotations

from typing import Any, Final

import click

from xsaveschema.authoring.page import signature_text
from xsaveschema.cli.options import catalog_of, json_option, schemas_option
from xsaveschema.cli.output import console, number, print_json, table
from xsaveschema.errors import hex_mask
from xsaveschema.model import CpuModel

_MORE: Final = {"signatures": 110, "title": 190}
"""Columns that a narrow terminal does not get, with the cells that they need."""


@click.command("models")
@json_option
@schemas_option
@click.pass_context
def command(ctx: click.Context, as_json: bool, schemas: tuple[str, ...]) -> None:
    """List the CPU models of the catalogue.

    Signatures are display family and models, hexadecimal, with /steppings where only some are
    meant. XCR0 and IA32_XSS are what is enabled by default. The sizes, in bytes, are the standard
    format's for XCR0 and the compacted format's for both masks. A model is confirmed if a CPUID
    dump of a real CPU shows its layout.
    """
    models = catalog_of(ctx, schemas).models()
    if as_json:
        print_json([_facts(model) for model in models])
    else:
        _show(models)


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
    out = console()
    if not out.is_terminal:
        out.width = 1000  # what a program reads has no last column
    more = [heading for heading, needed in _MORE.items() if out.width >= needed]
    rows = table(
        out,
        ("model", "left"),
        ("XCR0", "right"),
        ("IA32_XSS", "right"),
        ("standard", "right"),
        ("compacted", "right"),
        ("confirmed", "left"),
        *((heading, "left") for heading in more),
    )
    for column in rows.columns[6:]:
        column.no_wrap = False
    vendor = ""
    for model in models:
        if model.vendor != vendor:
            vendor = model.vendor
            rows.add_row(vendor.strip(), style="bold")
        compacted = _compacted_size(model)
        rows.add_row(
            model.name,
            hex_mask(model.xcr0),
            hex_mask(model.xss) if model.xss else "-",
            str(model.standard_layout().size),
            "-" if compacted is None else str(compacted),
            "yes" if model.confirmed else "no",
            *[signature_text(model), model.title][: len(more)],
        )
    out.print(rows)
    hint = "; more columns in a wider terminal, through a pipe, or with --json"
    out.print(f"{len(models)} models" + (hint if len(more) < len(_MORE) else ""))
