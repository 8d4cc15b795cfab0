"""Stages for tests, and destinations fed through them."""

from __future__ import annotations

from typing import Any

from tests.sinks.lane import TestLane
from wallaby.flow.transforms import TransformOptions
from wallaby.schema import TableSchema
from wallaby.sink import WriteMode
from wallaby.testing.history import RandomHistory
from wallaby.testing.memory_sink import MemoryDestination, MemorySink
from wallaby.transform.stage import Shape, Stage
from wallaby.transformed import TransformedSink
from wallaby.window import LaneId

LANE = LaneId("shop", "copy")


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
