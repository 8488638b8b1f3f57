# SPDX-License-Identifier: MIT
"""x86 XSAVE state: layouts from YAML, Construct structs, parsing, building and conversion.

The names below are the stable API; each is imported when it is first used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xsaveschema import artefacts as artefacts
    from xsaveschema import cpuid as cpuid
    from xsaveschema import errors as errors
    from xsaveschema import export as export
    from xsaveschema import qemu as qemu
    from xsaveschema import samples as samples
    from xsaveschema import testing as testing
    from xsaveschema.area import XsaveArea as XsaveArea
    from xsaveschema.baseline import Baseline as Baseline
    from xsaveschema.baseline import baseline as baseline
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
    from xsaveschema.many import arrow as arrow
    from xsaveschema.many import batch as batch
    from xsaveschema.many import dask as dask
    from xsaveschema.many import parquet as parquet
    from xsaveschema.many import stream as stream
    from xsaveschema.model import CpuModel as CpuModel
    from xsaveschema.model import Field as Field
    from xsaveschema.model import StateComponent as StateComponent
    from xsaveschema.normalise import normalise as normalise
    from xsaveschema.permission import permission as permission
    from xsaveschema.restore import check as check
    from xsaveschema.restore import mend as mend
    from xsaveschema.sigstack import sigstack as sigstack
    from xsaveschema.spans import Slot as Slot
    from xsaveschema.spans import Span as Span

__version__ = "0.1.0"

_HOMES = {
    "Baseline": "baseline",
    "Candidate": "identify",
    "Catalog": "catalog",
    "Conversion": "convert",
    "CpuModel": "model",
    "Fault": "errors",
    "Field": "model",
    "Layout": "layout",
    "Match": "identify",
    "SchemaError": "errors",
    "Slot": "spans",
    "Span": "spans",
    "StateComponent": "model",
    "StateLossError": "errors",
    "XsaveArea": "area",
    "XsaveError": "errors",
    "baseline": "baseline",
    "check": "restore",
    "compare": "compare",
    "diff": "diff",
    "identify": "identify",
    "load_model": "identify",
    "mend": "restore",
    "normalise": "normalise",
    "permission": "permission",
    "relayout": "convert",
    "sigstack": "sigstack",
    "to_compacted": "convert",
    "to_standard": "convert",
}
_MODULES = frozenset({"artefacts", "cpuid", "errors", "export", "qemu", "samples"})
# Those that need an extra are no part of what ``import *`` reads.
_EXTRAS = {
    "arrow": ("many.arrow", "pyarrow"),
    "batch": ("many.batch", "numpy"),
    "dask": ("many.dask", "pyarrow"),
    "parquet": ("many.parquet", "pyarrow"),
    "stream": ("many.stream", "numpy"),
    "testing": ("testing", "hypothesis"),
}
"""Each with its module, and what that imports."""

__all__ = [*_HOMES, *_MODULES]


if not TYPE_CHECKING:  # which knows the names above, and takes no other

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        elif name in _MODULES or name in _EXTRAS:
            home, _ = _EXTRAS.get(name, (name, ""))
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
    """What is public; of the modules that need an extra, those whose extra is installed."""
    there = (name for name, (_, needs) in _EXTRAS.items() if find_spec(needs))
    return sorted({*__all__, *there})
