"""Pages of the site that nobody writes: from the commands, the schema files, the docstrings.

A page has a stub in this folder, whose first lines say where the rest is from; ``read`` puts the
rest in its place when Sphinx reads the stub.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final

import click
import yaml
from sphinx.pycode import ModuleAnalyzer

import xsaveschema as xs
from xsaveschema.artefacts.sigreturn import FRAME_RULES
from xsaveschema.authoring.page import shipped_models
from xsaveschema.cli.program import COMMANDS, program
from xsaveschema.export import render
from xsaveschema.language.files import shipped_directory
from xsaveschema.language.grammar import KINDS, json_schema
from xsaveschema.language.library import Library
from xsaveschema.model import LEGACY, CpuModel, Field, StateComponent
from xsaveschema.qemu import KNOWN_DIFFERENCES
from xsaveschema.restore_rules import RULES

ROOT: Final = Path(__file__).resolve().parents[1]
DOCS: Final = ROOT / "docs"
MARK: Final = "<!-- generated -->"
"""Where a stub has what is made from data."""

TAKEN: Final = {
    "start": "README.md",
    "language": "schemas/README.md",
    "changelog": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
    "security": "SECURITY.md",
}
"""Pages that stand elsewhere in the checkout, by the name of their stub."""

EXTRAS: Final = {
    "arrow": "many.arrow",
    "batch": "many.batch",
    "dask": "many.dask",
    "parquet": "many.parquet",
    "stream": "many.stream",
    "testing": "testing",
}
"""Public modules that need an extra, each with where it stands."""

_WIDTH: Final = 80
_LINK: Final = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def atlas(app: Any, error: Exception | None) -> None:
    """The page that ``export html all`` writes, into the site's folder."""
    if error is None:
        for name, text in render("html", "all").items():
            Path(app.outdir, name).write_text(text, encoding="utf-8")


def read(app: Any, name: str, source: list[str]) -> None:
    """Sphinx's event: the text of a page, as it is to be parsed."""
    home, text = DOCS, source[0]
    if name in TAKEN:
        path = ROOT / TAKEN[name]
        app.env.note_dependency(str(path))
        home, text = path.parent, path.read_text("utf-8")
    if MARK in text:
        text = text.replace(MARK, "\n".join(GENERATED[name]()))
    here = (DOCS / name).parent
    source[0] = linked(text, (home / name).parent if home == DOCS else home, here)


def linked(text: str, home: Path, here: Path) -> str:
    """Text with the links of a file in ``home`` as they are on a page in ``here``."""
    stubs = {ROOT / file: DOCS / f"{name}.md" for name, file in TAKEN.items()}

    def link(match: re.Match[str]) -> str:
        target = Path(os.path.normpath(home / match[1]))
        target = stubs.get(target, target)
        return f"]({os.path.relpath(target, here)}{match[2] or ''})"

    return _LINK.sub(link, text)


