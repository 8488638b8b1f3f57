"""Many areas, however they come: one policy for those that are bad, and one rule for the format."""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Callable
from typing import Any

import pytest

import xsaveschema as xs
from xsaveschema.errors import HeaderError, TooShortError

np = pytest.importorskip("numpy", reason="the extra batch is not installed")
batch = pytest.importorskip("xsaveschema.many.batch")
stream = pytest.importorskip("xsaveschema.many.stream")

MODEL = xs.load_model("zen4")
BAD = (1, 4)
Found = tuple[list[bytes | None], dict[int, str]]
"""The results, and why areas have none."""


def area(index: int, bad: bool) -> bytes:
    made = xs.XsaveArea.new(MODEL)
    made.registers["zmm17"] = index
    data = bytearray(bytes(made))
    data[520] = bad  # XCOMP_BV without bit 63
    return bytes(data)


AREAS = [area(index, index in BAD) for index in range(6)]
STRIDE = len(AREAS[0])


def by_numpy(errors: str, areas: list[bytes], **options: Any) -> Found:
    array = batch.rows(b"".join(areas), len(areas[0]))
    result = batch.relayout(array, source=MODEL, target=MODEL, errors=errors, **options)
    return [row.tobytes() for row in result.data], {i: str(e) for i, e in result.errors.items()}


def by_stream(errors: str, areas: list[bytes], **options: Any) -> Found:
    options = {"format": None} | options
    task = stream.Task(MODEL, MODEL, stride=len(areas[0]), errors=errors, **options)
    sink = io.BytesIO()
    reasons: dict[int, str] = {}
    for piece in stream.convert_stream(task, io.BytesIO(b"".join(areas)), sink):
        reasons |= piece.bad
    data = sink.getvalue()
    size = len(data) // len(areas)
    return [data[at : at + size] for at in range(0, len(data), size)], reasons


def by_arrow(errors: Any, areas: list[bytes], **options: Any) -> Found:
    pa = pytest.importorskip("pyarrow", reason="the extra arrow is not installed")
    from xsaveschema import arrow

    table = pa.table({"area": pa.array(areas, pa.binary(len(areas[0])))})
    result = arrow.Convert(MODEL, errors=errors, **options)(table)
    reasons = result.column("error").to_pylist() if errors != "raise" else []
    return result.column("area").to_pylist(), {i: why for i, why in enumerate(reasons) if why}


WAYS = [by_numpy, by_stream, by_arrow]


@pytest.mark.parametrize("convert", WAYS)
@pytest.mark.parametrize("errors", ["skip", "copy"])
def test_a_bad_area_meets_one_fate_everywhere(convert: Callable[..., Found], errors: str) -> None:
    found, reasons = convert(errors, AREAS, format="compacted")
    singles = [bytes(xs.to_compacted(data, MODEL).data) for data in AREAS if not data[520]]
    width = max(STRIDE, len(singles[0])) if errors == "copy" else len(singles[0])
    for index in BAD:
        singles.insert(index, AREAS[index] if errors == "copy" else b"")
    assert found == [single.ljust(width, b"\0") for single in singles]
    assert reasons.keys() == set(BAD)
    with pytest.raises(HeaderError) as single:
        xs.to_compacted(AREAS[BAD[0]], MODEL)
    assert reasons[BAD[0]] == str(single.value)


def test_only_columns_have_nulls() -> None:
    found, reasons = by_arrow("null", AREAS, format="compacted")
    assert [index for index, data in enumerate(found) if data is None] == [*BAD]
    assert reasons.keys() == set(BAD)
    for convert in (by_numpy, by_stream):
        with pytest.raises(xs.XsaveError, match="pass 'raise', 'skip', 'copy', not errors='null'"):
            convert("null", AREAS, format="compacted")


@pytest.mark.parametrize("convert", WAYS)
@pytest.mark.parametrize("errors", ["stop", "collect", "", None, 1])
def test_a_word_that_is_no_policy(convert: Callable[..., Found], errors: Any) -> None:
    with pytest.raises(xs.XsaveError, match="errors: pass 'raise', 'skip'"):
        convert(errors, AREAS, format="compacted")


