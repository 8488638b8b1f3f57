"""Dumps as files: encodings, bounds, and what is no file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cpuid_dumps import (
    FILES,
    LEAF,
    VENDOR,
    refused,
    rows,
    text,
)

from xsaveschema import cpuid
from xsaveschema.cpuid import CpuidDumpError


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "latin-1"])
def test_encodings(name: str, encoding: str) -> None:
    content = text(name)
    if encoding == "latin-1" and name.endswith("-r.txt"):
        content = "# caf\xe9\n" + content
    data = content.encode(encoding)
    if encoding == "utf-16-be":
        data = b"\xfe\xff" + data
    assert list(cpuid.read_bytes(data, "x")) == list(cpuid.read_bytes(text(name).encode(), "x"))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_line_ends(name: str, end: str) -> None:
    data = text(name).replace("\n", end).encode()
    assert list(cpuid.read_bytes(data, "x")) == list(cpuid.read_bytes(text(name).encode(), "x"))


def test_damaged_utf_16() -> None:
    refused(text("tycho.txt").encode("utf-16")[:-1], "damaged UTF-16 at byte")


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    refused(b" " * ((16 << 20) + 1), "more than 16777216 bytes")
    refused('{"cpuid_modifiers": ' + " " * (2 << 20), "characters of JSON")
    refused("<cpudata>" + "<a/>" * (1 << 18), "elements: this is no CPUID dump")
    refused("0x1 0x0 0x0 0x0 0x0 0x0\n" * 1025, "more than 1024 rows for one CPU")
    refused((rows(LEAF, vendor=VENDOR) + "\n") * 4097, "more than 4096 CPUs")


def test_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CpuidDumpError, match="more than 16777216 bytes"):
        cpuid.read(path)


def test_directory_of_many_large_files(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"pu{number}").write_text(text("hwloc/pu0") + "#" * (6 << 20))
    with pytest.raises(CpuidDumpError, match=r"more than [0-9]+ bytes"):
        cpuid.read(tmp_path)


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, Path("/dev/zero")):
        with pytest.raises(CpuidDumpError, match="is no regular file"):
            cpuid.read(path)
    (tmp_path / "dump").mkdir()
    os.mkfifo(tmp_path / "dump" / "pu0")
    with pytest.raises(CpuidDumpError, match="is no regular file"):
        cpuid.read(tmp_path / "dump")


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CpuidDumpError, match="No such file"):
        cpuid.read(tmp_path / "nothing")
    with pytest.raises(CpuidDumpError, match="null"):
        cpuid.read("nul\0name")
    with pytest.raises(CpuidDumpError, match="a directory without a file pu0"):
        cpuid.read(tmp_path)
