# SPDX-License-Identifier: MIT
"""What a shell completes: models with their aliases, registers, components, samples, areas.

click asks for it in a run of its own; nothing of this is imported in any other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ClassVar, Final

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    split_arg_string,
)

from xsaveschema import samples
from xsaveschema.artefacts.opened import PID, SAMPLE, opened
from xsaveschema.artefacts.reader import Options
from xsaveschema.authoring.page import vendor_name
from xsaveschema.catalog import Catalog, default_catalog
from xsaveschema.errors import XsaveError, plain
from xsaveschema.identify import load_model
from xsaveschema.identify.named import HOST
from xsaveschema.io import is_device

_MOST: Final = 200  # areas: a core may have thousands of threads
_FILE: Final = CompletionItem("", type="file")
_ALSO_CPUS: Final = ("compare", "identify")
"""Commands whose FILE may be a CPU as well."""

Completer = Callable[[click.Context, str], Iterable[CompletionItem | str]]


def _catalog(ctx: click.Context) -> Catalog:
    above = ctx.parent.params.get("schemas") if ctx.parent else None
    paths = [*(above or ()), *(ctx.params.get("schemas") or ())]
    return Catalog(paths) if paths else default_catalog()


def _cpus(ctx: click.Context, word: str) -> list[CompletionItem]:
    """Models; where there is a beginning, also by alias; files where no model begins like it."""
    found = [CompletionItem(HOST, help="this machine")]
    for model in _catalog(ctx).models():
        for name in (model.name, *(model.aliases if word else ())):
            found.append(CompletionItem(name, help=plain(model.title)))
    return found if _fitting(found, word) else [_FILE]


def _vendors(ctx: click.Context, _: str) -> list[str]:
    vendors = {model.vendor for model in _catalog(ctx).models()}
    if ctx.info_name == "new":  # which writes what CPUID says
        return sorted(vendors)
    words = (word for vendor in vendors for word in vendor_name(vendor).replace(",", "").split())
    return sorted({word.casefold() for word in words if word[:1].isupper()})


def _components(ctx: click.Context, _: str) -> Iterable[CompletionItem]:
    titles = _catalog(ctx).component_titles()
    return [CompletionItem(name, help=plain(title)) for name, title in titles.items()]


def _registers(ctx: click.Context, _: str) -> Iterable[str]:
    """Whole registers, and the families of several: of the CPU that is named, else of any."""
    catalog, named = _catalog(ctx), ctx.params.get("model_name")
    known = load_model(named, catalog).registers if named else catalog.registers()
    families = (name.rstrip("0123456789") for name in known)
    return list(dict.fromkeys([*families, *known]))


def _listed(one: Completer) -> Completer:
    """The last of several values that commas separate; those before it stay."""

    def complete(ctx: click.Context, word: str) -> Iterator[CompletionItem]:
        before, comma, last = word.rpartition(",")
        for each in _fitting(one(ctx, last), last):
            yield CompletionItem(before + comma + each.value, help=each.help)

    return complete


def _sources(ctx: click.Context, word: str) -> Iterable[CompletionItem | str]:
    """Files; where no file's name begins so, a sample's, and a CPU's if that will do, too."""
    names = [f"{SAMPLE}{name}" for name in samples.SAMPLES]
    if not word or (not word.startswith(SAMPLE) and any(Path().glob(f"{word}*"))):
        return [_FILE]
    if _fitting(names, word):
        return names
    return _cpus(ctx, word) if ctx.info_name in _ALSO_CPUS else [_FILE]


def _areas(*names: str) -> Completer:
    """The labels of the areas in the file that one of these parameters has."""

    def complete(ctx: click.Context, _: str) -> Iterator[str]:
        source = next((found for name in names if (found := ctx.params.get(name))), "-")
        # A process would be stopped for this, a pipe read empty.
        if source == "-" or source.startswith(PID) or is_device(source):
            return
        with opened(source, Options(catalog=_catalog(ctx), strict=False)) as artefact:
            for found in islice(artefact.areas(), _MOST):
                if found.label.isprintable():
                    yield found.label

    return complete