@pytest.mark.parametrize("convert", WAYS)
def test_the_first_bad_area_is_named(convert: Callable[..., Found]) -> None:
    with pytest.raises(batch.BatchError, match="area 1: illegal XSAVE header") as caught:
        convert("raise", AREAS, format="compacted")
    assert caught.value.index == BAD[0]


GOOD = [data for data in AREAS if not data[520]]
COMPACTED = [bytes(xs.to_compacted(data, MODEL, xcomp_bv=0x2E7).data) for data in GOOD]


@pytest.mark.parametrize("convert", WAYS)
@pytest.mark.parametrize("areas", [GOOD, COMPACTED], ids=["standard", "compacted"])
def test_areas_keep_their_format_where_none_is_named(
    convert: Callable[..., Found], areas: list[bytes]
) -> None:
    found, _ = convert("raise", areas)
    singles = [xs.relayout(data, source=MODEL, target=MODEL) for data in areas]
    assert found == [bytes(single.data) for single in singles]
    assert len(found[0] or b"") == len(areas[0])


@pytest.mark.parametrize("convert", [by_numpy, by_arrow])
def test_one_array_has_one_format(convert: Callable[..., Found]) -> None:
    longest = [data.ljust(STRIDE, b"\0") for data in (GOOD[0], COMPACTED[0])]
    with pytest.raises(xs.XsaveError, match="XCOMP_BVs 0x0, 0x80000000000002E7, which give"):
        convert("raise", longest)


def test_no_area_tells_no_format() -> None:
    none = np.zeros((0, STRIDE), np.uint8)
    with pytest.raises(xs.XsaveError, match="no area, which give the result no single format"):
        batch.relayout(none, source=MODEL, target=MODEL)
    task = stream.Task(MODEL, MODEL, None, STRIDE)
    with pytest.raises(TooShortError):
        [*stream.convert_stream(task, io.BytesIO(), io.BytesIO())]


def test_the_first_area_of_a_stream_tells_the_format() -> None:
    mixed = [data.ljust(STRIDE, b"\0") for data in (COMPACTED[0], GOOD[1])]
    found, _ = by_stream("raise", mixed)
    assert found[0] == COMPACTED[0]
    assert found[1] == bytes(xs.to_compacted(GOOD[1], MODEL, xcomp_bv=0x2E7).data)


def _rows(*areas: bytes) -> Any:
    return batch.rows(b"".join(areas), len(areas[0]))


def _column(*areas: bytes | None) -> Any:
    pa = pytest.importorskip("pyarrow", reason="the extra arrow is not installed")
    return pa.table({"area": pa.array(areas, pa.binary(STRIDE))})


def _of_amd() -> bytes:
    data = bytearray(bytes(xs.XsaveArea.new(MODEL)))
    data[28:32] = (0x2FFFF).to_bytes(4, "little")
    return bytes(data)


def _missing() -> xs.XsaveArea:
    return xs.XsaveArea.partial(bytes(xs.XsaveArea.new(MODEL, xcr0=7)), MODEL, {9: "pkru"})


def _stream(*areas: bytes, rest: bytes = b"", **options: Any) -> None:
    options = {"format": "compacted", "stride": STRIDE} | options
    task = stream.Task(options.pop("source", MODEL), MODEL, **options)
    for _ in stream.convert_stream(task, io.BytesIO(b"".join(areas) + rest), io.BytesIO()):
        pass


def _arrow(name: str, *areas: bytes | None, **options: Any) -> None:
    from xsaveschema import arrow

    getattr(arrow, name)(options.pop("model", MODEL), **options)(_column(*areas))


