"""JSON Schemas of the YAML language, ``python -m xsaveschema.authoring.schema_export``.

Writes ``schemas/*.schema.json`` from the types that read the documents. With ``--check`` it writes
nothing and exits 1 where a file is not what it would write.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from xsaveschema.io import write_file
from xsaveschema.language.files import shipped_directory
from xsaveschema.language.grammar import KINDS, json_schema


def export() -> dict[str, str]:
    """The text of every schema file by its name."""
    return {
        f"{kind}.schema.json": json.dumps(json_schema(kind), indent=2, ensure_ascii=False) + "\n"
        for kind in KINDS
    }


def stale(folder: Path) -> list[Path]:
    """The schema files in a folder that are missing or not current."""
    found = []
    for name, text in export().items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            found.append(path)
    return found


def main(arguments: list[str]) -> int:
    """Write the schema files, or check them; the process's exit code."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m xsaveschema.authoring.schema_export [--check]", file=sys.stderr)
        return 2
    folder = shipped_directory()
    old = stale(folder)
    for path in old:
        if arguments:
            print(f"{path} is not current; run python -m xsaveschema.authoring.schema_export")
        else:
            write_file(path, export()[path.name].encode())
            print(f"wrote {path}")
    return 1 if arguments and old else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
