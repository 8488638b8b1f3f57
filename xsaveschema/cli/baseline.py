# SPDX-License-Identifier: MIT
"""``xsaveschema baseline``: what all hosts of a fleet can take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import click

from xsaveschema.area.lines import Line, folded
from xsaveschema.baseline import Baseline, Hypervisor, baseline
from xsaveschema.catalog import Catalog
from xsaveschema.cli.fleet import Fleet, load_fleet, note_of_dumps, some
from xsaveschema.cli.models import of_vendor
from xsaveschema.cli.options import json_option, with_catalog
from xsaveschema.cli.output import echo, note, picked, print_json, print_lines, terminal_width
from xsaveschema.cpuid import CpuidRecord, format_cpuid_r
from xsaveschema.text import baseline_lines, places_lines

_CPUID: Final = "cpuid"
_SHOWN: Final = 4  # features that a hint names


@click.command("baseline")
@click.argument("cpus", metavar="CPU...", nargs=-1)
@click.option(
    "--vendor",
    metavar="NAME",
    help="Every model of this vendor, beside the CPUs that are named: intel, amd, ...",
)
@click.option(
    "--as",
    "output",
    type=click.Choice(["qemu", "libvirt", _CPUID]),
    help="What to set a guest up with: the features to switch off, for QEMU's -cpu or libvirt's "
    "<cpu>; or a CPUID dump of what it shall see.",
)
@click.option(
    "--places", is_flag=True, help="Where each CPU has each component, in place of a baseline."
)
@json_option
@with_catalog
def command(
    catalog: Catalog,
    cpus: tuple[str, ...],
    vendor: str | None,
    output: str | None,
    places: bool,
    as_json: bool,
) -> None:
    """Tell what a guest may have that shall run on any of several hosts.

    The greatest XCR0 and IA32_XSS that all of them take with one layout. CPU is a model's name,
    host, a CPUID dump, a model's YAML file; a folder of dumps; a glob of models' names; or all.
    Hosts and dumps count with the masks that they have enabled.
    """
    if output is not None and (as_json or places):
        raise click.UsageError("--as writes its own format: without --json and --places")
    fleet = load_fleet(cpus, catalog)
    for model in of_vendor(catalog.models(), vendor) if vendor is not None else ():
        fleet.cpus.setdefault(model.name, model)
        fleet.told.add(model.name)
    if not fleet.cpus:
        raise click.UsageError("name the CPUs, a folder of their dumps, or --vendor NAME")
    found = baseline(fleet.cpus)
    if as_json:
        told = ("optional", "cut_off", "passed_over")
        print_json(found.to_dict() | picked(fleet, *told))
        return
    _note(fleet, found)
    if output == _CPUID:
        leaf = dict(found.model.cpuid_leaf_0xd())
        echo(format_cpuid_r(CpuidRecord(found.model.vendor, None, leaf)).rstrip("\n"))
    elif output is not None:
        _print_features(found, "qemu" if output == "qemu" else "libvirt")
    elif places:
        print_lines(places_lines(found, terminal_width()))
    else:
        width = terminal_width()
        print_lines([*baseline_lines(found, width), *_hints(found, width)])


def _note(fleet: Fleet, found: Baseline) -> None:
    """What the answer does not rest on, or rests on without proof."""
    note_of_dumps(fleet)
    kept = {name for name, at in found.places.items() if name in found.model.components and at}
    doubts: dict[tuple[str, ...], list[str]] = {}
    for cpu, names in fleet.optional.items():
        if doubted := tuple(name for name in names if name in kept):
            doubts.setdefault(doubted, []).append(cpu)
    for unsure, cpus in doubts.items():
        note(f"some parts of {some(cpus)} lack {', '.join(unsure)}: a host's own dump tells")


def _hints(found: Baseline, width: int) -> Iterator[Line]:
    off = found.features("qemu").off
    if off:
        words = f"{', '.join(off[:_SHOWN])}{', ...' if len(off) > _SHOWN else ''}"
        told = f"{words} ({len(off)} feature{'s' * (len(off) > 1)}); --as qemu, --as libvirt"
        yield []
        yield from folded([("  switch off ", "bold"), (told, "")], width)


def _print_features(found: Baseline, hypervisor: Hypervisor) -> None:
    """The words, in the hypervisor's own form, and what they leave out."""
    features = found.features(hypervisor)
    title = {"qemu": "QEMU", "libvirt": "libvirt"}[hypervisor]
    if hypervisor == "qemu" and features.off:
        echo(",".join(f"{word}=off" for word in features.off))
    elif features.off:
        echo("\n".join(f"<feature policy='disable' name='{w}'/>" for w in features.off))
    else:
        note("there is nothing to switch off")
    if hypervisor == "qemu" and not found.instructions:
        note("with none of these instructions -cpu host and max hide leaf 0xD: add level=13")
    if features.off:
        but = "" if hypervisor == "qemu" else ", unless the mode is host-passthrough"
        note(f"a word that your {title} does not know can be left out{but}")
    none = found.features("qemu").without
    if none:
        note(f"there is no word for {', '.join(none)}: QEMU shows no guest that state")
    if more := [name for name in features.without if name not in none]:
        said = f"libvirt has no word for {', '.join(more)}, QEMU has (--as qemu)"
        note(f"{said}: host-passthrough may show that state")
