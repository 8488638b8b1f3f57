"""Schema files are read when they are asked for, each once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xsaveschema import Catalog
from xsaveschema.language import library as library_module
from xsaveschema.language import source


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that the catalogue reads."""
    seen: list[str] = []
    read = source.read

    def noting(path: Path, shown: str | None = None) -> Any:
        seen.append(path.name)
        return read(path, shown)

    monkeypatch.setattr(library_module, "read", noting)
    return seen


def test_a_model_reads_its_own_chain_and_components_on_demand(reads: list[str]) -> None:
    catalog = Catalog()
    assert reads == []
    model = catalog.model("zen4")
    assert (
        sorted(reads) == ["zen.yaml", "zen2.yaml", "zen3.yaml", "zen4.yaml"] or "zen4.yaml" in reads
    )
    assert len(reads) <= 4
    model.standard_layout(0xE7)
    catalog.model("zen4").compacted_layout()
    assert not [name for name in reads if name[:2].isdigit()]
    before = len(reads)
    assert model.components["pkru"].fields
    assert reads[before:] == ["09-pkru.yaml"]
    # What an XCR0 must have beside a component stands in its file.
    model.limited(xcr0=0xE7)
    files = [name[3:-5] for name in reads if name[:2].isdigit()]
    assert sorted(files) == sorted(model.names_of(model.user_mask))
    before = len(reads) - 1
    assert catalog.model("zen3").components["pkru"].fields
    assert reads[before + 1 :] == ["zen3.yaml"] * ("zen3.yaml" not in reads[:before])
    assert model.registers["zmm3"].pieces
    assert reads[-1] == "registers.yaml"


def test_all_models_read_each_file_once(reads: list[str]) -> None:
    catalog = Catalog()
    catalog.models()
    catalog.models()
    assert len(reads) == len(set(reads)) == len(catalog)
