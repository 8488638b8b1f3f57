"""xsave.h: compiled by every compiler that is here, and held against the package and the processor.

XSAVESCHEMA_C_AREAS is how many random areas are tried; 10,000 without it.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import re
import shutil
import struct
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import captures
import processor
import pytest
from places import ROOT

import xsaveschema as xs
from xsaveschema import CpuModel, export
from xsaveschema.errors import HeaderError, MaskError, StateLossError, TooShortError, XsaveError
from xsaveschema.export import c as c_export
from xsaveschema.export.exporter import identifier
from xsaveschema.model import COMPACTED, XCR0_OFFSET, Field, StateComponent, bits_of
from xsaveschema.restore_rules import RULES
from xsaveschema.spans import Slot

COUNT = int(os.environ.get("XSAVESCHEMA_C_AREAS", "10000"))
CALLS = Path(__file__).with_name("xsave_calls.c")
EXAMPLE = ROOT / "examples" / "vectors" / "c" / "check_vectors.c"
SHIPPED = [*xs.Catalog().models()]
STRICT = ["-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
KINDS = {
    "c11": ["-std=c11"],
    "c11-freestanding": ["-std=c11", "-ffreestanding"],
    "gnu17-conversions": ["-std=gnu17", "-Wconversion", "-Wsign-conversion", "-Wshadow"],
    "c++17": ["-std=c++17"],
    "c++20-freestanding": ["-std=c++20", "-ffreestanding"],
}
COMPILED = [
    (compiler, kind)
    for kind in KINDS
    for compiler in (("g++", "clang++") if "++" in kind else ("gcc", "clang"))
]
TARGETS = ("xrstor", "xrstors", "ptrace", "kvm")
ALIKE = 8
GUARD = b"\xc3" * 64
ERRORS = {StateLossError: "loss", HeaderError: "header", TooShortError: "short", MaskError: "mask"}
LEAF = struct.Struct("<QQII189I4x4Q")
"""struct xsave_leaf."""


def _made() -> list[CpuModel]:
    """What no CPU has yet: components that share bytes, that have other sizes; x87 alone."""
    base = xs.load_model("diamond-rapids")

    def like(name: str, xcr0: int, **changed: StateComponent) -> CpuModel:
        return replace(base, name=name, xcr0=xcr0, components={**base.components, **changed})

    of = base.components
    apx = replace(of["apx"], offset=576 + 64)  # amid AVX
    sizes = {
        "lbr": replace(of["lbr"], size=40 + 24 * 9 + 4),
        "pt": replace(of["pt"], size=64),
        "hwp": replace(of["hwp"], size=16),
        "tilecfg": replace(of["tilecfg"], size=50),
    }
    return [
        like("overlapping", base.xcr0 & ~apx.bit, apx=apx),
        like("resized", base.xcr0, **sizes),
        like("x87-alone", 1),
    ]


MADE = _made()
MODELS = [*SHIPPED, *MADE]


def run(*words: object) -> str:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]
    return done.stdout


def a_compiler(*names: str) -> str:
    found = next(filter(None, map(shutil.which, names or ("gcc", "clang"))), None)
    if os.name != "posix" or found is None:
        pytest.skip(f"there is no {' or '.join(names or ('C compiler',))} here")
    return found


def header(folder: Path, *cpus: CpuModel | str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "xsave.h").write_text(export.render("c", cpus)["xsave.h"])
    return folder / "xsave.h"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return header(tmp_path_factory.mktemp("xsave_h"), *MODELS)


# --- the text, and what compilers make of it -----------------------------------------------------


@pytest.mark.parametrize(("compiler", "kind"), COMPILED)
def test_no_compiler_has_a_word_to_say(
    whole: Path, tmp_path: Path, compiler: str, kind: str
) -> None:
    a_compiler(compiler)
    language = "c++" if "++" in kind else "c"
    words = [*KINDS[kind], *STRICT, "-c", "-o", tmp_path / "x.o"]
    run(compiler, "-x", language, *words, whole)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_all_that_it_asks_for_are_memcpy_and_memset(tmp_path: Path, compiler: str) -> None:
    a_compiler(compiler)
    header(tmp_path, "zen4")
    made = tmp_path / "calls.o"
    options = ["-std=c11", "-ffreestanding", "-Os", "-DLEAVES=&xsave_zen4", f"-I{tmp_path}"]
    run(compiler, *options, "-c", CALLS, "-o", made)
    asked = {line.split()[-1] for line in run("nm", "-u", made).splitlines()}
    assert asked - {"_GLOBAL_OFFSET_TABLE_"} <= {"memcpy", "memset"}


def test_its_own_names_are_given_to_no_cpu() -> None:
    text = (ROOT / "xsaveschema/export/templates/xsave.h.j2").read_text()
    functions = re.findall(r"^XSAVE_FN .*?\bxsave_(\w+?)\(", text, re.M)
    others = re.findall(r"(?:struct|enum) xsave_(\w+) \{|\*xsave_(\w+)\)\(", text, re.M)
    tables = re.findall(r"xsave_(\w+)\[\] =", text)
    names = {*functions, *tables, *("".join(each) for each in others), "legacy", "header"}
    assert {name for name in names if not name.endswith("_")} == {*c_export._OWN.split()}


def test_names_that_c_takes_for_itself(tmp_path: Path) -> None:
    """A CPU called like a function, a component like a struct, fields like words of C and C++."""
    names = ("int", "class", "linux", "a-b", "a_b")
    fields = tuple(Field(name, "u16", 2 * at, 2, stride=2) for at, name in enumerate(names))
    odd = (
        Field("odd", "u64", 13, 8, stride=8),
        Field("pairs", "group", 24, 3, 2, 4, fields=(Field("new", "u16", 1, 2, stride=2),)),
    )
    made = StateComponent(20, "row", 34, 4096, False, False, False, None, lambda: (*fields, *odd))
    base = xs.load_model("haswell")
    model = replace(base, name="size", components={**base.components, "row": made})
    path = header(tmp_path, replace(model, xcr0=model.xcr0 | 1 << 20))
    text = path.read_text()
    assert "xsave_leaf xsave_size_ = {" in text
    assert "struct xsave_row_ {" in text
    assert "uint16_t int_;" in text
    assert "uint8_t odd[8];" in text
    for compiler, language in (("gcc", "c"), ("g++", "c++")):
        if shutil.which(compiler):
            run(compiler, "-x", language, *STRICT, "-c", path, "-o", tmp_path / "x.o")


def test_components_that_differ_are_exported_apart() -> None:
    zen4 = xs.load_model("zen4")
    components = dict(zen4.components)
    components["pkru"] = replace(components["pkru"], load_fields=lambda: ())
    other = replace(zen4, name="other", components=components)
    with pytest.raises(XsaveError, match="component 9 is pkru on zen4 and pkru on other, and not"):
        export.render("c", [zen4, other])
    with pytest.raises(XsaveError, match="c has no option 'x'"):
        export.render("c", "zen4", x=1)
    apart = {"a_b": components["avx"], "a__b": replace(components["pkru"], name="a__b")}
    apart["a_b"] = replace(apart["a_b"], name="a_b")
    rest = {name: components[name] for name in ("x87", "sse")}
    with pytest.raises(XsaveError, match="two things are called a_b in C"):
        export.render("c", replace(zen4, xcr0=0x207, components={**rest, **apart}))


def test_a_struct_is_called_the_same_whatever_else_is_exported() -> None:
    both = export.render("c", ["zen2", "zen4"])["xsave.h"]
    assert "struct xsave_pkru {" in both
    assert "struct xsave_pkru_64 {" in both
    alone = export.render("c", "zen2")["xsave.h"]
    assert "struct xsave_pkru_64 {" in alone
    assert "struct xsave_pkru {" not in alone


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_debug_information_has_the_types(tmp_path: Path, compiler: str) -> None:
    """What pahole, Ghidra and IDA read: offsets of members as the map has them."""
    a_compiler(compiler)
    a_compiler("readelf")
    made = tmp_path / "types.o"
    path = header(tmp_path, "sapphire-rapids")
    options = ["-g", "-fno-eliminate-unused-debug-types", "-c"]
    run(compiler, "-x", "c", *options, path, "-o", made)
    found = members_in(run("readelf", "--debug-dump=info", made))
    model = xs.load_model("sapphire-rapids")
    for name, layout in (
        ("xsave_sapphire_rapids_standard", model.standard_layout()),
        ("xsave_sapphire_rapids_compacted", model.compacted_layout()),
    ):
        told = {member: at for member, at in found[name].items() if not member.startswith("gap_")}
        places = {slot.name: slot.offset for slot in layout if not slot.component.legacy}
        assert told == {"legacy": 0, "header": 512, **places}
    assert found["xsave_legacy"]["mxcsr"] == 24
    assert found["xsave_tilecfg"]["rows"] == 48
    assert found["xsave_lbr_entries"] == {"from": 0, "to": 8, "info": 16}
    if pahole := shutil.which("pahole"):
        text = run(pahole, "-C", "xsave_lbr", made)
        assert re.search(r"entries\[32\]; +/\* +40 +768 \*/", text), text


def members_in(dump: str) -> dict[str, dict[str, int]]:
    """{struct: {member: offset}} of what readelf shows of DWARF."""
    found: dict[str, dict[str, int]] = {}
    struct_name = ""
    tag = name = ""
    for line in dump.splitlines():
        if match := re.search(r"\(DW_TAG_(\w+)\)", line):
            tag = match[1]
            if tag == "structure_type":
                struct_name = ""  # of system headers there are some without
        elif match := re.search(r"DW_AT_name +:.*?(\S+)\s*$", line):
            name = match[1]
            if tag == "structure_type":
                struct_name = name
        elif (match := re.search(r"DW_AT_data_member_location: (\d+)", line)) and tag == "member":
            found.setdefault(struct_name, {})[name] = int(match[1])
    return found


@pytest.mark.parametrize("compiler", ["gcc", "clang", "g++"])
def test_the_program_of_the_documentation(tmp_path: Path, compiler: str) -> None:
    a_compiler(compiler)
    header(tmp_path, "zen4", "sapphire-rapids")
    text = (ROOT / "docs" / "exports.md").read_text()
    (code,) = re.findall(r"^```c\n(.*?)^```$", text, re.M | re.S)
    (tmp_path / "main.c").write_text(code)
    language = ["-xc++", "-std=c++17"] if "++" in compiler else ["-std=c11"]
    words = [*language, *STRICT, "-Wno-missing-field-initializers", tmp_path / "main.c"]
    run(compiler, *words, "-o", tmp_path / "main")
    assert f"`{run(tmp_path / 'main').strip()}`" in text


# --- the functions -------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What a conversion gives: bytes, or the name of an error; and the components lost."""

    result: bytes | str
    lost: int


