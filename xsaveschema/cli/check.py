"""``xsaveschema check``: will XRSTOR, XRSTORS, ptrace or KVM take this area; if not, why."""

from __future__ import annotations

from typing import Any, Final, get_args

import click

from xsaveschema.area import XsaveArea
from xsaveschema.artefacts.reader import Found
from xsaveschema.cli.areas import called, chosen, naming, opened, options_of, tells
from xsaveschema.cli.files import about, named, write_area
from xsaveschema.cli.options import (
    area_option,
    assume_option,
    catalog_of,
    cpu_option,
    json_option,
    mask_option,
    model_option,
    note,
    schemas_option,
)
from xsaveschema.cli.output import Line, echo, print_json, print_lines
from xsaveschema.convert import relayout
from xsaveschema.errors import Fault, IdentificationError, hex_mask
from xsaveschema.identify import load_model
from xsaveschema.identify.match import Match, alike, identify
from xsaveschema.restore import Note, check, mend, misplaced, notes
from xsaveschema.restore_rules import RULES, Target
from xsaveschema.traces import without_frame

_WHO: Final[dict[Target, str]] = {
    "xrstor": "XRSTOR",
    "xrstors": "XRSTORS",
    "ptrace": "Linux's ptrace",
    "kvm": "KVM",
}


@click.command("check")
@click.argument("source", metavar="FILE")
@click.option(
    "--target",
    type=click.Choice(get_args(Target)),
    default="xrstor",
    show_default=True,
    help="Who restores: an instruction, or Linux by PTRACE_SETREGSET or KVM_SET_XSAVE.",
)
@model_option("The CPU that wrote the area, where FILE does not say.")
@assume_option
@cpu_option
@click.option("--host", is_flag=True, help="The same as --cpu host.")
@mask_option("--xcr0", "The restoring machine's XCR0; default: the CPU's.")
@mask_option("--xss", "Its IA32_XSS; default: the CPU's.")
@mask_option("--rfbm", "The instruction's EDX:EAX; default: all.")
@mask_option("--mxcsr-mask", "The processor's MXCSR_MASK; default: the CPU's.")
@mask_option(
    "--xfd",
    "IA32_XFD: components that fault when loaded; for ptrace what the task has not used yet, for "
    "kvm what the virtual machine has no permission for.",
)
@click.option(
    "--fix", metavar="OUT", help="Write the area with what can be mended without losing state."
)
@area_option
@json_option
@schemas_option
@click.pass_context
def command(
    ctx: click.Context,
    source: str,
    target: Target,
    model_name: str | None,
    assume: bool,
    cpu_name: str | None,
    host: bool,
    xcr0: int | None,
    xss: int | None,
    rfbm: int | None,
    mxcsr_mask: int | None,
    xfd: int | None,
    fix: str | None,
    label: str | None,
    as_json: bool,
    schemas: tuple[str, ...],
) -> int:
    """Tell whether a restore takes an area, and by which rule it does not.

    FILE is a path, - for standard input, pid:N or sample:NAME. Exits with 1 where there are faults;
    with --fix, where faults are left that only losing state would mend. State that is live, but not
    in the file, is told and not judged.
    """
    if host and cpu_name is not None:
        raise click.UsageError("--host and --cpu name two machines: give one")
    catalog = catalog_of(ctx, schemas)
    cpu_name = "host" if host else cpu_name
    writer = options_of(catalog, model_name, assume, strict=False)
    common: set[str] | None = None
    masks: dict[str, Any] = {"xcr0": xcr0, "xss": xss, "rfbm": rfbm}
    options = masks | {"mxcsr_mask": mxcsr_mask, "xfd": xfd or 0}
    with about(source):
        cpu = None if cpu_name is None else load_model(cpu_name, catalog)
        with opened(source, writer) as artefact:
            bare = artefact.bare(label) if writer.model is None else None
            if bare is not None and cpu is not None and tells(bare):
                bare = None
            found = chosen(artefact.areas(), label) if bare is None else bare
        missing: tuple[str, ...] = ()
        elsewhere: list[Fault] = []
        said_of_file: tuple[str, ...] = ()
        if isinstance(found, Found):
            model, name = found.area.model, called(found)
            data, missing = _judged(found.area, fix is not None)
            said_of_file = found.notes
            if cpu is not None:
                elsewhere = misplaced(found.area, cpu)
        else:
            data = found
        if not isinstance(found, Found) and cpu is None:
            match = identify(data, catalog=catalog)
            model = match.model
            name = naming(model, alike(match.layouts[0], catalog))
            common = _common_rules(data, match, target, options)
        if cpu is not None:
            model, name = cpu, cpu.label
        faults = check(data, model, target, **options)
        faults = [fault for fault in faults if common is None or fault.rule in common] or faults
        faults += elsewhere
        noted = notes(data, model, target, **masks)
        left: list[Fault] = faults
        if fix is not None:
            mended = mend(without_frame(data), model, target, **options)
            left = [*mended.left, *elsewhere]
    if as_json:
        facts = [_facts(fault) for fault in faults]
        told = [each._asdict() for each in noted]
        told += [{"component": None, "offset": None, "message": text} for text in said_of_file]
        print_json({"faults": facts, "notes": told, "missing": missing})
    else:
        for text in said_of_file:
            note(text)
        enabled = model.xcr0 if xcr0 is None else xcr0, model.xss if xss is None else xss
        _show(name, enabled, target, faults, noted, bool(missing))
        if missing:
            echo(f"\nnot looked at: {', '.join(missing)}: live, not in this file")
    if fix is not None:
        write_area(fix, mended.data, source)
        said = f"{len(faults) - len(left)} of {len(faults)} fault{'s' * (len(faults) != 1)} mended"
        for fault in left:
            said += f"\n  left: {fault}"
        echo(f"{named(fix)}: {said}", err=True)
    return 1 if left else 0


