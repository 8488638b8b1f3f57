# SPDX-License-Identifier: MIT
"""``xsaveschema check``: will XRSTOR, ptrace, KVM, … take this area; if not, why."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from operator import attrgetter
from typing import Any, Final, cast, get_args

import click

from xsaveschema.area.lines import MISSING, Line
from xsaveschema.artefacts.reader import WHOLE, Found
from xsaveschema.artefacts.sigreturn import FRAME_RULES, LOADED_OTHERWISE, check_frame
from xsaveschema.catalog import Catalog
from xsaveschema.cli.files import about, named, write_area
from xsaveschema.cli.inputs import Input, called, naming, noted, reads_areas
from xsaveschema.cli.options import bits_option, cpu_option, json_option, mask_option
from xsaveschema.cli.output import echo, note, print_json, print_lines, print_rows
from xsaveschema.convert import relayout
from xsaveschema.errors import Fault, IdentificationError, hex_mask
from xsaveschema.header import MASKS, view_of
from xsaveschema.identify import load_model
from xsaveschema.identify.match import Match, alike, identify
from xsaveschema.model import COMPACTED, HEADER_OFFSET, CpuModel
from xsaveschema.restore import Note, check, mend, misplaced, notes
from xsaveschema.restore_rules import RULES, Target
from xsaveschema.traces import shown, without_frame

SIGRETURN: Final = "sigreturn"
"""The target that judges a frame: an area with the words that Linux puts in and behind it."""
_RULES: Final = RULES | FRAME_RULES
_OTHERWISE: Final = LOADED_OTHERWISE | {"other-layout"}
_WHO: Final[dict[str, str]] = {
    "xrstor": "XRSTOR",
    "xrstors": "XRSTORS",
    "ptrace": "Linux's ptrace",
    "kvm": "KVM",
    SIGRETURN: "Linux's sigreturn",
}


@click.command("check")
@click.argument("source", metavar="FILE")
@click.option(
    "--target",
    type=click.Choice([*get_args(Target), SIGRETURN]),
    default="xrstor",
    show_default=True,
    help="Who restores: an instruction, or Linux by PTRACE_SETREGSET, KVM_SET_XSAVE or, of a "
    "signal frame, when the handler returns.",
)
@cpu_option
@mask_option("--xcr0", "The restoring machine's XCR0; default: the CPU's.")
@mask_option("--xss", "Its IA32_XSS; default: the CPU's.")
@mask_option("--rfbm", "The instruction's EDX:EAX; default: all.")
@bits_option("--mxcsr-mask", "The processor's MXCSR_MASK; default: the CPU's.")
@mask_option(
    "--xfd",
    "IA32_XFD: components that fault when loaded; for ptrace and sigreturn what the task has not "
    "used yet, for kvm what the virtual machine has no permission for.",
)
@click.option(
    "--fix", metavar="OUT", help="Write the area with what can be mended without losing state."
)
@json_option
@reads_areas("The CPU that wrote the area, where FILE does not say.")
def command(
    file: Input,
    target: str,
    cpu_name: str | None,
    mxcsr_mask: int | None,
    xfd: int | None,
    fix: str | None,
    as_json: bool,
    **masks: int | None,
) -> int:
    """Tell whether a restore takes an area, and by which rule it does not.

    FILE is a path, - for standard input, pid:N or sample:NAME. Exits with 1 where there are faults;
    with --fix, where faults are left that only losing state would mend. State that is live, but not
    in the file, is told and not judged.
    """
    writer = file.options(strict=False)
    cpu = None if cpu_name is None else load_model(cpu_name, file.catalog)
    rules = {"mxcsr_mask": mxcsr_mask, "xfd": xfd or 0}
    of_frames = target == SIGRETURN
    if target in ("ptrace", "kvm") and masks["rfbm"] is not None:
        raise click.UsageError(f"--rfbm is an instruction's: {_WHO[target]} takes all of an area")
    if of_frames and (fix is not None or masks["xss"] is not None or masks["rfbm"] is not None):
        hint = "convert --format frame builds a frame anew"
        raise click.UsageError(f"--fix, --xss and --rfbm do not go with sigreturn; {hint}")
    with about(file.source):
        judge = _Judge(file.catalog, cpu, target, masks, rules, fix is not None)
        if judge.elsewhere and not as_json:
            note(judge.elsewhere)
        with file.opened(writer) as artefact:
            if of_frames:
                judge = replace(judge, frame=artefact.with_what_follows)
            bare = None
            if writer.model is None and not of_frames:
                bare = artefact.bare(file.selector)
            if bare is not None and cpu is not None and _tells(bare):
                bare = None
            several, areas = file.areas_or_bytes(artefact, bare)
            if not as_json:
                areas = noted(areas, several, attrgetter("notes"))
            if several and fix is not None:
                raise click.UsageError("--fix mends one area: choose it with --area")
            verdicts = map(judge.verdict, areas)
            if several:
                return _show_rows(target, verdicts, as_json)
            (verdict,) = verdicts
    if as_json:
        print_json(_told(verdict))
    else:
        _show(target, verdict)
    if fix is not None:
        assert verdict.mended is not None  # noqa: S101 - the judge was told to
        write_area(fix, verdict.mended, file.source)
        faults, left = verdict.faults, verdict.left
        said = f"{len(faults) - len(left)} of {len(faults)} fault{'s' * (len(faults) != 1)} mended"
        for fault in left:
            said += f"\n  left: {fault}"
        echo(f"{named(fix)}: {said}", err=True)
    return 1 if verdict.left else 0


@dataclass(frozen=True)
class _Verdict:
    """What is to be told of one area: ``name`` is the CPU's, ``said`` what its file is to note."""

    index: int
    label: str
    name: str
    enabled: tuple[int, int]
    faults: list[Fault]
    left: list[Fault]
    noted: list[Note]
    missing: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    mended: bytes | bytearray | None = None


