# SPDX-License-Identifier: MIT
"""``xsaveschema convert``: an area in another format, for another CPU, or the same put in order."""

from __future__ import annotations

from typing import Literal

import click

from xsaveschema import qemu
from xsaveschema.area import XsaveArea
from xsaveschema.artefacts.frame_writer import framed
from xsaveschema.catalog import Catalog
from xsaveschema.cli.files import about, named, refuse_terminal, write_area
from xsaveschema.cli.inputs import Input, goal, limits, reads_areas
from xsaveschema.cli.options import Many, batch_options, cpu_option, listed, mask_option
from xsaveschema.cli.output import echo, note
from xsaveschema.convert import Conversion, relayout
from xsaveschema.errors import IdentificationError, XsaveError, hex_mask
from xsaveschema.identify import load_model
from xsaveschema.identify.match import identify
from xsaveschema.layout import places, takes_xcr0
from xsaveschema.model import COMPACTED, CpuModel, Format
from xsaveschema.plan import kept_format


@click.command("convert")
@click.argument("source", metavar="FILE")
@click.option(
    "--format",
    "format",
    type=click.Choice(["standard", "compacted", "frame"]),
    help="The result's format; default: the one that a mask option tells, else FILE's own. frame: "
    "a signal frame of Linux, standard with a frame's words; --xcr0 is its xfeatures.",
)
@cpu_option
@mask_option(
    "--xcr0",
    "The components of a standard result; default: the CPU's XCR0, as far as FILE does not say "
    "that its system had enabled less.",
)
@mask_option(
    "--xcomp-bv",
    "The components that have a place in a compacted result, bit 63 optional; default: FILE's own "
    "where no format is named, else the CPU's XCR0 and IA32_XSS.",
)
@click.option(
    "--drop",
    metavar="NAME",
    multiple=True,
    help="State that may be lost: components by name or number, separated by commas; "
    "may be repeated.",
)
@click.option(
    "--as-qemu",
    is_flag=True,
    help="Convert as QEMU's helper does, bit for bit, and say what it gets wrong for this area: "
    "--model is the host, --cpu the guest.",
)
@batch_options
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    required=True,
    help="The file to write; - is standard output. It is replaced whole or not at all.",
)
@reads_areas("The CPU that wrote the area, where FILE does not say.")
def command(
    file: Input,
    format: Format | Literal["frame"] | None,
    cpu_name: str | None,
    xcr0: int | None,
    xcomp_bv: int | None,
    drop: tuple[str, ...],
    as_qemu: bool,
    many: Many | None,
    output: str,
) -> int | None:
    """Convert an area to the standard or the compacted format, for the same CPU or another one.

    FILE is a path, - for standard input, pid:N or sample:NAME, in either format. State in use is
    never lost silently: what has no place in the result is an error, unless --drop permits it.

    With --batch, FILE holds many areas, one behind the other, and area i of FILE becomes area i of
    OUT. A run that was interrupted, or stopped at a bad area, is gone on with by the same command.
    """
    frame = format == "frame"
    if frame and (as_qemu or many is not None):
        raise click.UsageError("--format frame goes with neither --as-qemu nor --batch")
    format = _format("standard" if format == "frame" else format, xcr0, xcomp_bv)
    refuse_terminal(output)
    options, catalog = file.options(), file.catalog
    cpu = None if cpu_name is None else load_model(cpu_name, catalog)
    mask = xcr0 if format == "standard" else xcomp_bv
    drops = tuple(
        int(name) if name.isdecimal() and len(name) < 3 else name for name in listed(drop)
    )
    if many is not None:
        if options.model is None:
            raise click.UsageError("--batch needs --model")
        if as_qemu or file.selector is not None:
            raise click.UsageError("--batch goes with neither --as-qemu nor --area")
        try:
            from xsaveschema.cli.convert_batch import convert_many
        except ModuleNotFoundError as error:
            needs = f"--batch needs {error.name}: pip install 'xsaveschema[batch]'"
            raise XsaveError(needs) from None
        return convert_many(file.source, output, many, options, cpu, format, mask, drops)
    with about(file.source):
        with file.opened(options) as artefact:
            found = file.one(artefact)
        if found.origin == "assembled" and options.model is None and cpu is None:
            raise XsaveError(
                f"holds registers but no offsets, and {found.area.model.name} is but one CPU that "
                "could hold them: name the CPU whose layout you want (--model)"
            )
        area = found.area
        whole = format or area.format
        if as_qemu:
            written = _as_qemu(area, _silicon(area.model, catalog), cpu, whole, mask)
            write_area(output, written, file.source)
            echo(f"{named(output)}: {len(written)} bytes, as QEMU writes them", err=True)
            return None
        if cpu is None and found.origin == "identified" and artefact.unmarked is not None:
            kept = kept_format(area.xcomp_bv, area.model, None, None)[1] if not format else mask
            _require_agreement(area, catalog, whole, kept)
        cpu, mask = goal(area.model, cpu, whole, mask, catalog)
        _require_mxcsr(area, cpu)
        result = relayout(
            area,
            target=cpu,
            format=format,
            xcr0=mask if whole == "standard" else None,
            xcomp_bv=mask if whole == "compacted" else None,
            drop=drops,
        )
        if area.assumed and any(result.data[28:32]):
            # The user's word goes for the result, too: it is to be read as this CPU's.
            result.data[28:32] = cpu.mxcsr_mask.to_bytes(4, "little")
    written = framed(result) if frame else result.data
    write_area(output, written, file.source)
    result.data = bytearray(written[: len(result.data)])  # with XSTATE_BV as a frame has it
    for text in (*found.notes, *limits(found)):
        note(text)
    _summary(output, result, "; the second magic word behind it" if frame else "")
    return None