def _judged(area: XsaveArea, whole: bool) -> tuple[bytes, tuple[str, ...]]:
    """The bytes to judge, and the names of what is missing from the area.

    What is there of an area is one, too, unless it must be ``whole``: MissingStateError then.
    """
    missing = () if whole else area.missing
    return bytes(relayout(area, target=area.model, drop=missing).data if missing else area), missing


def _facts(fault: Fault) -> dict[str, Any]:
    return {
        "rule": fault.rule,
        "offset": fault.offset,
        "message": fault.message,
        "source": fault.source,
        "remedy": fault.remedy,
    }


def _common_rules(data: bytes, match: Match, target: Target, options: dict[str, Any]) -> set[str]:
    """The rules that an area breaks on every model that it fits.

    IdentificationError where some would take it and some would not. A model that would have to
    enable components first, as Alder Lake AVX-512, has no say.
    """
    verdicts: dict[frozenset[str], list[str]] = {}
    fits = list(zip(match.models, match.layouts, strict=True))
    models = [m for m, layout in fits if not layout.mask & ~(m.xcr0 | m.xss)]
    for model in models:
        rules = frozenset(fault.rule for fault in check(data, model, target, **options))
        verdicts.setdefault(rules, []).append(model.name)
    if len(verdicts) > 1 and frozenset() in verdicts:
        told = "; ".join(
            f"{', '.join(names)}: {'refused, ' + ', '.join(sorted(rules)) if rules else 'taken'}"
            for rules, names in verdicts.items()
        )
        raise IdentificationError(
            f"several models fit, and they do not agree: {told}; name the one (--model)",
            [model.name for model in models],
        )
    return set.intersection(*map(set, verdicts)) if verdicts else set()


def _show(
    name: str,
    masks: tuple[int, int],
    target: Target,
    faults: list[Fault],
    noted: list[Note],
    partial: bool,
) -> None:
    xcr0, xss = masks
    enabled = f"XCR0 {hex_mask(xcr0)}"
    if target == "xrstors":
        enabled += f", IA32_XSS {hex_mask(xss)}"
    verdict = "refuses this area" if faults else "takes this area"
    colour = "bold red" if faults else "bold green"
    if partial and not faults:
        verdict = "takes what is there of this area"
    if faults and all(fault.rule == "other-layout" for fault in faults):
        verdict = "takes this area, and loads other bytes than were saved"
    lines: list[Line] = [
        [(f"{_WHO[target]} on {name} ({enabled}) ", "bold"), (verdict, colour)],
    ]
    for fault in faults:
        rule = RULES[fault.rule]
        lines += [[], [(f"byte {fault.offset}: {fault.message}", "bold")]]
        for head, text in (
            ("rule", f"{fault.rule}: {rule.says}"),
            ("source", fault.source),
            ("remedy", fault.remedy),
        ):
            lines.append([(f"  {head:8}", "cyan"), (text, "")])
    for each in noted:
        lines += [[], [("note: ", "yellow"), (str(each), "")]]
    print_lines(lines)
