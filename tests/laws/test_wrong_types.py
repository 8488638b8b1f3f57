"""A wrong type is an XsaveError that says what to pass, wherever a public function takes one.

Which functions take a model, a layout, areas, a mask, a catalogue or names to drop is found by
their signatures: one that is added is held to it, too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import xsaveschema as xs

arrow = pytest.importorskip("xsaveschema.many.arrow", reason="the extra arrow is not installed")


def public_modules() -> Iterator[ModuleType]:
    yield xs
    for name in dir(xs):
        if isinstance(getattr(xs, name), ModuleType):
            yield getattr(xs, name)


def public_names(module: ModuleType) -> Iterator[str]:
    """What a module offers: what it lists, or else what it defines."""
    names = getattr(module, "__all__", None)
    for name, value in vars(module).items() if names is None else ():
        if getattr(value, "__module__", "") == module.__name__ and not name.startswith("_"):
            yield name
    yield from names or ()


PUBLIC: dict[str, Any] = {
    f"{module.__name__}.{name}".removeprefix("xsaveschema.").removeprefix("many."): getattr(
        module, name
    )
    for module in public_modules()
    for name in public_names(module)
}
MODEL = xs.load_model("zen4")
AREA = bytes(xs.XsaveArea.new(MODEL))
ROWS = np.frombuffer(AREA, np.uint8).reshape(1, -1)
# What only the library makes: results, and what a model or an artefact is read into.
MADE = {
    "Baseline", "Comparison", "Conversion", "CpuModel", "Layout", "Match", "Slot", "StateComponent",
    "artefacts.Found", "artefacts.Struct", "batch.Batch", "stream.Done",
}  # fmt: skip
# What reads and writes for the views of an area, and for readers of artefacts.
INNER = {"XsaveArea.read", "XsaveArea.write", "artefacts.Writer.replace"}
MASKS = {"xcr0", "xss", "xcomp_bv", "rfbm", "xfd", "mxcsr_mask", "mask"}

RIGHT: dict[str, Any] = {
    "model": MODEL,
    "source": MODEL,
    "target": MODEL,
    "a": AREA,
    "b": AREA,
    "area": xs.XsaveArea.new(MODEL),
    "areas": ROWS,
    "frame": AREA,
    "data": AREA,
    "layout": MODEL.standard_layout(),
    "out": None,
    "path": "sample:zen4-kernel-core",
    "stream": BytesIO(AREA),
    "stride": len(AREA),
    "number": 2,
}
"""What is passed for the arguments that have no default."""


def _convert(*args: Any, **options: Any) -> Any:
    return arrow.Convert(*args, **options)(_table())


def _decode(*args: Any, **options: Any) -> Any:
    return arrow.Decode(*args, **options)(_table())


def _task(*args: Any, **options: Any) -> Any:
    return xs.stream.Task(*args, **options).layout


def _table() -> Any:
    import pyarrow as pa

    return pa.table({"area": arrow.array_of(ROWS)})


ALSO: dict[str, dict[str, Any]] = {
    "relayout": {"source": MODEL},
    "identify": {"data": AREA},
    "diff": {"model_a": MODEL},
    "compare": {"a": MODEL, "b": MODEL},
    "permission": {"of": MODEL},
    "load_model": {"name": "zen4"},
    "stream.Task": {"format": "standard"},
    "export.render": {"target": "vectors", "cpus": "zen4"},
}
"""What else is passed, so that it is the argument that is judged which is wrong."""
CALLED: dict[str, Callable[..., Any]] = {
    "arrow.Convert": _convert,
    "arrow.Decode": _decode,
    "stream.Task": _task,
}
"""What judges its arguments as a whole when it is used."""


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, each in PUBLIC.items():
        if inspect.isclass(each) and each.__module__.startswith("xsaveschema."):
            if name not in MADE and not issubclass(each, Exception):
                yield name, each
            for method, _ in inspect.getmembers(each, inspect.isroutine):
                bound = getattr(MODEL if each is xs.CpuModel else each, method)
                if inspect.ismethod(bound) and not method.startswith("_"):
                    yield f"{name}.{method}", bound
        elif inspect.isfunction(each):
            yield name, each


def kind_of(name: str, argument: inspect.Parameter) -> str | None:
    hint = str(argument.annotation).removesuffix(" | None")
    if argument.name in MASKS and hint == "int":
        return "mask"
    kinds = {"CpuModel": "model", "Layout": "layout", "Catalog": "catalog", "Drop": "drop"}
    kinds |= {"XsaveArea | Buffer": "area", "Buffer | XsaveArea": "area", "Buffer": "area"}
    if argument.name in ("areas", "drop"):
        return argument.name
    return kinds.get(hint)


TAKES: dict[str, list[tuple[str, Callable[[Any], Any]]]] = {}
for name, function in functions():
    if name in INNER or name.startswith(("qemu.", "errors.")):
        continue
    arguments = inspect.signature(function).parameters
    right = {
        each.name: MODEL if str(each.annotation) == "CpuModel" else RIGHT[each.name]
        for each in arguments.values()
        if each.default is each.empty and each.name in RIGHT
    }
    for each in arguments.values():
        if kind := kind_of(name, each):
            options = {**right, **ALSO.get(name, {})}
            if each.name == "xcomp_bv" and "format" in arguments:
                options["format"] = "compacted"
            call = CALLED.get(name, function)
            TAKES.setdefault(kind, []).append(
                (
                    f"{name} {each.name}",
                    partial(
                        lambda call, options, key, value: call(**{**options, key: value}),
                        call, options, each.name,
                    ),
                )
            )  # fmt: skip

SAYS = {
    "model": (["zen4", 7, b"zen4", AREA], 'pass a CpuModel, as load_model("zen4") gives one, not '),
    "layout": (["standard", 7, MODEL], "pass a Layout, as model.standard_layout() gives one, not "),
    "catalog": (
        ["schemas", 7, ["x.yaml"]],
        "catalog: pass a Catalog, as Catalog(paths) makes one, not ",
    ),
    "area": (["text", 7, MODEL], "pass bytes, or another buffer of them"),
    "areas": (["text", 7, None, MODEL, AREA, xs.XsaveArea.new(MODEL)], "areas"),
    "mask": (["7", 7.0, [7], -1, 1 << 64], "a mask "),
    "drop": ([5.0, object(), ["no-such"], [99]], "drop: "),
}
CASES = [
    pytest.param(kind, call, value, id=f"{name} {value!r:.12}")
    for kind, calls in TAKES.items()
    for name, call in calls
    for value in SAYS[kind][0]
]


@pytest.mark.parametrize(("kind", "call", "value"), CASES)
def test_what_to_pass(kind: str, call: Callable[[Any], Any], value: Any) -> None:
    with pytest.raises(xs.XsaveError) as caught:
        call(value)
    assert SAYS[kind][1] in str(caught.value)


def test_the_table_is_filled() -> None:
    names = {kind: [name for name, _ in calls] for kind, calls in TAKES.items()}
    assert names.keys() == SAYS.keys()
    assert {"XsaveArea.parse model", "to_standard model", "relayout target"} <= {*names["model"]}
    assert {"batch.view layout", "CpuModel.construct layout"} <= {*names["layout"]}
    assert len(names["model"]) > 30