class Header:
    """xsave.h by ctypes."""

    def __init__(self, library: Path, models: list[CpuModel]):
        self._calls: Any = ctypes.CDLL(str(library))
        u64, size, area = ctypes.c_uint64, ctypes.c_size_t, ctypes.c_void_p
        for name, result, arguments in (
            ("leaf", area, [ctypes.c_uint]),
            ("finish", ctypes.c_int64, [area]),
            ("from_cpuid", ctypes.c_int64, [area, ctypes.c_uint32, area]),
            ("size", ctypes.c_int64, [area, u64, ctypes.c_int]),
            ("offset", ctypes.c_int64, [area, u64, ctypes.c_uint]),
            (
                "relayout",
                ctypes.c_int64,
                [area, area, area, size, area, size, u64, ctypes.c_int, u64, ctypes.c_uint, area],
            ),
            ("check", ctypes.c_int64, [area, ctypes.c_int, area, size, u64, u64, u64]),
            ("initial", None, [ctypes.c_uint, area, size]),
            ("name", ctypes.c_char_p, [ctypes.c_int64]),
            ("strerror", ctypes.c_char_p, [ctypes.c_int64]),
        ):
            function = getattr(self._calls, f"call_{name}")
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)
        self.leaves = {model.name: self.leaf(at) for at, model in enumerate(models)}
        self._out = ctypes.create_string_buffer(1 << 15)

    leaf: Any
    finish: Any
    from_cpuid: Any
    size: Any
    offset: Any
    relayout: Any
    check: Any
    initial: Any
    name: Any
    strerror: Any

    def table(self, model: CpuModel) -> bytes:
        return ctypes.string_at(self.leaves[model.name], LEAF.size)

    def convert(
        self,
        data: bytes,
        source: CpuModel,
        target: CpuModel,
        mask: int,
        compacted: bool,
        drop: int = 0,
        software: str = "keep",
        room: int | None = None,
    ) -> Outcome:
        """Into memory that is looked at for what was written beside the result."""
        lost = ctypes.c_uint64(0xEE)
        out = self._out
        room = len(out) - 128 if room is None else room
        ctypes.memset(out, GUARD[0], len(out))
        size = self.relayout(
            self.leaves[source.name],
            self.leaves[target.name],
            data,
            len(data),
            ctypes.addressof(out) + 64,
            room,
            mask,
            compacted,
            drop,
            int(software == "zero"),
            ctypes.byref(lost),
        )
        end = 64 + max(0, size)
        assert out.raw[:64] == GUARD, "written in front of the result"
        assert out.raw[end : end + 64] == GUARD, "written behind the result, or after an error"
        return Outcome(out.raw[64:end] if size >= 0 else self.name(size).decode(), lost.value)