def _format(format: Format | None, xcr0: int | None, xcomp_bv: int | None) -> Format | None:
    """The format that the options ask for; wrong usage where they ask for both."""
    if xcomp_bv is not None and (format == "standard" or xcr0 is not None):
        raise click.UsageError(
            "--xcomp-bv goes with --format compacted; the standard format has --xcr0"
        )
    if xcr0 is not None and format == "compacted":
        raise click.UsageError(
            "--xcr0 goes with --format standard; the compacted format has --xcomp-bv"
        )
    if format is None and xcr0 is not None:
        return "standard"
    return "compacted" if format is None and xcomp_bv is not None else format


def _require_mxcsr(area: XsaveArea, cpu: CpuModel) -> None:
    """XsaveError where MXCSR has a bit of the CPU that wrote it which the other one refuses."""
    if "mxcsr" not in area.registers:
        return
    mxcsr = area.registers["mxcsr"]
    if alien := mxcsr & area.model.mxcsr_mask & ~cpu.mxcsr_mask:
        raise XsaveError(
            f"MXCSR {mxcsr:#x} has bits {alien:#x}, which {cpu.name} lacks: a restore there "
            f"raises #GP; write another one first (patch mxcsr={mxcsr & ~alien:#x})"
        )


def _silicon(model: CpuModel, catalog: Catalog) -> CpuModel:
    """A model as CPUID tells it, whatever mask an area was written under; that may be no XCR0."""
    if takes_xcr0(model, model.xcr0) or model.name not in catalog:
        return model
    return catalog.model(model.name)


def _as_qemu(
    area: XsaveArea, host: CpuModel, cpu: CpuModel | None, format: Format, mask: int | None
) -> bytes:
    """What QEMU's helper makes of the area; what is wrong with it goes to standard error.

    ``host`` wrote the area, ``cpu`` is the guest, the same by default; a mask is the guest's XCR0
    features.
    """
    data = bytes(area)
    guest = cpu or host
    host_leaf, guest_leaf = host.cpuid_leaf_0xd(), guest.cpuid_leaf_0xd()
    features = (guest.xcr0 if mask is None else mask) & ~COMPACTED & guest.user_mask
    wrong = qemu.differences(
        data, to=format, guest_leaf=guest_leaf, host_leaf=host_leaf, guest_xcr0=features
    )
    if format == "standard":
        dest = bytearray(guest.standard_layout().size)
        code = qemu.decompact_xsave_area(
            data, dest, guest_leaf=guest_leaf, host_leaf=host_leaf, guest_xcr0=features
        )
        if code:
            note(f"decompact_xsave_area returns {code}: what it had written by then is kept")
    else:
        dest = bytearray(max(host.compacted_layout().size, len(data)))
        size = qemu.compact_xsave_area(
            data, dest, host_leaf=host_leaf, guest_xcr0=features, xcr0=features
        )
        del dest[size:]
    for fault in wrong:
        note(f"QEMU differs, {fault}")
    return bytes(dest)


def _require_agreement(area: XsaveArea, catalog: Catalog, format: Format, mask: int | None) -> None:
    """IdentificationError unless all models that fit the area's bytes lay the result out alike."""
    match = identify(area.buffer, catalog=catalog)
    groups: dict[object, list[str]] = {}
    for candidate in match.models:
        standard = format == "standard"
        layout = (candidate.standard_layout if standard else candidate.compacted_layout)(mask)
        groups.setdefault(places(layout), []).append(candidate.name)
    if len(groups) > 1:
        listed_groups = "; ".join(", ".join(names) for names in groups.values())
        raise IdentificationError(
            f"several models fit, and their {format} formats differ: {listed_groups}; "
            "name the one whose layout you want (--model)",
            [candidate.model for candidate in match.candidates],
        )


def _summary(output: str, result: Conversion, behind: str) -> None:
    """Say on standard error what was written, in one line, behind what there is to note of it."""
    layout = result.layout
    if hidden := layout.mask & layout.model.supervisor_mask:
        names = " ".join(layout.model.names_of(hidden))
        user = hex_mask(layout.mask & ~hidden)
        note(
            f"XCOMP_BV has supervisor components ({names}), which XRSTORS alone takes; "
            f"--xcomp-bv {user} leaves them out"
        )
    if layout.format == "compacted" and "xsavec" not in layout.model.instructions:
        note(
            f"{layout.model.label} has no compacted format, so its XRSTOR refuses this area; "
            "hypervisors keep such areas for their guests"
        )
    area = XsaveArea.parse(result.data, layout.model, assume=True)
    names = " ".join(area.model.names_of(area.xstate_bv)) or "nothing"
    dropped = f"; dropped: {' '.join(result.dropped)}" if result.dropped else ""
    echo(
        f"{named(output)}: "
        f"{area.model.label}, {area.format} format, {len(area)} bytes, "
        f"XSTATE_BV {hex_mask(area.xstate_bv)} ({names}){dropped}{behind}",
        err=True,
    )
