# SPDX-License-Identifier: MIT
"""A model file for a CPU, from its own CPUID leaf 0xD.

:func:`seen_model` is the CPU as its record describes it, :func:`draft` the text of a file: every
component, or a model that it extends (resemblance.py finds one) and what differs. What is written
is read back and checked before anybody gets it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import wrap
from typing import Final

from xsaveschema.authoring.resemblance import differences, owner_of, same_layout
from xsaveschema.catalog import Catalog, require_catalog
from xsaveschema.cpuid import CpuidRecord, signature_parts
from xsaveschema.errors import SchemaError, XsaveError, hex_mask, plain
from xsaveschema.identify.from_leaf import model_from_leaf
from xsaveschema.layout import compacted, standard
from xsaveschema.model import FEATURES, MXCSR_MASK, CpuModel, Signature, StateComponent

NAME: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
"""A model's name: lower-case letters and digits, with hyphens between words."""

_FLAG_BITS: Final = 7  # sub-leaf ECX: supervisor, align64, xfd
_COMMENT: Final = 96
_SCHEMA: Final = "model.schema.json"
_TITLE: Final = b'"xsaveschema model"'
_HEAD: Final = 1024  # bytes of a JSON Schema in which its title stands
_PLAIN: Final = re.compile(r"[A-Za-z](?:[A-Za-z0-9 ,.()/+_-]*[A-Za-z0-9)+_])?")
_TRAPS: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


class DraftError(XsaveError):
    """A CPU for which no model file can be written.

    ``unknown`` are the components that its record does not describe; often none.
    """

    def __init__(self, message: str, unknown: Iterable[str] = ()):
        super().__init__(message)
        self.unknown = tuple(unknown)


@dataclass(frozen=True, slots=True)
class Draft:
    """A model file's text, the model that it describes, and what to tell about it, by sentence."""

    text: str
    model: CpuModel
    notes: tuple[str, ...]


def seen_model(
    record: CpuidRecord, name: str, *, vendor: str = "", catalog: Catalog | None = None
) -> CpuModel:
    """The CPU as its record describes it; ``vendor`` is for a record that does not say.

    DraftError for a record that leaves out a part of the layout: that is unknown, not absent.
    """
    catalog = require_catalog(catalog)
    if 63 in record.components or (record.xcr0 | (record.xss or 0)) >> 63:
        raise DraftError("leaf 0xD has a component 63, but bit 63 of XCOMP_BV marks the format")
    if not record.complete:
        raise _incomplete(record, catalog)
    vendor = record.vendor or vendor
    if not vendor:
        raise DraftError("the dump has no leaf 0, so the vendor is unknown; name it (--vendor)")
    signature = None if record.signature is None else signature_parts(record.signature)
    return model_from_leaf(
        record.leaf_0xd, name=name, vendor=vendor, signature=signature, catalog=catalog
    )


def _incomplete(record: CpuidRecord, catalog: Catalog) -> DraftError:
    names = {number: name for name, number in catalog.component_names().items()}
    unknown = {n: names.get(n, f"component{n}") for n in record.unknown_components}
    missing = [f"component {n} ({name})" for n, name in unknown.items()]
    if record.xss is None:
        missing.append("sub-leaf 1 (the instructions and IA32_XSS)")
    return DraftError(
        f"the record does not describe {', '.join(missing)}: unknown, not absent. Dump every "
        "sub-leaf of leaf 0xD, 0 to 63 (cpuid -r), or run this on the machine itself (host); "
        "identify tells which models fit what is there",
        unknown.values(),
    )


def proposal(seen: CpuModel, same: CpuModel, catalog: Catalog | None = None) -> str:
    """What to write into a model that has the CPU's layout, instead of a file of its own."""
    catalog = require_catalog(catalog)
    said = f"{same.name} has exactly this layout"
    if same is owner_of(seen, catalog.models()):
        said += " and this CPU's signature: there is nothing to add"
        if same.instructions != seen.instructions:
            said += f" (instructions: {_instructions(same)} there, {_instructions(seen)} here)"
        return said
    where = f"{said}: rather than a file, add the signature under signatures: in {same.file}"
    if not seen.signatures:
        return f"{where} (the dump has no leaf 1, which tells it)"
    line = _signature(seen.signatures[0], _steppings(seen, catalog, only=False), same.vendor)
    return f"{where}\n  - {line}"


def draft(
    record: CpuidRecord,
    seen: CpuModel,
    base: CpuModel | None,
    *,
    provenance: str,
    title: str = "",
    stepping: bool = False,
    schema: str = "",
    catalog: Catalog | None = None,
    paths: Iterable[str | os.PathLike[str]] = (),
) -> Draft:
    """The model file of a CPU: with every component, or with what differs from ``base``.

    ``provenance`` names the dump, ``title`` the CPU; ``stepping`` limits the signature to the
    stepping that was seen. ``schema`` is where an editor finds the JSON Schema; ``paths`` are the
    catalogue's own. DraftError where the record describes what no CPU can have.
    """
    catalog = require_catalog(catalog)
    writer = _Writer(record, seen, base, catalog)
    text = "".join(f"{line}\n" for line in writer.lines(provenance, title, stepping, schema))
    model = _read_back(text, seen.name, paths, replaces=seen.name in catalog)
    return Draft(text, model, tuple(writer.notes))


