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
    from xsaveschema.identify.match import Candidate as Candidate
    from xsaveschema.identify.match import Match as Match
    from xsaveschema.identify.match import identify as identify
    from xsaveschema.identify.named import load_model as load_model
    from xsaveschema.layout import Layout as Layout
    from xsaveschema.model import CpuModel as CpuModel
    from xsaveschema.model import StateComponent as StateComponent
    from xsaveschema.restore import check as check
    from xsaveschema.restore import mend as mend
    from xsaveschema.spans import Slot as Slot

__version__ = "0.1.0"

_HOMES = {
    "Candidate": "identify",
    "Catalog": "catalog",
    "Conversion": "convert",
    "CpuModel": "model",
    "Fault": "errors",
    "Layout": "layout",
    "Match": "identify",
    "SchemaError": "errors",
    "Slot": "spans",
    "StateComponent": "model",
    "StateLossError": "errors",
    "XsaveArea": "area",
    "XsaveError": "errors",
    "check": "restore",
    "compare": "compare",
    "diff": "diff",
    "identify": "identify",
    "load_model": "identify",
    "mend": "restore",
    "relayout": "convert",
    "to_compacted": "convert",
    "to_standard": "convert",
}
_MODULES = {name: name for name in ("artefacts", "cpuid", "errors", "qemu", "samples")}
# Those that need an extra are there by name, and not among what ``import *`` or help() reads.
_EXTRAS = {name: f"many.{name}" for name in ("arrow", "batch", "dask", "parquet", "stream")}
_EXTRAS["testing"] = "testing"

__all__ = [*_HOMES, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    elif home := _MODULES.get(name) or _EXTRAS.get(name):
        value = import_module(f"{__name__}.{home}")
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