@pytest.fixture(scope="module")
def calls(whole: Path) -> Header:
    compiler = a_compiler()
    made = whole.with_name("calls.so")
    leaves = ",".join(f"&xsave_{identifier(model.name)}" for model in MODELS)
    options = ["-std=c11", "-O2", "-shared", "-fPIC", f"-DLEAVES={leaves}", f"-I{whole.parent}"]
    run(compiler, *options, CALLS, "-o", made)
    return Header(made, MODELS)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_tables_say_what_models_say(calls: Header, model: CpuModel) -> None:
    table = calls.table(model)
    xcr0, xss, mxcsr_mask, features, *rest = LEAF.unpack(table)
    rows, (user, supervisor, xfd, _) = rest[:189], rest[189:]
    assert (xcr0, xss, mxcsr_mask) == (model.xcr0, model.xss, model.mxcsr_mask)
    assert (user, supervisor) == (model.user_mask, model.supervisor_mask)
    for number in range(63):
        component = model.by_number.get(number)
        told = rows[3 * number : 3 * number + 3]
        if component is None:
            assert told == [0, 0, 0]
            continue
        flags = component.supervisor | component.align64 << 1 | component.xfd << 2
        assert told == [component.size, component.offset or 0, flags]
        assert bool(xfd & component.bit) == component.xfd
    names = ("xsaveopt", "xsavec", "xgetbv1", "xsaves", "xfd")
    assert {name for at, name in enumerate(names) if features >> at & 1} == model.instructions
    # What follows from the rows is derived the same by the header.
    derived = ctypes.create_string_buffer(table[: -4 * 8] + b"\xee" * 32, LEAF.size)
    assert calls.finish(derived) == 0
    assert derived.raw == table


