# SPDX-License-Identifier: MIT
"""Files: regular ones opened safely, new ones written whole or not at all, own ones gone on with.

What stands at a path may be hostile: a FIFO that nobody writes to, a device, a link that somebody
else has put there. A result is never open to more people than what it was made from.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Final

from xsaveschema.errors import WrongTypeError, XsaveError, described

UNFINISHED: Final = ".xsaveschema-*.new"
"""The names of files that nobody has finished: what a process that was killed leaves."""
NEW_FILE: Final = 0o666
"""The permissions of a file that is made from nothing secret: the umask decides."""

_DESCRIPTOR: Final = re.compile(r"/(?:dev|proc/self)/fd/[0-9]{1,6}")
"""What a shell calls the pipe of a process substitution, ``<(...)``."""

# Never translate line ends, never hand the file down.
_BINARY: Final = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
# Never wait for the writer of a FIFO, never become a terminal's process.
_UNMOVED: Final = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | _BINARY
_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)
# EXCL: never through a link that somebody has put there.
_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY


def open_regular(path: str | os.PathLike[str], error: type[XsaveError] = XsaveError) -> int:
    """The descriptor of a regular file, open for reading. OSError, and ``error`` for all else."""
    try:
        # Looked at first: opening some devices already does something to them.
        _require_regular(Path(path).stat().st_mode, error)
        file = os.open(path, os.O_RDONLY | _UNMOVED)
    except ValueError as fault:  # a NUL in the name
        raise error(str(fault)) from None
    try:
        _require_regular(os.fstat(file).st_mode, error)
    except BaseException:
        os.close(file)
        raise
    return file


def path_of(path: str | os.PathLike[str]) -> str:
    """The path as text; WrongTypeError for what is none, a file's bytes among it."""
    with suppress(TypeError):
        if isinstance(text := os.fspath(path), str):
            return text
    hint = " (read_bytes takes what is in memory)" if isinstance(path, bytes | bytearray) else ""
    raise WrongTypeError(f"pass the path of a file, not {described(path)}{hint}")


def is_pipe(path: str | os.PathLike[str]) -> bool:
    """Whether this is a pipe that this process has open, ``/dev/fd/63``.

    Somebody writes to it, or has, unlike to a FIFO in a folder, whose writer may never come.
    """
    if not _DESCRIPTOR.fullmatch(os.fspath(path)):
        return False
    with suppress(OSError):
        return stat.S_ISFIFO(Path(path).stat().st_mode)
    return False


def open_pipe(path: str | os.PathLike[str]) -> int:
    """A descriptor of one's own of what :func:`is_pipe` tells to be a pipe."""
    return os.dup(int(os.fspath(path).rpartition("/")[2]))


def read_regular(
    path: str | os.PathLike[str], size: int, error: type[XsaveError] = XsaveError
) -> bytes:
    """The first ``size`` bytes of a regular file at most; errors as :func:`open_regular`'s."""
    with os.fdopen(open_regular(path, error), "rb") as file:
        return file.read(size) or b""  # nothing where it would have to be waited for


def permissions(file: int | str | os.PathLike[str]) -> int:
    """What a result made from this file may have: its permissions; NEW_FILE's of what is no file.

    ``file`` is a path or a descriptor. Raises OSError.
    """
    mode = os.stat(file).st_mode  # noqa: PTH116 - Path has none for descriptors
    return stat.S_IMODE(mode) & 0o777 if stat.S_ISREG(mode) else NEW_FILE


def is_device(output: str | os.PathLike[str]) -> bool:
    """Whether a path is there and is no file, as a pipe: it is written to, and not replaced."""
    try:
        return not stat.S_ISREG(Path(output).stat().st_mode)
    except (FileNotFoundError, ValueError):  # ValueError: a NUL in the name
        return False


@contextmanager
def written(output: str | os.PathLike[str], like: int = NEW_FILE) -> Iterator[FileIO]:
    """What to write ``output`` to: a pipe or a device as it is, else as :func:`replacing`."""
    if not is_device(output):
        with replacing(output, like) as file:
            yield file
        return
    try:
        with FileIO(os.fspath(output), "wb") as file:
            yield file
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(output)) from error


def write_file(
    output: str | os.PathLike[str], data: bytes | bytearray | memoryview, like: int = NEW_FILE
) -> None:
    """Write a file whole or not at all, a pipe or device as it is; see :func:`written`."""
    with written(output, like) as file:
        write_all(file.fileno(), data)


