# SPDX-License-Identifier: MIT
"""The page of CPU models, from the schema files: ``python -m xsaveschema.authoring.page``.

Writes ``docs/models.md`` of a checkout. With ``--check`` it writes nothing and exits 1 where the
page is not what it would write.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from xsaveschema.authoring.schema_export import keep_current
from xsaveschema.errors import hex_mask
from xsaveschema.language.files import shipped_directory
from xsaveschema.language.library import Library
from xsaveschema.layout import compacted
from xsaveschema.model import (
    FEATURES,
    HEADER_OFFSET,
    HEADER_SIZE,
    LEGACY,
    MXCSR_MASK,
    CpuModel,
    Signature,
    StateComponent,
    bits_of,
)

_VENDORS: Final = {
    "GenuineIntel": "Intel",
    "AuthenticAMD": "AMD",
    "HygonGenuine": "Hygon",
    "CentaurHauls": "Centaur, VIA and Zhaoxin",
    "  Shanghai  ": "Zhaoxin, with the vendor string Shanghai",
}
_ROW: Final = 4  # models in a row that are written as a range
_COMMAND: Final = "python -m xsaveschema.authoring.page"
_OPTIONAL: Final = {
    "present": "some parts lack it",
    "absent": "most parts lack it, and the masks here leave it out",
}
_LEGACY: Final = ", ".join(f"{name} ({size} bytes at {at})" for name, (at, size) in LEGACY.items())
_HEAD: Final = f"""\
<!-- Generated from the files under schemas/models by `{_COMMAND}`: do not edit. -->

# CPU models

Every CPU model of the catalogue with its state components. This page is generated from the schema
files; after a change to one, run `{_COMMAND}`.

- Signatures are display family and models, hexadecimal; `/` precedes steppings where only some are
  meant.
- XCR0 and IA32_XSS are the masks that the model has by default. Sizes are in bytes: the standard
  format for XCR0, the compacted format for XCR0 and IA32_XSS together.
- A model is confirmed if CPUID dumps of real CPUs show exactly its layout; the number counts the
  dumps that its file names. Where there is none, the source is named.
- Every area also has {_LEGACY} and the XSAVE header ({HEADER_SIZE} bytes at
  {HEADER_OFFSET}).
"""


def shipped_models() -> list[CpuModel]:
    """The models that come with the package, in order of vendor and name; SchemaError."""
    library = Library()
    library.add_shipped()
    return sorted((library.model(path) for path in library.models.values()), key=in_order)


def page(models: Iterable[CpuModel]) -> str:
    """The page as Markdown: a summary, then the models of each vendor by their layout."""
    by_vendor: dict[str, list[CpuModel]] = {}
    for model in models:
        by_vendor.setdefault(_escaped(vendor_name(model.vendor)), []).append(model)
    lines = [_HEAD, *_summary(by_vendor)]
    for vendor, own in by_vendor.items():
        lines += [f"## {vendor}", ""]
        for alike in _by_layout(own):
            lines += _group(alike)
    return "\n".join(lines).rstrip("\n") + "\n"


def vendor_name(vendor: str) -> str:
    """The name by which people know a vendor, from CPUID leaf 0's: that one for an unknown one."""
    return _VENDORS.get(vendor, vendor.strip())


def in_order(model: CpuModel) -> tuple[int, str, str]:
    """What orders models by vendor, the best known first, and name."""
    known = list(_VENDORS)
    place = known.index(model.vendor) if model.vendor in known else len(known)
    return place, model.vendor, model.name


def _escaped(text: str) -> str:
    """Text as Markdown shows it, in a table too."""
    return re.sub(r"([\\`*_|<>\[\]#])", r"\\\1", " ".join(text.split()))


def _table(head: str, columns: str, rows: Iterable[Iterable[str]]) -> list[str]:
    """A table; ``columns`` has l or r for each column's side."""
    names = head.split("|")
    rule = {"l": "---", "r": "---:"}
    lines = [names, [rule[side] for side in columns], *rows]
    return [*(f"| {' | '.join(cells)} |" for cells in lines), ""]


def _summary(by_vendor: dict[str, list[CpuModel]]) -> Iterator[str]:
    yield from ("## Summary", "")
    for vendor, models in by_vendor.items():
        yield from (f"**{vendor}**", "")
        yield from _table(
            "model|title|signatures|XCR0|IA32_XSS|standard|compacted|confirmed",
            "lllllrrr",
            (
                [
                    f"[{model.name}](#{model.name})",
                    _escaped(model.title),
                    _escaped(signature_text(model)),
                    hex_mask(model.xcr0),
                    hex_mask(model.xss) if model.xss else "-",
                    str(model.standard_layout().size),
                    str(_packed(model)) if "xsavec" in model.instructions else "-",
                    f"{len(model.confirmed_by) or 'no'}",
                ]
                for model in models
            ),
        )


def _packed(model: CpuModel) -> int:
    return compacted(model, model.xcr0 | model.xss).size


def _default(model: CpuModel) -> list[StateComponent]:
    """The extended components of the default masks."""
    return [model.by_number[number] for number in bits_of((model.xcr0 | model.xss) & ~3)]


