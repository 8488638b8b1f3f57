# SPDX-License-Identifier: MIT
"""What a CPU model's XSAVE state consists of: immutable values, no behaviour beyond look-up.

The terms are the Intel SDM's (volume 1, chapter 13): a state component has a number (its bit in
XCR0, IA32_XSS, XSTATE_BV and XCOMP_BV), a size, and, where XCR0 manages it, an offset in the
standard format. CPUID leaf 0xD enumerates all of that; the YAML files under ``schemas/`` hold it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

from msgspec import Struct

from xsaveschema.errors import (
    MaskError,
    UnknownComponentError,
    WrongTypeError,
    XsaveError,
    described,
    hex_mask,
)
from xsaveschema.kept import Keeper, Kept
from xsaveschema.reading import COMPACTED as COMPACTED
from xsaveschema.reading import EXTENDED_OFFSET as EXTENDED_OFFSET
from xsaveschema.reading import HEADER_OFFSET as HEADER_OFFSET
from xsaveschema.reading import HEADER_SIZE as HEADER_SIZE
from xsaveschema.reading import LEGACY_SIZE as LEGACY_SIZE
from xsaveschema.reading import MXCSR_OFFSET as MXCSR_OFFSET
from xsaveschema.reading import SOFTWARE_OFFSET as SOFTWARE_OFFSET
from xsaveschema.reading import SSE as SSE
from xsaveschema.reading import X87 as X87
from xsaveschema.reading import XCR0_OFFSET as XCR0_OFFSET
from xsaveschema.rules import NO_LIMITS, Illegal, Limits, Rules

if TYPE_CHECKING:
    from construct import Construct

    from xsaveschema.layout import Layout

MAX_EXTENT: Final = 1 << 20
"""Bytes; the most that a component's size, or its standard offset, is taken for.

That is a hundred times TILEDATA: past it stands a typing error, damage or malice, in YAML as in a
CPUID leaf.
"""
LEGACY: Final = {"x87": (0, 160), "sse": (160, 256)}
"""Offset and size in bytes of the components in the legacy region, by name and in order of number.