@dataclass(frozen=True)
class _Judge:
    """Who restores, and what of."""

    catalog: Catalog
    cpu: CpuModel | None
    target: str
    masks: dict[str, Any]
    rules: dict[str, Any]
    fix: bool
    frame: Callable[[Found], bytes] | None = None  # for sigreturn

    @property
    def elsewhere(self) -> str:
        """What of the guest's state KVM takes by another way; "" where none is said."""
        if self.target != "kvm" or not self.masks["xss"]:
            return ""
        return (
            f"IA32_XSS {hex_mask(self.masks['xss'])}, and the state of what it has, are no part of "
            "KVM's area but MSRs of their own (KVM_SET_MSRS): without that of IA32_XSS the guest's "
            "XRSTORS is #GP"
        )

    def verdict(self, found: Found | bytes) -> _Verdict:
        """Judge an area; bytes alone are those of whatever model they fit."""
        options = self.masks | self.rules
        index, label = 0, WHOLE
        missing: tuple[str, ...] = ()
        said: tuple[str, ...] = ()
        common: set[str] | None = None
        elsewhere: list[Fault] = []
        if isinstance(found, Found):
            area, index, label, said = found.area, found.index, found.label, found.notes
            model, name = area.model, called(found)
            # What is there of an area is one, too, unless it must be whole to be mended.
            missing = () if self.fix else area.missing
            whole = relayout(area, target=model, drop=missing).data if missing else area
            data = bytes(whole)
            if self.cpu is not None:
                elsewhere = misplaced(area, self.cpu)
        else:
            data = found
        if self.cpu is not None:
            model, name = self.cpu, self.cpu.label
        elif not isinstance(found, Found):
            match = identify(data, catalog=self.catalog)
            model = match.model
            name = naming(model, alike(match.layouts[0], self.catalog))
            common = _common_rules(data, match, cast("Target", self.target), options)
        target = cast("Target", "xrstor" if self.frame else self.target)
        if self.frame and isinstance(found, Found):
            frame = self.frame(found)
            faults = check_frame(frame, model, xcr0=self.masks["xcr0"], **self.rules)
        else:
            faults = check(data, model, target, **options)
        faults = [fault for fault in faults if common is None or fault.rule in common] or faults
        mended = mend(without_frame(data), model, target, **options) if self.fix else None
        xcr0, xss = self.masks["xcr0"], self.masks["xss"]
        return _Verdict(
            index=index,
            label=label,
            name=name,
            enabled=(model.xcr0 if xcr0 is None else xcr0, model.xss if xss is None else xss),
            faults=[*faults, *elsewhere],
            left=[*(faults if mended is None else mended.left), *elsewhere],
            noted=notes(data, model, target, **self.masks, xfd=self.rules["xfd"]),
            missing=missing,
            said=(*said, *filter(None, [self.elsewhere])),
            mended=None if mended is None else mended.data,
        )


