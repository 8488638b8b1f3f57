"""What every test of drafts and pages stands on."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_schemas_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XSAVESCHEMA_PATH", raising=False)