The region is the same on every CPU (SDM 13.4.1).
"""

MXCSR_MASK: Final = 0xFFFF
"""The MXCSR_MASK of a CPU model whose file gives none."""

MXCSR_INITIAL: Final = 0x1F80

POPULARITY: Final = 50
"""How likely people meet a CPU model whose file does not say."""

FEATURES: Final = ("xsaveopt", "xsavec", "xgetbv1", "xsaves", "xfd")
"""What CPUID leaf 0xD sub-leaf 1 EAX announces, by bit."""

Format = Literal["standard", "compacted"]
CpuidRegisters = tuple[int, int, int, int]
"""What CPUID gives: EAX, EBX, ECX, EDX."""
Leaf0xD = Mapping[int, CpuidRegisters]
"""CPUID leaf 0xD, by sub-leaf."""
Optional = Literal["present", "absent"]


def bits_of(mask: int) -> Iterator[int]:
    """Yield the numbers of the bits that are set in a mask (not negative), lowest first."""
    if mask < 0:
        raise MaskError(f"{mask} is no mask: it is negative", mask)
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


# Records that nobody changes with dataclasses.replace are msgspec structs, which are made fast.
class BitRange(Struct, frozen=True):
    """A named range of bits within a field: ``width`` bits from bit ``low`` up."""

    name: str
    low: int
    width: int

    @property
    def mask(self) -> int:
        """The range's bits, in place."""
        return ((1 << self.width) - 1) << self.low


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a state component, possibly repeated, possibly a group of fields.

    ``offset`` is in bytes from the start of the component (of the area, for the legacy components
    x87 and sse), or from the start of the group that holds the field. ``size`` is that of one
    element, ``stride`` the distance between elements, ``count`` None for a field that does not
    repeat. ``type`` is ``u8`` … ``u512``, ``bytes`` or ``group``. ``counted_by`` names the field
    beside a repeated one that says how many elements are in use, 0 being all.
    """

    name: str
    type: str
    offset: int
    size: int
    count: int | None = None
    stride: int = 0
    initial: int = 0
    title: str = ""
    bits: tuple[BitRange, ...] = ()
    fields: tuple[Field, ...] = ()
    limits: Limits = NO_LIMITS
    counted_by: str = ""

    @property
    def end(self) -> int:
        """The first byte behind the last element."""
        return self.offset + ((self.count or 1) - 1) * self.stride + self.size


class Leaf(Struct, frozen=True):
    """A field element in memory: ``path`` (``bnd[2].lower``), place and size in bytes."""

    path: str
    offset: int
    size: int
    raw: bool
    initial: int
    limits: Limits = NO_LIMITS
    bits: tuple[BitRange, ...] = ()


def leaves(fields: tuple[Field, ...], base: int = 0, prefix: str = "") -> Iterator[Leaf]:
    """Walk fields down to the elements that stand in memory, in order of declaration."""
    for field in fields:
        for index in range(1 if field.count is None else field.count):
            path = prefix + field.name + ("" if field.count is None else f"[{index}]")
            offset = base + field.offset + index * field.stride
            if field.fields:
                yield from leaves(field.fields, offset, path + ".")
            else:
                raw = field.type == "bytes"
                rules = field.limits, field.bits
                yield Leaf(path, offset, field.size, raw, field.initial, *rules)


def locate(fields: tuple[Field, ...], path: str, index: int) -> tuple[int, int] | None:
    """The (offset, size) in bytes of a field's element ``index``; None where there is none.

    ``path`` is dotted and carries no index: the one repeated field on it takes ``index``.
    """
    offset, used = 0, False
    names = path.split(".")
    for depth, name in enumerate(names):
        field = next((field for field in fields if field.name == name), None)
        if field is None:
            return None
        offset += field.offset
        if field.count is not None:
            if used or index >= field.count:
                return None
            offset += index * field.stride
            used = True
        if depth == len(names) - 1:
            return None if field.fields else (offset, field.size)
        fields = field.fields
    return None


@dataclass(frozen=True, eq=False)
class StateComponent:
    """One state component of one CPU model.

    ``size`` and ``offset`` are in bytes, as CPUID leaf 0xD gives them; ``offset`` is the place in
    the standard format and None for a supervisor component, which has none there. ``align64`` says
    that the compacted format moves it up to a multiple of 64 (leaf 0xD ECX bit 1); ``xfd`` that
    extended feature disable knows it (bit 2). ``optional`` is "present" or "absent" where some
    parts differ from the model's default mask.
    """

    number: int
    name: str
    size: int
    offset: int | None
    supervisor: bool = False
    align64: bool = False
    xfd: bool = False
    optional: Optional | None = None
    load_fields: Callable[[], tuple[Field, ...]] = tuple
    load_rules: Callable[[], Rules] = Rules

    @cached_property
    def rules(self) -> Rules:
        """The component's rules; none for an opaque one. Read from YAML when first asked for."""
        return self.load_rules()

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """The component's fields; empty for an opaque one. Read from YAML when first asked for."""
        return self.load_fields()

    @property
    def reach(self) -> int:
        """Where the component ends, in bytes as its field offsets count them."""
        return (self.offset or 0) + self.size if self.legacy else self.size

    @cached_property
    def leaves(self) -> tuple[Leaf, ...]:
        """Every field element that lies within the component's size on this CPU."""
        return tuple(leaf for leaf in leaves(self.fields) if leaf.offset + leaf.size <= self.reach)

    @cached_property
    def initial(self) -> bytes:
        """The bytes of the initial state, indexed by field offset (SDM 13.6)."""
        image = bytearray(self.reach)
        for leaf in self.leaves:
            image[leaf.offset : leaf.offset + leaf.size] = leaf.initial.to_bytes(
                leaf.size, "little"
            )
        return bytes(image)

    @property
    def illegal(self) -> Illegal | None:
        """What an illegal value does to a restore; None: it loads any, as far as is known.

        Supervisor components are loaded as WRMSR would load them (SDM 13.12), so the default
        there is a fault.
        """
        return self.rules.illegal or ("fault" if self.supervisor else None)

    @property
    def bit(self) -> int:
        """The component's bit in every state-component bitmap."""
        return 1 << self.number

    @property
    def sub_leaf(self) -> CpuidRegisters:
        """What CPUID leaf 0xD says of an extended component: size, offset and ECX's flags."""
        flags = self.supervisor | self.align64 << 1 | self.xfd << 2
        return self.size, self.offset or 0, flags, 0

    @property
    def legacy(self) -> bool:
        """Whether the component lives in the legacy region: x87 and sse."""
        return self.number < 2

    @cached_property
    def _value(self) -> tuple[Any, ...]:
        facts = (self.number, self.name, self.size, self.offset, self.supervisor)
        return (*facts, self.align64, self.xfd, self.optional, self.fields, self.rules)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StateComponent):
            return NotImplemented
        return self is other or self._value == other._value

    def __hash__(self) -> int:
        return hash((self.number, self.name, self.size, self.offset))

    def __reduce__(self) -> tuple[Any, ...]:
        # Its fields themselves, in place of the catalogue that they are read from.
        return _component, self._value

    def __repr__(self) -> str:
        place = "supervisor" if self.offset is None else f"at {self.offset}"
        return f"<StateComponent {self.number} {self.name}: {self.size} bytes, {place}>"


