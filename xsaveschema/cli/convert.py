"""``xsaveschema convert``: an area in the other format, or in the same one put in order."""

from __future__ import annotations

import click

from xsaveschema.area import XsaveArea
from xsaveschema.catalog import Catalog
from xsaveschema.catalog.identify import identify
from xsaveschema.cli.areas import as_shown, one, places
from xsaveschema.cli.files import about, named, refuse_terminal, write_area
from xsaveschema.cli.options import (
    Many,
    area_option,
    batch_options,
    catalog_of,
    drop_option,
    listed,
    mask_option,
    model_option,
    note,
    output_option,
    schemas_option,
)
from xsaveschema.convert import Conversion, to_compacted, to_standard
from xsaveschema.errors import IdentificationError, hex_mask
from xsaveschema.layout import Layout
from xsaveschema.model import COMPACTED, CpuModel, Format


@click.command("convert")
@click.argument("source", metavar="FILE")
@click.option(
    "--to",
    "format",
    type=click.Choice(["standard", "compacted"]),
    required=True,
    help="The format.",
)
@model_option("The CPU whose layout the result has; without it, the area is identified.")
@click.option(
    "--source",
    "source_name",
    metavar="MODEL",
    help="The CPU that wrote the area, where it is another one.",
)
@mask_option("--xcr0", "The components of a standard result; default: the model's XCR0.")
@mask_option(
    "--xcomp-bv",
    "The components that have a place in a compacted result, bit 63 optional; "
    "default: the model's XCR0 and IA32_XSS.",
)
@drop_option
@click.option(
    "--as-qemu",
    is_flag=True,
    help="Convert as QEMU's helper does, bit for bit, and say what it gets wrong for this area.",
)
@batch_options
@output_option
@area_option
@schemas_option
@click.pass_context
def command(
    ctx: click.Context,
    source: str,
    format: Format,
    model_name: str | None,
    source_name: str | None,
    xcr0: int | None,
    xcomp_bv: int | None,
    drop: tuple[str, ...],
    as_qemu: bool,
    many: Many | None,
    output: str,
    label: str | None,
    schemas: tuple[str, ...],
) -> int | None:
    """Convert an area to the standard or the compacted format.

    FILE is a path, - for standard input, pid:N or sample:NAME, in either format. State in use is
    never lost silently: what has no place in the result is an error, unless --drop permits it.

    With --batch, FILE holds many areas, one behind the other, and area i of FILE becomes area i of
    OUT. A run that was interrupted, or stopped at a bad area, is gone on with by the same command.
    """
    if format == "standard" and xcomp_bv is not None:
        raise click.UsageError(
            "--xcomp-bv goes with --to compacted; the standard format has --xcr0"
        )
    if format == "compacted" and xcr0 is not None:
        raise click.UsageError(
            "--xcr0 goes with --to standard; the compacted format has --xcomp-bv"
        )
    refuse_terminal(output)
    catalog = catalog_of(ctx, schemas)
    mask = xcr0 if format == "standard" else xcomp_bv
    if many is not None:
        if model_name is None:
            raise click.UsageError("--batch needs --model")
        if as_qemu or label is not None:
            raise click.UsageError("--batch goes with neither --as-qemu nor --area")
        from xsaveschema.cli.many import convert_many

        model = catalog.model(model_name)
        writer = catalog.model(source_name) if source_name else model
        drops = tuple(permitted(drop))
        return convert_many(source, output, many, writer, model, format, mask, drops)
    with about(source):
        data, told, _ = one(source, catalog, source_name or model_name, label)
        writer, model, notes = _models(data, told, catalog, model_name, source_name, format, mask)
        if as_qemu:
            written = _as_qemu(data, writer, model, format, mask)
            write_area(output, written)
            click.echo(f"{named(output)}: {len(written)} bytes, as QEMU writes them", err=True)
            return None
        if format == "standard":
            result = to_standard(data, model, source=writer, xcr0=mask, drop=permitted(drop))
        else:
            result = to_compacted(data, model, source=writer, xcomp_bv=mask, drop=permitted(drop))
    write_area(output, result.data)
    summary(output, result, notes)
    return None