def _read_back(
    text: str, name: str, paths: Iterable[str | os.PathLike[str]], *, replaces: bool
) -> CpuModel:
    """The model of a text, checked as any user's file; with all others, where others extend it."""
    with TemporaryDirectory(prefix="xsaveschema-") as folder:
        file = Path(folder, f"{name}.yaml")
        file.write_text(text, encoding="utf-8")
        try:
            catalog = Catalog([*paths, file])
            if replaces:
                catalog.models()
            return catalog.model(name)
        except SchemaError as error:
            own = [fault for fault in error.faults if Path(fault.file) == file]
            if not own:  # it replaces a model that others extend
                said = f"with this {name}, other models have faults; take another name\n{error}"
                raise DraftError(said) from None
            said = "; ".join(f"{fault.path}: {fault.message}" for fault in own)
            raise DraftError(f"leaf 0xD describes what no model can have: {said}") from None


def schema_reference(file: str | os.PathLike[str] | None) -> str:
    """What the ``yaml-language-server`` line of a model file refers to; empty: it has none.

    The JSON Schema that stands beside the file, or in a folder above it as in the package's own,
    by a relative path: what is right on this machine alone would break wherever the file goes.
    """
    if file is None:
        return ""
    folder = Path(os.path.realpath(file)).parent
    for above in (folder, *folder.parents):
        schema = above / _SCHEMA
        try:
            with schema.open("rb") as found:
                ours = _TITLE in found.read(_HEAD)
        except OSError:
            continue
        if ours:
            return os.path.relpath(schema, folder).replace(os.sep, "/")
    return ""


def _steppings(seen: CpuModel, catalog: Catalog, *, only: bool) -> tuple[int, ...] | None:
    """The steppings to give: none, or the one that was seen where other models have the rest."""
    (own,) = seen.signatures
    others = (s for m in catalog.models() if m.name != seen.name for s in m.signatures)
    shared = any(
        (s.vendor, s.family) == (own.vendor, own.family) and own.models[0] in s.models
        for s in others
    )
    return own.steppings if only or shared else None


def _signature(signature: Signature, steppings: tuple[int, ...] | None, vendor: str) -> str:
    parts = [] if signature.vendor == vendor else [f"vendor: {_text(signature.vendor)}"]
    parts += [f"family: {_hex(signature.family)}", f"models: [{_hex(signature.models[0])}]"]
    if steppings is not None:
        parts.append(f"steppings: [{', '.join(map(str, steppings))}]")
    return "{" + ", ".join(parts) + "}"


def _hex(value: int) -> str:
    return f"0x{value:02X}"


def _text(text: str) -> str:
    """Text as YAML: plain where that cannot be misread."""
    text = plain(text)
    if _PLAIN.fullmatch(text) and text.lower() not in _TRAPS:
        return text
    return json.dumps(text, ensure_ascii=False)


def _instructions(model: CpuModel) -> str:
    return f"[{', '.join(word for word in FEATURES if word in model.instructions)}]"


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in wrap(text, _COMMENT, break_on_hyphens=False)]


