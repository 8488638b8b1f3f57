"""One path from bytes to areas: the commands say of a file what the library says of it."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path

import pytest
from artefact_areas import ZEN4, zen4_core
from command import run

from xsaveschema import artefacts, load_model, samples
from xsaveschema.artefacts.opened import opened
from xsaveschema.artefacts.reader import Options
from xsaveschema.artefacts.registry import FOREIGN
from xsaveschema.errors import XsaveError

AREA = samples.read("zen4-kernel-core")
FRAME = samples.read("zen4-sigframe")
CORE = zen4_core()


def put(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


BAD = {
    "empty": b"",
    "one byte": b"x",
    "text": b"This is no area.\n" * 100,
    "cut area": AREA[:575],
    "cut within a component": AREA[:900],
    "blank": bytes(832),
    "damaged header": put(AREA, 512 + 20, b"\1"),
    "mxcsr of nobody": put(AREA, 24, b"\xff\xff\xff\xff"),
    "no such component": put(AREA, 519, b"\x40"),
    "too large": bytes((16 << 20) + 1),
    "several layouts": samples.read("tiger-lake-xsave"),
    "bad xcomp_bv": samples.read("zen4-bad-header"),
    "cut core": CORE[: len(CORE) // 2],
    "cut core header": CORE[:40],
    "program": put(CORE, 16, b"\2"),
    "core with a bad note": CORE.replace(struct.pack("<II", len(ZEN4), 0x202), b"\xff" * 8),
    "cut frame": FRAME[:1000],
    "damaged frame": put(FRAME, 468, b"\1\0\0\0"),
    "cut minidump": struct.pack("<4sIIIIIQ", b"MDMP", 0xA793, 9, 32, 0, 0, 0),
    "cut gzip": gzip.compress(AREA)[:-20],
    "damaged gzip": put(gzip.compress(CORE), 40, b"\xff" * 40),
    "empty in gzip": gzip.compress(b""),
    "cut xz": b"\xfd7zXZ\0" + bytes(40),
    "unfinished virsh save": b"LibvirtQemudPart" + bytes(100),
    "cut virsh save": b"LibvirtQemudSave" + bytes(20),
    "cut qcow2": b"QFI\xfb\0\0\0\3" + bytes(50),
    "cut QEMU stream": b"QEVM\0\0\0\3" + bytes(50),
    "cut criu": struct.pack("<III", 0x54564319, 0x55053847, 500) + bytes(20),
    "cut xen": struct.pack("<HHIII", 1, 0, 24, 0x54381286, 2) + bytes(16),
    "JSON without areas": b'{"region": [' + b"1, " * 5 + b"1]}",
    **{kind.name: bytes(kind.offset) + kind.magic + bytes(900) for kind in FOREIGN},
}


Areas = Callable[[], Iterable[object]]


def library(areas: Areas) -> str:
    """What the library says; empty where it finds no fault."""
    try:
        list(areas())
    except OSError as error:
        return str(error.strerror)
    except XsaveError as error:
        return ": ".join([*reversed(getattr(error, "__notes__", ())), str(error)])
    return ""


def command(name: str, *args: str, data: bytes | None = None) -> str:
    """What the command says of FILE behind its name; empty where it finds no fault."""
    stderr = run(*args, data=data, code=1).stderr
    _, sign, said = stderr.partition(f"xsaveschema: error: {name}: ")
    assert sign, stderr
    return said.removesuffix("\n")


@pytest.fixture
def commands(tmp_path: Path) -> dict[str, list[str]]:
    """Those that want one area, or all, and judge by the options of the library's defaults."""
    return {
        "decode": ["decode", "{}", "--json"],
        "convert": ["convert", "{}", "--format", "standard", "-o", str(tmp_path / "out")],
        "diff": ["diff", "{}", "sample:zen4-kernel-core"],
    }