def _as_qemu(
    data: bytes, writer: CpuModel, model: CpuModel, format: Format, mask: int | None
) -> bytes:
    """What QEMU's helper makes of the area; what is wrong with it goes to standard error.

    ``writer`` is the host, ``model`` the guest; a mask is the guest's XCR0 features.
    """
    from xsaveschema import qemu

    host, guest = writer.cpuid_leaf_0xd(), model.cpuid_leaf_0xd()
    features = (model.xcr0 if mask is None else mask) & ~COMPACTED & model.user_mask
    wrong = qemu.differences(data, to=format, guest_leaf=guest, host_leaf=host, guest_xcr0=features)
    if format == "standard":
        dest = bytearray(model.standard_layout().size)
        code = qemu.decompact_xsave_area(
            data, dest, guest_leaf=guest, host_leaf=host, guest_xcr0=features
        )
        if code:
            note(f"decompact_xsave_area returns {code}: what it had written by then is kept")
    else:
        dest = bytearray(max(writer.compacted_layout().size, len(data)))
        size = qemu.compact_xsave_area(
            data, dest, host_leaf=host, guest_xcr0=features, xcr0=features
        )
        del dest[size:]
    for fault in wrong:
        note(f"QEMU differs, {fault}")
    return bytes(dest)


def _models(
    data: bytes,
    told: CpuModel | None,
    catalog: Catalog,
    model_name: str | None,
    source_name: str | None,
    format: Format,
    mask: int | None,
) -> tuple[CpuModel, CpuModel, list[str]]:
    """The model that wrote the area, the one whose layout the result has, and notes on them."""
    named = source_name or model_name
    if named is None and told is not None:
        return told, told, []
    if named is None:
        model = _identified(data, catalog, format, mask)
        return model, model, []
    writer, notes = limited(catalog.model(named), data)
    if model_name is None or model_name == named:
        return writer, writer, notes
    model, more = limited(catalog.model(model_name), data)
    return writer, model, [*notes, *more]


def limited(model: CpuModel, data: bytes) -> tuple[CpuModel, list[str]]:
    """A named model, limited to the XCR0 that software left in the area, and a note if it is."""
    seen, how = as_shown(model, data)
    return seen, [] if seen is model else [how]


def _identified(data: bytes, catalog: Catalog, format: Format, mask: int | None) -> CpuModel:
    """The model that the area's bytes tell, as long as all that fit lay the result out alike."""
    match = identify(data, catalog=catalog)
    model = match.model
    groups: dict[object, list[str]] = {}
    for candidate in match.models:
        layout = _target(candidate, format, mask)
        groups.setdefault(places(layout.slots), []).append(candidate.name)
    if len(groups) > 1:
        listed_groups = "; ".join(", ".join(names) for names in groups.values())
        raise IdentificationError(
            f"several models fit, and their {format} formats differ: {listed_groups}; "
            "name the one whose layout you want (--model)",
            [candidate.model for candidate in match.candidates],
        )
    return model


def _target(model: CpuModel, format: Format, mask: int | None) -> Layout:
    return model.standard_layout(mask) if format == "standard" else model.compacted_layout(mask)


def permitted(drop: tuple[str, ...]) -> list[str | int]:
    """What ``--drop`` names: components by name or number."""
    return [int(name) if name.isdecimal() and len(name) < 3 else name for name in listed(drop)]


def summary(output: str, result: Conversion, notes: list[str]) -> None:
    """Say on standard error what was written, in one line, behind the notes."""
    for text in notes:
        note(text)
    layout = result.layout
    if hidden := layout.mask & layout.model.supervisor_mask:
        names = " ".join(layout.model.names_of(hidden))
        user = hex_mask(layout.mask & ~hidden)
        note(
            f"XCOMP_BV has supervisor components ({names}), which XRSTORS alone takes; "
            f"--xcomp-bv {user} leaves them out"
        )
    area = XsaveArea.parse(result.data, result.layout.model)
    names = " ".join(area.model.names_of(area.xstate_bv)) or "nothing"
    dropped = f"; dropped: {' '.join(result.dropped)}" if result.dropped else ""
    click.echo(
        f"{named(output)}: "
        f"{area.model.name}, {area.format} format, {len(area)} bytes, "
        f"XSTATE_BV {hex_mask(area.xstate_bv)} ({names}){dropped}",
        err=True,
    )
