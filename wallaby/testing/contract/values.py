"""Values: every type family arrives unaltered, and what an Arrow type cannot hold is kept exactly or refused."""

from __future__ import annotations

import datetime
import decimal

import pytest

from wallaby.errors import Refused
from wallaby.sink import WriteMode
from wallaby.testing.changes import Outlier, insert, table, update
from wallaby.testing.contract.hooks import FIRST_EPOCH, SinkHooks, windows_of
from wallaby.testing.history import Row, row_table

_TYPES = {
    "id": "int8",
    "flag": "bool",
    "small": "int2",
    "middle": "int4",
    "single": "float4",
    "double": "float8",
    "amount": "numeric(38,10)",
    "free": "numeric",
    "word": "text",
    "raw": "bytea",
    "day": "date",
    "moment": "timestamptz",
    "local": "timestamp",
    "clock": "time",
    "ref": "uuid",
    "doc": "jsonb",
    "numbers": "int8[]",
    "words": "text[]",
    "days": "date[]",
    "net": "inet",
    "nets": "inet[]",
    "span": "int4range",
    "route": "ltree",
    "tags": "hstore",
    "tagged": "hstore[]",
    "embedding": "vector",
    "place": "geometry",
}
_UTC = datetime.UTC
_EXTREMES: tuple[Row, ...] = (
    (1, *[None] * (len(_TYPES) - 1)),
    (
        -(2**63),
        True,
        -32768,
        -(2**31),
        -1.5,
        -0.0,
        decimal.Decimal("-9999999999999999999999999999.9999999999"),
        "-0.00010",
        "",
        b"",
        datetime.date(1, 1, 1),
        datetime.datetime(1, 1, 1, tzinfo=_UTC),
        datetime.datetime(1, 1, 1),
        datetime.time(0, 0),
        bytes(16),
        "{}",
        [],
        [],
        [],
        "::",
        [],
        "empty",
        "",
        [],
        [],
        [0.0],
        bytes.fromhex("010300000000000000"),
    ),
    (
        2**63 - 1,
        False,
        32767,
        2**31 - 1,
        float("inf"),
        float("nan"),
        decimal.Decimal("0.0000000001"),
        "123456789012345678901234567890123456789012345678901234567890.5",
        "tab\t newline\n quote' \" back\\slash \\N \\. ünïcode 表 🦘 \x01\x7f",
        bytes(range(256)),
        datetime.date(9999, 12, 31),
        datetime.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=_UTC),
        datetime.datetime(9999, 12, 31, 23, 59, 59, 999999),
        datetime.time(23, 59, 59, 999999),
        b"\xff" * 16,
        '{"a": [1, null, "é \\" \\\\ {x}"], "b": "\'"}',
        [1, None, -(2**63)],
        ["", None, "NULL", 'a"b', "c,d", "{e}", "\\", "ünï"],
        [datetime.date(2024, 2, 29), None],
        "fe80::1/64",
        ["10.0.0.0/8", None],
        "[-2147483648,)",
        "Top.Science.Astronomy",
        [("", ""), ("b", "NULL"), ("NULL", None), ("größe", "a\"b\\c, =>'\n表")],
        [[("k", "v"), ("n", None)], None, []],
        [-0.0, 0.1, 3.4028234663852886e38, 1e-45, 16777216.0, -1e-7],
        bytes.fromhex("0101000020E6100000000000000000F03F0000000000000040"),
    ),
)


class ValuesContract(SinkHooks):
    """No value is altered on the way."""

    @pytest.mark.must_not_fail(13)
    def test_extreme_values_of_every_type_arrive_unaltered(self, mode: WriteMode) -> None:
        schema = table("public.extremes", _TYPES, key=["id"])
        process = self.start(mode, [schema])
        [window] = windows_of([(schema, insert(*row)) for row in _EXTREMES])
        process.apply(window)
        self.assert_content(schema, mode, row_table(schema, _EXTREMES))

    @pytest.mark.must_not_fail(13)
    def test_updates_keep_values_of_every_type(self, mode: WriteMode) -> None:
        schema = table("public.extremes", _TYPES, key=["id"])
        process = self.start(mode, [schema])
        rows = [(n, *row[1:]) for n, row in enumerate(_EXTREMES)]
        turned = [(n, *rows[(n + 1) % len(rows)][1:]) for n in range(len(rows))]
        for window in windows_of([(schema, insert(*row)) for row in rows], [(schema, update(*row)) for row in turned]):
            process.apply(window)
        self.assert_content(schema, mode, row_table(schema, turned))

    @pytest.mark.must_not_fail(12)
    @pytest.mark.parametrize(
        ("word", "text"),
        [
            ("numeric(10,2)", "NaN"),
            ("date", "infinity"),
            ("date", "4713-01-01 BC"),
            ("timestamp", "-infinity"),
            ("timestamptz", "infinity"),
            ("time", "24:00:00"),
        ],
    )
    def test_values_no_arrow_type_holds_are_kept_exactly_or_refused(
        self, mode: WriteMode, word: str, text: str
    ) -> None:
        schema = table("public.odd", {"id": "int8", "note": "text", "value": word}, key=["id"])
        first, second = windows_of(
            [(schema, insert(1, "ordinary", None))],
            [(schema, insert(2, "odd", Outlier(text))), (schema, insert(3, "ordinary", None))],
        )
        process = self.start(mode, [schema])
        process.apply(first)
        if process.sink.capabilities.exact_outliers:
            process.apply(second)
            expected: list[Row] = [(1, "ordinary", None), (2, "odd", Outlier(text)), (3, "ordinary", None)]
            self.assert_content(schema, mode, row_table(schema, expected))
            return
        with pytest.raises(Refused) as caught:
            process.apply(second)
        assert caught.value.where.get("column") == "value", caught.value.where
        assert caught.value.advice
        assert text not in str(caught.value), "a row value is in the message"
        process.writer.abort()
        self.crash(process.sink)
        assert self.start(mode, [schema], epoch=FIRST_EPOCH + 1).at == first.upto
        self.assert_content(schema, mode, row_table(schema, [(1, "ordinary", None)]))

    @pytest.mark.must_not_fail(12)
    def test_an_odd_value_survives_an_update_that_does_not_send_it(self, mode: WriteMode) -> None:
        schema = table("public.odd", {"id": "int8", "note": "text", "value": "numeric(10,2)"}, key=["id"])
        process = self.start(mode, [schema])
        if not process.sink.capabilities.exact_outliers:
            pytest.skip("the sink refuses such values")
        for window in windows_of(
            [(schema, insert(1, "a", Outlier("NaN"))), (schema, insert(2, "b", Outlier("NaN")))],
            [
                (schema, update(1, "c", None, unchanged=["value"])),
                (schema, update(3, "d", None, old=[2], unchanged=["value"])),
            ],
            [(schema, update(1, "e", Outlier("NaN"))), (schema, update(1, "f", None, unchanged=["value"]))],
        ):
            process.apply(window)
        self.assert_content(schema, mode, row_table(schema, [(1, "f", Outlier("NaN")), (3, "d", Outlier("NaN"))]))
