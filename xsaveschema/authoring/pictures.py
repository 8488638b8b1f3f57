# SPDX-License-Identifier: MIT
"""The primer's pictures: ``python -m xsaveschema.authoring.pictures``.

Writes the files under ``docs/pictures`` of a checkout that are drawn from the map. With ``--check``
it writes nothing and exits 1 where one of them is not what it would write.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from xsaveschema import samples
from xsaveschema.area import XsaveArea
from xsaveschema.authoring.schema_export import keep_current
from xsaveschema.catalog import Catalog
from xsaveschema.compare import compare
from xsaveschema.language.files import shipped_directory
from xsaveschema.svg import area_svg, comparison_svg, layout_svg

COMMAND: Final = "python -m xsaveschema.authoring.pictures"


def pictures() -> dict[str, str]:
    """The pictures, SVG, by file name."""
    zen2, zen3, zen4 = (Catalog().model(name) for name in ("zen2", "zen3", "zen4"))
    return {
        "zen2-zen3.svg": comparison_svg(compare(zen2, zen3)),
        "zen3-standard.svg": layout_svg(zen3.standard_layout()),
        "zen3-compacted.svg": layout_svg(zen3.compacted_layout(zen3.xcr0)),
        "stale.svg": area_svg(XsaveArea.parse(samples.read("zen4-xsavec"), zen4)),
    }


def main(arguments: list[str], folder: Path | None = None) -> int:
    """Write the pictures, or check them; the process's exit code."""
    folder = folder or shipped_directory().parent / "docs" / "pictures"
    if not folder.is_dir():
        print("the pictures belong to a checkout; an installed package has none", file=sys.stderr)
        return 2
    return keep_current(COMMAND, {folder / n: text for n, text in pictures().items()}, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