COMPLETERS: Final[dict[str, Completer]] = {
    **dict.fromkeys(("model_name", "model_b_name", "cpu", "cpus", "cpu_name", "pattern"), _cpus),
    **dict.fromkeys(("source", "first", "second"), _sources),
    **dict.fromkeys(("output", "schemas", "paths", "bad", "fix"), lambda _, __: [_FILE]),
    **dict.fromkeys(("drop", "ignore", "having"), _listed(_components)),
    **dict.fromkeys(("xcr0", "xss", "xcomp_bv", "xfd", "rfbm"), _listed(_components)),
    "registers": _listed(_registers),
    "settings": _registers,
    "vendor": _vendors,
    "selector": _areas("source", "first"),
    "selector_b": _areas("second"),
}
"""What completes a parameter of a command, by the parameter's name."""


def install() -> None:
    """Take this module's way of asking for bash's."""
    add_completion_class(ColonBash)


def attach(command: click.Command) -> None:
    """Give the parameters of a command what completes them."""
    for param in command.params:
        if completer := COMPLETERS.get(param.name or ""):
            param.shell_complete = partial(_complete, completer)  # type: ignore[method-assign]


def _complete(completer: Completer, ctx: click.Context, word: str) -> list[CompletionItem]:
    try:
        return _fitting(completer(_before(ctx), word), word)
    except (XsaveError, OSError, ValueError):
        return []  # a shell has no place for what is wrong with a file


def _before(ctx: click.Context) -> click.Context:
    """The command as it stands before the option that is completed.

    Where an option has no value yet, click has understood nothing of the line.
    """
    words = split_arg_string(os.environ.get("COMP_WORDS", ""))
    words = words[words.index(ctx.info_name) + 1 :] if ctx.info_name in words else []
    while words and not words[-1].startswith("-"):
        words.pop()
    if not words:
        return ctx
    return ctx.command.make_context(
        ctx.info_name, words[:-1], parent=ctx.parent, resilient_parsing=True
    )


def _fitting(found: Iterable[CompletionItem | str], word: str) -> list[CompletionItem]:
    items = [CompletionItem(each) if isinstance(each, str) else each for each in found]
    return [each for each in items if each.type == "file" or each.value.startswith(word)]


class ColonBash(BashComplete):
    """bash, which takes ``sample:zen4`` for three words and a label for as many as it has.

    The words are taken from the line itself; what bash replaces is what follows the last colon.
    """

    name: ClassVar[str] = "bash"
    source_template: ClassVar[str] = """\
%(complete_func)s() {
    local IFS=$'\\n' response completion type value word colon
    response=$(env COMP_WORDS="${COMP_LINE:0:COMP_POINT}" %(complete_var)s=bash_complete "$1")
    word=${COMP_LINE:0:COMP_POINT}
    word=${word##*[[:space:]]}
    colon=""
    [[ $word == *:* && $COMP_WORDBREAKS == *:* ]] && colon=${word%%"${word##*:}"}
    COMPREPLY=()
    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"
        if [[ $type == file ]]; then
            compopt -o default
        elif [[ $type == plain ]]; then
            [[ ${COMP_WORDS[COMP_CWORD]} == [\\'\\"]* ]] || printf -v value '%%q' "$value"
            COMPREPLY+=("${value#"$colon"}")
        fi
    done
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    @staticmethod
    def _check_version() -> None:
        """``compopt`` and ``nosort`` are in every bash since 4.4: nothing to run one for."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one that is completed, and that one."""
        # Whatever quote is open: the last word is the one that this joins.
        *words, last = split_arg_string(f"{os.environ['COMP_WORDS']}.")
        return words[1:], last[:-1]
