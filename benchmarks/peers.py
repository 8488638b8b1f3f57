"""Other ways to read every stored field of an area, made from the model's layout at run time.

Each turns the same bytes into Python values, all fields of them: what reads lazily is asked for
every field. ``verify`` holds a peer's values against the library's before anything is timed.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from struct import Struct
from typing import Any

from benchmarks.measure import Skipped
from benchmarks.work import Member, members, without_holes
from xsaveschema import Layout, XsaveArea
from xsaveschema.structs import component_struct, header_struct, legacy_struct

Values = dict[str, int | bytes]


class Disagreement(Exception):  # noqa: N818 - that is what it is
    """A peer does not give the library's values: what it takes means nothing."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A way to read an area. ``read`` is what is timed; ``values`` names what it gave."""

    name: str
    read: Callable[[bytes], Any]
    values: Callable[[Any], Values]


def expected(layout: Layout, data: bytes) -> Values:
    """What the library reads: the values that every peer must give."""
    return XsaveArea.parse(data, layout.model).values()


def verify(peer: Peer, data: bytes, expected: Values) -> None:
    """Disagreement unless the peer reads from an area just the values expected."""
    got = peer.values(peer.read(data))
    wrong = [name for name in {**expected, **got} if got.get(name) != expected.get(name)]
    if wrong:
        name = wrong[0]
        raise Disagreement(f"{peer.name}: {name} is {got.get(name)!r}, not {expected.get(name)!r}")


def peers(layout: Layout) -> Iterator[Peer | Skipped]:
    """Every peer that is installed, the plain struct.Struct first."""
    yield plain_struct(layout)
    yield slots_class(layout)
    yield ctypes_structure(layout)
    yield compiled_construct(layout)
    yield interpreted_construct(layout)
    yield kaitai(layout) if find_spec("kaitaistruct") else _missing("Kaitai Struct", "kaitaistruct")
    if find_spec("dissect") and find_spec("dissect.cstruct"):
        yield dissect_cstruct(layout)
    else:
        yield _missing("dissect.cstruct", "dissect.cstruct")


def _missing(name: str, package: str) -> Skipped:
    return Skipped("values", name, f"{package} is not installed (the extra bench)")


# --- struct.Struct, and what can be made of it ---------------------------------------------------


def struct_of(layout: Layout) -> Struct:
    """One struct.Struct of all fields; what is wider than 64 bits stays bytes."""
    codes = {1: "B", 2: "H", 4: "I", 8: "Q"}
    parts = ["<"]
    for member in without_holes(layout):
        if member.gap:
            parts.append(f"{member.size}x")
        else:
            parts.append(codes[member.size] if member.number else f"{member.size}s")
    return Struct("".join(parts))


def plain_struct(layout: Layout) -> Peer:
    """One struct.Struct unpacked into a dict: what a fast Python reader can hardly go below."""
    names = [member.name for member in members(layout)]
    unpack = struct_of(layout).unpack_from
    return Peer("struct.Struct", lambda data: dict(zip(names, unpack(data), strict=False)), dict)


def slots_class(layout: Layout) -> Peer:
    """A class with a slot for every field, its code generated."""
    names = [member.identifier for member in members(layout)]
    targets = ", ".join(f"self.{name}" for name in names)
    source = f"""
class Area:
    __slots__ = {names!r}

    def __init__(self, data):
        {targets} = unpack(data)
"""
    made: dict[str, Any] = {"unpack": struct_of(layout).unpack_from}
    exec(source, made)  # the source is the lines above
    return Peer("generated slots class", made["Area"], _attributes(layout))


def _attributes(layout: Layout) -> Callable[[Any], Values]:
    """Takes the fields off an object that has each as an attribute."""
    names = [(member.name, member.identifier) for member in members(layout)]
    return lambda found: {name: getattr(found, identifier) for name, identifier in names}


# --- ctypes --------------------------------------------------------------------------------------


