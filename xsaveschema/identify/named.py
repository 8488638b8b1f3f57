"""The one way to name a CPU: by a model's name, or ``host``."""

from __future__ import annotations

from dataclasses import replace

from xsaveschema.catalog import Catalog, default_catalog
from xsaveschema.cpuid import host, xgetbv
from xsaveschema.errors import XsaveError
from xsaveschema.identify.match import identify
from xsaveschema.model import CpuModel

HOST = "host"


def load_model(name: str, catalog: Catalog | None = None) -> CpuModel:
    """The CPU model of this name; ``host`` is this machine's, by its CPUID leaf 0xD.

    ``catalog`` None is the default one, and wins where it has a model named ``host``. Raises
    ModelNotFoundError with near names, and SchemaError for a model whose file has faults.
    """
    catalog = catalog or default_catalog()
    if name == HOST and name not in catalog:
        return host_model(catalog)
    return catalog.model(name)


def host_model(catalog: Catalog | None = None) -> CpuModel:
    """This machine's CPU model: the XCR0 that its system enabled, the IA32_XSS of leaf 0xD.

    XCR0 is read by XGETBV; where the system enabled no XSAVE, it is what leaf 0xD allows. The
    shipped model where one has the layout, else one built from the leaf, named ``host``.
    XsaveError where the machine has no CPUID or no XSAVE.
    """

    record = host()
    model = identify(
        leaf_0xd=record.leaf_0xd,
        signature=record.signature,
        vendor=record.vendor,
        catalog=catalog,
    ).model
    model = replace(model, host=True)
    try:
        enabled = xgetbv()
    except XsaveError:
        return model
    return model.limited(xcr0=enabled & model.xcr0)
