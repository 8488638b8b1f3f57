"""``xsaveschema check``: will XRSTOR, XRSTORS, ptrace or KVM take this area; if not, why."""

from __future__ import annotations

from typing import Any, Final, get_args

import click

from xsaveschema.catalog.identify import Match, identify
from xsaveschema.cli.areas import as_shown, one
from xsaveschema.cli.files import about, named, write_area
from xsaveschema.cli.options import (
    area_option,
    catalog_of,
    json_option,
    mask_option,
    model_option,
    note,
    schemas_option,
)
from xsaveschema.cli.output import print_json
from xsaveschema.errors import Fault, IdentificationError, hex_mask
from xsaveschema.model import CpuModel
from xsaveschema.restore import Note, check, mend, notes
from xsaveschema.restore_rules import RULES, Target

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
@model_option("The CPU that restores; without it, the one that the area tells.")
@click.option("--host", is_flag=True, help="This machine restores: its XCR0 and IA32_XSS.")
@mask_option("--xcr0", "The restoring machine's XCR0; default: the model's.")
@mask_option("--xss", "Its IA32_XSS; default: the model's.")
@mask_option("--rfbm", "The instruction's EDX:EAX; default: all.")
@mask_option("--mxcsr-mask", "The processor's MXCSR_MASK; default: the model's.")
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
    with --fix, where faults are left that only losing state would mend.
    """
    if host and model_name is not None:
        raise click.UsageError("--host and --model name two machines: give one")
    catalog = catalog_of(ctx, schemas)
    common: set[str] | None = None
    masks: dict[str, Any] = {"xcr0": xcr0, "xss": xss, "rfbm": rfbm}
    options = masks | {"mxcsr_mask": mxcsr_mask, "xfd": xfd or 0}
    with about(source):
        data, written_by, others = one(source, catalog, model_name, label)
        if host or model_name is not None:
            model = catalog.model(model_name or "host")
            if xcr0 is None and not host:
                model, how = as_shown(model, data)
                if " limited " in how and not as_json:
                    note(how)
        else:
            if written_by is None:
                match = identify(data, catalog=catalog)
                written_by, others = match.model, len(match.models) - 1
                common = _common_rules(data, match, target, options)
            model = written_by
        faults = check(data, model, target, **options)
        faults = [fault for fault in faults if common is None or fault.rule in common] or faults
        noted = notes(data, model, target, **masks)
        left: list[Fault] = faults
        if fix is not None:
            mended = mend(data, model, target, **options)
            left = list(mended.left)
    if as_json:
        facts = [_facts(fault) for fault in faults]
        print_json({"faults": facts, "notes": [each._asdict() for each in noted]})
    else:
        _show(model, others or 0, target, faults, noted)
    if fix is not None:
        write_area(fix, mended.data)
        said = f"{len(faults) - len(left)} of {len(faults)} fault{'s' * (len(faults) != 1)} mended"
        for fault in left:
            said += f"\n  left: {fault}"
        click.echo(f"{named(fix)}: {said}", err=True)
    return 1 if left else 0


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
    model: CpuModel, others: int, target: Target, faults: list[Fault], noted: list[Note]
) -> None:
    enabled = f"XCR0 {hex_mask(model.xcr0)}"
    if target == "xrstors":
        enabled += f", IA32_XSS {hex_mask(model.xss)}"
    verdict = "refuses this area" if faults else "takes this area"
    name = model.name
    if others:
        name += f", or {others} other model{'s' if others > 1 else ''} laid out alike"
    click.echo(f"{_WHO[target]} on {name} ({enabled}) {verdict}")
    for fault in faults:
        rule = RULES[fault.rule]
        click.echo(f"\nbyte {fault.offset}: {fault.message}")
        click.echo(f"  rule    {fault.rule}: {rule.says}")
        click.echo(f"  source  {fault.source}")
        click.echo(f"  remedy  {fault.remedy}")
    for each in noted:
        click.echo(f"\nnote: {each}")