@pytest.mark.parametrize("model", SHIPPED, ids=lambda model: model.name)
def test_a_leaf_from_cpuid(calls: Header, model: CpuModel) -> None:
    """It has the components that CPUID shows, as a model has them that is read from the same."""
    leaf = model.cpuid_leaf_0xd()
    words = [word for subleaf in range(63) for word in leaf.get(subleaf, (0, 0, 0, 0))]
    made = ctypes.create_string_buffer(LEAF.size)
    registers = (ctypes.c_uint32 * len(words))(*words)
    assert calls.from_cpuid(registers, model.mxcsr_mask, made) == 0
    xcr0, xss, mxcsr_mask = LEAF.unpack(made.raw)[:3]
    assert (xcr0, xss, mxcsr_mask) == (model.xcr0, model.xss, model.mxcsr_mask)
    for mask, compacted in ((xcr0, False), (xcr0, True), (xcr0 | xss, True)):
        layout = model.compacted_layout(mask) if compacted else model.standard_layout(mask)
        assert calls.size(made, mask, compacted) == layout.size
    # Rows that no processor has are refused.
    for row, word, value in ((2, 0, 1 << 21), (2, 1, 512), (2, 1, 1 << 21)):
        bad = (ctypes.c_uint32 * len(words))(*words)
        bad[4 * row], bad[4 * row + 1], bad[4 * row + 2] = 256, 576, 0
        bad[4 * row + word] = value
        assert calls.name(calls.from_cpuid(bad, 0xFFFF, made)) == b"leaf"
    registers[0] |= 1 << 40 % 32 | 1 << 30
    assert calls.name(calls.from_cpuid(registers, 0xFFFF, made)) == b"leaf"


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_places(calls: Header, model: CpuModel) -> None:
    rng = random.Random(model.name)
    leaf = calls.leaves[model.name]
    known = model.user_mask | model.supervisor_mask
    for _ in range(60):
        mask = rng.getrandbits(64) & rng.choice((known, model.user_mask))
        if rng.random() < 0.1:
            mask |= 1 << rng.randrange(63)
        for compacted in (False, True):
            make = model.compacted_layout if compacted else model.standard_layout
            try:
                layout = make(mask)
            except MaskError:
                assert calls.name(calls.size(leaf, mask, compacted)) == b"mask"
                continue
            assert calls.size(leaf, mask, compacted) == layout.size
        if mask & ~known:
            assert calls.name(calls.offset(leaf, mask | COMPACTED, 0)) == b"mask"
            continue
        layout = model.compacted_layout(mask)
        for number in range(70):
            told = calls.offset(leaf, mask | COMPACTED, number)
            if number in layout:
                assert told == layout[number].offset
            else:
                assert calls.name(told) == (b"no-place" if number in model.by_number else b"mask")
    for component in model.components.values():
        told = calls.offset(leaf, 0, component.number)
        if component.offset is None:
            assert calls.name(told) == b"no-place"
        else:
            assert told == component.offset
    assert calls.name(calls.offset(leaf, 3, 0)) == b"header"


def test_initial_values(calls: Header) -> None:
    for model in MODELS:
        for component in model.components.values():
            if not component.legacy:
                out = ctypes.create_string_buffer(b"\xee" * component.size, component.size)
                calls.initial(component.number, out, component.size)
                assert out.raw == component.initial


# --- conversions ---------------------------------------------------------------------------------


class Case(NamedTuple):
    """A conversion, and everything that it depends on."""

    data: bytes
    source: CpuModel
    target: CpuModel
    mask: int
    compacted: bool
    drop: int
    software: str


