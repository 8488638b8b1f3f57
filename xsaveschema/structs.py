# SPDX-License-Identifier: MIT
"""Construct structs of XSAVE areas: what stands in memory, byte for byte, both ways.

These are the description for other tools to embed, and the oracle of the tests. They know no
meaning: initial components parse to whatever bytes stand there (``XsaveArea`` gives meaning).
Every byte is in some member: fields, ``reserved_N`` (N: the offset within the component, or the
group), ``gap_N`` between components (N: the offset in the area), and ``trailing`` behind the area.

The structs are interpreted, never ``.compile()``d: compiled Construct 2.10 accepts short buffers
silently. This is the only module that imports construct.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Any, NoReturn

from construct import (
    Array,
    Bytes,
    BytesInteger,
    Construct,
    ConstructError,
    Default,
    GreedyBytes,
    Int8ul,
    Int16ul,
    Int32ul,
    Int64ul,
    StreamError,
    Struct,
    Subconstruct,
)
from construct.core import stream_read, stream_seek, stream_tell

from xsaveschema.errors import StructError, XsaveError
from xsaveschema.header import buffer_layout
from xsaveschema.kept import kept
from xsaveschema.layout import Layout, require_layout
from xsaveschema.members import Member, members_of
from xsaveschema.model import (
    EXTENDED_OFFSET,
    HEADER_OFFSET,
    SOFTWARE_OFFSET,
    CpuModel,
    Field,
    StateComponent,
)

_NUMBERS = {1: Int8ul, 2: Int16ul, 4: Int32ul, 8: Int64ul}


def area_struct(
    model: CpuModel, layout: Layout | None = None, *, trailing: bool = True
) -> Construct:
    """A struct of a whole area: members ``legacy``, ``header``, components and gaps, ``trailing``.

    With a ``layout`` the struct is fixed to it; components of a standard layout that lie beyond
    the end of a shorter buffer parse as None. Without one it reads XSTATE_BV and XCOMP_BV first
    and takes the layout that they tell. ``trailing`` keeps what stands behind the area; without
    it (and with a layout) the struct can be embedded in a larger one. Errors while parsing and
    building are StructError, with the path of the member.
    """
    if layout is None:
        return _Translated(_Automatic(model, trailing))
    require_layout(layout)
    return _Translated(_layout_struct(layout, trailing))


def legacy_struct(model: CpuModel) -> Construct:
    """The legacy region, bytes 0..511: the fields of x87 and sse side by side (SDM 10.5.1)."""
    fields = [*model.components["x87"].fields, *model.components["sse"].fields]
    return Struct(
        *_members(fields, SOFTWARE_OFFSET),
        f"reserved_{SOFTWARE_OFFSET}" / _bytes(48),
        "software" / _bytes(48),
    )


def header_struct(xcomp_bv: int = 0) -> Construct:
    """The XSAVE header, 64 bytes (SDM 13.4.2); ``xcomp_bv`` is what building defaults to."""
    return Struct(
        "xstate_bv" / Default(Int64ul, 0),
        "xcomp_bv" / Default(Int64ul, xcomp_bv),
        "reserved" / _bytes(48),
    )


def component_struct(component: StateComponent) -> Construct:
    """One extended state component: its fields, as many as fit its size on this CPU."""
    return Struct(*_members(component.fields, component.size))


def _members(fields: Iterable[Field], size: int) -> list[Construct]:
    """Fields in order of offset with the bytes between them, up to ``size``."""
    return [member.name / _element(member) for member in members_of(fields, size)]


def _bytes(size: int) -> Construct:
    return Default(Bytes(size), bytes(size))


def _element(member: Member) -> Construct:
    element = _one(member)
    if member.count is None:
        return element
    if member.rest:
        # Its bytes behind each element are a member of their own.
        element = Struct("value" / element, "reserved" / _bytes(member.rest))
    default: list[Any] = [{} if member.rest else None] * member.count
    return Default(Array(member.count, element), default)


def _one(member: Member) -> Construct:
    if member.members:
        return Default(Struct(*(inner.name / _element(inner) for inner in member.members)), {})
    if member.field is None or member.field.type == "bytes":
        return _bytes(member.size)
    number = _NUMBERS.get(member.size) or BytesInteger(member.size, swapped=True)
    return Default(number, member.field.initial)


class _Present(Subconstruct):  # type: ignore[misc]  # construct has no types
    """A part that a short buffer may lack: None from the first one on that does not fit."""

    def __init__(self, subcon: Construct, size: int):
        super().__init__(subcon)
        self.size = size

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        if context.get("_cut"):
            return None
        start = stream_tell(stream, path)
        try:
            stream_read(stream, self.size, path)
        except StreamError:
            context["_cut"] = True
            return None
        finally:
            stream_seek(stream, start, 0, path)
        return self.subcon._parsereport(stream, context, path)

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        return obj if obj is None else self.subcon._build(obj, stream, context, path)


class _Filled(Subconstruct):  # type: ignore[misc]  # construct has no types
    """A struct whose members may be left out while building; a given None is kept as such."""

    def __init__(self, subcon: Construct, defaults: dict[str, Any]):
        super().__init__(subcon)
        self.defaults = defaults

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        if obj is not None and not isinstance(obj, Mapping):
            raise StructError(f"takes a mapping of its members, not {obj!r:.60}", path)
        if unknown := [key for key in obj or {} if key not in self.defaults and key != "_io"]:
            known = ", ".join(self.defaults)
            raise StructError(f"has no member {unknown[0]!r}; members: {known}", path)
        return self.subcon._build({**self.defaults, **(obj or {})}, stream, context, path)


@kept(512)
def _layout_struct(layout: Layout, trailing: bool) -> Construct:
    members = [
        "legacy" / Default(legacy_struct(layout.model), {}),
        "header" / Default(header_struct(layout.xcomp_bv), {}),
    ]
    defaults: dict[str, Any] = {"legacy": {}, "header": {}}

    def extended(name: str, subcon: Construct, size: int, default: Any) -> None:
        members.append(name / (_Present(subcon, size) if layout.xcomp_bv == 0 else subcon))
        defaults[name] = default

    state = (span for span in layout.spans() if span.offset >= EXTENDED_OFFSET)
    for component, group in groupby(state, key=lambda span: span.component):
        spans = list(group)
        start, size = spans[0].offset, sum(span.size for span in spans)
        if component is None:
            extended(f"gap_{start}", Bytes(size), size, bytes(size))
        else:
            extended(component.name, component_struct(component), size, {})
    if trailing:
        members.append("trailing" / GreedyBytes)
        defaults["trailing"] = b""
    return _Filled(Struct(*members), defaults)


class _Automatic(Construct):  # type: ignore[misc]  # construct has no types
    """Chooses the layout by the header, of the stream or of the object to build."""

    def __init__(self, model: CpuModel, trailing: bool):
        super().__init__()
        self.model = model
        self.trailing = trailing

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        start = stream_tell(stream, path)
        stream_read(stream, HEADER_OFFSET, f"{path} -> legacy")
        header = header_struct()._parsereport(stream, context, f"{path} -> header")
        stream_seek(stream, start, 0, path)
        struct = self._choose(header.xstate_bv, header.xcomp_bv, path)
        return struct._parsereport(stream, context, path)

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        header = (obj.get("header") if isinstance(obj, Mapping) else None) or {}
        masks = header.get("xstate_bv") or 0, header.get("xcomp_bv") or 0
        return self._choose(*masks, path)._build(obj, stream, context, path)

    def _choose(self, xstate_bv: int, xcomp_bv: int, path: str) -> Construct:
        try:
            # Length is Construct's to judge: it raises with the member's path.
            layout = buffer_layout(self.model, xstate_bv, xcomp_bv, 1 << 62)
        except XsaveError as error:
            raise StructError(str(error), f"{path} -> header") from error
        return _layout_struct(layout, self.trailing)


class _Translated(Subconstruct):  # type: ignore[misc]  # construct has no types
    """Turns Construct's errors into StructError, keeping the path."""

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        return self._guard(lambda: self.subcon._parsereport(stream, context, path), path)

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        return self._guard(lambda: self.subcon._build(obj, stream, context, path), path)

    def _sizeof(self, context: Any, path: str) -> Any:
        return self._guard(lambda: self.subcon._sizeof(context, path), path)

    def _guard(self, work: Callable[[], Any], path: str) -> Any:
        try:
            return work()
        except ConstructError as error:
            _translate(error, getattr(error, "path", None) or path)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # Construct lets these out for an object of the wrong shape while building.
            _translate(error, path)


def _translate(error: Exception, path: str) -> NoReturn:
    message = str(error).replace(f"Error in path {path}\n", "").strip()
    raise StructError(message or type(error).__name__, path) from error


__all__ = ["area_struct", "component_struct", "header_struct", "legacy_struct"]
