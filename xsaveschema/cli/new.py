# SPDX-License-Identifier: MIT
"""``xsaveschema new``: a model file from a CPU's own leaf 0xD."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import click

from xsaveschema import cpuid
from xsaveschema.authoring.draft import NAME, draft, proposal, schema_reference, seen_model
from xsaveschema.authoring.resemblance import kin_of
from xsaveschema.catalog import Catalog
from xsaveschema.cli.files import about, read_some, write_area
from xsaveschema.cli.options import with_catalog
from xsaveschema.cli.output import note
from xsaveschema.cpuid import CpuidRecord
from xsaveschema.cpuid.files import MAX_BYTES
from xsaveschema.errors import XsaveError, plain
from xsaveschema.identify.named import HOST
from xsaveschema.io import is_pipe

_VENDOR = 12  # characters, in CPUID leaf 0


@click.command("new")
@click.argument("name", metavar="NAME")
@click.argument("cpu", metavar="CPU")
@click.option("--core", metavar="LABEL", help="One of the kinds of core of a hybrid CPU.")
@click.option("--title", metavar="TEXT", help="What people call the CPU.")
@click.option("--vendor", metavar="TEXT", help="CPUID leaf 0's, where the dump lacks it.")
@click.option("--stepping", is_flag=True, help="The signature is of the stepping seen alone.")
@click.option("--full", is_flag=True, help="Write every component; extend no other model.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    default="-",
    help="The file to write; without it, or with -, standard output.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Replace FILE, and write one though a model of the catalogue has this layout.",
)
@with_catalog
def command(
    catalog: Catalog,
    name: str,
    cpu: str,
    core: str | None,
    title: str | None,
    vendor: str | None,
    stepping: bool,
    full: bool,
    output: str,
    force: bool,
) -> None:
    """Write a model file from a CPUID dump or this machine.

    NAME is the new model's: lower-case letters and digits, with hyphens between words. CPU is
    host, which is this machine, or a CPUID dump of any known format: a path with a slash or a
    suffix (./dump), or - for standard input. Where a
    model of the catalogue is close (at most three components differ), the file extends it. Where
    one has exactly this layout, nothing is written and the line to add there is shown: exit code
    1. A dump that leaves out a component is refused.
    """
    ctx = click.get_current_context()
    _check_usage(name, title, vendor)
    if output != "-" and not force and _is_file(output):
        raise click.UsageError(f"{plain(output)} exists; --force replaces it")
    record, provenance, brand = _seen(cpu, core, catalog)
    with about("this machine" if cpu == HOST else cpu):
        if vendor and record.vendor and vendor != record.vendor:
            raise click.UsageError(f"--vendor: leaf 0 says {plain(record.vendor)!r}")
        seen = seen_model(record, name, vendor=vendor or "", catalog=catalog)
        for warning in record.warnings:
            note(plain(warning))
        kin = kin_of(seen, catalog)
        if kin.same is not None and not force:
            raise XsaveError(
                f"{proposal(seen, kin.same, catalog)}\n--force writes a file all the same"
            )
        made = draft(
            record,
            seen,
            None if full else kin.base,
            provenance=provenance,
            title=title or brand,
            stepping=stepping,
            schema=schema_reference(None if output == "-" else output),
            catalog=catalog,
            paths=[*(ctx.obj or ()), *ctx.params["schemas"]],
        )
    if name in catalog:
        note(f"{name} is in the catalogue; where this file is loaded, it replaces that model")
    for text in made.notes:
        note(plain(text))
    write_area(output, made.text.encode())
    if output != "-":
        how = "with every component" if full or kin.base is None else f"extends {kin.base.name}"
        note(f"wrote {plain(output)}: {how}")


def _check_usage(name: str, title: str | None, vendor: str | None) -> None:
    if not NAME.fullmatch(name):
        raise click.UsageError(
            f"{plain(name)!r} is no model name: lower-case letters and digits, with hyphens "
            "between words"
        )
    if name == HOST:
        raise click.UsageError("host is this machine, wherever a model is named: take another name")
    if title is not None and not (title.strip() and title.isprintable()):
        raise click.UsageError("--title: a text of printable characters, please")
    if vendor is not None and not (
        len(vendor) == _VENDOR and vendor.isascii() and vendor.isprintable()
    ):
        raise click.UsageError(f"--vendor: {_VENDOR} ASCII characters, as leaf 0 has them")


def _is_file(output: str) -> bool:
    """Whether something is there that writing would replace; pipes and devices are not."""
    try:
        return Path(output).is_file() or Path(output).is_symlink()
    except ValueError:  # a NUL in the name, which writing reports
        return False


def _seen(cpu: str, core: str | None, catalog: Catalog) -> tuple[CpuidRecord, str, str]:
    """The record, what to call it in the file, and the CPU's brand where that is known."""
    if cpu in catalog:
        raise click.UsageError(f"{cpu} is a model of the catalogue: a file of it is there already")
    if cpu == HOST:
        record, brand = cpuid.host(), _brand()
        if core is not None:
            raise click.UsageError("--core is for the dump of a hybrid CPU")
        said = ["host", "CPUID leaf 0xD", date.today().isoformat(), brand]
        return record, ", ".join(part for part in said if part), brand
    if not (cpu == "-" or os.sep in cpu or Path(cpu).suffix):
        raise click.UsageError(
            f"{plain(cpu)!r} is no CPU: say host, or the path of a CPUID dump with a slash or a "
            f"suffix (./{plain(cpu)})"
        )
    if cpu == "-":
        data = bytearray()
        while len(data) <= MAX_BYTES and (part := read_some(1 << 20)):
            data += part
        name = "standard input"
        records = list(cpuid.read_bytes(bytes(data), name))
    else:
        # A link's target, without its folder.
        name = "a pipe" if is_pipe(cpu) else Path(os.path.realpath(cpu)).name
        records = list(cpuid.read(cpu))
    record = _chosen(records, core, cpu)
    return record, ", ".join([name, record.label] if core else [name]), ""


def _chosen(records: Sequence[CpuidRecord], core: str | None, dump: str) -> CpuidRecord:
    """The one record of a dump, or the one of a hybrid CPU's that ``core`` means."""
    labels = "; ".join(plain(record.label) for record in records if record.label)
    if core is None:
        # Cores that differ in nothing but their type are one model.
        first, *others = records
        if any(_facts(other) != _facts(first) for other in others):
            raise XsaveError(
                f"{plain(dump)}: the kinds of core differ; name one (--core): {labels}"
            )
        return first
    wanted = core.casefold()
    found = [
        record
        for record in records
        if wanted in (record.label.casefold(), *record.label.casefold().split(", "))
    ]
    if len(found) != 1:
        said = "several kinds of core are" if found else "no kind of core is"
        known = f"it has {labels}" if labels else "all cores of the dump are alike"
        raise click.UsageError(f"--core: {said} called {plain(core)!r}; {known}")
    return found[0]


def _facts(record: CpuidRecord) -> tuple[object, ...]:
    """What a model file takes from a record. The sizes of what was enabled just then are not."""
    rows = {
        number: registers
        for number, registers in record.leaf_0xd.items()
        if number >= 2 and any(registers)
    }
    instructions = record.leaf_0xd.get(1, (0, 0, 0, 0))[0]
    return record.vendor, record.signature, record.xcr0, record.xss, instructions, rows


def _brand() -> str:
    """This CPU's brand string, where Linux shows it; else empty."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() == "model name":
                    return plain(" ".join(value.split()))
    except OSError:
        pass
    return ""
