"""Many columns in one pass: blocks of 64 rows, NULLs and formats in any mixture, against one value at a time."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Final

import numpy as np
import pyarrow as pa
import pytest

from wallaby.pgtypes.gather import Cells, MalformedCell, Sweep, finish, gather
from wallaby.pgtypes.layout import Family, Layout, layout_of
from wallaby.pgtypes.types import builtin_type

_ROWS: Final = (1, 2, 63, 64, 65, 127, 128, 129, 500)
_PRICE: Final = (12 << 16 | 2) + 4

Cell = bytes | str | None


def _layout(oid: int, typmod: int = -1) -> Layout:
    pg_type = builtin_type(oid)
    assert pg_type is not None
    return layout_of(pg_type, typmod)


def _numeric(value: Decimal, scale: int) -> bytes:
    """``numeric_send`` of a value with ``scale`` places."""
    whole, _, part = format(abs(value), f".{scale}f").partition(".")
    head = len(whole) + -len(whole) % 4
    part += "0" * (-len(part) % 4)
    text = whole.zfill(head) + part
    digits = [int(text[i : i + 4]) for i in range(0, len(text), 4)]
    weight = head // 4 - 1
    while digits and digits[0] == 0:
        del digits[0]
        weight -= 1
    while digits and digits[-1] == 0:
        del digits[-1]
    sign = 0x4000 if value < 0 else 0
    return struct.pack(f"!HhHH{len(digits)}H", len(digits), weight if digits else 0, sign, scale, *digits)


def _int8(rng: random.Random) -> tuple[object, bytes, str]:
    number = rng.choice([rng.randrange(-(2**63), 2**63), rng.randrange(-1000, 1000)])
    return number, struct.pack("!q", number), str(number)


def _int2(rng: random.Random) -> tuple[object, bytes, str]:
    number = rng.randrange(-(2**15), 2**15)
    return number, struct.pack("!h", number), str(number)


def _bool(rng: random.Random) -> tuple[object, bytes, str]:
    value = rng.random() < 0.5
    return value, bytes([value]), "t" if value else "f"


def _text(rng: random.Random) -> tuple[object, bytes, str]:
    text = "".join(rng.choice("abcäß€ ") for _ in range(rng.choice([0, 1, 5, 8, 9, 16, 17, 31, 32, 33, 70])))
    return text, text.encode(), text


def _jsonb(rng: random.Random) -> tuple[object, bytes, str]:
    text = f'{{"a": {rng.randrange(10**6)}}}'
    return text, b"\1" + text.encode(), text


def _price(rng: random.Random) -> tuple[object, bytes, str]:
    value = Decimal(rng.choice([rng.randrange(-(10**12) + 1, 10**12), rng.randrange(-300, 300)])).scaleb(-2)
    return value, _numeric(value, 2), f"{value:.2f}"


def _float8(rng: random.Random) -> tuple[object, bytes, str]:
    number = rng.uniform(-1e6, 1e6)
    return number, struct.pack("!d", number), repr(number)


_COLUMNS: Final[list[tuple[int, int, Callable[[random.Random], tuple[object, bytes, str]]]]] = [
    (20, -1, _int8),
    (25, -1, _text),
    (16, -1, _bool),
    (1700, _PRICE, _price),
    (3802, -1, _jsonb),
    (21, -1, _int2),
    (701, -1, _float8),
    (25, -1, _text),
]


def _index(rows: list[list[Cell]]) -> Cells:
    data, offset, length = bytearray(b"\0" * 16), [], []
    for row in rows:
        for cell in row:
            encoded = b"" if cell is None else cell if isinstance(cell, bytes) else cell.encode()
            offset.append(0 if cell is None else ~len(data) if isinstance(cell, str) else len(data))
            length.append(-1 if cell is None else len(encoded))
            data += encoded
    base = np.arange(len(rows), dtype=np.int32) * (len(rows[0]) if rows else 0)
    frozen = np.frombuffer(bytes(data), np.uint8)
    return Cells(frozen, np.array(offset, np.int32), np.array(length, np.int32), base.astype(np.int32))


def _swept(layouts: list[Layout], rows: list[list[Cell]]) -> list[pa.Array]:
    tuples = _index(rows)
    swept = Sweep(layouts, range(len(layouts))).over(tuples)
    arrays = []
    for k in range(len(layouts)):
        array, outliers = finish(swept, k, tuples, k)
        array.validate(full=True)
        assert outliers is None
        arrays.append(array)
    return arrays


@pytest.mark.parametrize("count", _ROWS)
@pytest.mark.parametrize("form", ["binary", "text", "both"])
@pytest.mark.parametrize("nulls", [0.0, 0.3, 0.98])
def test_every_column_has_its_values_whatever_the_number_of_rows(count: int, form: str, nulls: float) -> None:
    rng = random.Random(count)
    layouts = [_layout(oid, typmod) for oid, typmod, _ in _COLUMNS]
    expected: list[list[object]] = [[] for _ in _COLUMNS]
    rows: list[list[Cell]] = []
    for _ in range(count):
        row: list[Cell] = []
        for k, (_, _, draw) in enumerate(_COLUMNS):
            value, binary, text = draw(rng)
            is_null = rng.random() < nulls
            is_text = form == "text" or (form == "both" and rng.random() < 0.5)
            row.append(None if is_null else text if is_text else binary)
            expected[k].append(None if is_null else value)
        rows.append(row)
    assert [array.to_pylist() for array in _swept(layouts, rows)] == expected


@pytest.mark.parametrize("row", [0, 63, 64, 130])
def test_a_change_of_format_at_any_row_is_followed(row: int) -> None:
    numbers = list(range(200))
    cells: list[list[Cell]] = [[struct.pack("!i", n) if n < row else str(n)] for n in numbers]
    assert _swept([_layout(23)], cells)[0].to_pylist() == numbers


@pytest.mark.parametrize("oid", [18, 869, 1700, 25, 17])
def test_blocks_of_nulls_beside_blocks_of_text_are_null(oid: int) -> None:
    """Also of types that take part in text alone: "char", inet, numeric without scale."""
    values: list[str | None] = [None] * 70 + ["\\x31"] * 70 + [None] * 130 + ["\\x32"] + [None] * 70
    array, outliers = gather(_layout(oid), _index([[value] for value in values]))
    array.validate(full=True)
    assert outliers is None
    expected = [value if oid != 17 or value is None else bytes.fromhex(value[2:]) for value in values]
    assert array.to_pylist() == expected


@pytest.mark.parametrize("oid", [16, 20, 21, 23, 25, 700, 701, 1082, 1083, 1114, 1186, 2950, 3802])
def test_only_nulls_give_only_nulls(oid: int) -> None:
    array, outliers = gather(_layout(oid), _index([[None]] * 100))
    assert (array.null_count, outliers) == (100, None)


@pytest.mark.parametrize(("oid", "size"), [(16, 2), (20, 7), (21, 4), (23, 0), (701, 4), (1082, 8), (2950, 15)])
@pytest.mark.parametrize("row", [0, 64, 99])
def test_a_width_that_is_not_of_the_type_is_malformed(oid: int, size: int, row: int) -> None:
    width = {16: 1, 20: 8, 21: 2, 23: 4, 701: 8, 1082: 4, 2950: 16}[oid]
    cells: list[list[Cell]] = [[bytes(size if i == row else width)] for i in range(100)]
    with pytest.raises(MalformedCell) as caught:
        gather(_layout(oid), _index(cells))
    assert caught.value.row == row


def test_a_malformed_numeric_or_jsonb_names_its_row() -> None:
    fine, json = _numeric(Decimal("1.25"), 2), b"\1{}"
    for oid, typmod, good, bad in [(1700, _PRICE, fine, fine[:-1]), (3802, -1, json, b"")]:
        with pytest.raises(MalformedCell) as caught:
            gather(_layout(oid, typmod), _index([[good]] * 70 + [[bad]] * 2 + [[good]]))
        assert caught.value.row == 70


@pytest.mark.must_not_fail(12)
@pytest.mark.parametrize(("precision", "scale"), [(12, 2), (5, 0), (18, 0), (19, 4), (15, 5), (38, 7), (60, 8), (9, 9)])
def test_decimals_of_every_scale_are_exact_or_outliers(precision: int, scale: int) -> None:
    """Around every power of ten, where digits and words end, and beyond the column's bound."""
    values = []
    for power in range(min(precision, 20) + 1):
        for step in (-1, 0, 1, 7):
            for sign in (1, -1):
                values.append(Decimal(sign * (10**power + step)).scaleb(-scale))
    layout = _layout(1700, (precision << 16 | scale) + 4)
    for cells in ([[_numeric(value, scale)] for value in values], [[f"{value:.{scale}f}"] for value in values]):
        array, outliers = gather(layout, _index(cells))
        lost = {} if outliers is None else dict(zip(outliers.rows.tolist(), outliers.texts.to_pylist(), strict=True))
        for row, value in enumerate(values):
            if abs(value.scaleb(scale)) < 10**precision:
                assert array[row].as_py() == value, (row, value)
            else:
                assert Decimal(lost.pop(row)) == value
        assert not lost


