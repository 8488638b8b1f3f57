"""x86 XSAVE state: layouts from YAML, Construct structs, parsing, building and conversion.

The names below are the stable API; each is imported when it is first used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xsaveschema.area import XsaveArea as XsaveArea
    from xsaveschema.catalog import Catalog as Catalog
    from xsaveschema.catalog import load_model as load_model
    from xsaveschema.catalog.identify import Candidate as Candidate
    from xsaveschema.catalog.identify import Match as Match
    from xsaveschema.catalog.identify import identify as identify
    from xsaveschema.compare import compare as compare
    from xsaveschema.convert import Conversion as Conversion
    from xsaveschema.convert import relayout as relayout
    from xsaveschema.convert import to_compacted as to_compacted
    from xsaveschema.convert import to_standard as to_standard
    from xsaveschema.diff import diff as diff
    from xsaveschema.errors import Fault as Fault
    from xsaveschema.errors import SchemaError as SchemaError
    from xsaveschema.errors import StateLossError as StateLossError
    from xsaveschema.errors import XsaveError as XsaveError
    from xsaveschema.layout import Layout as Layout
    from xsaveschema.layout import Slot as Slot
    from xsaveschema.model import CpuModel as CpuModel
    from xsaveschema.model import StateComponent as StateComponent
    from xsaveschema.restore import check as check
    from xsaveschema.restore import mend as mend

__version__ = "0.1.0"

_HOMES = {
    "Candidate": "catalog.identify",
    "Catalog": "catalog",
    "Conversion": "convert",
    "CpuModel": "model",
    "Fault": "errors",
    "Layout": "layout",
    "Match": "catalog.identify",
    "SchemaError": "errors",
    "Slot": "layout",
    "StateComponent": "model",
    "StateLossError": "errors",
    "XsaveArea": "area",
    "XsaveError": "errors",
    "check": "restore",
    "compare": "compare",
    "diff": "diff",
    "identify": "catalog.identify",
    "load_model": "catalog",
    "mend": "restore",
    "relayout": "convert",
    "to_compacted": "convert",
    "to_standard": "convert",
}
_MODULES = frozenset({"artefacts", "cpuid", "errors", "qemu", "samples"})
# Those that need an extra are there by name, and not among what ``import *`` or help() reads.
_EXTRAS = frozenset({"arrow", "batch", "dask", "parquet", "stream", "testing"})

__all__ = [*_HOMES, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    elif name in _MODULES or name in _EXTRAS:
        value = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


class _Package(ModuleType):
    """Keeps ``xsaveschema.diff`` the function, also once the module of that name is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