@contextmanager
def replacing(output: str | os.PathLike[str], like: int = NEW_FILE) -> Iterator[FileIO]:
    """A new file, unbuffered, that takes the place of ``output`` when the block ends without error.

    It stands beside ``output`` under another name, and nobody else can open it until it is whole. A
    file that is replaced hands its permissions and owner on; else the file has those of ``like``
    that the umask leaves. A link stays, what it leads to is replaced. OSErrors name ``output``;
    XsaveError for a name that no file can have, or that something else than a file has.
    """
    try:
        target = Path(os.path.realpath(output))
        new = target.with_name(UNFINISHED.replace("*", os.urandom(8).hex()))
        replaced = target.exists()
    except ValueError as error:  # a NUL in the name
        raise XsaveError(f"{os.fspath(output)!r}: {error}") from None
    if is_device(target):
        raise XsaveError(f"{target} is no regular file, and cannot be replaced by one")
    try:
        made = os.open(new, _CREATE, 0o600 if replaced else like & 0o777)
        with FileIO(made, "r+b") as file:
            yield file
            take_place(file, new, target, like)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(new)):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(output)) from error
    finally:
        with suppress(OSError):  # it has taken the other's place
            new.unlink()


def write_folder(folder: str | os.PathLike[str], files: Mapping[str, bytes]) -> None:
    """Write files below a folder, by relative path: all of them, or none; see :func:`replacing`.

    Folders that are missing are made. OSErrors and XsaveErrors as of :func:`replacing`.
    """
    made: list[Path] = []
    try:
        with ExitStack() as stack:
            for name, data in files.items():
                path = Path(folder, name)
                _make_folder(path.parent, made)
                write_all(stack.enter_context(replacing(path)).fileno(), data)
    except BaseException:
        for each in reversed(made):
            with suppress(OSError):  # somebody has put something there
                each.rmdir()
        raise


def _make_folder(path: Path, made: list[Path]) -> None:
    """Make a folder and those above it, and list what was not there, the upper ones first."""
    if not path.exists():
        _make_folder(path.parent, made)
        path.mkdir()
        made.append(path)


def take_place(file: FileIO | BinaryIO, new: Path, target: Path, like: int) -> None:
    """Let ``file``, which is open and stands whole at ``new``, take the place of ``target``.

    It gets the owner and permissions of ``target``; where there is no target, it keeps those of its
    permissions that are in ``like``.
    """
    _settle(file.fileno(), target, like)
    os.fsync(file.fileno())
    new.replace(target)


def _settle(file: int, target: Path, like: int) -> None:
    if not hasattr(os, "fchmod"):
        return
    try:
        status = target.stat()
    except FileNotFoundError:
        os.fchmod(file, stat.S_IMODE(os.fstat(file).st_mode) & like)
        return
    mode = stat.S_IMODE(status.st_mode) & 0o777
    try:
        os.fchown(file, status.st_uid, status.st_gid)
    except OSError:  # only root may give files away
        if os.fstat(file).st_gid != status.st_gid:
            mode &= ~0o070  # what one group may do is not another group's
    os.fchmod(file, mode)


def open_own(path: Path, mode: int | None = None) -> FileIO:
    """A file to go on with, unbuffered: this user's own, under this name alone.

    Made with the permissions ``mode`` where it is not there yet; FileNotFoundError where ``mode``
    is None. XsaveError for what somebody else may have prepared.
    """
    if mode is not None:
        with suppress(FileExistsError):
            return FileIO(os.open(path, _CREATE, mode), "r+b")
    _require_own(path.lstat(), path)
    file = FileIO(os.open(path, os.O_RDWR | _NO_LINK | _UNMOVED), "r+b")
    try:
        _require_own(os.fstat(file.fileno()), path)
    except BaseException:
        file.close()
        raise
    return file


def write_all(file: int, data: bytes | bytearray | memoryview, offset: int | None = None) -> None:
    """Write all of ``data``, at byte ``offset`` where one is named."""
    if offset is not None:
        os.lseek(file, offset, os.SEEK_SET)
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _require_regular(mode: int, error: type[XsaveError]) -> None:
    if stat.S_ISDIR(mode):
        raise error("is a folder")
    if not stat.S_ISREG(mode):
        raise error("is no regular file")


def _require_own(status: os.stat_result, path: Path) -> None:
    own = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
    if not own or status.st_nlink != 1 or not stat.S_ISREG(status.st_mode):
        raise XsaveError(
            f"{path} is no file of this user's alone, and is not gone on with: name another output"
        )
