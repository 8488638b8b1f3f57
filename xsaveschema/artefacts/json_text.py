"""JSON in artefacts. It is parsed in memory, so what would not be small there is refused."""

from __future__ import annotations

import json
from typing import Any, Final

from xsaveschema.artefacts.reader import ArtefactError

MAX_CONTAINERS: Final = 1 << 18
"""Objects and lists in one text. Each takes 60 to 230 bytes however short its text is; a virtual
machine's state has some 300 for each vCPU."""
MAX_STRINGS: Final = 1 << 20


def parse(text: bytes | str, at: int = 0) -> Any:
    """What a JSON text says. ArtefactError where it is none, is nested too deeply, or has too much.

    ``at`` is the text's own offset in the file, from which that of the error counts.
    """
    brackets, quote = ("[{", '"') if isinstance(text, str) else ((b"[", b"{"), b'"')
    if sum(map(text.count, brackets)) > MAX_CONTAINERS:  # type: ignore[arg-type]
        raise ArtefactError(f"more than {MAX_CONTAINERS} objects and lists in the JSON")
    if text.count(quote) > 2 * MAX_STRINGS:  # type: ignore[arg-type]
        raise ArtefactError(f"more than {MAX_STRINGS} strings in the JSON")
    try:
        return json.loads(text if isinstance(text, str) else text.decode("utf-8"))
    except RecursionError:
        raise ArtefactError("the JSON is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ArtefactError("the JSON is not UTF-8", at + error.start) from None
    except json.JSONDecodeError as error:
        raise ArtefactError(f"no JSON: {error.msg}", at + error.pos) from None
    except ValueError as error:  # a number of thousands of digits
        raise ArtefactError(f"no JSON that could be read: {error}") from None