def cases(count: int, seed: int = 0) -> Iterator[Case]:
    """Areas that no processor would write among those that one would; ALIKE with one header."""
    rng = random.Random(seed)
    for _ in range(0, count, ALIKE):
        source = rng.choice(MODELS if rng.random() < 0.7 else MADE)
        target = (
            source if rng.random() < 0.5 else rng.choice(MODELS if rng.random() < 0.7 else MADE)
        )
        compacted = rng.random() < 0.5
        known = target.user_mask | (target.supervisor_mask if compacted else 0)
        mask = rng.choice((target.xcr0, rng.getrandbits(63) & known, target.xcr0 & known))
        if rng.random() < 0.03:
            mask |= 1 << rng.randrange(63)
        masks = _masks(rng, source)
        some = 1 << rng.randrange(20) | 1 << rng.randrange(20)
        for _ in range(ALIKE):
            data = area(rng, source, *masks)
            drop = rng.choice((0, 0, some, source.user_mask | source.supervisor_mask))
            software = rng.choice(("keep", "keep", "zero"))
            yield Case(data, source, target, mask, compacted, drop, software)


def _masks(rng: random.Random, model: CpuModel) -> tuple[int, int]:
    """XSTATE_BV and XCOMP_BV."""
    packed = rng.random() < 0.5
    known = model.user_mask | (model.supervisor_mask if packed else 0)
    places = rng.choice((known, model.xcr0, rng.getrandbits(63) & known, 1 << rng.randrange(2)))
    xstate_bv = rng.choice((places, rng.getrandbits(63) & places, 0))
    xcomp_bv = places | COMPACTED if packed else 0
    if rng.random() < 0.03:
        xstate_bv |= 1 << rng.randrange(64)
    if rng.random() < 0.03:
        xcomp_bv ^= 1 << rng.randrange(64)
    return xstate_bv, xcomp_bv


def area(rng: random.Random, model: CpuModel, xstate_bv: int, xcomp_bv: int) -> bytes:
    """An area with such a header, in and around the length that it tells."""
    known = model.user_mask | model.supervisor_mask
    needed, pkru = 576, None
    if not (xstate_bv | xcomp_bv & ~COMPACTED) & ~known:
        if xcomp_bv & COMPACTED:
            layout = model.compacted_layout(xcomp_bv)
            needed = layout.size
            pkru = next((slot for slot in layout if slot.number == 9), None)
        else:
            components = model.components.values()
            slots = [Slot(c, c.offset or 0) for c in components if xstate_bv & c.bit]
            needed = max([576, *(slot.end for slot in slots)])
            pkru = next((slot for slot in slots if slot.number == 9), None)
    length = needed + rng.choice((0, 0, 0, 4, 200, -1 if needed > 576 else 0))
    data = bytearray(rng.randbytes(length) if rng.random() < 0.8 else bytes(length))
    if rng.random() < 0.3:
        data[576:] = bytes(len(data) - 576)
        for _ in range(3):
            data[rng.randrange(576, len(data)) if len(data) > 576 else 0] = 0x55
    if pkru and rng.random() < 0.7:  # the component that has two sizes; the rest of it is reserved
        data[pkru.offset + 4 : pkru.end] = bytes(len(data[pkru.offset + 4 : pkru.end]))
    if rng.random() < 0.6:
        data[24:28] = rng.choice((0x1F80, 0x1F80, 0x1FA0)).to_bytes(4, "little")
    data[XCR0_OFFSET:512] = _software(rng, model, xstate_bv, data)
    if rng.random() < 0.7:
        data[528:576] = bytes(48)
    data[512:528] = struct.pack("<QQ", xstate_bv, xcomp_bv)
    return bytes(data)


def _software(rng: random.Random, model: CpuModel, xstate_bv: int, area: bytearray) -> bytes:
    kind = rng.randrange(6)
    mask = rng.choice((model.xcr0, rng.choice(MODELS).user_mask, rng.getrandbits(20), xstate_bv))
    mask = mask & ~COMPACTED | rng.choice((3, 3, 3, 3, 3, 3, 2, COMPACTED | 3))
    if kind == 0:
        return rng.randbytes(48)
    if kind == 1:
        return bytes(48)
    if kind == 2:
        return (bytes(rng.randrange(8)) + rng.randbytes(48))[:48]
    if kind == 3:
        return mask.to_bytes(8, "little") + bytes(39) + rng.choice((b"\0", b"\1"))
    size = rng.choice((len(area), len(area) - 4, 576, 575, 0xFFFFFFFF, len(area) + 4))
    if 0 <= size <= len(area) - 4 and rng.random() < 0.7:
        area[size : size + 4] = (0x46505845).to_bytes(4, "little")
    extended = size + rng.choice((4, 116, 8))
    words = struct.pack("<IIQI", 0x46505853, extended & 0xFFFFFFFF, mask, size)
    return words + bytes(27) + rng.choice((b"\0", b"\0", b"\1"))