SKYLAKE = xs.load_model("skylake-server")
HASWELL = xs.load_model("haswell")
LIVE, OTHERS = AREAS[0], _of_amd()
MESSAGES: dict[str, tuple[str, Callable[[], Any]]] = {
    "bad header": ("batch.to_standard", lambda: batch.to_standard(_rows(*AREAS), MODEL)),
    "bad header, decode": ("batch.decode", lambda: batch.decode(_rows(*AREAS), MODEL)),
    "bad header, stream": ("stream.Task", lambda: _stream(*AREAS)),
    "bad header, Convert": ("arrow.Convert", lambda: _arrow("Convert", *AREAS)),
    "bad header, Decode": ("arrow.Decode", lambda: _arrow("Decode", *AREAS)),
    "writer": ("batch.to_compacted", lambda: batch.to_compacted(_rows(OTHERS), SKYLAKE)),
    "writer, decode": ("batch.decode", lambda: batch.decode(_rows(OTHERS), SKYLAKE)),
    "writer, stream": ("stream.Task", lambda: _stream(OTHERS, source=SKYLAKE)),
    "writer, Convert": ("arrow.Convert", lambda: _arrow("Convert", OTHERS, source=SKYLAKE)),
    "writer, Decode": ("arrow.Decode", lambda: _arrow("Decode", OTHERS, model=SKYLAKE)),
    "loss": ("batch.to_standard", lambda: batch.to_standard(_rows(LIVE), MODEL, xcr0=3)),
    "loss, relayout": (
        "batch.relayout",
        lambda: batch.relayout(_rows(LIVE), source=MODEL, target=HASWELL),
    ),
    "loss, stream": ("stream.Task", lambda: _stream(LIVE, mask=3)),
    "loss, Convert": (
        "arrow.Convert",
        lambda: _arrow("Convert", LIVE, model=HASWELL, source=MODEL),
    ),
    "missing": ("batch.to_standard", lambda: batch.to_standard([_missing()] * 2, MODEL)),
    "missing, decode": ("batch.decode", lambda: batch.decode([_missing()], MODEL)),
    "missing, check": ("batch.check", lambda: batch.check([_missing()], MODEL)),
    "short out": (
        "batch.to_standard",
        lambda: batch.to_standard(_rows(LIVE), MODEL, out=np.zeros((1, 600), np.uint8)),
    ),
    "formats": (
        "batch.relayout",
        lambda: batch.relayout(
            _rows(LIVE, bytes(xs.to_compacted(LIVE, MODEL, xcomp_bv=0xE7).data).ljust(STRIDE)),
            source=MODEL,
            target=MODEL,
        ),
    ),
    "mask of the other format": (
        "arrow.Convert",
        lambda: _arrow("Convert", LIVE, format="standard", xcomp_bv=3),
    ),
    "null": ("arrow.Convert", lambda: _arrow("Convert", LIVE, None)),
    "cut off": ("stream.Task", lambda: _stream(LIVE, rest=b"1")),
    "drop": ("batch.to_standard", lambda: batch.to_standard(_rows(LIVE), MODEL, drop="no")),
}  # fmt: skip
OPTION = re.compile(r"(?<!, )\b([a-z][a-z0-9_]*)=")  # not those of a call that is written out


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_speak_of_options_that_there_are(name: str) -> None:
    function, call = MESSAGES[name]
    with pytest.raises(xs.XsaveError) as caught:
        call()
    said = str(caught.value)
    module, _, attribute = function.partition(".")
    options = inspect.signature(getattr(getattr(xs, module), attribute)).parameters
    for option in OPTION.findall(said):
        assert option in options, said
    assert "pass XsaveArea" not in said
    if "writer" in name:
        assert "or none" not in said, "a batch has a model that is named"


def test_an_area_with_missing_state_is_named() -> None:
    whole = xs.XsaveArea.new(MODEL, xcr0=7)
    said = r"^area 1: pkru is live, .*; convert it by itself"
    with pytest.raises(xs.errors.MissingStateError, match=said) as caught:
        batch.to_standard([whole, _missing()], MODEL)
    assert "drop=" not in str(caught.value)


def test_arrow_takes_a_models_word_as_the_others_do() -> None:
    arrow = pytest.importorskip("xsaveschema.many.arrow", reason="the extra arrow is not installed")
    table = _column(OTHERS)
    assert arrow.Convert(SKYLAKE, assume=True)(table).num_rows == 1
    assert arrow.Decode(SKYLAKE, assume=True)(table).num_rows == 1
    assert arrow.to_arrow(_rows(OTHERS), SKYLAKE, assume=True).num_rows == 1


def test_what_copied_areas_need_is_said_where_they_are_copied() -> None:
    out = np.zeros((1, 600), np.uint8)
    with pytest.raises(TooShortError, match=r"needs 2440$"):
        batch.to_standard(_rows(LIVE), MODEL, out=out)
    with pytest.raises(TooShortError, match=r"needs 2440, and errors='copy' 2440$"):
        batch.to_standard(_rows(LIVE), MODEL, out=out, errors="copy")
