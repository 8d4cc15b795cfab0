"""A table's own log, read and kept up with: what the engine knows and does not tell, and what a commit of ours needs.

To mark rows of a file, an action of the log is repeated with a vector, and so it must be known to the letter. A log is
numbered files of JSON, one per version, and from time to time a checkpoint in Parquet of all that holds. Who has read
version n reads only what came later; a commit of ours is not read at all.

A version takes away before it adds, whatever the order of its lines: a file whose vector changes is in both.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from sinks.delta.folder import TableFolder
from sinks.delta.vectors import identity, lies_inside
from wallaby.errors import Transient

LOG: Final = "_delta_log"
FEATURE: Final = "deletionVectors"
SIDECARS: Final = "v2Checkpoint"
ENABLED: Final = "delta.enableDeletionVectors"

Action = Mapping[str, Any]
"""As in the log: one key, the kind."""

_CHECKPOINT: Final = re.compile(r"(\d{20})\.checkpoint(?:\.(\d{10})\.(\d{10}))?\.parquet")
_ROWS_MAX: Final = 4096
"""Actions of a checkpoint in memory at once, beside what is kept of them."""
_LEGACY: Final = (
    (2, ("appendOnly", "invariants")),
    (3, ("checkConstraints",)),
    (4, ("changeDataFeed", "generatedColumns")),
    (5, ("columnMapping",)),
    (6, ("identityColumns",)),
)
"""What a writer of a version must respect; from 7 on a table lists it itself."""
_DATE_LENGTH: Final = len("2000-01-01")
_TWICE: Final = "_parsed"
_PARTED_BY: Final = frozenset({"string", "byte", "short", "integer", "long", "date", "boolean"})
"""Types of which a partition's value is one text."""
_MAPS: Final = frozenset({"configuration", "options", "partitionValues", "tags"})
_HARMLESS: Final = frozenset({FEATURE, "timestampNtz", "variantType", "domainMetadata", "vacuumProtocolCheck"})
"""Features that ask nothing of a commit that adds rows and marks some."""
_BY_PROPERTY: Final = {
    "appendOnly": "delta.appendOnly",
    "changeDataFeed": "delta.enableChangeDataFeed",
    "checkConstraints": "delta.constraints.",
}
_BY_COLUMN: Final = {
    "invariants": "delta.invariants",
    "generatedColumns": "delta.generationExpression",
    "identityColumns": "delta.identity.",
}
"""Features that are only asked for where a property of the table, or of a column, begins like this."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A live file, as its action says."""

    add: Mapping[str, Any]
    rows: int | None
    """Those that are gone, too; None where the action does not say."""
    lowest: Mapping[str, Any]
    highest: Mapping[str, Any]
    """Bounds of whole numbers and dates by column, as JSON has them; they hold for rows that are gone, too."""

    @classmethod
    def of(cls, add: Mapping[str, Any]) -> DataFile:
        """Of an ``add`` action."""
        said = json.loads(add.get("stats") or "{}")
        return cls(add, said.get("numRecords"), _bounds(said.get("minValues")), _bounds(said.get("maxValues")))

    @property
    def key(self) -> str:
        """Its name in the log."""
        return str(self.add["path"])

    @property
    def path(self) -> str:
        """Its name below the table."""
        return unquote(self.key)

    @property
    def vector(self) -> Mapping[str, Any] | None:
        """What the action says of its deletion vector."""
        return self.add.get("deletionVector")

    @property
    def is_outside(self) -> bool:
        """Whether it, or its vector, does not lie in the table's folder."""
        if self.vector and not lies_inside(self.vector):
            return True
        return "://" in self.path or self.path.startswith("/")

    @property
    def marked(self) -> int:
        """How many of its rows are gone."""
        return int(self.vector["cardinality"]) if self.vector else 0