def _component(*value: Any) -> StateComponent:
    """The component that another process pickled."""
    *facts, fields, rules = value
    make: Callable[..., StateComponent] = StateComponent
    return make(*facts, lambda: fields, lambda: rules)


class Signature(Struct, frozen=True):
    """CPUs by vendor, family, models and steppings; ``steppings`` None means every stepping."""

    vendor: str
    family: int
    models: tuple[int, ...]
    steppings: tuple[int, ...] | None

    def matches(self, vendor: str, family: int, model: int, stepping: int) -> bool:
        """Whether a CPU with these four belongs here."""
        return (
            (vendor, family) == (self.vendor, self.family)
            and model in self.models
            and (self.steppings is None or stepping in self.steppings)
        )


class Piece(Struct, frozen=True):
    """A part of a whole register: ``size`` bytes (0: all) from ``start`` of a field's element."""

    component: str
    field: str
    start: int = 0
    size: int = 0


class Register(Struct, frozen=True):
    """One whole register: its pieces, low bits first, each an element of a component's field.

    ``index`` is the element that holds the register. ``top`` names the bit range (component, path)
    to subtract from it modulo 8, for MM registers; ``shape`` the fields (rows, bytes a row) that
    shape a tile.
    """

    name: str
    index: int
    pieces: tuple[Piece, ...]
    top: Piece | None = None
    shape: tuple[Piece, Piece] | None = None