def ctypes_structure(layout: Layout) -> Peer:
    """A packed ctypes structure, every field of it read."""
    fields = [(member.identifier, _ctype(member)) for member in without_holes(layout)]
    area: Any = type("Area", (ctypes.LittleEndianStructure,), {"_pack_": 1, "_fields_": fields})
    numbers = [(m.name, m.identifier) for m in members(layout) if m.number]
    others = [(m.name, m.identifier) for m in members(layout) if not m.number]

    def read(data: bytes) -> Values:
        found = area.from_buffer_copy(data)
        values: Values = {name: getattr(found, identifier) for name, identifier in numbers}
        values.update((name, bytes(getattr(found, identifier))) for name, identifier in others)
        return values

    return Peer("ctypes", read, dict)


def _ctype(member: Member) -> type[Any]:
    numbers = {1: ctypes.c_uint8, 2: ctypes.c_uint16, 4: ctypes.c_uint32, 8: ctypes.c_uint64}
    return numbers[member.size] if member.number else ctypes.c_ubyte * member.size


# --- Construct -----------------------------------------------------------------------------------


def interpreted_construct(layout: Layout) -> Peer:
    """The library's own struct, as others embed it."""
    return Peer("interpreted Construct", layout.model.construct(layout).parse, _contained(layout))


def compiled_construct(layout: Layout) -> Peer:
    """The same members compiled. Not for input from outside: it takes short buffers silently."""
    import construct

    parts = {"legacy": legacy_struct(layout.model), "header": header_struct()}
    gaps = dict(layout.gaps)
    for slot in layout:
        if slot.component.legacy:
            continue
        for at in [at for at in gaps if at < slot.offset]:
            parts[f"gap_{at}"] = construct.Bytes(gaps.pop(at))
        parts[slot.name] = component_struct(slot.component)
    struct = construct.Struct(*(name / part for name, part in parts.items())).compile()
    name = "compiled Construct (unsafe for input from outside)"
    return Peer(name, struct.parse, _contained(layout))


def _contained(layout: Layout) -> Callable[[Any], Values]:
    """Takes the fields off nested containers, wide numbers as the bytes that stand in memory."""
    fields = [(member, _path(member.name)) for member in members(layout)]

    def values(found: Any) -> Values:
        return {member.name: _stored(member, _at(found, path)) for member, path in fields}

    return values


def _path(name: str) -> list[str | int]:
    """``bndregs.bnd[2].lower`` in steps; x87 and sse are side by side in the legacy region."""
    component, _, rest = name.partition(".")
    steps = [int(step) if step.isdigit() else step for step in re.findall(r"\w+", rest)]
    return ["legacy" if component in ("x87", "sse") else component, *steps]


def _at(found: Any, path: list[str | int]) -> Any:
    for step in path:
        found = found[step]
    return found


def _stored(member: Member, value: Any) -> int | bytes:
    if isinstance(value, Mapping):  # an element with reserved bytes behind it
        value = value["value"]
    if member.number or isinstance(value, bytes):
        return value  # type: ignore[no-any-return]  # Construct has no types
    return int(value).to_bytes(member.size, "little")


# --- Kaitai Struct and dissect.cstruct -----------------------------------------------------------


def kaitai(layout: Layout) -> Peer | Skipped:
    """What Kaitai's compiler made of :mod:`benchmarks.kaitai`'s description."""
    name = layout.model.name.replace("-", "_")
    if not find_spec(f"benchmarks.kaitai_{name}"):
        return Skipped("values", "Kaitai Struct", f"no parser was generated for {name}")
    module = import_module(f"benchmarks.kaitai_{name}")
    area = getattr(module, f"Kaitai{name.title().replace('_', '')}")
    return Peer("Kaitai Struct", area.from_bytes, _attributes(layout))


def dissect_cstruct(layout: Layout) -> Peer:
    """A C structure in dissect.cstruct's text, which it compiles to Python."""
    lines = "".join(f"    {_c_member(member)};\n" for member in without_holes(layout))
    types = import_module("dissect.cstruct").cstruct()
    types.load(f"struct area {{\n{lines}}};")
    return Peer("dissect.cstruct", types.area, _attributes(layout))


def _c_member(member: Member) -> str:
    if member.number:
        return f"uint{8 * member.size} {member.identifier}"
    return f"char {member.identifier}[{member.size}]"
