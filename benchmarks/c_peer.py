"""``convert.c``, compiled on the spot and called through ctypes."""

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
from xsaveschema import Layout

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SOURCE: Final = Path(__file__).with_name("convert.c")


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
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if os.name != "posix" or compiler is None:
        return Skipped("batch", "C", "there is no C compiler (cc, or the environment's CC)")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "convert.so")
        options = ["-std=c99", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC"]
        done = subprocess.run(
            [compiler, *options, str(SOURCE), "-o", str(library)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            return Skipped("batch", "C", f"{compiler} fails: {done.stderr.strip()[:200]}")
        return _function(ctypes.CDLL(str(library)).convert)


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
