"""Any sink behind a transforming stage: it is asked about, and gets, what the stage makes of tables and changes.

The stage stands in one place, here, and no sink knows of it. A lane opens the decorator and does the stage's part
itself (see `wallaby.lane`): rows that are set aside must be those the destination would have got, so that a value which
is masked there is masked in a dead letter too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from wallaby.endpoints import sink_factory
from wallaby.flow.transforms import TransformOptions, sink_options, write_mode
from wallaby.schema import TableName, TableSchema
from wallaby.sink import Finding, Rehearsing, Severity, Sink, SinkWriter
from wallaby.sink_around import RehearsingAround, SinkAround, WriterAround
from wallaby.transform.stage import Stage
from wallaby.window import Barrier, CommitToken, LaneId, Receipt, TablePart, Window
from wallaby.window_builder import encode_part


def make_sink(kind: str, options: Mapping[str, Any], *, destination: str) -> Sink:
    """The sink of a destination, not yet open, behind what its options do to rows. ``options`` hold no references.

    `ConfigError` with the field's path for a wrong option; `MissingExtra` for a package that is not there.
    """
    stage = make_stage(kind, options)
    sink = sink_factory(kind).create(sink_options(options), destination=destination)
    return sink if stage is None else TransformedSink(sink, stage)


def make_stage(kind: str, options: Mapping[str, Any]) -> Stage | None:
    """What the options of a destination do to rows, None: nothing. Fails as `make_sink` does."""
    mode = write_mode(options, sink_factory(kind).describe(sink_options(options)).modes)
    transforms = TransformOptions.of(options, mode=mode)
    return None if transforms.is_nothing else Stage(transforms, mode)


class Transform:
    """What travels to a destination, transformed: parts, barriers, names. Without a stage all of it stays as it is."""

    def __init__(self, stage: Stage | None) -> None:
        self._stage = stage

    def names(self, tables: Iterable[TableName]) -> tuple[TableName, ...]:
        """The targets' names, of those tables that go there."""
        if self._stage is None:
            return tuple(tables)
        targets = map(self._stage.target, tables)
        return tuple(target for target in targets if target is not None)

    def tables(self, schemas: Iterable[TableSchema]) -> tuple[TableSchema, ...]:
        """The targets, of those tables that go there; `Refused` when the options do not fit one of them."""
        if self._stage is None:
            return tuple(schemas)
        shapes = map(self._stage.shape, schemas)
        return tuple(shape.target for shape in shapes if shape is not None)

    def parts(self, parts: Iterable[TablePart]) -> tuple[TablePart, ...]:
        """The parts as the destination gets them; of some no row may be left."""
        if self._stage is None:
            return tuple(parts)
        own = (self._part(self._stage, part) for part in parts)
        return tuple(part for part in own if part is not None)

    def window(self, window: Window) -> Window:
        """The window as the destination gets it."""
        if self._stage is None:
            return window
        return replace(window, parts=tuple(part for part in self.parts(window.parts) if part.rows))

    def barrier(self, barrier: Barrier) -> Barrier | None:
        """The barrier as the destination gets it; None when it is about none of its tables."""
        if self._stage is None:
            return barrier
        tables = self.names(barrier.tables)
        return replace(barrier, tables=tables, schemas=self.tables(barrier.schemas)) if tables else None

    def _part(self, stage: Stage, part: TablePart) -> TablePart | None:
        shape = stage.shape(part.schema)
        if shape is None:
            return None
        batch = stage.changed(shape, part.table())
        return replace(encode_part(shape.target, [batch]), fetched_at=part.fetched_at)


class TransformedSink(SinkAround):
    """See `wallaby.sink.Sink`; ``inside`` is behind ``stage``."""

    def __init__(self, inside: Sink, stage: Stage) -> None:
        super().__init__(inside)
        self.stage = stage
        self._transform = Transform(stage)

    def targets(self, table: TableName) -> tuple[TableName, ...]:
        """See `SinkAround`."""
        return self._transform.names((table,))

    def check(self, tables: tuple[TableSchema, ...] = ()) -> list[Finding]:
        """The stage's own findings first; a table it cannot shape is not looked at in the destination."""
        own = self.stage.findings(tables)
        if any(finding.severity is Severity.ERROR for finding in own):
            return own + self.inside.check()
        return own + self.inside.check(self._transform.tables(tables))

    def ensure_table(self, schema: TableSchema) -> None:
        for target in self._transform.tables((schema,)):
            self.inside.ensure_table(target)

    def writer(self, lane: LaneId, epoch: int) -> SinkWriter:
        writer = self.inside.writer(lane, epoch)
        if isinstance(writer, Rehearsing):
            return _RehearsingWriter(writer, self._transform)
        return _Writer(writer, self._transform)


class _Writer(WriterAround):
    """See `wallaby.sink.SinkWriter`."""

    def __init__(self, inside: SinkWriter, transform: Transform) -> None:
        super().__init__(inside)
        self._transform = transform

    def write(self, window: Window) -> None:
        self.inside.write(self._transform.window(window))

    def apply_barrier(self, barrier: Barrier, token: CommitToken) -> Receipt:
        own = self._transform.barrier(barrier)
        return self.inside.commit(token) if own is None else self.inside.apply_barrier(own, token)


class _RehearsingWriter(_Writer, RehearsingAround):
    """... around one that is `Rehearsing`."""


def opened(sink: Sink) -> tuple[Sink, Transform]:
    """What a lane works with: the sink itself, and what is done on the way to it."""
    if isinstance(sink, TransformedSink):
        return sink.inside, Transform(sink.stage)
    return sink, Transform(None)


__all__ = ["Transform", "TransformedSink", "make_sink", "make_stage", "opened"]
