# SPDX-License-Identifier: MIT
"""A CPU model from CPUID leaf 0xD itself, where no schema file has it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

from xsaveschema.catalog import Catalog, require_catalog
from xsaveschema.errors import WrongTypeError, XsaveError, described, hex_mask
from xsaveschema.language.cpu_models import legacy_components, registers_of
from xsaveschema.layout import overlap, standard
from xsaveschema.model import (
    EXTENDED_OFFSET,
    FEATURES,
    MAX_EXTENT,
    CpuModel,
    Leaf0xD,
    Signature,
    StateComponent,
    bits_of,
)

_LAST: Final = 62  # bit 63 of XCOMP_BV marks the format


def leaf_masks(leaf: Leaf0xD) -> tuple[int, int]:
    """The XCR0 and IA32_XSS masks that leaf 0xD allows: EDX:EAX of sub-leaf 0, EDX:ECX of 1.

    IA32_XSS is there only with XSAVES (SDM vol. 1, 13.3), whatever stands in the latter.
    """
    if 0 not in leaf:
        raise XsaveError("leaf 0xD without sub-leaf 0 says nothing of XCR0")
    announced, _, ecx, edx = leaf.get(1, (0, 0, 0, 0))
    xss = edx << 32 | ecx if announced >> FEATURES.index("xsaves") & 1 else 0
    return leaf[0][3] << 32 | leaf[0][0], xss


def leaf_instructions(leaf: Leaf0xD) -> frozenset[str] | None:
    """What sub-leaf 1 EAX announces: xsaveopt, xsavec, …; None where the sub-leaf is not there."""
    if 1 not in leaf:
        return None
    return frozenset(word for bit, word in enumerate(FEATURES) if leaf[1][0] >> bit & 1)


def check_leaf(leaf: Leaf0xD) -> None:
    """Raise WrongTypeError unless this is {sub-leaf: four 32-bit registers}."""
    if not isinstance(leaf, Mapping):
        raise WrongTypeError(
            f"leaf_0xd: pass {{sub-leaf: (EAX, EBX, ECX, EDX)}}, not {described(leaf)}"
        )
    for number, registers in leaf.items():
        if not (
            isinstance(number, int)
            and isinstance(registers, tuple | list)
            and len(registers) == 4
            and all(isinstance(each, int) and 0 <= each < 1 << 32 for each in registers)
        ):
            raise WrongTypeError(
                "leaf_0xd: pass four registers of 32 bits for each sub-leaf, not "
                f"{registers!r:.60} for {number!r:.20}"
            )


def check_extents(leaf: Leaf0xD) -> None:
    """Raise XsaveError for a sub-leaf of a component that no area could hold."""
    for number, (size, offset, flags, _) in leaf.items():
        if number < 2 or not size:
            continue
        said = f"leaf 0xD sub-leaf {number}"
        if number > _LAST:
            raise XsaveError(f"{said}: state components have the numbers 0 to {_LAST}")
        if size > MAX_EXTENT or offset > MAX_EXTENT:
            what = f"{size} bytes" if size > MAX_EXTENT else f"its offset {offset}"
            raise XsaveError(
                f"{said}: {what} cannot be: at most {MAX_EXTENT} is taken for a component; the "
                "table is damaged, or no CPU's"
            )
        if not flags & 1 and offset < EXTENDED_OFFSET:
            raise XsaveError(
                f"{said}: a user component at {offset}, but the extended region starts at "
                f"{EXTENDED_OFFSET}"
            )


def model_from_leaf(
    leaf: Leaf0xD,
    *,
    name: str,
    vendor: str = "",
    signature: tuple[int, int, int] | None = None,
    catalog: Catalog | None = None,
) -> CpuModel:
    """The model that a CPU's leaf 0xD describes ({sub-leaf: (EAX, EBX, ECX, EDX)}).

    ``signature`` is display family, model and stepping. Components get the names and fields of
    the catalogue's; one without a file is ``componentN``, opaque. XsaveError for a component in
    the masks whose sub-leaf is missing: its size is unknown, which is not the same as absent; and
    for a size or an offset beyond what YAML may say (model.MAX_EXTENT).
    """
    check_leaf(leaf)
    check_extents(leaf)
    library = require_catalog(catalog)
    names = {number: known for known, number in library.component_names().items() if number}
    xcr0, xss = leaf_masks(leaf)
    missing = [n for n in bits_of((xcr0 | xss) & ~3) if not leaf.get(n, (0, 0, 0, 0))[0]]
    if missing:
        said = ", ".join(names.get(n, f"component{n}") for n in missing)
        raise XsaveError(
            f"leaf 0xD allows XCR0 {hex_mask(xcr0)} and IA32_XSS {hex_mask(xss)}, but has no "
            f"sub-leaf for {said}: the layout is unknown"
        )
    components = legacy_components(library.component_fields, library.component_rules)
    for number in sorted(leaf):
        size, offset, flags, _ = leaf[number]
        if number < 2 or not size:
            continue
        known = names.get(number)
        components[known or f"component{number}"] = StateComponent(
            number=number,
            name=known or f"component{number}",
            size=size,
            offset=None if flags & 1 else offset,
            supervisor=bool(flags & 1),
            align64=bool(flags & 2),
            xfd=bool(flags & 4),
            optional=None if (xcr0 | xss) >> number & 1 else "absent",
            load_fields=partial(library.component_fields, known) if known else tuple,
            load_rules=partial(library.component_rules, known or ""),
        )
    model = CpuModel(
        name=name,
        title=f"{vendor.strip() or 'CPU'} by its CPUID leaf 0xD",
        vendor=vendor,
        signatures=()
        if signature is None
        else (Signature(vendor, signature[0], (signature[1],), (signature[2],)),),
        instructions=leaf_instructions(leaf) or frozenset(),
        components=MappingProxyType(components),
        xcr0=xcr0,
        xss=xss,
        mxcsr_mask=library.mxcsr_mask(vendor),
        confirmed_by=(),
        source="CPUID leaf 0xD",
        file="",
        load_registers=partial(registers_of, library.registers, frozenset(components)),
    )
    if clash := overlap(standard(model, xcr0)):
        raise XsaveError(f"leaf 0xD contradicts itself: {clash}")
    return model
