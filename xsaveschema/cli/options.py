"""Options that several commands share, and what they mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, Final, TypeVar, cast

import click

from xsaveschema.catalog import Catalog, default_catalog
from xsaveschema.cli.output import note
from xsaveschema.errors import meant

_F = TypeVar("_F", bound=Callable[..., Any])

_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]{1,17}|0|[1-9][0-9]{0,19}")
_CATALOG: Final = "xsaveschema.catalog"
"""The run's catalogue in click's context: names of masks are looked up before the command runs."""


def _bits(_ctx: click.Context, _: click.Parameter, text: str | None) -> int | None:
    """A number of 64 bits, hexadecimal with 0x or decimal; anything else is wrong usage."""
    if text is None:
        return None
    mask = int(text, 0) if _NUMBER.fullmatch(text) else 1 << 64
    if mask >> 64:
        raise click.BadParameter(f"{text!r} is no mask: write 0xE7 or 231, at most 64 bits")
    return mask


def _mask(ctx: click.Context, _: click.Parameter, text: str | None) -> int | None:
    """A mask of 64 bits: a number, or names of components; anything else is wrong usage."""
    if text is None or _NUMBER.fullmatch(text):
        return _bits(ctx, _, text)
    known = catalog_of(ctx, ctx.params.get("schemas", ())).component_names()
    mask = 0
    for name in listed([text]) or [text]:
        if name not in known:
            hint = meant(name, known) or "write 0xE7, 231, or components' names"
            raise click.BadParameter(f"{text!r} is no mask; {name!r:.60} is no component; {hint}")
        mask |= 1 << known[name]
    return mask


def mask_option(name: str, text: str) -> Callable[[_F], _F]:
    """An option that takes a mask of state components: 0xE7, 231, or x87,sse,avx."""
    return click.option(name, callback=_mask, metavar="MASK", help=text)


def bits_option(name: str, text: str) -> Callable[[_F], _F]:
    """An option that takes a mask whose bits are no components."""
    return click.option(name, callback=_bits, metavar="MASK", help=text)


def model_option(text: str) -> Callable[[_F], _F]:
    """``--model``: the CPU that wrote an area."""
    return click.option("--model", "model_name", metavar="CPU", help=text)


cpu_option = click.option(
    "--cpu",
    "cpu_name",
    metavar="CPU",
    help="The CPU that shall restore or read it: a model's name, host, a CPUID dump, or a model's "
    "YAML file; default: the one that wrote it.",
)

assume_option = click.option(
    "--assume-model",
    "assume",
    is_flag=True,
    help="Take --model's word even where FILE says otherwise.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON, for programs.")

area_option = click.option(
    "--area",
    "selector",
    metavar="SELECTOR",
    help="Which area, as the command areas lists them: #5 is an index, 'thread 1234' a label; a "
    "part of one that is unique will do. A glob, or all, means several.",
)


def with_catalog(command: _F) -> _F:
    """``--schemas``, and as the argument ``catalog`` what it makes the catalogue."""

    @wraps(command)
    def wrapped(ctx: click.Context, schemas: tuple[str, ...], **options: Any) -> Any:
        return command(catalog=catalog_of(ctx, schemas), **options)

    option = click.option(
        "--schemas",
        metavar="PATH",
        multiple=True,
        is_eager=True,  # the names in masks are theirs
        help="Schema files of your own; see xsaveschema -h.",
    )
    passed: Any = click.pass_context(cast("Any", wrapped))
    given: _F = option(passed)
    return given


def catalog_of(ctx: click.Context, schemas: Iterable[str]) -> Catalog:
    """The catalogue with the schema files that were named before and after the command."""
    found: Catalog | None = ctx.meta.get(_CATALOG)
    if found is None:
        paths = [*(ctx.obj or ()), *schemas]
        found = ctx.meta[_CATALOG] = Catalog(paths) if paths else default_catalog()
        for text in found.overrides:
            note(text)
    return found


def listed(values: Iterable[str]) -> list[str]:
    """The names in values of an option that may be repeated and takes commas."""
    return [name for value in values for part in value.split(",") if (name := part.strip())]
