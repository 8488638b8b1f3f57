# SPDX-License-Identifier: MIT
"""Test vectors: what any implementation of XSAVE areas must make of some areas, as data.

For each CPU its leaf 0xD, the places that follow from it, and areas with what they mean, what
refuses them and what they are converted to. Once as JSON with a JSON Schema, and once as lines of
words, for languages that have no JSON at hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal, NamedTuple

import msgspec
from msgspec import Struct

import xsaveschema
from xsaveschema.area import XsaveArea
from xsaveschema.convert import relayout
from xsaveschema.errors import StateLossError, XsaveError
from xsaveschema.export.exporter import LICENSE, MARK, banner, comment, template
from xsaveschema.layout import Layout
from xsaveschema.model import (
    COMPACTED,
    EXTENDED_OFFSET,
    HEADER_OFFSET,
    MXCSR_OFFSET,
    SSE,
    X87,
    XCR0_OFFSET,
    CpuModel,
    Format,
    Leaf,
    StateComponent,
    bits_of,
)
from xsaveschema.restore import check
from xsaveschema.restore_rules import Target
from xsaveschema.rules import NO_LIMITS

_TARGETS: Final[tuple[Target, ...]] = ("xrstor", "xrstors", "ptrace")
_FIELDS: Final = {
    "fcw": 0x027F,
    "fsw": 0x3800,
    "ftw": 0x80,
    "mxcsr": 0x1FA0,
    "palette": 1,
    "rows[0]": 16,
    "colsb[0]": 64,
    "pkru": 0x55555554,
}
"""Values where others would not be taken, not be kept, or lock the restoring program out."""
_STALE: Final = 0xA5
"""What stands where nothing should look."""


class Image(Struct, frozen=True):
    """Bytes: ``size`` of them, zero but for ``runs``, each an offset and bytes as hex."""

    size: int
    runs: tuple[tuple[int, str], ...]


class Component(Struct, frozen=True):
    """A state component; ``offset`` is null for one that the standard format has no place for.

    ``initial`` are its bytes while it is not in use.
    """

    number: int
    name: str
    size: int
    offset: int | None
    align64: bool
    supervisor: bool
    xfd: bool
    initial: Image


class Walk(Struct, frozen=True):
    """A compacted layout: the offsets of the components in ``xcomp_bv``, by number."""

    xcomp_bv: str
    size: int
    offsets: dict[str, int]


class Meaning(Struct, frozen=True):
    """What a restore of everything loads. Registers that are not listed are zero."""

    in_use: tuple[int, ...]
    mxcsr: str
    registers: dict[str, str]


class Refusal(Struct, frozen=True):
    """A rule that an area breaks, and the byte where it does; see the README beside this."""

    rule: str
    offset: int


class Converted(Struct, frozen=True, omit_defaults=True):
    """What an area becomes: ``image``, or components that are ``lost``, or ``refused``: no area."""

    format: Format
    mask: str
    image: Image | None = None
    lost: tuple[int, ...] = ()
    refused: bool = False


class Area(Struct, frozen=True):
    """An area in bytes. ``meaning`` is null where its header is illegal."""

    name: str
    about: str
    xstate_bv: str
    xcomp_bv: str
    image: Image
    meaning: Meaning | None
    check: dict[Target, tuple[Refusal, ...]]
    conversions: tuple[Converted, ...]


class Cpu(Struct, frozen=True):
    """A CPU: CPUID leaf 0xD, by sub-leaf (EAX, EBX, ECX, EDX), and what follows from it."""

    name: str
    title: str
    vendor: str
    xcr0: str
    xss: str
    mxcsr_mask: str
    leaf_0xd: dict[str, tuple[str, ...]]
    components: tuple[Component, ...]
    standard_size: int
    walks: tuple[Walk, ...]
    areas: tuple[Area, ...]


class Vectors(Struct, frozen=True):
    """The file. Masks and registers are hexadecimal, offsets and sizes decimal, in bytes."""

    generator: str
    license: str
    version: Literal[1]
    cpus: tuple[Cpu, ...]


class _Vectors:
    target = "vectors"
    title = "test vectors: leaf 0xD in; places, faults, conversions out"
    suffix = ".json"

    def render(self, cpus: Sequence[CpuModel]) -> dict[str, str]:
        """vectors.json with its schema, the same as vectors.txt, and a README."""
        generator = f"{MARK} {xsaveschema.__version__}"
        vectors = Vectors(generator, LICENSE, 1, tuple(map(_cpu, cpus)))
        schema = msgspec.json.schema(Vectors)
        schema["$comment"] = "; ".join(banner(cpus))
        return {
            "README.md": template("vectors.md.j2", banner=banner(cpus)),
            "vectors.json": _json(msgspec.json.encode(vectors)),
            "vectors.schema.json": _json(msgspec.json.encode(schema, order="sorted")),
            "vectors.txt": "".join(f"{line}\n" for line in _lines(vectors, banner(cpus))),
        }


EXPORTER: Final = _Vectors()


def _json(data: bytes) -> str:
    return msgspec.json.format(data, indent=1).decode() + "\n"


def _cpu(model: CpuModel) -> Cpu:
    if model.xcr0 & (X87 | SSE) != X87 | SSE:
        raise XsaveError(f"vectors need x87 and SSE: XCR0 of {model.label} is {model.xcr0:#x}")
    standard = model.standard_layout()
    return Cpu(
        name=model.label,
        title=comment(model.title),
        vendor=comment(model.vendor),
        xcr0=hex(model.xcr0),
        xss=hex(model.xss),
        mxcsr_mask=hex(model.mxcsr_mask),
        leaf_0xd={
            str(number): tuple(map(hex, registers))
            for number, registers in model.cpuid_leaf_0xd().items()
        },
        components=tuple(
            Component(
                *(c.number, c.name, c.size, c.offset, c.align64, c.supervisor, c.xfd),
                _image(c.initial[-c.size :]),
            )
            for c in _enabled(model)
        ),
        standard_size=standard.size,
        walks=tuple(_walks(model)),
        areas=tuple(_area(model, case) for case in _cases(model)),
    )


def _enabled(model: CpuModel) -> Iterator[StateComponent]:
    return (model.by_number[number] for number in bits_of(model.xcr0 | model.xss))


def _walks(model: CpuModel) -> Iterator[Walk]:
    """Everything, what XSAVEC writes, each component left out, each alone, and every second one."""
    whole = model.xcr0 | model.xss
    bits = [1 << number for number in bits_of(whole)]
    masks = [whole, model.xcr0, *(whole & ~bit for bit in bits), *bits]
    masks += [sum(bits[::2]), sum(bits[1::2])]
    for mask in dict.fromkeys(masks):
        layout = model.compacted_layout(mask)
        offsets = {str(slot.number): slot.offset for slot in layout}
        yield Walk(hex(layout.xcomp_bv), layout.size, offsets)


class _Case(NamedTuple):
    name: str
    about: str
    data: bytes


def _cases(model: CpuModel) -> Iterator[_Case]:
    """The areas of a CPU."""
    user = model.standard_layout()
    packed = model.compacted_layout(model.xcr0)
    whole = model.compacted_layout()
    forms = {"standard": user, "compacted": packed}
    if whole.mask != packed.mask:
        forms["supervisor"] = whole
    for name, layout in forms.items():
        yield _Case(f"{name}-initial", "nothing is in use", _made(layout, 0))
        yield _Case(f"{name}-full", "all that has a place is in use", _made(layout, layout.mask))
        yield _Case(
            f"{name}-stale",
            "nothing is in use, and other bytes stand in every place",
            _made(layout, 0, stale=True),
        )
        for slot in layout:
            about = f"{comment(slot.name)} alone is in use"
            yield _Case(f"{name}-{slot.name}", about, _made(layout, slot.component.bit))
    yield from _mxcsr(user, packed)
    yield from _software(user)
    yield from _illegal(model, user, packed)


def _mxcsr(user: Layout, packed: Layout) -> Iterator[_Case]:
    alone = bytearray(_made(user, 0))
    alone[MXCSR_OFFSET : MXCSR_OFFSET + 4] = (0x1FA0).to_bytes(4, "little")
    about = "SSE is not in use, and MXCSR is not initial: in the standard format it counts"
    yield _Case("mxcsr-alone", about, bytes(alone))
    about = "MXCSR of a compacted area without SSE in use: nothing looks at it"
    stale = bytearray(_made(packed, packed.mask & ~SSE))
    stale[MXCSR_OFFSET : MXCSR_OFFSET + 4] = (0x1FA0).to_bytes(4, "little")
    yield _Case("mxcsr-stale", about, bytes(stale))
    reserved = bytearray(_made(user, user.mask))
    reserved[MXCSR_OFFSET + 3] = 0x80
    yield _Case("mxcsr-reserved", "MXCSR has a bit that no processor knows", bytes(reserved))


def _software(user: Layout) -> Iterator[_Case]:
    told = bytearray(_made(user, user.mask))
    told[XCR0_OFFSET : XCR0_OFFSET + 8] = user.mask.to_bytes(8, "little")
    yield _Case("software-mask", "bytes 464..471 hold the writer's XCR0, as Linux has it", told)
    used = bytearray(_made(user, user.mask))
    used[XCR0_OFFSET:HEADER_OFFSET] = bytes(range(0x40, 0x70))
    yield _Case("software-own", "bytes 464..511 hold what is software's own", bytes(used))


def _illegal(model: CpuModel, user: Layout, packed: Layout) -> Iterator[_Case]:
    alien = 1 << next(n for n in range(2, 62) if not (model.xcr0 | model.xss) >> n & 1)
    full, dense = _made(user, user.mask), _made(packed, packed.mask)
    last = 1 << max(bits_of(packed.mask))

    def header(data: bytes, offset: int, value: int) -> bytes:
        at = HEADER_OFFSET + offset
        return data[:at] + value.to_bytes(8, "little") + data[at + 8 :]

    for name, about, data in (
        ("xcomp-bv-low", "XCOMP_BV has bits, and not bit 63", header(full, 8, user.mask)),
        ("xstate-bv-alien", "XSTATE_BV has a bit outside XCR0", header(full, 0, user.mask | alien)),
        (
            "xcomp-bv-alien",
            "XCOMP_BV has a bit outside XCR0 and IA32_XSS",
            header(dense, 8, packed.mask | alien | COMPACTED),
        ),
        (
            "xstate-bv-placeless",
            "XSTATE_BV has a bit that XCOMP_BV lacks",
            header(dense, 8, packed.mask & ~last | COMPACTED),
        ),
        ("header-16", "header byte 16 is not zero", header(full, 16, 1)),
        ("header-24", "header byte 24 is not zero; compacted", header(dense, 24, 1)),
        ("header-24-standard", "header byte 24 is not zero; standard", header(full, 24, 1)),
    ):
        yield _Case(f"illegal-{name}", about, data)
    if len(dense) > EXTENDED_OFFSET:
        about = "the memory ends one byte before the area does"
        yield _Case("illegal-short", about, dense[:-1])


def _made(layout: Layout, in_use: int, stale: bool = False) -> bytes:
    """An area with these components in use; ``stale``: other bytes where the others' places are."""
    mask = layout.mask
    if layout.format == "standard":
        area = XsaveArea.new(layout.model, "standard", xcr0=mask)
    else:
        area = XsaveArea.new(layout.model, "compacted", xcomp_bv=mask)
    data = bytearray(bytes(area))
    for slot in layout:
        image = _filled(slot.component) if slot.component.bit & in_use else b""
        for start, end in slot.ranges:
            if image:
                data[start:end] = image[start - slot.origin : end - slot.origin]
            elif stale:
                data[start:end] = bytes([_STALE]) * (end - start)
    data[HEADER_OFFSET : HEADER_OFFSET + 8] = in_use.to_bytes(8, "little")
    if in_use & SSE:
        data[MXCSR_OFFSET : MXCSR_OFFSET + 4] = _FIELDS["mxcsr"].to_bytes(4, "little")
    return bytes(data)


