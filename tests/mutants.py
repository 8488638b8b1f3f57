"""Good schema files to change, and what a changed one must give: faults that say where, or use."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

from bad import RULES

from xsaveschema.errors import SchemaFault
from xsaveschema.language import source
from xsaveschema.language.document import Document
from xsaveschema.language.files import shipped_directory
from xsaveschema.language.library import Library

GOOD = (
    "models/intel/skylake-server.yaml",
    "models/intel/alder-lake.yaml",
    "models/amd/zen2.yaml",
    "components/00-x87.yaml",
    "components/14-uintr.yaml",
    "components/03-bndregs.yaml",
    "registers.yaml",
)


@cache
def template() -> Library:
    """The shipped files, with every model resolved, so that a mutant costs only itself."""
    library = Library()
    library.add_shipped()
    library.faults(library.models.values())
    for name in library.components:
        library.component_fields(name)
    assert library.registers()
    return library


def judge(path: Path, data: bytes) -> list[SchemaFault]:
    """The faults of a file with these bytes; where there are none, it is put to use."""
    path.write_bytes(data)
    library = copy.copy(template())
    for name, value in vars(library).items():
        if isinstance(value, dict | list | set):
            setattr(library, name, copy.copy(value))
    library.add([path])
    faults = library.faults([path])
    assert len(set(faults)) == len(faults)
    lines = data.decode("utf-8-sig", "replace").splitlines() or [""]
    for fault in faults:
        assert fault.rule in RULES
        assert fault.message
        assert fault.file == str(path)
        assert 0 <= fault.line <= len(lines) + 1  # the end of the text is a place, too
        assert fault.column <= max(map(len, lines)) + 1
        assert "\n" not in fault.text + fault.message + fault.hint + fault.path
        assert str(fault).encode()
    for name, file in library.models.items() if not faults else ():
        if file == path:
            model = library.resolved(file).model
            assert model is not None, name
            assert model.standard_layout().size >= 576
            assert model.compacted_layout().size >= 576
            assert all(len(c.initial) >= c.size or c.legacy for c in model.components.values())
            assert model.registers is not None
    if not faults:
        for name in library.components:
            assert library.component_fields(name) is not None
    return faults


def original(name: str) -> tuple[bytes, Document]:
    raw = (shipped_directory() / name).read_bytes()
    return raw, source.parse(raw, name)
