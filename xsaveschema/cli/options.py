# SPDX-License-Identifier: MIT
"""Options that several commands share, and what they mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, Final, NamedTuple, TypeVar

import click

from xsaveschema.artefacts.source import MAX_AREA
from xsaveschema.catalog import Catalog, default_catalog
from xsaveschema.cli.output import note
from xsaveschema.errors import meant
from xsaveschema.model import EXTENDED_OFFSET
from xsaveschema.plan import Errors

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

svg_option = click.option(
    "--svg",
    "svg",
    metavar="OUT",
    help="Write a picture, SVG, in place of the text; - is standard output.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON, for programs.")

area_option = click.option(
    "--area",
    "selector",
    metavar="SELECTOR",
    help="Which area, as the command areas lists them: #5 is an index, 'thread 1234' a label; a "
    "part of one that is unique will do. A glob, or all, means several.",
)


def below(command: Callable[..., Any], *options: Callable[[Any], Any]) -> Any:
    """A command below its options, which are told in this order."""
    for option in reversed(options):
        command = option(command)
    return command


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
    found: _F = below(wrapped, option, click.pass_context)
    return found


class Many(NamedTuple):
    """What ``--batch`` and the options that go with it say."""

    stride: int | None
    errors: Errors
    threads: int
    bad: str | None


def batch_options(command: _F) -> _F:
    """``--batch`` and what goes with it, as the argument ``many``: None where it is not given."""

    @wraps(command)
    def wrapped(*, batch: bool, **options: Any) -> Any:
        many = Many(*(options.pop(name) for name in Many._fields))
        if not batch and many != Many(None, "raise", 1, None):
            raise click.UsageError("--stride, --errors, --threads and --bad need --batch")
        return command(many=many if batch else None, **options)

    found: _F = below(
        wrapped,
        click.option("--batch", is_flag=True, help="FILE holds many areas; needs --model."),
        click.option(
            "--stride",
            type=click.IntRange(EXTENDED_OFFSET, MAX_AREA),
            metavar="BYTES",
            help="From one area to the next; default: the first area's own length.",
        ),
        click.option(
            "--errors",
            type=click.Choice(["raise", "skip", "copy"]),
            default="raise",
            help="What becomes of a bad area, whose place in OUT stays its own: raise an error "
            "there (the default), skip it, which leaves zeros, or copy its bytes as they are.",
        ),
        click.option(
            "--threads", type=click.IntRange(1, 64), default=1, help="Threads that convert."
        ),
        click.option("--bad", metavar="FILE", help="Write index and fault of each bad area there."),
    )
    return found


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
