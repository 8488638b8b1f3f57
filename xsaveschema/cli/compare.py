# SPDX-License-Identifier: MIT
"""``xsaveschema compare``: would this guest's state, or any of this CPU's, restore there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from operator import attrgetter

import click

from xsaveschema import cpuid
from xsaveschema.area import XsaveArea
from xsaveschema.area.lines import Line
from xsaveschema.artefacts.reader import Found
from xsaveschema.cli.files import about, named_input, write_picture
from xsaveschema.cli.fleet import load_fleet, note_of_dumps
from xsaveschema.cli.inputs import Input, called, dump_of, names_cpu, noted, reads_areas
from xsaveschema.cli.options import json_option, mask_option, svg_option
from xsaveschema.cli.output import print_json, print_lines
from xsaveschema.compare import Comparison, compare, compare_areas
from xsaveschema.identify.named import load_model, model_of_dump
from xsaveschema.model import CpuModel
from xsaveschema.svg import comparison_svg
from xsaveschema.text import comparison_lines, comparisons_lines


@click.command("compare")
@click.argument("source", metavar="FILE|CPU")
@click.argument("cpus", metavar="CPU...", nargs=-1, required=True)
@mask_option("--xcr0", "The guest's XCR0, of a CPU; default: all that it has.")
@mask_option(
    "--xss",
    "The guest's IA32_XSS, of a CPU; default: unknown, so that what it may enable is told, and not "
    "counted as lost.",
)
@svg_option
@json_option
@reads_areas("The CPU that wrote the areas, where FILE does not say.")
def command(
    file: Input,
    cpus: tuple[str, ...],
    xcr0: int | None,
    xss: int | None,
    svg: str | None,
    as_json: bool,
) -> int:
    """Tell whether hosts can take the state of a guest.

    FILE holds its areas: a path, - for standard input, pid:N or sample:NAME; what they have in use
    counts, and each is judged as convert and check would judge it. Or the guest ran on a CPU: a
    model's name, host, a CPUID dump or a model's YAML file; then all that it has enabled counts.
    Which components move, which are lost, which sit elsewhere or change size; of several CPUs (also
    globs of models' names, all, or a folder of dumps) a row each. Exits with 1 where state would be
    lost.
    """
    fleet = load_fleet(cpus, file.catalog)
    words, hosts = list(fleet.cpus), list(fleet.cpus.values())
    if svg is not None and len(hosts) > 1:
        raise click.UsageError("--svg draws one pair: name one CPU to compare with")
    heading, found = _compared(file, hosts, xcr0, xss)
    if svg is not None:
        write_picture(svg, comparison_svg(found[0]), as_json)
    elif as_json and len(found) > 1:
        rows = zip(words, found, strict=True)
        print_json({"comparisons": [{"cpu": word} | each.to_dict() for word, each in rows]})
    elif as_json:
        print_json(found[0].to_dict())
    else:
        note_of_dumps(fleet)
        one = len(found) == 1
        told = comparison_lines(found[0]) if one else comparisons_lines(words, found)
        print_lines([*heading, *told])
    return 0 if all(each.restorable for each in found) else 1


def _compared(
    file: Input, hosts: list[CpuModel], xcr0: int | None, xss: int | None
) -> tuple[list[Line], list[Comparison]]:
    """The first argument against each of the hosts; its content says whether it is a CPU.

    In front, what there is to say of a file of areas.
    """
    source = file.source
    if names_cpu(source, file.catalog):
        return [], _of_cpu(file, load_model(source, file.catalog), hosts, xcr0, xss)
    options = file.options()
    with about(source), file.opened(options) as artefact:
        if (dump := dump_of(artefact)) is not None:
            records = cpuid.read_bytes(dump, named_input(source))
            model = model_of_dump(records, source, file.catalog)
            return [], _of_cpu(file, model, hosts, xcr0, xss)
        if xcr0 is not None or xss is not None:
            raise click.UsageError("--xcr0 and --xss are a CPU's: areas say what is in use")
        several, areas = file.areas_or_bytes(artefact, None)
        names: list[str] = []
        known = True

        def labelled() -> Iterator[tuple[str, XsaveArea]]:
            nonlocal known
            for found in noted(areas, several, attrgetter("notes")):
                assert isinstance(found, Found)  # noqa: S101 - none was asked for as bytes
                names.append(called(found))
                known &= found.origin != "assembled"
                yield found.label, found.area

        compared = [replace(each, known=known) for each in compare_areas(labelled(), hosts)]
    count = f"{len(names)} area{'s' * (len(names) != 1)}"
    return [
        [(f"{named_input(source)}: {count} of {'; '.join(dict.fromkeys(names))}", "")]
    ], compared


def _of_cpu(
    file: Input, model: CpuModel, hosts: list[CpuModel], xcr0: int | None, xss: int | None
) -> list[Comparison]:
    if file.model_name is not None or file.assume or file.selector is not None:
        said = "--model, --assume-model and --area are for a FILE of areas"
        raise click.UsageError(f"{said}; {named_input(file.source)} is a CPU")
    if xcr0 is not None:
        model = model.limited(xcr0=xcr0)
    return [compare(model, host, xss=xss) for host in hosts]
