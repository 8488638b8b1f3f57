"""Values as text and back: lanes, tiles, 80-bit numbers; judged by struct, numpy and fractions."""

from __future__ import annotations

import math
import re
import struct
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xsaveschema.values import (
    TYPES,
    binary,
    bit_names,
    decode,
    encode,
    encode_float80,
    encode_matrix,
    float80,
    fold,
    hexadecimal,
    lane_lines,
    mask_bits,
    matrix,
    texts,
    tile_config_lines,
    tile_lines,
    told,
)

FLOATS = {"f16": (2, 10), "bf16": (2, 7), "f32": (4, 23), "f64": (8, 52)}
SIZES = {name: int(name.strip("bfiu")) // 8 for name in TYPES if name != "hex"}


class TestLanes:
    @pytest.mark.parametrize("type", TYPES)
    @given(data=st.binary(min_size=16, max_size=64).map(lambda data: data[: len(data) & ~15]))
    def test_bytes_come_back(self, type: str, data: bytes) -> None:
        """Through tuples and through text, NaNs with their payloads among them."""
        assert encode(decode(data, type), type, len(data)) == data
        assert encode(texts(data, type), type, len(data)) == data
        assert encode(",".join(texts(data, type)), type, len(data)) == data

    @pytest.mark.parametrize("type", ["f16", "bf16"])
    def test_every_number_of_16_bits_comes_back(self, type: str) -> None:
        data = struct.pack("<65536H", *range(65536))
        assert encode(decode(data, type), type, len(data)) == data
        assert encode(texts(data, type), type, len(data)) == data

    @pytest.mark.parametrize(
        ("type", "code"), [("f16", "e"), ("f32", "f"), ("f64", "d"), ("i8", "b"), ("u64", "Q")]
    )
    @given(data=st.binary(min_size=64, max_size=64))
    def test_struct_decodes_alike(self, type: str, code: str, data: bytes) -> None:
        wanted = struct.unpack(f"<{64 // SIZES[type]}{code}", data)
        assert list(map(repr, decode(data, type))) == list(map(repr, wanted))

    @given(st.floats(width=32, allow_nan=False))
    def test_bf16_is_the_upper_half_of_f32(self, value: float) -> None:
        upper = struct.pack("<f", value)[2:]
        assert decode(upper, "bf16") == struct.unpack("<f", b"\0\0" + upper)

    @pytest.mark.parametrize(("type", "code"), [("f16", "e"), ("f32", "f"), ("f64", "d")])
    @given(value=st.floats(allow_nan=False))
    @example(65519.999)
    @example(65520.0)
    @example(-5e-324)
    @example(2.0**-25)
    def test_struct_encodes_alike(self, type: str, code: str, value: float) -> None:
        try:
            wanted = struct.pack("<" + code, value)
        except OverflowError:
            with pytest.raises(ValueError, match=f"^{type} takes -"):
                encode([value], type, SIZES[type])
        else:
            assert encode([value], type, SIZES[type]) == wanted

    @given(st.floats(min_value=-3.38e38, max_value=3.38e38))
    @example(1 + 2.0**-8)
    @example(1 + 3 * 2.0**-8)
    @example(1 + 2.0**-8 + 2.0**-40)
    @example(3.3895e38)
    @example(2.0**-134)
    @example(-0.0)
    def test_bf16_is_rounded_to_nearest_even(self, value: float) -> None:
        (got,) = decode(encode([value], "bf16", 2), "bf16")
        bits = int.from_bytes(encode([abs(got)], "bf16", 2), "little")
        assert math.copysign(1, got) == math.copysign(1, value)
        away = abs(Fraction(value) - Fraction(got))
        for near in (bits - 1, bits + 1):
            if 0 <= near < 0x7F80:
                other = Fraction(struct.unpack("<f", struct.pack("<I", near << 16))[0])
                distance = abs(abs(Fraction(value)) - other)
                assert away < distance or (away == distance and not bits & 1)

    @pytest.mark.parametrize("type", FLOATS)
    @given(value=st.floats(1, 60000))
    def test_text_is_rounded_once(self, type: str, value: float) -> None:
        """A text beside the middle of two numbers goes to the nearer one, however close it is."""
        size, _ = FLOATS[type]
        data = encode([value], type, size)
        bits = int.from_bytes(data, "little")
        (near,), (above,) = decode(data, type), decode((bits + 1).to_bytes(size, "little"), type)
        middle = (Fraction(near) + Fraction(above)) / 2
        whole = str(middle * 10**60)  # an integer: a middle has less than 60 digits
        text = f"{whole[:-60]}.{whole[-60:]}"
        assert decode(encode([text], type, size), type) == (above if bits & 1 else near,)
        assert decode(encode([text + "1"], type, size), type) == (above,)

    @pytest.mark.parametrize("name", ["float16", "float32"])
    @given(bits=st.integers(0, 0xFFFFFFFF))
    @example(0x00800000)
    @example(0x6F800000)
    @example(0x00000001)
    def test_floats_are_as_short_as_numpys(self, name: str, bits: int) -> None:
        np = pytest.importorskip("numpy", reason="the extra batch is not installed")
        size = int(name[5:]) // 8
        data = bits.to_bytes(4, "little")[:size]
        value: Any = np.frombuffer(data, name)[0]
        (text,) = texts(data, f"f{8 * size}")
        if not np.isfinite(value):
            return
        shortest = np.format_float_scientific(value, unique=True, trim="-")
        digits = shortest.lstrip("-").partition("e")[0].replace(".", "")
        own = text.lstrip("-").partition("e")[0].replace(".", "").strip("0")
        assert len(own) <= len(digits.strip("0"))
        if len(own) == len(digits.strip("0")) and bits & 0x7FFFFF:
            assert own == digits.strip("0")
        assert getattr(np, name)(text) == value

    @pytest.mark.parametrize("type", ["f16", "bf16", "f32"])
    @given(data=st.data())
    def test_no_shorter_text_reads_back(self, type: str, data: Any) -> None:
        """Powers of two too, which have more room above than below."""
        size, fraction = FLOATS[type]
        exponents = (1 << 8 * size - 1 - fraction) - 2
        bits = data.draw(st.integers(1, exponents)) << fraction
        (value,) = decode(bits.to_bytes(size, "little"), type)
        (text,) = texts(bits.to_bytes(size, "little"), type)
        digits = text.partition("e")[0].replace(".", "").strip("0")
        if len(digits) == 1:
            return
        power = math.floor(math.log10(value)) - len(digits) + 2
        below = int(Fraction(value) / Fraction(10) ** power)
        for unit in (below - 1, below, below + 1, below + 2):
            assert encode([f"{unit}e{power}"], type, size) != bits.to_bytes(size, "little")

    @pytest.mark.parametrize(
        ("type", "bits", "text"),
        [
            ("f32", 0x3F800000, "1.0"),
            ("f32", 0x3DCCCCCD, "0.1"),
            ("f32", 0x80000000, "-0.0"),
            ("f32", 0x7F800000, "inf"),
            ("f32", 0xFF800000, "-inf"),
            ("f32", 0x7FC00000, "nan"),
            ("f32", 0xFFC00000, "-nan"),
            ("f32", 0x7F800001, "nan(0x1)"),
            ("f32", 0xFFC00001, "-nan(0x400001)"),
            ("f32", 0x00000001, "1e-45"),
            ("f32", 0x7F7FFFFF, "3.4028235e+38"),
            ("f32", 0x4CBEBC20, "100000000.0"),
            ("f32", 0x501502F9, "1e+10"),
            ("f32", 0x4B800000, "16777216.0"),
            ("f16", 0x3555, "0.3333"),
            ("f16", 0x7BFF, "65500.0"),
            ("f16", 0x7C01, "nan(0x1)"),
            ("bf16", 0x3F80, "1.0"),
            ("bf16", 0x4049, "3.14"),
            ("bf16", 0x7FC1, "nan(0x41)"),
            ("f64", 0x3FF0000000000000, "1.0"),
            ("f64", 0x7FF0000000000001, "nan(0x1)"),
            ("i8", 0x80, "-128"),
            ("u16", 0xFFFF, "65535"),
            ("hex", 0x1F, "0x1f"),
        ],
    )
    def test_how_numbers_are_written(self, type: str, bits: int, text: str) -> None:
        data = bits.to_bytes(SIZES.get(type, 1), "little")
        assert texts(data, type) == (text,)
        assert encode(text, type, len(data)) == data

    @pytest.mark.parametrize(
        ("lanes", "type", "size", "said"),
        [
            ([1], "f8", 8, "there is no type 'f8'; types: f16, bf16, f32, f64, i8, "),
            ([1], "f64", 10, "lanes of f64 have 8 bytes, which do not divide 10"),
            ([1.0], "f32", 64, "takes 16 lanes of f32, not 1"),
            ("1,2,3", "i8", 1, "takes 1 lane of i8, not 3"),
            ([128], "i8", 1, "i8 takes -128..127, not 128"),
            ([-129], "i8", 1, "i8 takes -128..127, not -129"),
            ([-1], "u16", 2, "u16 takes 0..65535, not -1"),
            (["1.5"], "u16", 2, "u16 takes an integer, not '1.5'"),
            ([1.0], "i64", 8, "i64 takes an integer, not 1.0"),
            ([True], "i64", 8, "i64 takes an integer, not True"),
            ([True], "f32", 4, "f32 takes a number, not True"),
            ([None], "f32", 4, "f32 takes a number, not None"),
            (["one"], "f32", 4, "f32 takes a number, not 'one'"),
            ([""], "f32", 4, "f32 takes a number, not ''"),
            (["."], "f32", 4, "f32 takes a number, not '.'"),
            (["1_0"], "f32", 4, "f32 takes a number, not '1_0'"),
            (["1e39"], "f32", 4, "f32 takes -3.4028235e+38..3.4028235e+38, not '1e39'"),
            ([1 << 2000], "f16", 2, "f16 takes -65500.0..65500.0, not 1148"),
            (["1e999999"], "f64", 8, "f64 takes -1.7976931348623157e+308..1.7976931348623157e+3"),
            (["nan(0x800000)"], "f32", 4, "a NaN of f32 has 0x1..0x7fffff, not nan(0x800000)"),
            (["0x1ff"], "hex", 1, "hex takes 0x0..0xff, not '0x1ff'"),
            ("123", "hex", 8, "hex takes 0x and digits, or whole bytes, not '123'"),
            (7, "f32", 4, "lanes are a sequence of numbers, not 7"),
        ],
    )
    def test_what_is_refused(self, lanes: Any, type: str, size: int, said: str) -> None:
        with pytest.raises(ValueError, match="^" + re.escape(said)):
            encode(lanes, type, size)

    def test_what_json_can_hold(self) -> None:
        data = struct.pack("<4f", 0.5, float("inf"), float("-inf"), float("nan"))
        assert told(data, "f32") == [0.5, "inf", "-inf", "nan"]
        assert told(b"\xff\xff\x01\0", "i16") == [-1, 1]
        assert told(b"\xff\xff", "hex") == ["0xffff"]

    def test_numbers_of_other_libraries(self) -> None:
        np = pytest.importorskip("numpy", reason="the extra batch is not installed")
        rows = np.array([1.5, -0.0, np.inf, 1e-45], np.float32)
        assert encode(rows, "f32", 16) == rows.tobytes()
        assert encode(np.arange(4, dtype=np.uint8), "i32", 16) == struct.pack("<4i", *range(4))
        assert encode([Fraction(1, 4)], "f16", 2) == struct.pack("<e", 0.25)

    def test_a_payload_that_does_not_fit_leaves_a_nan(self) -> None:
        (low,) = struct.unpack("<d", (0xFFF << 52 | 1).to_bytes(8, "little"))
        assert encode([low], "f32", 4) == b"\0\0\xc0\xff"

    def test_zero_and_tiny_text(self) -> None:
        assert encode("0,-0,0.000,1e-999999", "f64", 32) == struct.pack("<4d", 0, -0.0, 0, 0)
        assert encode("0e999999,.5,5.,+1E1", "f32", 16) == struct.pack("<4f", 0, 0.5, 5, 10)


class TestFloat80:
    @given(st.booleans(), st.integers(0, 0x7FFE), st.integers(0, (1 << 63) - 1))
    @example(False, 0, 1)
    @example(False, 1, 0)
    @example(True, 0x7FFE, (1 << 63) - 1)
    @example(False, 221, 0)  # a power of two: less room below
    def test_numbers_come_back(self, sign: bool, exponent: int, fraction: int) -> None:
        value = sign << 79 | exponent << 64 | (exponent > 0) << 63 | fraction
        assert encode_float80(float80(value)) == value

    @pytest.mark.parametrize("text", ["inf", "-inf", "nan", "-nan", "0", "-0"])
    def test_what_is_no_number_comes_back(self, text: str) -> None:
        assert float80(encode_float80(text)) == text

    @given(st.floats(allow_nan=False, allow_infinity=False))
    def test_doubles_are_exact(self, value: float) -> None:
        bits = encode_float80(repr(value))
        exact = Fraction(bits & (1 << 64) - 1) * Fraction(2) ** (
            ((bits >> 64 & 0x7FFF) or 1) - 16383 - 63
        )
        text = Fraction(repr(abs(value)))
        assert abs(exact - text) <= text / (1 << 64)

    def test_what_is_refused(self) -> None:
        for text in ("1.2e4932", "1e999999", "one", ""):
            with pytest.raises(ValueError, match="f80 takes"):
                encode_float80(text)


class TestTiles:
    @given(st.binary(min_size=24, max_size=24))
    def test_a_matrix_comes_back(self, data: bytes) -> None:
        for type in ("bf16", "i8", "f32", "hex"):
            rows = matrix(data, 8, type)
            assert [len(row) for row in rows] == [8 // len(data[:8]) * len(rows[0])] * 3
            assert encode_matrix(rows, 8, 3, type) == data

    def test_a_tile_without_bytes(self) -> None:
        assert matrix(b"", 0, "f32") == ()
        assert tile_lines(b"", 0, "f32", 60) == []
        assert encode_matrix([], 0, 0, "f32") == b""

    def test_what_is_refused(self) -> None:
        with pytest.raises(ValueError, match="takes 2 rows, not 1"):
            encode_matrix([[1.0]], 4, 2, "f32")
        with pytest.raises(ValueError, match="takes 1 lane of f32, not 2"):
            encode_matrix([[1.0], [1.0, 2.0]], 4, 2, "f32")
        with pytest.raises(ValueError, match="a tile is a sequence of rows, not 7"):
            encode_matrix(7, 4, 2, "f32")
        with pytest.raises(ValueError, match="do not divide 6"):
            matrix(bytes(12), 6, "f32")

    def test_small_ones_as_they_are(self) -> None:
        data = encode("1,-2,100,4", "i16", 8)
        assert tile_lines(data, 4, "i16", 60) == ["     0  1", "0:   1 -2", "1: 100  4"]

    def test_equal_rows_are_one(self) -> None:
        data = bytes([1, 2] + [0] * 6 + [3, 4])
        assert [line[:5] for line in tile_lines(data, 2, "u8", 60)] == [
            "     ",
            "  0: ",
            "1-3: ",
            "  4: ",
        ]

    def test_columns_in_the_middle_are_left_out(self) -> None:
        assert tile_lines(bytes(range(100, 110)), 10, "u8", 30) == [
            "     0   1   2 ...   7   8   9",
            "0: 100 101 102 ... 107 108 109",
        ]
        assert tile_lines(bytes(range(100, 110)), 10, "u8", 30, full=True) == [
            "0: 100 101 102 103",
            "   104 105 106 107",
            "   108 109",
        ]
        assert len(tile_lines(bytes(range(100, 110)), 10, "u8", 42)[0]) == 42

    def test_the_shapes_of_tiles(self) -> None:
        assert tile_config_lines([16, 3], [64, 5]) == [
            "tile  rows  bytes a row",
            "tmm0    16           64",
            "tmm1     3            5",
        ]

    @given(
        st.binary(min_size=128, max_size=128),
        st.sampled_from(TYPES),
        st.integers(60, 200),
    )
    def test_lines_hold_the_width(self, data: bytes, type: str, width: int) -> None:
        whole = {*texts(data[:64], type), *texts(data[64:], type)}
        for full in (False, True):
            lines = tile_lines(data, 64, type, width, full)
            assert max(map(len, lines)) <= width
            cells = {cell for line in lines for cell in line.split(": ")[-1].split()}
            if full:
                assert whole <= cells
            elif not whole <= cells:
                assert "..." in cells


class TestLines:
    def test_lanes_stand_in_columns(self) -> None:
        data = struct.pack("<8f", 1, -2.5, 3, 4, 5, 6, 7, 100)
        assert lane_lines(data, "f32", 30) == [
            "  1.0   -2.5    3.0    4.0",
            "  5.0    6.0    7.0  100.0",
        ]

    def test_equal_lanes_are_told_once(self) -> None:
        assert lane_lines(struct.pack("<4f", 2, 2, 2, 2), "f32", 60) == ["2.0 in all 4 lanes"]
        assert lane_lines(struct.pack("<8h", 7, 8, *[0] * 6), "i16", 60) == [
            "7  8",
            "0 in the other 6 lanes",
        ]
        assert lane_lines(struct.pack("<d", 2), "f64", 60) == ["2.0"]

    def test_neighbours_with_one_value_are_one(self) -> None:
        named = [("zmm7", "0"), ("zmm8", "0"), ("zmm9", "0"), ("zmm10", "1"), ("k0", "1")]
        named += [("k2", "1"), ("k3", "1"), ("a", "x"), ("a", "x")]
        assert list(fold(named)) == [
            ("zmm7-zmm9", "0"),
            ("zmm10", "1"),
            ("k0", "1"),
            ("k2-k3", "1"),
            ("a", "x"),
            ("a", "x"),
        ]
        assert list(fold([])) == []

    def test_masks_in_bits(self) -> None:
        assert mask_bits(0) == ""
        assert mask_bits(0x10FF) == "0-7 12"
        assert mask_bits(1 << 63 | 3) == "0-1 63"
        assert binary(5, 2) == "0000000000000101"
        assert binary(1 << 63, 8) == "1000000000000000_" + "_".join(["0" * 16] * 3)


class TestNumbers:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (0, "0"),
            (1 << 79, "-0"),
            (0x3FFF_8000000000000000, "1"),
            (0xBFFF_C000000000000000, "-1.5"),
            (0x4000_C90FDAA22168C235, "3.1415926535897932385"),
            (0x3FFB_CCCCCCCCCCCCCCCD, "0.1"),
            (0x403E_FFFFFFFFFFFFFFFF, "18446744073709551615"),
            (0x7FFE_FFFFFFFFFFFFFFFF, "1.189731495357231765e+4932"),
            (0x0000_0000000000000001, "4e-4951"),
            (0x0000_8000000000000000, "3.3621031431120935063e-4932"),
            (0x7FFF_8000000000000000, "inf"),
            (0xFFFF_8000000000000000, "-inf"),
            (0x7FFF_C000000000000000, "nan"),
            (0x7FFF_A000000000000000, "snan"),
            (0x7FFF_0000000000000000, "unsupported"),
            (0x3FFF_0000000000000001, "unsupported"),
            (0x0001_0000000000000000, "unsupported"),
        ],
    )
    def test_float80(self, value: int, text: str) -> None:
        assert float80(value) == text

    def test_qwords_stand_in_columns(self) -> None:
        assert hexadecimal(0x37F, 2, 60) == ["0x037f"]
        assert hexadecimal(0, 64, 69) == ["0"]
        assert hexadecimal(5, 16, 69) == ["                 0x0000000000000005"]
        whole = (1 << 511) | 1
        high = "0x8000000000000000_0000000000000000_0000000000000000_0000000000000000"
        low = "  0000000000000000_0000000000000000_0000000000000000_0000000000000001"
        assert hexadecimal(whole, 64, 69) == [high, low]
        assert hexadecimal(1, 64, 69) == [" " * 51 + "0x0000000000000001"]
        assert len(hexadecimal(whole, 64, 137)) == 1
        assert len(hexadecimal(whole, 64, 10)) == 8

    def test_bits(self) -> None:
        flags = [(f"ad{i}", i, 1) for i in range(8)]
        assert bit_names(flags, 0b10001110) == "AD1-3 AD7"
        assert bit_names(flags, 0b00000011) == "AD0 AD1"
        assert bit_names(flags, 0) == ""
        ranges = [("top", 0, 3), ("rc", 4, 2), ("base", 8, 20)]
        assert bit_names(ranges, 0x3535) == "TOP=5 RC=zero BASE=0x35"
