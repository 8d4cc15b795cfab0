"""Stages for tests, destinations fed through them, and their comparison with the model."""

from __future__ import annotations

from typing import Any

from tests.sinks.lane import TestLane
from tests.wallaby.transform import naive
from wallaby.flow.transforms import TransformOptions
from wallaby.schema import TableName, TableSchema
from wallaby.sink import WriteMode
from wallaby.testing.history import RandomHistory
from wallaby.testing.memory_sink import MemoryDestination, MemorySink
from wallaby.transform.stage import Shape, Stage
from wallaby.transformed import TransformedSink
from wallaby.window import LaneId

LANE = LaneId("shop", "copy")
LOG_FIELDS = ["__xid", "__committed_at", "__unchanged", "__outliers"]
"""Columns of a log that the model does not have."""


def staged(mode: WriteMode, **options: Any) -> Stage:
    """The stage of these options."""
    return Stage(TransformOptions.of(options, mode=mode), mode)


def shaped(stage: Stage, schema: TableSchema) -> Shape:
    """What becomes of a table that goes to the destination."""
    shape = stage.shape(schema)
    assert shape is not None, schema.name
    return shape


def replayed(history: RandomHistory, seed: int, mode: WriteMode, **options: Any) -> MemoryDestination:
    """A destination that got the history through a stage, in windows and commits cut at random."""
    destination = MemoryDestination()
    sink = TransformedSink(MemorySink(destination, mode=mode), staged(mode, **options))
    for schema in history.tables:
        sink.ensure_table(schema)
    TestLane(sink, LANE).apply_all(history.windows(seed), commit_every=1 + seed % 3)
    return destination


def compared(history: RandomHistory, seed: int, mode: WriteMode, rules: naive.Rules, **options: Any) -> None:
    """What a destination holds after `replayed` is what the model says, table by table."""
    destination = replayed(history, seed, mode, **options)
    for schema in history.tables:
        target = TableName(options.get("rename_schema", schema.name.schema), schema.name.name)
        rows = destination.targets[target].rows
        if mode is WriteMode.MIRROR:
            rows, expected = rows.drop_columns(["__outliers"]), naive.mirror(history.stream, schema, rules)
        else:
            rows, expected = rows.drop_columns(LOG_FIELDS), naive.log(history.stream, schema, rules)
        found = [row if row.get("__op") != "t" else {"__op": "t"} for row in rows.to_pylist()]
        assert naive.canonical(found, rows.schema) == naive.canonical(expected, rows.schema), schema.name