def _filled(component: StateComponent) -> bytes:
    """Values of every field that a processor takes; reserved bytes are zero."""
    image = bytearray(component.reach)
    for count, leaf in enumerate(component.leaves):
        value = _value(component, leaf, count)
        image[leaf.offset : leaf.offset + leaf.size] = value.to_bytes(leaf.size, "little")
    return bytes(image)


def _value(component: StateComponent, leaf: Leaf, count: int) -> int:
    if leaf.path in _FIELDS:
        return _FIELDS[leaf.path]
    if component.rules.predicate:
        return 0
    seed = (component.number + 1) * 0x1F + count
    value = int.from_bytes(bytes((seed + 7 * at) & 0xFF for at in range(leaf.size)), "little")
    if (component.number < 2 and leaf.size == 8) or leaf.limits.canonical:
        value &= (1 << 46) - 1  # an address
    if leaf.limits is NO_LIMITS:
        return value
    value &= ~leaf.limits.reserved
    if leaf.limits.at_most is not None:
        value = min(value, leaf.limits.at_most)
    return value - value % leaf.limits.multiple_of


def _area(model: CpuModel, case: _Case) -> Area:
    data = case.data
    masks = (int.from_bytes(data[at : at + 8], "little") for at in (512, 520))
    xstate_bv, xcomp_bv = (hex(mask) for mask in masks)
    return Area(
        name=case.name,
        about=case.about,
        xstate_bv=xstate_bv,
        xcomp_bv=xcomp_bv,
        image=_image(data),
        meaning=_meaning(data, model),
        check={target: _refusals(data, model, target) for target in _TARGETS},
        conversions=tuple(_conversions(data, model)),
    )