class Log:
    """The newest version that was asked for: its live files, its metadata and what it wants of writers."""

    def __init__(self, folder: TableFolder) -> None:
        self._folder = folder
        self._forget()

    def follow(self, version: int, *, table_id: str) -> None:
        """Go to ``version`` of the table with that identity, which exists. OSError when the store fails.

        `Transient` when the log no longer reaches back so far.
        """
        if not 0 <= self.version <= version or self.metadata.get("id", table_id) != table_id:
            self._forget()
        try:
            self._read_to(version)
        except FileNotFoundError:
            # It fell behind what is kept of single versions.
            self._forget()
            try:
                self._read_to(version)
            except FileNotFoundError as error:
                raise Transient(
                    "the table's log has a gap", advice="Somebody cleaned it up meanwhile", table=self._folder.table
                ) from error

    def advance(self, actions: Iterable[Action]) -> None:
        """These make the next version."""
        held = list(actions)
        self._take_away(held)
        for action in held:
            self._hold(action)
        self.version += 1

    @property
    def files(self) -> Iterable[DataFile]:
        """The live ones."""
        return self._files.values()

    @property
    def features(self) -> frozenset[str]:
        """What a writer must respect."""
        listed = self.protocol.get("writerFeatures")
        if listed is not None:
            return frozenset(listed)
        version = int(self.protocol.get("minWriterVersion", 1))
        return frozenset(name for least, names in _LEGACY if version >= least for name in names)

    @property
    def is_ready(self) -> bool:
        """Vectors may be added to the table."""
        return FEATURE in self.features and self._configuration.get(ENABLED) == "true"

    def obstacle(self) -> str | None:
        """The first thing about the table that our commits would not respect; None when there is none."""
        configuration = self._configuration
        columns = str(self.metadata.get("schemaString"))
        for feature in sorted(self.features - _HARMLESS):
            if feature in _BY_PROPERTY:
                asks = any(
                    name.startswith(_BY_PROPERTY[feature]) and value != "false" for name, value in configuration.items()
                )
            elif feature in _BY_COLUMN:
                asks = f'"{_BY_COLUMN[feature]}' in columns
            else:
                asks = True
            if asks:
                return f"the table uses {feature}"
        kinds = {field["name"]: field["type"] for field in json.loads(columns)["fields"]}
        if not {kinds.get(name) for name in self.metadata.get("partitionColumns") or ()} <= _PARTED_BY:
            return "the table is partitioned by other types than text, whole numbers, dates and booleans"
        if self._outside:
            return "the table has files outside its folder"
        return None

    def upgrade(self) -> list[Action]:
        """What makes vectors allowed, beside all that was."""
        writer = sorted({*self.features, FEATURE})
        reader = sorted({*(self.protocol.get("readerFeatures") or ()), FEATURE})
        protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": reader, "writerFeatures": writer}
        metadata = {**self.metadata, "configuration": {**self._configuration, ENABLED: "true"}}
        return [{"protocol": protocol}, {"metaData": metadata}]

    @property
    def _configuration(self) -> Mapping[str, str]:
        return self.metadata.get("configuration") or {}

    def _forget(self) -> None:
        self.version = -1
        self.protocol: Mapping[str, Any] = {}
        self.metadata: Mapping[str, Any] = {}
        self._files: dict[str, DataFile] = {}
        self._outside: set[str] = set()
        """Keys of those that lie outside: each is looked at once, not in every commit."""

    def _read_to(self, version: int) -> None:
        if self.version < 0 < version:
            self._start(version)
        while self.version < version:
            lines = self._folder.read(entry_path(self.version + 1)).splitlines()
            self.advance(json.loads(line) for line in lines if line.strip())

    def _start(self, version: int) -> None:
        """At the newest checkpoint up to ``version``, or before the first version."""
        self._forget()  # of a checkpoint that was read in part
        found, names = newest_checkpoint(self._folder, version)
        for name in names:
            with self._folder.open(f"{LOG}/{name}") as file:
                parquet = pq.ParquetFile(file)
                for batch in parquet.iter_batches(_ROWS_MAX, columns=_columns(parquet.schema_arrow)):
                    for kind, column in zip(batch.schema.names, batch.columns, strict=True):
                        for value in column.filter(column.is_valid()).to_pylist():
                            self._hold({kind: _said(value)})
        self.version = found

    def _take_away(self, actions: list[Action]) -> None:
        for action in actions:
            if (gone := action.get("remove")) is not None:
                held = self._files.get(gone["path"])
                if held is not None and identity(held.vector) == identity(gone.get("deletionVector")):
                    del self._files[gone["path"]]
                    self._outside.discard(gone["path"])

    def _hold(self, action: Action) -> None:
        match action:
            case {"add": add}:
                file = self._files[add["path"]] = DataFile.of(add)
                if file.is_outside:
                    self._outside.add(file.key)
                else:
                    self._outside.discard(file.key)
            case {"metaData": metadata}:
                self.metadata = metadata
            case {"protocol": protocol}:
                self.protocol = protocol
            case _:
                pass