def _by_layout(models: Iterable[CpuModel]) -> list[list[CpuModel]]:
    """Models with the same components in the same places, small layouts first."""
    groups: dict[tuple[object, ...], list[CpuModel]] = {}
    for model in models:
        key = tuple((c.number, c.sub_leaf) for c in _default(model))
        groups.setdefault(key, []).append(model)
    return sorted(
        groups.values(),
        key=lambda group: (group[0].standard_layout().size, _packed(group[0]), group[0].name),
    )


def _group(models: list[CpuModel]) -> Iterator[str]:
    """A layout, and the models that have it."""
    first = models[0]
    xss = f", IA32_XSS {hex_mask(first.xss)}" if first.xss else ""
    yield from (f"### XCR0 {hex_mask(first.xcr0)}{xss}: {_count(len(models), 'model')}", "")
    yield f"- XCR0 {_mask(first, first.xcr0)}"
    yield f"- IA32_XSS {_mask(first, first.xss)}" if first.xss else "- IA32_XSS: nothing"
    yield f"- standard format: {first.standard_layout().size} bytes"
    can = [model for model in models if "xsavec" in model.instructions]
    if can:
        only = "" if len(can) == len(models) else f" ({', '.join(model.name for model in can)})"
        yield f"- compacted format: {_packed(first)} bytes{only}"
    components = _default(first)
    yield f"- layout: {', '.join(_place(c) for c in components) or 'x87 and sse only'}"
    yield ""
    for model in models:
        yield from _model(model)


def _mask(model: CpuModel, mask: int) -> str:
    return f"{hex_mask(mask)}: {', '.join(model.names_of(mask))}"


def _place(component: StateComponent) -> str:
    where = "supervisor" if component.offset is None else str(component.offset)
    flags = [word for word in ("align64", "xfd") if getattr(component, word)]
    return f"`{component.name}: {component.size}@{' '.join([where, *flags])}`"


def _model(model: CpuModel) -> Iterator[str]:
    yield from (f"#### {model.name}", "", f"{_escaped(model.title)}", "")
    if model.aliases:
        yield f"- also called {', '.join(model.aliases)}"
    yield f"- vendor: `{model.vendor}`"
    yield f"- signatures: {_escaped(signature_text(model)) or 'none'}"
    words = [word for word in FEATURES if word in model.instructions]
    yield f"- instructions: {', '.join(['xsave', *words])}"
    for component in model.components.values():
        if component.optional:
            yield f"- optional: {_place(component)}, {_OPTIONAL[component.optional]}"
    if model.mxcsr_mask != MXCSR_MASK:
        yield f"- MXCSR_MASK {hex_mask(model.mxcsr_mask)}"
    if model.confirmed:
        yield f"- confirmed by {_count(len(model.confirmed_by), 'dump')}"
    else:
        yield f"- unconfirmed; source: {_escaped(model.source)}"
    yield ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def signature_text(model: CpuModel) -> str:
    """``06: 55/3,4 5E`` for each family, ``50-5F`` for four and more; another vendor is named."""
    families: dict[tuple[str, int], list[tuple[int, str]]] = {}
    for signature in model.signatures:
        found = families.setdefault((signature.vendor, signature.family), [])
        found += [(number, _steppings(signature)) for number in signature.models]
    told = []
    for (vendor, family), found in families.items():
        other = "" if vendor == model.vendor else f"{vendor.strip()} "
        told.append(f"{other}{family:02X}: {' '.join(_ranges(found))}")
    return "; ".join(told)


def _ranges(models: Iterable[tuple[int, str]]) -> Iterator[str]:
    """Models with their steppings; four and more in a row as a range, ``50-5F``."""
    row: list[tuple[int, str]] = []
    for number, steppings in (*models, (-1, "")):
        if row and (number, steppings) == (row[-1][0] + 1, row[-1][1]):
            row.append((number, steppings))
            continue
        if len(row) >= _ROW:
            row = [(row[0][0], f"-{row[-1][0]:02X}{row[0][1]}")]
        yield from (f"{first:02X}{rest}" for first, rest in row)
        row = [(number, steppings)]


def _steppings(signature: Signature) -> str:
    """Steppings as ranges: ``/5-B,D``."""
    if signature.steppings is None:
        return ""
    runs: list[list[int]] = []
    for stepping in sorted(signature.steppings):
        if runs and stepping == runs[-1][1] + 1:
            runs[-1][1] = stepping
        else:
            runs.append([stepping, stepping])
    return "/" + ",".join(f"{a:X}" if a == b else f"{a:X}-{b:X}" for a, b in runs)


def main(arguments: list[str]) -> int:
    """Write the page, or check it; the process's exit code."""
    root = shipped_directory().parent
    if root == Path(__file__).resolve().parents[1]:
        print("the page belongs to a checkout; an installed package has none", file=sys.stderr)
        return 2
    wanted = {root / "docs" / "models.md": page(shipped_models())}
    return keep_current(_COMMAND, wanted, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
