# SPDX-License-Identifier: MIT
"""The atlas: one page that shows every layout, in a browser, without a server or a network.

The page draws from the same numbers and rules: they are written into it as JSON. Its own code walks
XCOMP_BV, tiles an area and judges a header as this package does, and is held to it by the tests.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from hashlib import sha256
from typing import Any, Final

from xsaveschema import svg
from xsaveschema.artefacts.source import MAX_AREA
from xsaveschema.catalog import default_catalog
from xsaveschema.errors import hex_mask
from xsaveschema.export.exporter import banner, comment, template
from xsaveschema.model import (
    EXTENDED_OFFSET,
    FEATURES,
    HEADER_OFFSET,
    MXCSR_OFFSET,
    SOFTWARE_OFFSET,
    XCR0_OFFSET,
    CpuModel,
    Field,
    Piece,
    Register,
    Signature,
    StateComponent,
)
from xsaveschema.restore_rules import RULES
from xsaveschema.spans import MXCSR_END
from xsaveschema.traces import FP_XSTATE_MAGIC1, FP_XSTATE_MAGIC2, FSAVE_SIZE, KVM_XSAVE_SIZE

_RULES: Final = ("xcomp-bv-xcr0", "header-16-23", "header-24-63", "mxcsr", "xcomp-bv-no-xsavec")
"""What the page says besides what a header's masks say of a buffer."""


class _Html:
    target = "html"
    title = "the atlas: one page of layouts, a calculator, a viewer"
    suffix = ".html"

    def render(self, cpus: Sequence[CpuModel]) -> dict[str, str]:
        """xsave.html, which needs nothing else."""
        style, script = template("atlas.css"), template("atlas.js")
        text = template(
            "atlas.html.j2",
            banner=[comment(line) for line in banner(cpus)],
            policy=_policy(script, style),
            style=style,
            script=script,
            data=in_script(atlas(cpus)),
        )
        return {"xsave.html": text}


EXPORTER: Final = _Html()


def in_script(value: Any) -> str:
    """JSON that ends no element, whatever text is in it."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def _policy(script: str, style: str) -> str:
    """What a browser may run and load for the page: this script, this style, and nothing else."""
    said = {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'"}
    for what, text in (("script-src", script), ("style-src", style)):
        said[what] = f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
    return "; ".join(f"{name} {value}" for name, value in said.items())


class _Table:
    """Values that many models share, each once; others name them by their place here."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self._places: dict[Hashable, int] = {}

    def place(self, key: Hashable, row: Callable[[], Any]) -> int:
        if key not in self._places:
            self._places[key] = len(self.rows)
            self.rows.append(row())
        return self._places[key]


def atlas(cpus: Sequence[CpuModel]) -> dict[str, Any]:
    """What the page knows: masks are strings in hexadecimal, offsets and sizes numbers of bytes."""
    catalog = default_catalog()
    titles = catalog.component_titles()
    fields, components, registers = _Table(), _Table(), _Table()

    def component(each: StateComponent) -> dict[str, Any]:
        rules = each.rules
        return {
            "number": each.number,
            "name": each.name,
            "title": titles.get(each.name, ""),
            "size": each.size,
            "offset": each.offset,
            "supervisor": each.supervisor,
            "align64": each.align64,
            "xfd": each.xfd,
            "optional": each.optional,
            "needs": rules.needs,
            "together": rules.together,
            "fields": fields.place(each.fields, lambda: [*map(_field, each.fields)]),
        }

    def model(each: CpuModel) -> dict[str, Any]:
        places = [components.place(c, partial(component, c)) for c in each.components.values()]
        own = [*_registers(each)]
        return {
            "name": each.label,
            "title": each.title,
            "vendor": each.vendor,
            "aliases": each.aliases,
            "signatures": [*map(_signature, each.signatures)],
            "xcr0": hex_mask(each.xcr0),
            "xss": hex_mask(each.xss),
            "mxcsr_mask": hex_mask(each.mxcsr_mask),
            "instructions": [
                *(name for name in FEATURES if name in each.instructions),
                *sorted(each.instructions.difference(FEATURES)),
            ],
            "confirmed": each.confirmed,
            "popularity": each.popularity,
            "components": places,
            "registers": registers.place(repr(own), lambda: own),
        }

    models = [model(each) for each in cpus]
    return {
        "extended": EXTENDED_OFFSET,
        "header": HEADER_OFFSET,
        "software": SOFTWARE_OFFSET,
        "xcr0": XCR0_OFFSET,
        "mxcsr": [MXCSR_OFFSET, MXCSR_END],
        "mxcsr_masks": [hex_mask(mask) for mask in sorted(catalog.mxcsr_masks)],
        "user_components": hex_mask(catalog.user_components),
        "kvm": KVM_XSAVE_SIZE,
        "fsave": FSAVE_SIZE,
        "signal": {
            "magic1": FP_XSTATE_MAGIC1,
            "magic2": FP_XSTATE_MAGIC2,
            "behind": [4, 4 + FSAVE_SIZE],
        },
        "max_area": MAX_AREA,
        "palette": svg.PALETTE,
        "frame": svg.FRAME,
        "rules": {name: RULES[name].says for name in _RULES},
        "fields": fields.rows,
        "components": components.rows,
        "registers": registers.rows,
        "models": models,
    }


def _field(field: Field) -> dict[str, Any]:
    said: dict[str, Any] = {"name": field.name, "offset": field.offset, "size": field.size}
    if field.type == "bytes":
        said["raw"] = True
    if field.count is not None:
        said |= {"count": field.count, "stride": field.stride}
    if field.initial:
        said["initial"] = hex(field.initial)
    if field.title:
        said["title"] = field.title
    if field.bits:
        said["bits"] = [(bits.name, bits.low, bits.width) for bits in field.bits]
    if field.fields:
        said["fields"] = [*map(_field, field.fields)]
    return said


def _signature(signature: Signature) -> dict[str, Any]:
    """As people write it, and as CPUID leaf 1 EAX begins in hexadecimal, the stepping left out."""
    family = min(signature.family, 15)
    extended = signature.family - family
    return {
        "family": signature.family,
        "models": signature.models,
        "steppings": signature.steppings,
        "eax": [
            f"{extended << 16 | model >> 4 << 12 | family << 4 | model & 15:x}"
            for model in signature.models
        ],
    }


def _registers(model: CpuModel) -> Iterator[list[Any]]:
    """[name, its pieces as [component, field's path, first byte, bytes or 0 for all]].

    Those that are numbered by TOP share bytes with ST(i) and are left out.
    """
    for register in model.registers.values():
        if register.top is not None:
            continue
        pieces = [_piece(model, register, piece) for piece in register.pieces]
        if all(pieces):
            yield [register.name, pieces]


def _piece(model: CpuModel, register: Register, piece: Piece) -> list[Any] | None:
    """None where the model has no such field."""
    component = model.components.get(piece.component)
    fields = component.fields if component is not None else ()
    path, element = [], register.index
    for name in piece.field.split("."):
        field = next((field for field in fields if field.name == name), None)
        if field is None:
            return None
        path.append(name if field.count is None else f"{name}[{element}]")
        fields = field.fields
    return [piece.component, ".".join(path), piece.start, piece.size]