def same(commands: dict[str, list[str]], name: str, want: str) -> None:
    for args in commands.values():
        assert command(name, *(part.format(name) for part in args)) == want, args


@pytest.mark.parametrize("kind", BAD)
def test_what_a_file_holds(kind: str, commands: dict[str, list[str]], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(BAD[kind])
    want = library(lambda: artefacts.open(path))
    assert want
    same(commands, str(path), want)
    if opened_unmarked(path):  # identify holds its bytes against the models, whatever they are
        return
    assert command(str(path), "identify", str(path)) == want
    lenient = library(lambda: artefacts.open(path, strict=False))
    assert not lenient or command(str(path), "check", str(path)) == lenient


def opened_unmarked(path: Path) -> bool:
    try:
        with opened(path, Options()) as artefact:
            return artefact.unmarked is not None
    except XsaveError:
        return False


@pytest.mark.parametrize("kind", BAD)
def test_what_comes_by_standard_input(kind: str) -> None:
    want = library(lambda: artefacts.open_stream(BytesIO(BAD[kind])))
    assert want
    assert command("standard input", "decode", "-", "--json", data=BAD[kind]) == want
    assert library(lambda: artefacts.read_bytes(BAD[kind])) == want


@pytest.mark.parametrize("kind", ["core", "frame", "area", "packed area"])
@pytest.mark.parametrize("model", ["skylake-server", "tiger-lake", "zen3"])
def test_another_model(
    kind: str, model: str, commands: dict[str, list[str]], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(
        {"core": CORE, "frame": FRAME, "area": AREA, "packed area": gzip.compress(AREA)}[kind]
    )
    want = library(lambda: artefacts.open(path, load_model(model)))
    assert want
    named = {name: [*args, "--model", model] for name, args in commands.items()}
    same(named, str(path), want)
    assert command(str(path), "check", str(path), "--model", model) == want


def test_what_is_no_file(commands: dict[str, list[str]], tmp_path: Path) -> None:
    fifo, folder, images = tmp_path / "fifo", tmp_path / "folder", tmp_path / "images"
    os.mkfifo(fifo)
    folder.mkdir()
    images.mkdir()
    (images / "core-7.img").write_bytes(b"no image")
    places = [fifo, folder, images, tmp_path / "none", fifo / "below", "/dev/null", "a\0b"]
    for place in [*map(str, places), "pid:nobody", "pid:0", "pid:4194305"]:
        want = library(lambda place=place: artefacts.open(place))  # type: ignore[misc]
        assert want, place
        if "\0" in place:
            assert want in run("decode", place, code=1).stderr
            continue
        more = {"identify": ["identify", "{}"], "check": ["check", "{}"]}
        same(commands | more, place, want)


def test_a_sample_that_is_not_there() -> None:
    want = library(lambda: artefacts.open("sample:nope"))
    assert want.splitlines()[0] == "there is no sample 'nope'; the samples are"
    assert f"xsaveschema: error: {want}\n" in run("decode", "sample:nope", code=2).stderr


def test_a_pipe_that_is_open() -> None:
    for kind in ("cut core", "damaged header"):
        out, into = os.pipe()
        os.write(into, BAD[kind])
        os.close(into)
        try:
            name = f"/dev/fd/{out}"
            said = command(name, "decode", name, "--json")
        finally:
            os.close(out)
        assert said == library(lambda kind=kind: artefacts.read_bytes(BAD[kind]))  # type: ignore[misc]


def test_samples_are_opened_by_name() -> None:
    (found,) = artefacts.open("sample:zen4-sigframe")
    assert bytes(found.area.buffer[:512]) == FRAME[:512]


def test_a_label_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(AREA)
    for args in (["check"], ["convert", "--format", "standard", "-o", str(tmp_path / "out")]):
        said = command(str(path), args[0], str(path), "--area", "thread 7", *args[1:])
        assert said == "has no area 'thread 7'; it has area (#0)"