@dataclass(frozen=True, eq=False)
class CpuModel(Keeper):
    """A CPU model's silicon, and the masks of state components that are enabled.

    ``components`` has every state component of the silicon by name, in order of number; ``xcr0``
    and ``xss`` are the enabled user and supervisor components as bit masks. The catalogue hands out
    one object for one name; models of two catalogues are equal if all that they say of areas is.
    ``aliases`` find it, too; ``popularity``, 0 to 100, says which of several that fit an area alike
    is named. ``host`` is true of this machine's, whose name is but that of a model with its layout.
    """

    name: str
    title: str
    vendor: str
    signatures: tuple[Signature, ...]
    instructions: frozenset[str]
    components: Mapping[str, StateComponent]
    xcr0: int
    xss: int
    mxcsr_mask: int
    confirmed_by: tuple[str, ...]
    source: str
    file: str
    load_registers: Callable[[], Mapping[str, Register]]
    aliases: tuple[str, ...] = ()
    popularity: int = POPULARITY
    host: bool = False

    @cached_property
    def by_number(self) -> Mapping[int, StateComponent]:
        """The silicon's components by number."""
        return {component.number: component for component in self.components.values()}

    @cached_property
    def registers(self) -> Mapping[str, Register]:
        """Whole registers by name, as ``registers.yaml`` composes them; read when first used."""
        return self.load_registers()

    @cached_property
    def jobs(self) -> Kept:
        """Conversions to this model that were asked for; see plan.py."""
        return Kept()

    @cached_property
    def token(self) -> object:
        """Stands for the model in keys that must not keep it alive."""
        return object()

    @cached_property
    def user_mask(self) -> int:
        """Every user component of the silicon, enabled or not."""
        return sum(c.bit for c in self.components.values() if not c.supervisor)

    @cached_property
    def supervisor_mask(self) -> int:
        """Every supervisor component of the silicon, enabled or not."""
        return sum(c.bit for c in self.components.values() if c.supervisor)

    @cached_property
    def digest(self) -> str:
        """What tells two models of a name apart, in other processes too: all that YAML says."""
        from zlib import crc32

        rows = [
            (c.number, c.name, c.size, c.offset, c.align64, c.supervisor, c.xfd, c.fields, c.rules)
            for c in self.components.values()
        ]
        facts = [self.mxcsr_mask, sorted(self.instructions), sorted(self.registers), rows]
        return f"{self.name}-{crc32(repr(facts).encode()):08x}"

    @property
    def label(self) -> str:
        """What a message calls it: its name, or ``host``."""
        return "host" if self.host else self.name

    @property
    def confirmed(self) -> bool:
        """Whether a CPUID dump of a real CPU shows this layout."""
        return bool(self.confirmed_by)

    def component(self, key: str | int) -> StateComponent:
        """Look a component up by name or number; UnknownComponentError names what there is."""
        found = self.by_number.get(key) if isinstance(key, int) else self.components.get(key)
        if found is None:
            name = self.name_of(key) if isinstance(key, int) else key
            there = ", ".join(self.components)
            raise UnknownComponentError(
                f"{self.name} has no state component {name!r}; it has {there}", name
            )
        return found

    def name_of(self, number: int) -> str:
        """The name of component ``number``; ``component20`` where the model does not know it.

        Bit 63 of a mask is no component, and is called so.
        """
        found = self.by_number.get(number)
        return found.name if found else "bit 63" if number == 63 else f"component{number}"

    def names_of(self, mask: int) -> list[str]:
        """The names of the components in ``mask``, lowest number first."""
        from xsaveschema.layout import check_mask

        check_mask(mask, "names_of")
        return [self.name_of(number) for number in bits_of(mask & ~COMPACTED)]

    def limited(self, xcr0: int | None = None, xss: int | None = None) -> CpuModel:
        """The same silicon with exactly these components enabled, as a guest or an OS sees it.

        ``xcr0`` and ``xss`` are bit masks; None keeps the model's. Raises MaskError for an XCR0
        that the processor refuses (SDM 13.3), and for components that the silicon lacks.
        """
        from xsaveschema.layout import check_mask, limited

        xcr0, xss = self.xcr0 if xcr0 is None else xcr0, self.xss if xss is None else xss
        check_mask(xcr0, "XCR0")
        check_mask(xss, "IA32_XSS")
        return limited(self, xcr0, xss)

    def standard_layout(self, xcr0: int | None = None) -> Layout:
        """The standard format's layout for any set of user components (default: the model's XCR0).

        The set need not be legal as an XCR0: Linux's signal frames leave TILEDATA out. MaskError
        for bits that are no user component of the silicon, and for components that share bytes.
        """
        from xsaveschema.layout import check_user_mask, standard

        mask = self.xcr0 if xcr0 is None else xcr0
        check_user_mask(self, mask)
        return standard(self, mask)

    def compacted_layout(self, xcomp_bv: int | None = None) -> Layout:
        """The compacted format's layout for an XCOMP_BV, bit 63 optional.

        Any subset of the silicon's components is fine. Default: ``xcr0 | xss``, what XSAVES writes
        when all is asked for. MaskError names bits that the silicon lacks.
        """
        from xsaveschema.layout import check_mask, compacted

        if xcomp_bv is None:
            return compacted(self, self.xcr0 | self.xss)
        check_mask(xcomp_bv, "XCOMP_BV")
        return compacted(self, xcomp_bv & ~COMPACTED)

    def cpuid_leaf_0xd(
        self, xcr0: int | None = None, xss: int | None = None
    ) -> dict[int, CpuidRegisters]:
        """CPUID leaf 0xD that exposes exactly these masks (default: the model's), by sub-leaf.

        {sub-leaf: (EAX, EBX, ECX, EDX)}, sizes as if everything in the masks were enabled.
        """
        from xsaveschema.cpuid.of_model import implied_leaf

        return implied_leaf(
            self, self.xcr0 if xcr0 is None else xcr0, self.xss if xss is None else xss
        )

    def construct(self, layout: Layout | None = None, *, trailing: bool = True) -> Construct:
        """A Construct struct of a whole area: of this layout, or of whichever XCOMP_BV tells.

        It parses and builds what stands in memory, byte for byte. ``trailing`` keeps the bytes
        behind the area as a last member; embed with ``trailing=False``.
        """
        from xsaveschema.structs import area_struct

        return area_struct(self, layout, trailing=trailing)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, CpuModel):
            return NotImplemented
        return self._key() == other._key() and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[str, str, int, int]:
        return self.name, self.vendor, self.xcr0, self.xss

    def __reduce__(self) -> tuple[Any, ...]:
        # Without ``host``: another process may be another machine.
        shown = self.name, self.xcr0, self.xss, self.digest, self.instructions
        if self.file:  # by name: a model is one object wherever the catalogue is the same
            return _unpickled, shown
        from xsaveschema.cpuid.of_model import whole_leaf

        signature = None
        if self.signatures:
            own = self.signatures[0]
            signature = own.family, own.models[0], (own.steppings or (0,))[0]
        return _unpickled, (*shown, whole_leaf(self), self.vendor, signature)

    def __copy__(self) -> CpuModel:
        return self

    def __deepcopy__(self, memo: object) -> CpuModel:
        return self

    def __repr__(self) -> str:
        return f"<CpuModel {self.name}: XCR0 {hex_mask(self.xcr0)}, IA32_XSS {hex_mask(self.xss)}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """As repr() has it, for IPython and Hypothesis, which would print every field instead."""
        printer.text(repr(self))


def require_model(model: object, what: str = "model") -> None:
    """Raise WrongTypeError for what is no model; ``what`` is the argument's name."""
    if not isinstance(model, CpuModel):
        raise WrongTypeError(
            f'{what}: pass a CpuModel, as load_model("zen4") gives one, not {described(model)}'
        )


_REMEDY: Final = "a pickle names a model: XSAVESCHEMA_PATH brings your own ones to every process"


def _unpickled(
    name: str,
    xcr0: int,
    xss: int,
    digest: str,
    instructions: frozenset[str],
    leaf: Leaf0xD | None = None,
    vendor: str = "",
    signature: tuple[int, int, int] | None = None,
) -> CpuModel:
    """The model that another process pickled: the catalogue's, or what no file has of its leaf 0xD.

    XsaveError where the catalogue here lacks it, or has another one of that name.
    """
    from xsaveschema.identify import load_model
    from xsaveschema.identify.from_leaf import model_from_leaf
    from xsaveschema.layout import under

    if leaf is not None:
        found = model_from_leaf(leaf, name=name, vendor=vendor, signature=signature)
    else:
        try:
            found = load_model(name)
        except XsaveError as error:
            error.add_note(_REMEDY)
            raise
    if found.instructions != instructions:  # a dump of a guest that is not told of all
        found = replace(found, instructions=instructions)
    if found.digest != digest:
        raise XsaveError(f"{name} was pickled with other components than it has here; {_REMEDY}")
    return under(found, xcr0, xss)