def _tells(data: bytes) -> bool:
    """Whether a bare area says which components its writer's system had enabled."""
    view = view_of(data)
    xstate_bv, xcomp_bv = MASKS.unpack_from(view, HEADER_OFFSET)
    return not xcomp_bv & COMPACTED and shown(view, xstate_bv) is not None


def _told(verdict: _Verdict) -> dict[str, Any]:
    told = [each._asdict() for each in verdict.noted]
    told += [{"component": None, "offset": None, "message": text} for text in verdict.said]
    faults = [asdict(fault) for fault in verdict.faults]
    return {"faults": faults, "notes": told, "missing": verdict.missing}


def _show_rows(target: str, verdicts: Iterable[_Verdict], as_json: bool) -> int:
    """A row for each area; what a rule is, and what mends it, is told of one that is named."""
    refused = print_rows(
        verdicts,
        as_json,
        lambda each: {"index": each.index, "label": each.label} | _told(each),
        ["#", "area", "who restores", "result"],
        lambda each: [str(each.index), each.label, _said(target, each), _result(each)],
        attrgetter("faults"),
        above="who restores",
    )
    if refused and not as_json:
        echo("\n--area with one of them says why, and what would mend it")
    return 1 if refused else 0


def _said(target: str, verdict: _Verdict) -> str:
    """Who restores, by what masks."""
    xcr0, xss = verdict.enabled
    enabled = f"XCR0 {hex_mask(xcr0)}"
    if target == "xrstors":
        enabled += f", IA32_XSS {hex_mask(xss)}"
    return f"{_WHO[target]} on {verdict.name} ({enabled})"


def _result(verdict: _Verdict) -> str:
    result = "taken"
    if verdict.faults:
        rules = ", ".join(dict.fromkeys(fault.rule for fault in verdict.faults))
        result = f"{'loaded otherwise' if _elsewhere(verdict) else 'refused'}: {rules}"
    if verdict.missing:
        result += f"; not looked at: {', '.join(verdict.missing)}"
    if count := len(verdict.noted):
        result += f"; {count} note{'s' * (count != 1)}"
    return result


def _elsewhere(verdict: _Verdict) -> bool:
    """Whether nothing is refused, but other bytes are loaded than were saved."""
    return all(fault.rule in _OTHERWISE for fault in verdict.faults)


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


def _show(target: str, verdict: _Verdict) -> None:
    said, colour = "takes this area", "bold green"
    if verdict.faults:
        said, colour = "refuses this area", "bold red"
    elif verdict.missing:
        said = "takes what is there of this area"
    if verdict.faults and _elsewhere(verdict):
        said = "takes this area, and loads other bytes than were saved"
    lines: list[Line] = [[(f"{_said(target, verdict)} ", "bold"), (said, colour)]]
    for fault in verdict.faults:
        rule = _RULES[fault.rule]
        lines += [[], [(f"byte {fault.offset}: {fault.message}", "bold")]]
        for head, text in (
            ("rule", f"{fault.rule}: {rule.says}"),
            ("source", fault.source),
            ("remedy", fault.remedy),
        ):
            lines.append([(f"  {head:8}", "cyan"), (text, "")])
    for each in verdict.noted:
        lines += [[], [("note: ", "yellow"), (str(each), "")]]
    if verdict.missing:
        missing = f"{', '.join(verdict.missing)}: {MISSING}"
        lines += [[], [("not looked at: ", "yellow"), (missing, "")]]
    print_lines(lines)
