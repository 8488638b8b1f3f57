"""What every test of the command line stands on."""

from __future__ import annotations

from pathlib import Path

import pytest

from xsaveschema import samples


@pytest.fixture
def area(tmp_path: Path) -> Path:
    """The kernel's area of the samples, as a file."""
    path = tmp_path / "area.bin"
    path.write_bytes(samples.read("zen4-kernel-core"))
    return path


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("XSAVESCHEMA_PATH", raising=False)
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