def test_numerics_with_digits_beyond_the_scale_or_strange_headers_are_not_guessed() -> None:
    layout = _layout(1700, _PRICE)
    beyond = struct.pack("!HhHHHH", 2, 0, 0, 4, 1, 2345)
    array, outliers = gather(layout, _index([[beyond]]))
    assert array[0].as_py() is None
    assert outliers is not None
    assert outliers.texts.to_pylist() == ["1.2345"]
    for head in [
        (1, 0, 0x1000, 2, 5),
        (1, 0, 0, 0x4000, 5),
        (1, 0, 0, 2, 10_000),
        (1, 0, 0, 2, 0xFFFF),
        (2, 0, 0, 2, 5),
    ]:
        with pytest.raises(MalformedCell):
            gather(layout, _index([[struct.pack("!HhHHH", *head)], [b"\0" * 8]]))


def test_strings_of_no_rows_begin_at_zero() -> None:
    """An hstore column without a single pair has such keys and values; memory is not clean when it is taken."""
    layout = Layout(Family.STRING, pa.string())
    none = np.empty(0, np.int32)
    sweep = Sweep((layout,), (0,))
    for _ in range(20):
        dirty = [np.full(words, -1, np.int64) for words in range(1, 64)]
        del dirty
        swept = sweep.over(Cells(np.zeros(16, np.uint8), none, none, none))
        swept.array(0).validate(full=True)