class _Writer:
    """Writes one file, top to bottom; ``notes`` gathers what the user should know."""

    def __init__(
        self, record: CpuidRecord, seen: CpuModel, base: CpuModel | None, catalog: Catalog
    ):
        self.record = record
        self.seen = seen
        self.base = base
        self.catalog = catalog
        self.notes: list[str] = []

    def lines(self, provenance: str, title: str, stepping: bool, schema: str) -> Iterator[str]:
        seen, base = self.seen, self.base
        if schema:
            yield f"# yaml-language-server: $schema={schema}"
        if self.record.hypervisor:
            yield from _comment(
                "Seen in a guest: its hypervisor may hide components. Compare with the CPU itself "
                "before you rely on this."
            )
        yield from self._doubts()
        yield f"model: {_text(seen.name)}"
        yield f"title: {_text(title or self._title())}" + (
            "" if title else "  # say what people call it"
        )
        if base is not None:
            yield f"extends: {_text(base.name)}"
        if base is None or base.vendor != seen.vendor:
            yield f"vendor: {_text(seen.vendor)}"
        yield from self._signatures(stepping)
        if base is None or base.instructions != seen.instructions:
            yield f"instructions: {_instructions(seen)}"
        yield from self._components()
        yield self._sizes()
        if base is None and seen.mxcsr_mask != MXCSR_MASK:
            mask = hex_mask(seen.mxcsr_mask)
            yield f"mxcsr_mask: {mask}  # as on every {seen.vendor} CPU with XSAVE"
        if self.record.hypervisor:
            yield from ("confirmed: false", f"source: {_text(f'a guest: {provenance}')}")
        else:
            yield from ("confirmed_by:", f"  - {_text(provenance)}")

    def _title(self) -> str:
        who = self.seen.vendor.strip()
        if not self.seen.signatures:
            return f"{who} CPU"
        (signature,) = self.seen.signatures
        return f"{who} family {signature.family:02X}h model {signature.models[0]:02X}h"

    def _doubts(self) -> Iterator[str]:
        """Bits of leaf 0xD that say something that the language cannot."""
        for number, (_, ebx, ecx, _) in self.record.components.items():
            said = []
            if unknown := ecx & ~_FLAG_BITS:
                said.append(f"ECX bits {hex_mask(unknown)} have no known meaning.")
            if ecx & 1 and ebx:
                said.append(f"a supervisor component with an offset, EBX {ebx}.")
            for doubt in said:
                self.notes.append(f"Component {number}: {doubt}")
                yield from _comment(f"Component {number}: {doubt}")

    def _signatures(self, only: bool) -> list[str]:
        seen = self.seen
        if not seen.signatures:
            self.notes.append("the file has no signatures: the dump has no leaf 1")
            return _comment("No signatures: the dump has no leaf 1, which tells family and model.")
        (signature,) = seen.signatures
        (stepping,) = signature.steppings or (0,)
        owner = owner_of(seen, (m for m in self.catalog.models() if m.name != seen.name))
        if owner is not None:
            said = (
                f"family {_hex(signature.family)}, model {_hex(signature.models[0])}, stepping "
                f"{stepping} is {owner.name}'s, and a signature belongs to one model"
            )
            self.notes.append(f"the file has no signatures: {said}")
            return [*_comment(f"No signatures: {said}."), *self._against(owner)]
        steppings = _steppings(seen, self.catalog, only=only)
        comment = f"leaf 1 EAX 0x{self.record.signature or 0:08X}"
        if steppings is None:
            comment += f", stepping {stepping}"
        elif not only:
            comment += "; other steppings are another model's"
        return ["signatures:", f"  - {_signature(signature, steppings, seen.vendor)}  # {comment}"]

    def _against(self, owner: CpuModel) -> list[str]:
        """What to do where the model that has the signature has another layout."""
        if same_layout(self.seen, owner):
            return []
        changes = differences(self.seen, owner)
        said = f"the layout of {owner.name} differs in {', '.join(changes)}"
        if self.record.hypervisor and not any(changes.values()):
            said += "; limited to these masks it is the same, and a guest needs no file of its own"
        else:
            said += ", which may be optional there"
        self.notes.append(said)
        return _comment(f"{said[0].upper()}{said[1:]}.")

    def _components(self) -> list[str]:
        entries: dict[str, StateComponent | None]
        if self.base is None:
            entries = {n: c for n, c in self.seen.components.items() if not c.legacy}
        else:
            entries = differences(self.seen, self.base)
        if not entries:
            return ["components: {}  # x87 and sse only"] if self.base is None else []
        width = max(map(len, entries)) + 1
        sizes = max((len(str(c.size)) for c in entries.values() if c), default=0) + 1
        return ["components:"] + [
            f"  {name + ':':{width}} {self._entry(name, component, sizes)}"
            for name, component in entries.items()
        ]

    def _entry(self, name: str, component: StateComponent | None, width: int) -> str:
        if component is None:
            return "null  # this CPU lacks it"
        opaque = name not in self.catalog.component_names()
        parts = [f"number: {component.number}"] if opaque else []
        parts.append(f"size: {f'{component.size},':{width}}")
        parts[-1] += " supervisor: true" if component.supervisor else f" offset: {component.offset}"
        parts += ["align64: true"] if component.align64 else []
        parts += ["xfd: true"] if component.xfd else []
        parts += [f"optional: {component.optional}"] if component.optional else []
        comments = ["no component file: opaque bytes"] if opaque else []
        if component.optional == "absent":
            mask = "IA32_XSS" if component.supervisor else "XCR0"
            comments.append(f"described, but {mask} cannot enable it")
        return "{" + ", ".join(parts) + "}" + (f"  # {'; '.join(comments)}" if comments else "")

    def _sizes(self) -> str:
        seen = self.seen
        end = standard(seen, seen.xcr0).size
        comment = f"XCR0 {hex_mask(seen.xcr0)}, IA32_XSS {hex_mask(seen.xss)}"
        if end != (told := self.record.leaf_0xd[0][2]):
            comment += f"; CPUID D.0.ECX says {told}"
        sizes = f"standard: {end}"
        if "xsavec" in seen.instructions:
            packed = compacted(seen, seen.xcr0 | seen.xss).size
            sizes += f", compacted: {packed}"
            if packed < (told := self.record.leaf_0xd[1][1]):
                self.notes.append(f"D.1.EBX says {told} bytes, but all components have {packed}")
                comment += f"; CPUID D.1.EBX says {told}"
        return f"sizes: {{{sizes}}}  # {comment}"
