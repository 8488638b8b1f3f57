"""Random areas for implementations of the format in other languages, and what ours makes of them.

A `Case` is one question: a conversion, or a check. `answer` is this package's, in the words that a
driver in another language answers in too: what went wrong, a number, and bytes.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, get_args

import xsaveschema as xs
from xsaveschema.errors import HeaderError, MaskError, StateLossError, TooShortError
from xsaveschema.layout import check_user_mask, legal_part
from xsaveschema.model import bits_of
from xsaveschema.restore_rules import Target
from xsaveschema.traces import FP_XSTATE_MAGIC1, FP_XSTATE_MAGIC2

COMPACTED = 1 << 63
UNTOUCHED = 0xEE
"""What stands in a result's memory before."""
TARGETS: tuple[Target, ...] = get_args(Target)
_ALIKE = 100
_STANDARD_MXCSR = (0x1F80, 0x1F80, 0x1FA0, 0xFFFF, 0x2FFFF, 0x80000000, 0)


Op = Literal["standard", "compacted", "check"]
OPS: tuple[Op, Op] = ("standard", "compacted")
"""The formats that a conversion may ask for."""


class Case(NamedTuple):
    """A question. ``mask`` to ``to`` are a conversion's, the last six a check's.

    ``to`` is the model that an area is moved to, if it is not the one that wrote it.
    """

    op: Op
    model: int
    data: bytes
    mask: int = 0
    drop: int = 0
    keep: bool = True
    room: int = 0
    to: int | None = None
    target: Target = "xrstor"
    rfbm: int = 0
    xfd: int = 0
    address: int = 0
    xcr0: int = 0
    xss: int = 0


class Answer(NamedTuple):
    """``fault`` is empty for a result, its ``number`` then what was dropped; ``data`` is all of the
    memory that it had. Faults: ``short`` (bytes needed), ``header`` (``data`` the rule), ``mask``,
    ``lost`` (a mask), ``room`` (bytes needed), and ``refused``, a check's: the rule, and where.
    """

    fault: str
    number: int
    data: bytes


def subset(rng: random.Random, mask: int) -> int:
    """Some of the bits: often all, often few."""
    kind = rng.random()
    if kind < 0.25:
        return mask
    return mask & rng.getrandbits(64) & (rng.getrandbits(64) if kind > 0.8 else -1)


