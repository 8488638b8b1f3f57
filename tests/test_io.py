"""Files in shared folders: whole or not at all, never more open, never somebody else's."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from xsaveschema.errors import XsaveError
from xsaveschema.io import open_own, open_regular, permissions, read_regular, replacing, write_file


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("like", "replaced", "want"),
    [
        (0o666, None, 0o644),
        (0o600, None, 0o600),
        (0o640, None, 0o640),
        (0o444, None, 0o444),
        (0o666, 0o600, 0o600),
        (0o600, 0o664, 0o664),
    ],
)
def test_permissions(like: int, replaced: int | None, want: int, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if replaced is not None:
        out.write_bytes(b"before")
        out.chmod(replaced)
    with replacing(out, like) as file:
        (new,) = set(tmp_path.iterdir()) - {out}
        assert mode(new) == (0o600 if replaced is not None else want)
        file.write(b"after")
    assert (mode(out), out.read_bytes()) == (want, b"after")
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt(), OSError(28, "No space")])
def test_whole_or_not_at_all(error: BaseException, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_bytes(b"before")

    def write() -> None:
        with replacing(out) as file:
            file.write(b"half")
            raise error

    with pytest.raises(type(error)) as caught:
        write()
    assert out.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [out]
    if isinstance(caught.value, OSError):
        assert caught.value.filename == str(out)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives away")
def test_the_owner_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_bytes(b"before")
    os.chown(out, 1234, 2345)
    with replacing(out) as file:
        file.write(b"after")
    assert (out.stat().st_uid, out.stat().st_gid) == (1234, 2345)


def test_what_a_group_may_is_not_another_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.write_bytes(b"before")
    try:
        os.chown(out, -1, 2345)
    except PermissionError:
        pytest.skip("this user cannot give files to a group")
    out.chmod(0o664)

    def refused(*_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refused)
    with replacing(out) as file:
        file.write(b"after")
    assert mode(out) == 0o604


def test_an_own_file_is_made_and_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "own"
    with pytest.raises(FileNotFoundError):
        open_own(path)
    with open_own(path, 0o600) as file:
        file.write(b"begun")
    assert mode(path) == 0o600
    with open_own(path, 0o600) as file:
        assert file.read() == b"begun"


@pytest.mark.parametrize(
    "kind", ["link", "dangling link", "hard link", "fifo", "folder", "other's"]
)
def test_what_somebody_may_have_prepared(kind: str, tmp_path: Path) -> None:
    path, other = tmp_path / "own", tmp_path / "other"
    other.write_bytes(b"other")
    if kind == "link":
        path.symlink_to(other)
    elif kind == "dangling":
        path.symlink_to(tmp_path / "none")
    elif kind == "hard link":
        path.hardlink_to(other)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        if os.geteuid() != 0:
            pytest.skip("only root gives files away")
        path.write_bytes(b"prepared")
        os.chown(path, 1234, -1)
    for made in (0o600, None):
        with pytest.raises(XsaveError, match="is no file of this user's alone"):
            open_own(path, made)
    assert other.read_bytes() == b"other"
    assert not (tmp_path / "none").exists()


def test_regular_files_alone_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for path, said in ((tmp_path, "folder"), (tmp_path / "fifo", "no reg"), ("nul\0", "null")):
        with pytest.raises(XsaveError, match=said):
            open_regular(path)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert permissions(tmp_path / "fifo") == 0o666


def test_a_file_is_not_waited_for_that_becomes_a_fifo(tmp_path: Path) -> None:
    """Between the look and the opening."""
    code = """
import os, sys
from pathlib import Path
from xsaveschema.io import open_regular
path = Path(sys.argv[1])
path.write_bytes(b"x")
real = os.open
def swapped(*args, **more):
    path.unlink()
    os.mkfifo(path)
    return real(*args, **more)
os.open = swapped
open_regular(path)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "file")],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert "is no regular file" in done.stderr


def test_a_device_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_file(pipe, b"some")
    assert os.read(reader, 8) == b"some"
    os.close(reader)
    for place in (pipe, tmp_path):
        with pytest.raises(XsaveError, match="cannot be replaced"), replacing(place):
            pass
    with pytest.raises(IsADirectoryError) as caught:
        write_file(tmp_path, b"some")
    assert caught.value.filename == str(tmp_path)
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_regular_file_is_read_as_far_as_asked(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1234")
    assert (read_regular(path, 3), read_regular(path, 9)) == (b"123", b"1234")
    with pytest.raises(XsaveError, match="is a folder"):
        read_regular(tmp_path, 3)