def ours(case: Case) -> Outcome:
    """What the package makes of it, in the header's terms."""
    word = "compacted" if case.compacted else "standard"
    masks = {"xcomp_bv" if case.compacted else "xcr0": case.mask}
    try:
        found = xs.relayout(
            case.data,
            source=case.source,
            target=case.target,
            format=word,  # type: ignore[arg-type]
            drop=list(bits_of(case.drop)),
            software=case.software,  # type: ignore[arg-type]
            assume=True,
            **masks,  # type: ignore[arg-type]
        )
    except StateLossError as error:
        return Outcome("loss", _bits(case.source, error.lost))
    except XsaveError as error:
        return Outcome(ERRORS[type(error)], 0)
    return Outcome(bytes(found.data), _bits(case.source, found.dropped))


def _bits(model: CpuModel, names: tuple[str, ...]) -> int:
    numbers = {model.name_of(number): number for number in range(63)}
    return sum(1 << numbers[name] for name in names)


def test_random_areas_become_the_same(calls: Header) -> None:
    seen: Counter[str] = Counter()
    for case in cases(COUNT):
        wanted, found = ours(case), calls.convert(*case)
        if wanted.result == "loss":
            # Ours names what may not be lost, the header all that would be.
            found = found._replace(lost=found.lost & ~case.drop)
        assert found == wanted, case
        kind = wanted.result if isinstance(wanted.result, str) else "converted"
        seen[kind if kind != "converted" or case.source is case.target else "moved"] += 1
        seen["dropped"] += bool(wanted.lost) and kind == "converted"
    assert seen.keys() == {"converted", "moved", "dropped", "loss", "header", "short", "mask"}
    assert min(seen.values()) > COUNT / 200, seen


def test_arguments(calls: Header) -> None:
    zen4 = xs.load_model("zen4")
    leaf = calls.leaves["zen4"]
    full = bytes(xs.XsaveArea.new(zen4, "standard"))
    size = zen4.standard_layout().size
    assert calls.convert(full, zen4, zen4, 0x2E7, False, room=size).result == full
    assert calls.convert(full, zen4, zen4, 0x2E7, False, room=size - 1).result == "room"
    for given, wanted in (
        ((None, leaf, full, full), "argument"),
        ((leaf, None, full, full), "argument"),
        ((leaf, leaf, None, full), "argument"),
        ((leaf, leaf, full, None), "room"),
    ):
        source, target, data, out = given
        found = calls.relayout(source, target, data, size, out, size, 0x2E7, 0, 0, 0, None)
        assert calls.name(found) == wanted.encode()
    memory = ctypes.create_string_buffer(full + full + bytes(1))
    base = ctypes.addressof(memory)
    for distance in (0, 1, size - 1, size):
        for at, to in ((0, distance), (distance, 0)):
            ctypes.memmove(base, full + full, 2 * size)
            before = memory.raw
            words = (base + at, size, base + to, size, 0x2E7, 0, 0, 0, None)
            found = calls.relayout(leaf, leaf, *words)
            if distance == size:
                assert found == size
            else:
                ctypes.memmove(base + at, full, size)
                before = memory.raw
                found = calls.relayout(leaf, leaf, *words)
                assert calls.name(found) == b"overlap"
                assert memory.raw == before
    assert calls.name(calls.check(None, 0, full, size, 7, 0, 0)) == b"argument"
    assert calls.name(calls.check(leaf, 0, None, size, 7, 0, 0)) == b"argument"
    assert calls.name(calls.check(leaf, 0, full, 575, 7, 0, 0)) == b"short"
    assert calls.name(calls.check(leaf, 0, full, size, 7, 4, 0)) == b"mask"


def test_every_error_has_a_name_and_says_something(calls: Header) -> None:
    found = {calls.name(code).decode(): calls.strerror(code).decode() for code in range(-99, 2)}
    rules = {name: rule.says for name, rule in RULES.items() if name not in c_export._OTHERS}
    assert found.pop("ok") == "Nothing is wrong."
    assert found.pop("unknown") == "This is no error of xsave.h."
    assert {name: found.pop(name) for name in rules} == rules
    assert found == c_export._ERRORS


# --- what a restore refuses ----------------------------------------------------------------------


def first_fault(data: bytes, model: CpuModel, target: str, **options: int) -> str:
    """What the package says is raised first, values of components aside."""
    faults = xs.check(data, model, target, **options)  # type: ignore[arg-type]
    rules = [fault.rule for fault in faults if fault.rule not in c_export._OTHERS]
    return rules[0] if rules else "ok"


