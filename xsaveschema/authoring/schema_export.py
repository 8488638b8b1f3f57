# SPDX-License-Identifier: MIT
"""JSON Schemas of the YAML language, ``python -m xsaveschema.authoring.schema_export``.

Writes ``schemas/*.schema.json`` from the types that read the documents. With ``--check`` it writes
nothing and exits 1 where a file is not what it would write.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
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


def keep_current(command: str, wanted: Mapping[Path, str], arguments: list[str]) -> int:
    """Write the generated files that are not what they should be, or say which; the exit code.

    ``arguments`` are those of ``command``: none, or ``--check``, with which nothing is written.
    """
    if arguments not in ([], ["--check"]):
        print(f"usage: {command} [--check]", file=sys.stderr)
        return 2
    old = {path: text for path, text in wanted.items() if not _is_current(path, text)}
    for path, text in old.items():
        if arguments:
            print(f"{path} is not current; run {command}")
        else:
            path.parent.mkdir(exist_ok=True)
            write_file(path, text.encode())
            print(f"wrote {path}")
    return 1 if arguments and old else 0


def _is_current(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def main(arguments: list[str]) -> int:
    """Write the schema files, or check them; the process's exit code."""
    folder = shipped_directory()
    wanted = {folder / name: text for name, text in export().items()}
    return keep_current("python -m xsaveschema.authoring.schema_export", wanted, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