def _image(data: bytes) -> Image:
    """The runs of bytes that are not zero; up to eight zeros do not end one."""
    runs: list[tuple[int, int]] = []
    for at, byte in enumerate(data):
        if not byte:
            continue
        if runs and at - runs[-1][1] <= 8:
            runs[-1] = runs[-1][0], at + 1
        else:
            runs.append((at, at + 1))
    return Image(len(data), tuple((start, data[start:end].hex()) for start, end in runs))


def _meaning(data: bytes, model: CpuModel) -> Meaning | None:
    try:
        area = XsaveArea.parse(data, model)
    except XsaveError:
        return None
    found = area.registers.read()
    texts = {
        name: value.hex() if isinstance(value, bytes) else hex(value)
        for name, value in found.items()
    }
    registers = {name: text for name, text in texts.items() if text.strip("0x")}
    in_use = tuple(number for number in bits_of(area.xstate_bv) if area.in_use(number))
    mxcsr = found["mxcsr"]
    assert isinstance(mxcsr, int)  # noqa: S101 - the only registers of bytes are tiles
    return Meaning(in_use, hex(mxcsr), dict(sorted(registers.items())))


def _refusals(data: bytes, model: CpuModel, target: Target) -> tuple[Refusal, ...]:
    return tuple(Refusal(fault.rule, fault.offset) for fault in check(data, model, target))


