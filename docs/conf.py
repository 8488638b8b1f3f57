"""Sphinx: ``python -m sphinx -W docs build/site`` writes the site, without a network."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import xsaveschema
from docs import pages

project = "xsaveschema"
author = "The xsaveschema developers"
copyright = f"2026 {author}"
version = release = xsaveschema.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["Thumbs.db"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4  # links to headings are those of GitHub

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
toc_object_entries = False

html_theme = "furo"
html_title = f"xsaveschema {release}"
html_show_sourcelink = False
html_copy_source = False
templates_path: list[str] = []


def setup(app: object) -> None:
    """Put what is made from data, or stands elsewhere in the checkout, into its page."""
    app.connect("source-read", pages.read)  # type: ignore[attr-defined]
    app.connect("autodoc-process-docstring", pages.spare)  # type: ignore[attr-defined]
    app.connect("build-finished", pages.atlas)  # type: ignore[attr-defined]
