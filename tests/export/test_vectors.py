"""Test vectors: held against a walk of one's own over leaf 0xD, a JSON Schema and the processor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jsonschema
import processor
import pytest

import xsaveschema as xs
from xsaveschema import export
from xsaveschema.model import Field

MODELS = [model.name for model in xs.Catalog().models()]
COMPACTED = 1 << 63


def vectors(*cpus: str) -> Any:
    return json.loads(export.render("vectors", cpus)["vectors.json"])


def image(told: Any) -> bytes:
    data = bytearray(told["size"])
    for offset, run in told["runs"]:
        piece = bytes.fromhex(run)
        data[offset : offset + len(piece)] = piece
    assert len(data) == told["size"]
    return bytes(data)


def places(leaf: dict[str, list[str]], mask: int) -> tuple[dict[str, int], int]:
    """SDM 13.4.3, from what CPUID says alone."""
    found, end = {}, 576
    for number in range(63):
        if not mask >> number & 1:
            continue
        if number < 2:
            found[str(number)] = number * 160
            continue
        size, _, flags, _ = (int(word, 16) for word in leaf[str(number)])
        end = (end + 63) // 64 * 64 if flags & 2 else end
        found[str(number)] = end
        end += size
    return found, end


@pytest.mark.parametrize("name", MODELS)
def test_places_follow_from_leaf_0xd(name: str) -> None:
    (cpu,) = vectors(name)["cpus"]
    leaf = cpu["leaf_0xd"]
    assert int(leaf["0"][0], 16) | int(leaf["0"][3], 16) << 32 == int(cpu["xcr0"], 16)
    assert int(leaf["0"][1], 16) == cpu["standard_size"]
    for walk in cpu["walks"]:
        mask = int(walk["xcomp_bv"], 16)
        assert mask & COMPACTED
        assert (walk["offsets"], walk["size"]) == places(leaf, mask & ~COMPACTED)
    for component in cpu["components"]:
        if component["number"] < 2:
            continue
        size, offset, flags, _ = (int(word, 16) for word in leaf[str(component["number"])])
        told = component["size"], component["offset"] or 0
        assert told == (size, offset)
        assert (component["supervisor"], component["align64"]) == (flags & 1 == 1, flags & 2 == 2)


@pytest.mark.parametrize("name", ["penryn", "haswell", "zen4", "sapphire-rapids"])
def test_what_areas_become_follows_from_the_rules(name: str) -> None:
    """The rules of the format once more, over the vectors alone."""
    (cpu,) = vectors(name)["cpus"]
    counted = 0
    for area in cpu["areas"]:
        data = image(area["image"])
        xstate_bv, xcomp_bv = (int(area[key], 16) for key in ("xstate_bv", "xcomp_bv"))
        assert data[512:528] == xstate_bv.to_bytes(8, "little") + xcomp_bv.to_bytes(8, "little")
        if area["meaning"] is None:
            assert all("image" not in each for each in area["conversions"])
            continue
        packed = bool(xcomp_bv & COMPACTED)
        for each in area["conversions"]:
            mask = int(each["mask"], 16)
            mxcsr = data[24:28] if not packed or xstate_bv & 2 else b"\x80\x1f\0\0"
            live = xstate_bv
            if each["format"] == "compacted" and mxcsr != b"\x80\x1f\0\0":
                live |= 2
            lost = [number for number in range(63) if live & ~mask & ~0 >> number & 1]
            lost = [number for number in range(63) if (live & ~mask) >> number & 1]
            if each["format"] == "standard":
                known = {c["number"]: c for c in cpu["components"]}
                lost += [n for n in known if live >> n & 1 and known[n]["offset"] is None]
                lost = sorted({*lost})
            assert each.get("lost", []) == lost
            if "image" in each:
                counted += 1
                _hold(cpu, data, image(each["image"]), each, live, mxcsr)
    assert counted > 20


def _hold(cpu: Any, data: bytes, out: bytes, told: Any, live: int, mxcsr: bytes) -> None:
    mask = int(told["mask"], 16)
    standard = told["format"] == "standard"
    known = {c["number"]: c for c in cpu["components"]}
    to = places(cpu["leaf_0xd"], mask)[0]
    packed = int.from_bytes(data[520:528], "little")
    at = places(cpu["leaf_0xd"], packed & ~COMPACTED)[0] if packed else {}
    header = live.to_bytes(8, "little") + (0 if standard else mask | COMPACTED).to_bytes(
        8, "little"
    )
    assert out[512:576] == header + bytes(48)
    for number in range(2, 63):
        if not mask >> number & 1:
            continue
        size = known[number]["size"]
        goal = known[number]["offset"] if standard else to[str(number)]
        origin = at[str(number)] if packed and str(number) in at else known[number]["offset"]
        wanted = data[origin : origin + size] if live >> number & 1 else bytes(size)
        assert out[goal : goal + size] == wanted
    assert out[160:416] == (data[160:416] if live & 2 and _in_use(data, 2) else bytes(256))
    if standard or live & 2:
        assert out[24:28] == mxcsr
    if live & 1:
        assert out[:24] + out[32:160] == data[:24] + data[32:160]
    else:
        assert out[:24] == (b"\x7f\x03" if standard else b"\0\0") + bytes(22)


def _in_use(data: bytes, bit: int) -> bool:
    return bool(data[512] & bit)


def test_components_say_what_they_are_while_not_in_use() -> None:
    """Without which nobody can make a standard area of a component that is initial."""
    zen4 = xs.load_model("zen4")
    fields = (Field("key", "u32", 4, 4, initial=0x102),)
    pkru = replace(zen4.components["pkru"], load_fields=lambda: fields)
    model = replace(zen4, components={**zen4.components, "pkru": pkru})
    (cpu,) = json.loads(export.render("vectors", model)["vectors.json"])["cpus"]
    told = {each["name"]: image(each["initial"]) for each in cpu["components"]}
    assert told.pop("x87") == b"\x7f\x03" + bytes(158)
    assert told.pop("sse") == bytes(256)
    assert told.pop("pkru") == bytes(4) + b"\x02\x01\0\0"
    assert not any(map(any, told.values()))


def test_a_cpu_without_sse_is_refused() -> None:
    with pytest.raises(xs.XsaveError, match="vectors need x87 and SSE: XCR0 of zen4 is 0x1"):
        export.render("vectors", xs.load_model("zen4").limited(xcr0=1))


def test_the_schema_fits_and_is_strict() -> None:
    files = export.render("vectors", ["zen4", "sapphire-rapids"])
    schema = json.loads(files["vectors.schema.json"])
    validator = jsonschema.Draft202012Validator(schema)
    told = json.loads(files["vectors.json"])
    validator.validate(told)
    del told["cpus"][0]["areas"][0]["image"]["size"]
    assert not validator.is_valid(told)


def test_lines_of_words_say_the_same() -> None:
    files = export.render("vectors", ["zen4", "haswell"])
    assert list(_as_lines(json.loads(files["vectors.json"]))) == [
        line for line in files["vectors.txt"].splitlines() if not line.startswith("#")
    ]


def _as_lines(told: Any) -> Iterator[str]:
    for cpu in told["cpus"]:
        keys = ("name", "xcr0", "xss", "mxcsr_mask", "standard_size")
        yield " ".join(("cpu", *(str(cpu[key]) for key in keys)))
        for number, words in cpu["leaf_0xd"].items():
            yield " ".join(("leaf", number, *words))
        for walk in cpu["walks"]:
            where = (f"{number}:{offset}" for number, offset in walk["offsets"].items())
            yield " ".join(("walk", walk["xcomp_bv"], str(walk["size"]), *where))
        for area in cpu["areas"]:
            yield " ".join(("area", area["name"], *_image_words(area["image"])))
            if means := area["meaning"]:
                yield f"means {means['mxcsr']} {','.join(map(str, means['in_use'])) or '-'}"
            for target, refusals in area["check"].items():
                found = [f"{each['rule']}@{each['offset']}" for each in refusals]
                yield " ".join(("check", target, *(found or ["-"])))
            for each in area["conversions"]:
                what = (each["format"], each["mask"])
                if "image" in each:
                    yield " ".join(("to", *what, *_image_words(each["image"])))
                else:
                    yield " ".join(("lost", *what, ",".join(map(str, each.get("lost", []))) or "-"))


def _image_words(told: Any) -> list[str]:
    return [str(told["size"]), *(f"{offset}:{run}" for offset, run in told["runs"])]


def test_the_processor_refuses_and_loads_what_the_vectors_say() -> None:
    if reason := processor.real():
        pytest.skip(reason)
    (cpu,) = vectors("host")["cpus"]
    xcr0 = int(cpu["xcr0"], 16)
    if xcr0 != processor.xgetbv(0):
        pytest.skip("the system has enabled other components than leaf 0xD has")
    areas = [area for area in cpu["areas"] if not area["name"].startswith("supervisor")]
    areas = [area for area in areas if area["name"] != "illegal-short"]  # memory does not end
    if "xsavec" not in _instructions(cpu):
        areas = [area for area in areas if not int(area["xcomp_bv"], 16)]
    if not processor.request_amx():  # the system has the processor refuse tiles
        areas = [area for area in areas if not int(area["xstate_bv"], 16) >> 18 & 1]
    cases = [processor.Case(image(area["image"])) for area in areas]
    host = xs.load_model("host")
    loaded = 0
    for area, result in zip(areas, processor.restore_all(cases), strict=True):
        assert result.faulted == bool(area["check"]["xrstor"]), area["name"]
        if result.faulted:
            continue
        found = xs.XsaveArea.parse(result.after, host).registers.read()
        told = area["meaning"]["registers"]
        assert told.keys() <= found.keys()
        for name, value in found.items():
            if name in ("fop", "fip", "fdp") or name.startswith("mm"):
                continue  # AMD saves the first three as 0; the last are the STs once more
            shown = told.get(name, "0x0" if isinstance(value, int) else "00" * len(value))
            got = hex(value) if isinstance(value, int) else value.hex()
            assert got == shown, (area["name"], name)
        loaded += 1
    assert loaded > 10


def _instructions(cpu: Any) -> set[str]:
    announced = int(cpu["leaf_0xd"]["1"][0], 16)
    return {name for bit, name in enumerate(("xsaveopt", "xsavec")) if announced >> bit & 1}
