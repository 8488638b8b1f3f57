"""A CPU model from CPUID leaf 0xD itself, where no schema file has it; and this machine's model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from xsaveschema.catalog.catalog import Catalog, default_catalog
from xsaveschema.catalog.models import legacy_components, registers_of
from xsaveschema.errors import XsaveError, hex_mask
from xsaveschema.model import FEATURES, CpuModel, Signature, StateComponent, bits_of

Registers4 = tuple[int, int, int, int]


def leaf_masks(leaf: Mapping[int, Registers4]) -> tuple[int, int]:
    """The XCR0 and IA32_XSS masks that leaf 0xD allows: EDX:EAX of sub-leaf 0, EDX:ECX of 1."""
    if 0 not in leaf:
        raise XsaveError("leaf 0xD without sub-leaf 0 says nothing of XCR0")
    _, _, ecx, edx = leaf.get(1, (0, 0, 0, 0))
    return leaf[0][3] << 32 | leaf[0][0], edx << 32 | ecx


def model_from_leaf(
    leaf: Mapping[int, Registers4],
    *,
    name: str,
    vendor: str = "",
    signature: tuple[int, int, int] | None = None,
    catalog: Catalog | None = None,
) -> CpuModel:
    """The model that a CPU's leaf 0xD describes ({sub-leaf: (EAX, EBX, ECX, EDX)}).

    ``signature`` is display family, model and stepping. Components get the names and fields of
    the catalogue's; one without a file is ``componentN``, opaque. XsaveError for a component in
    the masks whose sub-leaf is missing: its size is unknown, which is not the same as absent.
    """
    library = catalog or default_catalog()
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
    announced = leaf.get(1, (0, 0, 0, 0))[0]
    return CpuModel(
        name=name,
        title=f"{vendor.strip() or 'CPU'} by its CPUID leaf 0xD",
        vendor=vendor,
        signatures=()
        if signature is None
        else (Signature(vendor, signature[0], (signature[1],), (signature[2],)),),
        instructions=frozenset(w for bit, w in enumerate(FEATURES) if announced >> bit & 1),
        components=MappingProxyType(components),
        xcr0=xcr0,
        xss=xss,
        mxcsr_mask=library.mxcsr_mask(vendor),
        confirmed_by=(),
        source="CPUID leaf 0xD",
        file="",
        load_registers=partial(registers_of, library.registers, frozenset(components)),
    )


def host_model(catalog: Catalog | None = None) -> CpuModel:
    """This machine's CPU model: the XCR0 that its system enabled, the IA32_XSS of leaf 0xD.

    XCR0 is read by XGETBV; where the system enabled no XSAVE, it is what leaf 0xD allows. The
    shipped model where one has the layout, else one built from the leaf, named ``host``.
    XsaveError where the machine has no CPUID or no XSAVE.
    """
    from xsaveschema.catalog.identify import identify
    from xsaveschema.cpuid import host, xgetbv

    record = host()
    model = identify(
        leaf_0xd=record.leaf_0xd,
        signature=record.signature,
        vendor=record.vendor,
        catalog=catalog,
    ).model
    try:
        enabled = xgetbv()
    except XsaveError:
        return model
    return model.limited(xcr0=enabled & model.xcr0)