def is_left_to_the_engine(table: DeltaTable) -> bool:
    """Checkpoints of a table's log may leave actions to files of their own, which only the engine looks for."""
    return SIDECARS in (table.protocol().reader_features or ())


def entry_path(version: int) -> str:
    """The file of a version."""
    return f"{LOG}/{version:020d}.json"


def newest_checkpoint(folder: TableFolder, version: int) -> tuple[int, list[str]]:
    """The version of the newest whole checkpoint up to ``version`` and its files; -1 and none without one."""
    if (hinted := _hinted(folder, version)) is not None:
        return hinted
    found: dict[tuple[int, int], list[str]] = {}
    for name, match in _matches(folder.names(LOG)):
        if int(match[1]) <= version:
            found.setdefault((int(match[1]), int(match[3] or 1)), []).append(name)
    whole = [(at, names) for (at, count), names in found.items() if len(names) == count]
    return max(whole, default=(-1, []))


def _hinted(folder: TableFolder, version: int) -> tuple[int, list[str]] | None:
    """As `newest_checkpoint`, spared a listing; None when what was noted is damaged, or of no use any more."""
    try:
        hint = json.loads(folder.read(f"{LOG}/_last_checkpoint"))
    except (FileNotFoundError, ValueError):
        return None
    match hint:
        case {"version": int(at), **others} if 0 <= at <= version and SIDECARS not in others:
            count = parts if isinstance(parts := others.get("parts"), int) else 0
        case _:
            return None
    numbered = [f"{at:020d}.checkpoint.{part:010d}.{count:010d}.parquet" for part in range(1, count + 1)]
    names = numbered or [f"{at:020d}.checkpoint.parquet"]
    return (at, names) if all(folder.has(f"{LOG}/{name}") for name in names) else None


def _columns(checkpoint: pa.Schema) -> list[str]:
    """Those of the actions we know, but for what is there a second time in the table's types, as Spark writes it."""
    known = [checkpoint.field(kind) for kind in ("add", "metaData", "protocol") if kind in checkpoint.names]
    return [f"{kind.name}.{field.name}" for kind in known for field in kind.type if not field.name.endswith(_TWICE)]


def _matches(names: Iterable[str]) -> Iterator[tuple[str, re.Match[str]]]:
    for name in names:
        if (match := _CHECKPOINT.fullmatch(name)) is not None:
            yield name, match


def _bounds(said: Mapping[str, Any] | None) -> dict[str, Any]:
    """Those that leave out files: of all that is said of a wide table's files, they are what memory is worth."""
    return {
        sys.intern(name): value
        for name, value in (said or {}).items()
        if isinstance(value, int) or (isinstance(value, str) and len(value) == _DATE_LENGTH)
    }


def _said(value: Mapping[str, Any]) -> dict[str, Any]:
    """An action as JSON would have it: what is null in a checkpoint's row was not said, and maps come as pairs."""
    said: dict[str, Any] = {}
    for name, inner in value.items():
        if name in _MAPS:
            said[name] = dict(inner or ())
        elif isinstance(inner, dict):
            said[name] = _said(inner)
        elif inner is not None:
            said[name] = inner
    return said


__all__ = [
    "ENABLED",
    "FEATURE",
    "LOG",
    "SIDECARS",
    "Action",
    "DataFile",
    "Log",
    "entry_path",
    "is_left_to_the_engine",
    "newest_checkpoint",
]