def _conversions(data: bytes, model: CpuModel) -> Iterator[Converted]:
    """To both formats, of all that the CPU has enabled, and of half of it."""
    whole = model.xcr0 | model.xss
    less = model.xcr0 & (X87 | SSE | 4)

    for mask in dict.fromkeys((model.xcr0, less)):
        yield _converted(data, model, "standard", mask)
    for mask in dict.fromkeys((whole, model.xcr0, less)):
        yield _converted(data, model, "compacted", mask)


def _converted(data: bytes, model: CpuModel, format: Format, mask: int) -> Converted:
    xcr0, xcomp_bv = (mask, None) if format == "standard" else (None, mask)
    try:
        found = relayout(
            data, source=model, target=model, format=format, xcr0=xcr0, xcomp_bv=xcomp_bv
        )
    except StateLossError as loss:
        numbers = sorted(model.component(name).number for name in loss.lost)
        return Converted(format, hex(mask), lost=tuple(numbers))
    except XsaveError:
        return Converted(format, hex(mask), refused=True)
    return Converted(format, hex(mask), _image(bytes(found.data)))


def _lines(vectors: Vectors, head: Sequence[str]) -> Iterator[str]:
    """The same in lines of words; the README says what each is."""
    yield from (f"# {line}" for line in head)
    for cpu in vectors.cpus:
        yield f"cpu {cpu.name} {cpu.xcr0} {cpu.xss} {cpu.mxcsr_mask} {cpu.standard_size}"
        for number, registers in cpu.leaf_0xd.items():
            yield f"leaf {number} {' '.join(registers)}"
        for walk in cpu.walks:
            places = (f"{number}:{offset}" for number, offset in walk.offsets.items())
            yield " ".join(("walk", walk.xcomp_bv, str(walk.size), *places))
        for area in cpu.areas:
            yield _words("area", area.name, area.image)
            if area.meaning:
                numbers = ",".join(map(str, area.meaning.in_use)) or "-"
                yield f"means {area.meaning.mxcsr} {numbers}"
            for target, refusals in area.check.items():
                found = [f"{each.rule}@{each.offset}" for each in refusals] or ["-"]
                yield " ".join(("check", target, *found))
            for each in area.conversions:
                what = f"{each.format} {each.mask}"
                if each.image:
                    yield _words("to", what, each.image)
                else:
                    yield f"lost {what} {','.join(map(str, each.lost)) or '-'}"


def _words(word: str, what: str, image: Image) -> str:
    runs = (f"{offset}:{data}" for offset, data in image.runs)
    return " ".join((word, what, str(image.size), *runs))
