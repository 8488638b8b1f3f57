"""The example notebook runs, and its cells show pictures."""

from __future__ import annotations

import warnings
from pathlib import Path
from xml.etree import ElementTree

import pytest
from places import ROOT

nbformat = pytest.importorskip("nbformat", reason="the extra dev has nbformat")
nbclient = pytest.importorskip("nbclient", reason="the extra dev has nbclient")
pytest.importorskip("ipykernel", reason="the extra dev has ipykernel")

NOTEBOOK = ROOT / "examples" / "pictures.ipynb"


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Jupyter's own packages
        resources = {"metadata": {"path": str(tmp_path)}}
        nbclient.NotebookClient(notebook, timeout=60, resources=resources).execute()
    shown = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert len(shown) == 5
    for (output,) in shown:
        picture = ElementTree.fromstring(output.data["text/html"])
        assert picture.tag.endswith("svg")
        assert output.data["text/plain"]
    assert "hi16_zmm.zmm[1]" in shown[3][0].data["text/html"]