def spare(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Sphinx's event: without what Python says of a tuple's members, which tells nothing."""
    lines[:] = [line for line in lines if not line.startswith("Alias for field number ")]


def text_of(value: object) -> str:
    """A value as a cell of a table shows it."""
    return re.sub(r"([\\`*_|<>\[\]#])", r"\\\1", " ".join(str(value).split()))


def table(head: str, rows: Iterable[Iterable[str]]) -> list[str]:
    """A table; ``head`` has the columns' names, with bars between."""
    names = head.split("|")
    cells = [names, ["---"] * len(names), *rows]
    return ["", *(f"| {' | '.join(row)} |" for row in cells), ""]


# Commands.


def commands() -> Iterator[str]:
    """The help of the program and of each command, as the program prints it."""
    top = click.Context(program, info_name="xsaveschema", terminal_width=_WIDTH)
    yield from _help("xsaveschema", top)
    for name in COMMANDS:
        command = program.get_command(top, name)
        assert command is not None  # noqa: S101 - COMMANDS has those that there are
        yield from _help(name, click.Context(command, top, name, terminal_width=_WIDTH))


def _help(title: str, context: click.Context) -> list[str]:
    return [f"## {title}", "", "```text", context.command.get_help(context), "```", ""]


# State components.


def components() -> Iterator[str]:
    """Every state component: where CPUs have it, its rules and its fields, from YAML."""
    library, models = Library(), shipped_models()
    library.add_shipped()
    files = sorted((shipped_directory() / "components").glob("*.yaml"))
    for says in (yaml.safe_load(file.read_text("utf-8")) for file in files):
        name, seen = says["component"], _seen(says["component"], models)
        yield from (f"## {name}", "", f"Component {says['number']}: {text_of(says['title'])}.")
        if says.get("source"):
            yield f"Source: {text_of(says['source'])}."
        yield from ("", *_places(name, seen), "")
        yield from (f"- {rule}" for rule in _rules(says))
        yield from table(
            "bytes|field|type|initial|what it is",
            _rows(library.component_fields(name)),
        )
    yield from ("## Whole registers", "", "Registers that several components hold together:", "")
    yield from table("register|pieces, low bits first", _registers())


def _seen(name: str, models: Iterable[CpuModel]) -> dict[StateComponent, list[str]]:
    seen: dict[tuple[Any, ...], tuple[StateComponent, list[str]]] = {}
    for model in models:
        if name in model.components:
            component = model.components[name]
            _, names = seen.setdefault(component.sub_leaf, (component, []))
            names.append(model.name)
    return dict(seen.values())


def _places(name: str, seen: dict[StateComponent, list[str]]) -> Iterator[str]:
    if name in LEGACY:
        at, size = LEGACY[name]
        yield f"On every CPU: {size} bytes at {at}."
        return
    if not seen:
        yield "No CPU model of the catalogue has it."
        return
    rows = []
    for component, names in seen.items():
        flags = [word for word in ("supervisor", "align64", "xfd") if getattr(component, word)]
        where = "-" if component.offset is None else str(component.offset)
        links = [f"[{model}](models.md#{model})" for model in names]
        rows.append([str(component.size), where, " ".join(flags), ", ".join(links)])
    yield from table("size|standard offset|flags|CPU models", rows)


def _rules(says: dict[str, Any]) -> Iterator[str]:
    for key, words in {
        "needs": "XCR0 may not enable it without {}",
        "with": "XCR0 enables it together with {} or not at all",
        "reserved_bytes": "bytes {} must be 0",
        "predicate": "judged as a whole by the rule `{}`",
        "illegal": "an illegal value: {}",
        "features": "needed by the CPUID features that QEMU and libvirt call {}",
        "qemu_features": "needed by the CPUID features that QEMU calls {}",
    }.items():
        if key in says:
            value = says[key]
            shown = ", ".join(value) if isinstance(value, list) else str(value)
            yield f"`{key}`: {words.format(shown)}"


def _rows(fields: Iterable[Field], before: str = "") -> Iterator[list[str]]:
    for field in fields:
        many = "" if field.count is None else f"[{field.count}]"
        path = f"{before}{field.name}{many}"
        place = (
            f"{field.offset}..{field.offset + field.size - 1}"
            if field.size > 1
            else (str(field.offset))
        )
        if field.count is not None and field.count > 1:
            place += f", every {field.stride}"
        initial = hex(field.initial) if field.initial else "0"
        what = [field.title] if field.title else []
        what += [f"{bits.name} {_range(bits.low, bits.width)}" for bits in field.bits]
        what += [*_limits(field)]
        kind = f"bytes, {field.size}" if field.type == "bytes" else field.type
        yield [
            place,
            f"`{path}`",
            kind,
            "" if field.fields else initial,
            text_of("; ".join(what)),
        ]
        yield from _rows(field.fields, f"{path}.")


def _range(low: int, width: int) -> str:
    return f"[{low + width - 1}:{low}]" if width > 1 else f"[{low}]"


def _limits(field: Field) -> Iterator[str]:
    limits = field.limits
    if limits.reserved:
        yield f"must be 0: {limits.reserved:#x}"
    if limits.canonical:
        yield "canonical"
    if limits.at_most is not None:
        yield f"at most {limits.at_most}"
    if limits.multiple_of != 1:
        yield f"a multiple of {limits.multiple_of}"
    if field.counted_by:
        yield f"in use: as {field.counted_by} says"


def _registers() -> Iterator[list[str]]:
    for entry in yaml.safe_load((shipped_directory() / "registers.yaml").read_text())["registers"]:
        name, count = entry["name"], entry.get("count")
        first = entry.get("first", 0)
        shown = name if count is None else f"{name}{first} to {name}{first + count - 1}"
        yield [shown, ", ".join(f"`{piece}`" for piece in entry["pieces"])]


# Rules.


def rules() -> Iterator[str]:
    """Every rule by which a restore refuses, and every difference of QEMU's helper."""
    for name, rule in (RULES | FRAME_RULES).items():
        yield from (f"### {name}", "", text_of(rule.says), "")
        yield from (f"- source: {text_of(rule.source)}", f"- remedy: {text_of(rule.remedy)}", "")
    yield from ("## QEMU's helper", "", QEMU, "")
    for each in KNOWN_DIFFERENCES:
        yield from (f"### {each.id}", "", f"`{each.function}`: {text_of(each.what)}.", "")
        harmless = " (harmless)" if each.harmless else ""
        yield f"- consequence{harmless}: {text_of(each.consequence)}"
        yield from (f"- right: {text_of(each.right)}", "")


QEMU: Final = """\
What lies between QEMU's conversion and the right one, by the identifiers that
`xs.qemu.differences` and `convert --as-qemu` give."""


# The API.


def api() -> Iterator[str]:
    """Every public name, from its docstring."""
    yield from ("```{eval-rst}", ".. module:: xsaveschema", "", ".. currentmodule:: xsaveschema")
    modules = {name for name in xs.__all__ if isinstance(getattr(xs, name), ModuleType)}
    for name in sorted({*xs.__all__} - modules, key=str.lower):
        yield from ("", *_directive(f"xsaveschema.{name}", getattr(xs, name)))
    yield from ("```", "")
    for name in sorted(modules):
        yield from _module(name, f"xsaveschema.{name}")
    yield from _module("cpuid.lines", "xsaveschema.cpuid.lines")
    for name, home in EXTRAS.items():
        yield from _module(name, f"xsaveschema.{home}")


def _directive(name: str, value: object) -> list[str]:
    if isinstance(value, type):
        kind = "autoexception" if issubclass(value, Exception) else "autoclass"
        return [f".. {kind}:: {name}", "   :members:", "   :undoc-members:"]
    if isinstance(value, FunctionType):
        return [f".. autofunction:: {name}"]
    home, _, own = name.rpartition(".")
    return [f".. py:data:: {own}", "", *(f"   {line}" for line in _said_of(home, own))]


def _said_of(home: str, name: str) -> list[str]:
    """The text behind a constant, in the module where it is made."""
    module = import_module(home)
    tree = ast.parse(Path(str(module.__file__)).read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            return _said_of(str(node.module), name)
    text = ModuleAnalyzer.for_module(home).find_attr_docs().get(("", name))
    return text or [f"``{getattr(module, name)!r}``", ""]


def _module(title: str, home: str) -> Iterator[str]:
    module = import_module(home)
    yield from (f"## {title}", "")
    public = home.replace(".many.", ".")
    if public != home:
        yield from (f"`{public}` is this module.", "")
    yield from ("```{eval-rst}", f".. automodule:: {home}")
    if hasattr(module, "__all__"):
        # What it takes from elsewhere, or gives when asked for, too.
        for name in module.__all__:
            value = getattr(module, name)
            if not isinstance(value, ModuleType):
                yield from ("", *_directive(f"{home}.{name}", value))
    else:
        yield from ("   :members:", "   :undoc-members:")
    yield from ("```", "")


# Keys of the YAML language.


def keys() -> Iterator[str]:
    """Every key of the three kinds of schema file, from the types that read them."""
    for kind in KINDS:
        schema = json_schema(kind)
        yield from _keys(f"{kind}:", schema)
        for name, part in schema.get("$defs", {}).items():
            yield from _keys(f"{kind}: {name.removesuffix('Doc').lower()}", part)


def _keys(title: str, schema: dict[str, Any]) -> Iterator[str]:
    yield from (f"## {title}", "", text_of(schema["description"]))
    required = schema.get("required", ())
    yield from table(
        "key|takes|what it says",
        (
            [
                f"`{key}`{' (must be there)' if key in required else ''}",
                _takes(value),
                text_of(value.get("description", "")),
            ]
            for key, value in schema["properties"].items()
        ),
    )


def _takes(schema: dict[str, Any]) -> str:
    """What a key takes, in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2].removesuffix("Doc").lower()
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_takes(each) for each in schema["anyOf"]))
    if "enum" in schema:
        return text_of(", ".join(map(str, schema["enum"])))
    kind = str(schema.get("type", ""))
    if kind == "array":
        return f"a list: {_takes(schema.get('items', {}))}"
    if kind == "object":
        return f"names, each with {_takes(schema.get('additionalProperties', {}))}"
    if kind == "integer":
        least, most = schema.get("minimum"), schema.get("maximum")
        return f"{least} to {most}" if most is not None else f"{least} or more"
    return {"string": "text", "boolean": "true, false", "null": "null"}.get(kind, kind)


GENERATED: Final[dict[str, Callable[[], Iterator[str]]]] = {
    "api": api,
    "commands": commands,
    "components": components,
    "keys": keys,
    "rules": rules,
}
"""The pages that are made from data, by the name of their stub."""
