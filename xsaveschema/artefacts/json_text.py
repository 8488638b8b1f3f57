# SPDX-License-Identifier: MIT
"""JSON in artefacts. It is parsed in memory, so what would not be small there is refused."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from xsaveschema.artefacts.reader import ArtefactError

MAX_CONTAINERS: Final = 1 << 18
"""Objects and lists in one text. Each takes 60 to 230 bytes however short its text is; a virtual
machine's state has some 300 for each vCPU."""
MAX_STRINGS: Final = 1 << 20


def parse(text: bytes | str, at: int = 0, type: Any = Any) -> Any:
    """What a JSON text says, as a ``type`` of msgspec's.

    ArtefactError where it is none, is of another type, is nested too deeply, or has too much.
    ``at`` is the text's own offset in the file.
    """
    brackets, quote = ("[{", '"') if isinstance(text, str) else ((b"[", b"{"), b'"')
    if sum(map(text.count, brackets)) > MAX_CONTAINERS:  # type: ignore[arg-type]
        raise ArtefactError(f"more than {MAX_CONTAINERS} objects and lists in the JSON")
    if text.count(quote) > 2 * MAX_STRINGS:  # type: ignore[arg-type]
        raise ArtefactError(f"more than {MAX_STRINGS} strings in the JSON")
    try:
        return msgspec.json.decode(text, type=type)
    except RecursionError:
        raise ArtefactError("the JSON is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ArtefactError("the JSON is not UTF-8", at + error.start) from None
    except msgspec.DecodeError as error:
        raise ArtefactError(f"no JSON that could be read: {error}", at) from None


def number(value: Any) -> int | None:
    """A number, also as hexadecimal text; None for what is none, or negative."""
    if isinstance(value, str):
        try:
            value = int(value[:20], 0)
        except ValueError:
            return None
    return value if type(value) is int and value >= 0 else None