def test_random_areas_are_refused_alike(calls: Header) -> None:
    rng = random.Random(0)
    seen: Counter[str] = Counter()
    for _ in range(COUNT // 2):
        model = rng.choice(MODELS if rng.random() < 0.9 else MADE)
        data = bytearray(area(rng, model, *_masks(rng, model)))
        if rng.random() < 0.8:
            data[528:576] = bytes(48)
            data[rng.randrange(528, 576)] = rng.choice((0, 0, 0, 0, 1))
        if rng.random() < 0.3:
            data[24:28] = (model.mxcsr_mask + rng.choice((0, 1))).to_bytes(4, "little")
        if rng.random() < 0.3:
            data += bytes(max(0, model.standard_layout().size - len(data)))
        if rng.random() < 0.2:
            data += bytes(max(0, 4096 - len(data)))
        target = rng.choice(TARGETS)
        rfbm = rng.choice(((1 << 64) - 1, rng.getrandbits(20), 0))
        xfd = rng.choice((0, sum(c.bit for c in model.components.values() if c.xfd)))
        address = rng.choice((0, 64, 1)) if rng.random() < 0.1 else 0
        told = calls.check(
            calls.leaves[model.name],
            TARGETS.index(target),
            bytes(data),
            len(data),
            rfbm,
            xfd,
            address,
        )
        wanted = first_fault(bytes(data), model, target, rfbm=rfbm, xfd=xfd, address=address)
        assert calls.name(told).decode() == wanted, (data, model, target, rfbm, xfd, address)
        seen[wanted] += 1
    assert seen.keys() == {"ok", *RULES} - c_export._OTHERS


# --- against what others say ---------------------------------------------------------------------

VECTORS = ("penryn", "haswell", "skylake-server", "zen2", "zen4", "sapphire-rapids")


def test_the_vectors(calls: Header) -> None:
    told = json.loads(export.render("vectors", VECTORS)["vectors.json"])
    for cpu in told["cpus"]:
        model = xs.load_model(cpu["name"])
        leaf = calls.leaves[model.name]
        assert calls.size(leaf, int(cpu["xcr0"], 16), False) == cpu["standard_size"]
        for walk in cpu["walks"]:
            mask = int(walk["xcomp_bv"], 16)
            assert calls.size(leaf, mask, True) == walk["size"]
            for number, offset in walk["offsets"].items():
                assert calls.offset(leaf, mask, int(number)) == offset
        for each in cpu["areas"]:
            data = image(each["image"])
            for at, target in enumerate(TARGETS[:3]):
                found = calls.name(calls.check(leaf, at, data, len(data), (1 << 64) - 1, 0, 0))
                wanted = [refusal["rule"] for refusal in each["check"][target]] or ["ok"]
                assert found.decode() == wanted[0], (cpu["name"], each["name"], target)
            for become in each["conversions"]:
                mask, compacted = int(become["mask"], 16), become["format"] == "compacted"
                outcome = calls.convert(data, model, model, mask, compacted)
                if "image" in become:
                    assert outcome == (image(become["image"]), 0)
                elif become.get("refused"):
                    assert outcome.result in ("header", "short")
                else:
                    assert (outcome.result, [*bits_of(outcome.lost)]) == ("loss", become["lost"])


def image(told: Any) -> bytes:
    data = bytearray(told["size"])
    for offset, run in told["runs"]:
        data[offset : offset + len(run) // 2] = bytes.fromhex(run)
    return bytes(data)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> tuple[Header, CpuModel]:
    """The header for this machine's processor."""
    if reason := processor.available():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("host")
    model = xs.load_model("host")
    header(folder, model)
    made = folder / "calls.so"
    options = ["-std=c11", "-O2", "-shared", "-fPIC", "-DLEAVES=&xsave_host", f"-I{folder}"]
    run(a_compiler(), *options, CALLS, "-o", made)
    return Header(made, [model]), model


def test_the_processor_writes_what_the_header_makes(host: tuple[Header, CpuModel]) -> None:
    """XSAVE and XSAVEC of the same state, converted into one another; and restored again."""
    calls, model = host
    if not processor.has("xsavec"):
        pytest.skip("this processor has no XSAVEC")
    processor.request_amx()
    rng = random.Random(1)
    leaf, xcr0 = calls.leaves[model.name], processor.xgetbv(0)
    if xcr0 != model.xcr0:
        pytest.skip("the system has enabled other components than leaf 0xD has")
    converted = []
    for _ in range(60):
        state = _state(rng, xcr0)
        mxcsr = rng.choice((0x1F80, 0x1FA0, 0x9F80))
        area = processor.build_area(state, mxcsr=mxcsr)
        whole, packed = model.standard_layout(), model.compacted_layout(xcr0)
        standard = processor.save("xsave64", area, size=whole.size)
        compacted = processor.save("xsavec64", area, size=packed.size)
        # XSAVEC tells by XSTATE_BV[1] that MXCSR is live, XSAVE need not (HW); see docs/format.md.
        found = calls.convert(standard, model, model, xcr0, True)
        assert found.lost == 0
        assert isinstance(found.result, bytes)
        assert _same_state(model, found.result, compacted)
        back = calls.convert(compacted, model, model, xcr0, False)
        assert isinstance(back.result, bytes)
        assert _same_state(model, back.result, standard)
        for each in (found.result, back.result):
            assert calls.check(leaf, 0, each, len(each), xcr0, 0, 0) == 0
            converted.append(each)
    assert not any(
        each.faulted for each in processor.restore_all(list(map(processor.Case, converted)))
    )


def _state(rng: random.Random, xcr0: int) -> dict[int, bytes]:
    state = {}
    for number, slot in processor.layout().items():
        if not xcr0 >> number & 1 or rng.random() < 0.4:
            continue
        size = slot.stop - slot.start
        state[number] = rng.randbytes(size)
        if number == 0:
            # Control and status that every processor gives back, and addresses.
            st = b"".join(rng.randbytes(10) + bytes(6) for _ in range(8))
            state[0] = struct.pack("<HHBxHQQ8x", 0x37F, 0, 0xFF, 0, 0, 0) + st
        elif number == 9:
            state[9] = (0x55555554).to_bytes(4, "little") + bytes(size - 4)
        elif number in (3, 4):
            state[number] = bytes(size)
        elif number == 17:
            state[17] = processor.legal_tilecfg(rng)
    return state


def _same_state(model: CpuModel, one: bytes, other: bytes) -> bool:
    areas = (xs.XsaveArea.parse(each, model) for each in (one, other))
    first, second = (each.registers.read() for each in areas)
    return first == second


SAVES = {"zen4": "zen4-saves", "sapphire-rapids": "amx-saves"}


@pytest.mark.parametrize("name", SAVES)
def test_the_captures(calls: Header, name: str) -> None:
    """Areas that real processors wrote are converted as the package converts them."""
    model = xs.load_model(name)
    capture = SAVES[name]
    records = captures.records(capture)
    counted = 0
    for record in records[:: max(1, len(records) // 300)]:
        if "off" not in record:
            continue
        data = captures.cut(capture, record["off"], record["len"])
        for compacted in (False, True):
            case = Case(data, model, model, model.xcr0, compacted, 0, "keep")
            wanted, found = ours(case), calls.convert(*case)
            assert found == wanted
            counted += isinstance(wanted.result, bytes)
    assert counted > 200


FAULTS = {"zen4-faults": ("zen4", 0xE7), "amx-faults": ("sapphire-rapids", 0x600E7)}
VECTORS_OF = {"ok": 0, "memory-ends": 14, "xfd-armed": 7}
"""Of every other rule it is that of #GP."""


@pytest.mark.parametrize("name", FAULTS)
def test_the_captures_of_faults(calls: Header, name: str) -> None:
    """What processors refused is refused by a rule of that fault; what they took is not."""
    model, xcr0 = FAULTS[name]
    leaf = ctypes.create_string_buffer(calls.table(xs.load_model(model)), LEAF.size)
    ctypes.memmove(leaf, xcr0.to_bytes(8, "little"), 8)
    records = captures.records(name)
    for record in records:
        length = record.get("avail") or (4096 if name == "zen4-faults" else 11264)
        data = captures.cut(name, record["in_off"], min(length, 11264))
        misaligned = re.match(r"misaligned by (\d+)", record["case"])
        address = int(misaligned[1]) if misaligned else record.get("offset", 0)
        xfd = 1 << 18 if record.get("xfd") else 0
        rfbm = int(record["xrstor_rfbm"], 16)
        found = calls.check(leaf, 0, data, len(data), rfbm, xfd, address)
        raised = {0: 0, 4: 7, 11: record.get("trapno") or 13}[record["signal"]]
        rule = calls.name(found).decode()
        assert VECTORS_OF.get(rule, 13) == raised, (record["case"], rule)
    assert len(records) > 100


# --- the example ---------------------------------------------------------------------------------


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_the_example_tests_the_header_by_the_vectors(tmp_path: Path, compiler: str) -> None:
    """examples/vectors/c, as its README says; and it sees a header that is wrong."""
    a_compiler(compiler)
    path = header(tmp_path, "zen4")
    lines = export.render("vectors", VECTORS)["vectors.txt"]
    (tmp_path / "vectors.txt").write_text(lines)
    made = tmp_path / "check_vectors"
    words = ["-std=c11", *STRICT, f"-I{tmp_path}", EXAMPLE, "-o", made]
    run(compiler, *words)
    said = run(made, tmp_path / "vectors.txt")
    told = re.fullmatch(r"(\d+) CPUs, (\d+) areas, (\d+) checks: all as the vectors say\n", said)
    assert told, said
    assert int(told[1]) == len(VECTORS)
    assert int(told[2]) == lines.count("\narea ")
    text = path.read_text()
    for right, wrong in (
        ("at = (at + 63) & ~UINT64_C(63)", "at += 0"),
        ("if (address % 64)", "if (xcomp_bv)"),
        ("in_use |= 2;", ";"),
    ):
        assert right in text
        path.write_text(text.replace(right, wrong))
        run(compiler, *(word for word in words if word != "-Werror"))
        done = subprocess.run([made, tmp_path / "vectors.txt"], capture_output=True, text=True)
        assert done.returncode == 1
        assert "wrong" in done.stdout
