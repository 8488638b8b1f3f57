"""Conversion in C, compiled on the spot and called by ctypes: ``convert.c``, and our own header."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.measure import Skipped
from benchmarks.peers import Disagreement
from xsaveschema import CpuModel, Layout, export
from xsaveschema.export.exporter import identifier

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SOURCE: Final = Path(__file__).with_name("convert.c")
HEADER_SOURCE: Final = Path(__file__).with_name("convert_header.c")


class Part(ctypes.Structure):
    """struct part of convert.c."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("offset", ctypes.c_uint32),
        ("align64", ctypes.c_uint32),
    )


Convert = Callable[["npt.NDArray[np.uint8]", Layout, "npt.NDArray[np.uint8]"], None]


@cache
def c_conversion() -> Convert | Skipped:
    """The C function as one of (areas, layout of the result, out); why not, without a compiler."""
    library = _compiled("batch", SOURCE)
    return library if isinstance(library, Skipped) else _function(library.convert)


@cache
def header_conversion(model: CpuModel) -> Convert | Skipped:
    """The same by the header that ``export c`` makes for a model, with all of its checks."""
    library = _compiled("c-export", HEADER_SOURCE, model)
    return library if isinstance(library, Skipped) else _header_function(library.convert)


def _compiled(case: str, source: Path, model: CpuModel | None = None) -> ctypes.CDLL | Skipped:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if os.name != "posix" or compiler is None:
        return Skipped(case, "C", "there is no C compiler (cc, or the environment's CC)")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "convert.so")
        options = ["-std=c11", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC"]
        if model is not None:
            Path(folder, "xsave.h").write_text(export.render("c", model)["xsave.h"])
            options += [f"-I{folder}", f"-DLEAF=xsave_{identifier(model.label)}"]
        done = subprocess.run(
            [compiler, *options, str(source), "-o", str(library)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            return Skipped(case, "C", f"{compiler} fails: {done.stderr.strip()[:200]}")
        return ctypes.CDLL(str(library))


def _function(convert: Any) -> Convert:
    size, area = ctypes.c_size_t, ctypes.c_void_p
    convert.restype = None
    convert.argtypes = [area, size, size, ctypes.POINTER(Part), ctypes.c_uint64, area, size]

    def call(areas: npt.NDArray[np.uint8], layout: Layout, out: npt.NDArray[np.uint8]) -> None:
        parts = _parts(layout)
        convert(
            areas.ctypes.data, *areas.shape, parts, layout.xcomp_bv, out.ctypes.data, *out.shape[1:]
        )

    return call


def _parts(layout: Layout) -> ctypes.Array[Part]:
    table = (Part * 63)()
    for component in layout.model.components.values():
        table[component.number] = Part(component.size, component.offset or 0, component.align64)
    return table


def _header_function(convert: Any) -> Convert:
    size, area = ctypes.c_size_t, ctypes.c_void_p
    convert.restype = size
    convert.argtypes = [area, size, size, ctypes.c_uint64, ctypes.c_int, area, size]

    def call(areas: npt.NDArray[np.uint8], layout: Layout, out: npt.NDArray[np.uint8]) -> None:
        form = layout.mask, layout.format == "compacted"
        done = convert(areas.ctypes.data, *areas.shape, *form, out.ctypes.data, *out.shape[1:])
        if done != len(areas):
            raise Disagreement(f"xsave.h refuses area {done}")

    return call