def cases(models: Sequence[xs.CpuModel], count: int, seed: int) -> Iterator[Case]:
    """Random questions; a hundred share their masks, so that ours need not plan each anew."""
    rng = random.Random(seed)
    dynamic = [index for index, model in enumerate(models) if "xfd" in model.instructions]
    for _ in range(-(-count // _ALIKE)):
        index = rng.randrange(len(models)) if rng.random() < 0.9 else rng.choice(dynamic)
        yield from _alike(rng, models, index)


def _alike(rng: random.Random, models: Sequence[xs.CpuModel], index: int) -> Iterator[Case]:
    model = models[index]
    known = model.user_mask | model.supervisor_mask
    other = rng.randrange(len(models))
    compacted = rng.random() < 0.5
    xcomp_bv = COMPACTED | subset(rng, known) if compacted else 0
    if rng.random() < 0.06:
        xcomp_bv ^= rng.choice((1, 4, 1 << 20, 1 << 40, 1 << 11))
    held = xcomp_bv & ~COMPACTED & known if compacted else model.user_mask
    xstate_bv = subset(rng, held)
    if rng.random() < 0.06:
        xstate_bv ^= rng.choice((1 << 11, 1 << 30, COMPACTED, 4, 1 << 9))
    if compacted:
        size = model.compacted_layout(xcomp_bv & known).size
    else:
        mask = (model.xcr0 | xstate_bv) & model.user_mask
        size = max(c.reach if c.legacy else (c.offset or 0) + c.size for c in _of(model, mask))
    size = max(size, 576)
    masks = {
        "standard": subset(rng, model.user_mask),
        "compacted": subset(rng, known) | rng.choice((0, COMPACTED)),
    }
    if rng.random() < 0.06:
        masks = {op: mask ^ rng.choice((1 << 21, 1 << 61, 1 << 8)) for op, mask in masks.items()}
    for _ in range(_ALIKE):
        data = _bytes(rng, model, size, xstate_bv, xcomp_bv)
        kind = rng.random()
        if kind > 0.7:
            yield _check(rng, model, index, data)
            continue
        op = OPS[kind < 0.35]
        drop = rng.choice((0, 0, known, known & rng.getrandbits(63)))
        room = 16384 if rng.random() < 0.9 else rng.randrange(500, 3000)
        to, mask = index, masks[op]
        if rng.random() < 0.4:
            to, mask = other, mask & (models[other].user_mask | models[other].supervisor_mask)
        yield Case(op, index, data, mask, drop, rng.random() < 0.8, room, to)


def _of(model: xs.CpuModel, mask: int) -> list[xs.StateComponent]:
    return [model.by_number[number] for number in bits_of(mask | 3)]


def _check(rng: random.Random, model: xs.CpuModel, index: int, data: bytes) -> Case:
    target = rng.choice(TARGETS)
    xcr0 = model.xcr0 if rng.random() < 0.7 else subset(rng, model.user_mask)
    try:
        check_user_mask(model, xcr0)
    except MaskError:
        xcr0 = model.xcr0
    if target in ("ptrace", "kvm"):
        xcr0 = legal_part(model, xcr0 | 3)  # a kernel has no other
    xss = model.xss if rng.random() < 0.8 else subset(rng, model.supervisor_mask)
    xfd = sum(c.bit for c in model.components.values() if c.xfd) if rng.random() < 0.3 else 0
    rfbm = rng.choice(((1 << 64) - 1, (1 << 64) - 1, rng.getrandbits(64)))
    address = 0 if rng.random() < 0.9 else rng.choice((64, 32, 63))
    if target == "kvm" and rng.random() < 0.8:
        data = data.ljust(4096, b"\0")
    return Case(
        *("check", index, data),
        target=target,
        rfbm=rfbm,
        xfd=xfd,
        address=address,
        xcr0=xcr0,
        xss=xss,
    )


def _bytes(
    rng: random.Random, model: xs.CpuModel, size: int, xstate_bv: int, xcomp_bv: int
) -> bytes:
    kind = rng.random()
    if kind < 0.55:
        data = bytearray(rng.randbytes(size))
    elif kind < 0.8:  # values that restores take
        data = bytearray(size)
        for _ in range(rng.randrange(4)):
            data[rng.randrange(size)] = rng.randrange(256)
    else:
        data = bytearray([rng.choice((0, 1, 8, 0x40))]) * size
    mxcsr = rng.choice((*_STANDARD_MXCSR, rng.getrandbits(32)))
    struct.pack_into("<II", data, 24, mxcsr, rng.choice((0, 0xFFFF, 0x2FFFF, model.mxcsr_mask)))
    if rng.random() < 0.8:
        data[464:512] = _software(rng, model, size)
    struct.pack_into("<QQ", data, 512, xstate_bv, xcomp_bv)
    stale = rng.random()
    if stale < 0.7:
        data[528:576] = bytes(48)
    elif stale < 0.8:
        data[528 : rng.choice((536, 544))] = bytes(8)
    extent = rng.random()
    if extent < 0.1:
        return bytes(data[: rng.randrange(size + 1)])
    if extent < 0.2:
        return bytes(data[: max(0, size - rng.randrange(64))])
    if extent < 0.3:
        magic = rng.choice((FP_XSTATE_MAGIC2, 0)).to_bytes(4, "little")
        return bytes(data) + magic + rng.randbytes(rng.randrange(64))
    if extent < 0.35:
        return bytes(data) + rng.randbytes(max(0, rng.choice((4096, 4095, 2 * size)) - size))
    return bytes(data)


def _software(rng: random.Random, model: xs.CpuModel, size: int) -> bytes:
    kind = rng.random()
    mask = subset(rng, model.user_mask) | rng.choice((3, 3, 3, 0))
    if rng.random() < 0.1:
        mask ^= 1 << rng.choice((63, rng.randrange(64)))
    if kind < 0.3:
        return bytes(48)
    if kind < 0.6:
        rest = bytes(40) if rng.random() < 0.85 else bytes(39) + b"\1"
        return mask.to_bytes(8, "little") + rest
    if kind < 0.9:
        magic = FP_XSTATE_MAGIC1 if rng.random() < 0.9 else 1
        told = size if rng.random() < 0.9 else rng.choice((575, 576, size + 8, 1 << 31))
        extended = told + rng.choice((4, 4, 116, 8, 0, -4))
        words = struct.pack("<IIQI", magic, extended & 0xFFFFFFFF, mask, told)
        return words + (bytes(28) if rng.random() < 0.9 else bytes(27) + b"\1")
    return rng.randbytes(48)


def answer(case: Case, models: Sequence[xs.CpuModel]) -> Answer:
    """What this package answers."""
    model = models[case.model]
    if case.op == "check":
        return _checked(case, model)
    target = model if case.to is None else models[case.to]
    known = target.user_mask | target.supervisor_mask
    if case.op == "compacted" and case.mask & ~COMPACTED & ~known:
        return Answer("mask", 0, b"")  # the caller's fault comes before the area's
    out = bytearray([UNTOUCHED]) * case.room
    try:
        done = xs.relayout(
            case.data,
            source=model,
            target=target,
            format="standard" if case.op == "standard" else "compacted",
            xcr0=case.mask if case.op == "standard" else None,
            xcomp_bv=case.mask if case.op == "compacted" else None,
            drop=tuple(bits_of(case.drop)),
            out=out,
            software="keep" if case.keep else "zero",
            assume=True,
        )
    except MaskError:
        return Answer("mask", 0, b"")
    except HeaderError as error:
        return Answer("header", 0, error.faults[0].rule.encode())
    except StateLossError as error:
        return Answer("lost", _mask(model, error.lost), b"")
    except TooShortError as error:
        return Answer("room" if str(error).startswith("out=") else "short", error.needed, b"")
    return Answer("", _mask(model, done.dropped), bytes(out))


def _mask(model: xs.CpuModel, names: Sequence[str]) -> int:
    return sum(model.component(name).bit for name in names)


def _checked(case: Case, model: xs.CpuModel) -> Answer:
    linux = case.target in ("ptrace", "kvm")
    if len(case.data) < 576:  # ours has no answer; a processor, and Linux, see memory that ends
        if not linux and case.target == "xrstors" and "xsaves" not in model.instructions:
            return Answer("refused", 0, b"no-xsaves")
        if not linux and case.address % 64:
            return Answer("refused", 0, b"alignment")
        rule = b"linux-size" if linux else b"memory-ends"
        if case.target == "ptrace" and len(case.data) % 8:
            rule = b"ptrace-length"
        return Answer("refused", len(case.data), rule)
    faults = xs.check(
        *(case.data, model, case.target),
        xcr0=case.xcr0,
        xss=case.xss,
        rfbm=case.rfbm,
        address=case.address,
        xfd=case.xfd,
    )
    if not faults:
        return Answer("", 0, b"")
    return Answer("refused", faults[0].offset, faults[0].rule.encode())
