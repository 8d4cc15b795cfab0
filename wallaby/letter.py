"""Dead letters: changes a destination refused, and those that follow them in order, set aside to be applied later.

A letter is a piece of one table's changes, or a barrier of it, with the key or the table it sets aside. It counts from
the moment the destination's record reaches `upto`, and not before: the letter is durable first, then the record moves,
so that after any crash a change is either in the destination, or in a letter that counts, or comes again.

The content travels as bytes: one version byte, the length of a header, the header in JSON (the table's shape, or the
barrier), and for rows an Arrow IPC stream in the change layout.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wallaby.errors import CheckFailed
from wallaby.flow import DeadLetterPayload
from wallaby.lsn import Lsn, Position
from wallaby.schema import Column, PgType, ReplicaIdentity, TableName, TableSchema, TypeKind
from wallaby.window import Barrier, BarrierKind, LaneId, TablePart

_VERSION: Final = 1
_PREFIX: Final = struct.Struct("<BI")

Keys = npt.NDArray[np.uint64]
BARRIER_OPS: Final = frozenset({"truncate", "schema"})
"""Values of `Letter.op` for barriers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """Changes of one table, set aside together. Holds no row value outside ``content``."""

    table: TableName
    position: Position
    """Of its first change: commit LSN and ordinal, as in the change layout."""
    rows: int
    """Changes in it; 0 for a barrier."""
    op: str
    """``insert``, ``update``, ``delete``, ``copy``, ``truncate``, ``schema``, or ``mixed``."""
    keys: tuple[int, ...] | None
    """Hashes of the keys it sets aside (`wallaby.transform.key_hash.row_hashes`); None: the whole table."""
    error: str
    """Class of the error, empty for a change that only follows one that was refused."""
    message: str
    """Why, without values."""
    attempts: int
    """How often it was tried in the destination."""
    content: bytes | None = field(repr=False)
    """None when it is not kept: it cannot be replayed."""


@dataclass(frozen=True, slots=True)
class Aside:
    """What a lane sets aside at present: whole tables, and keys of others (sorted hashes)."""

    tables: frozenset[TableName] = frozenset()
    keys: Mapping[TableName, Keys] = field(default_factory=dict)
    dropped: frozenset[TableName] = frozenset()
    """Of ``tables``, those whose further changes are not kept: some of them are gone already."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Letters to be applied in order and in one step. ``number`` grows from replay to replay over all flows."""

    number: int
    letters: tuple[tuple[int, bytes], ...]
    """Id and content of each."""
    barriers: frozenset[int]
    """Ids of those that hold a barrier."""
    failure: str = ""
    """Why contents of it cannot be opened; nothing of it may be applied then. Empty: they are."""


class Letters(Protocol):
    """The dead-letter store as a lane sees it. Calls return when the store has it; each may run twice.

    Every call is fenced: `Fenced` when the control store knows a newer epoch of the flow.
    """

    def begin(self, lane: LaneId, epoch: int, position: Position) -> Aside:
        """Forget letters the destination's record (``position``) has not reached; what is set aside."""
        ...

    def put(
        self, lane: LaneId, epoch: int, letters: tuple[Letter, ...], upto: Position, payload: DeadLetterPayload
    ) -> Aside:
        """Store letters that count once the record reaches ``upto``; what is set aside then.

        ``payload`` says whether contents are kept. `LettersFull` when there is no room.
        """
        ...

    def replays(self, lane: LaneId, epoch: int) -> tuple[Replay, ...]:
        """What somebody asked to be replayed, and what has come behind it since, oldest first. At a commit boundary."""
        ...

    def settle(self, lane: LaneId, epoch: int, number: int, done: tuple[int, ...], failure: str) -> Aside:
        """A replay ended: ``done`` letters are applied; the others of it are open again with ``failure`` as reason."""
        ...

    def forget(self, lane: LaneId, epoch: int) -> None:
        """The lane begins anew with a copy: what was set aside is moot."""
        ...


def pack_part(part: TablePart) -> bytes:
    """The content of a letter of rows."""
    header = {"schema": _plain(part.schema), "fetched_at": None if part.fetched_at is None else int(part.fetched_at)}
    return _packed(header, part.data.to_pybytes())


def pack_barrier(barrier: Barrier) -> bytes:
    """The content of a letter of a barrier."""
    return _packed({"barrier": _plain(barrier)}, b"")


def unpack(content: bytes) -> TablePart | Barrier:
    """What a letter holds. `CheckFailed` for a version we do not know."""
    version, length = _PREFIX.unpack_from(content)
    if version != _VERSION:
        raise CheckFailed(
            f"a dead letter has format {version}, this wallaby knows {_VERSION}", advice="Use the newer wallaby"
        )
    header = json.loads(content[_PREFIX.size : _PREFIX.size + length])
    if "barrier" in header:
        return _barrier(header["barrier"])
    data = pa.py_buffer(content[_PREFIX.size + length :])
    with pa.ipc.open_stream(data) as reader:
        rows = sum(batch.num_rows for batch in reader)
    fetched_at = header["fetched_at"]
    return TablePart(_schema(header["schema"]), rows, data, None if fetched_at is None else Lsn(fetched_at))


def _packed(header: Mapping[str, Any], data: bytes) -> bytes:
    text = json.dumps(header, separators=(",", ":")).encode()
    return _PREFIX.pack(_VERSION, len(text)) + text + data


def _plain(value: Any) -> dict[str, Any]:
    return {name: int(item) if isinstance(item, Lsn) else item for name, item in asdict(value).items()}


def _barrier(value: Mapping[str, Any]) -> Barrier:
    return Barrier(
        **{
            **value,
            "kind": BarrierKind(value["kind"]),
            "tables": tuple(TableName(**name) for name in value["tables"]),
            "schemas": tuple(map(_schema, value["schemas"])),
            "commit_lsn": Lsn(value["commit_lsn"]),
        }
    )


def _schema(value: Mapping[str, Any]) -> TableSchema:
    return TableSchema(
        oid=value["oid"],
        name=TableName(**value["name"]),
        columns=tuple(Column(**{**column, "type": _type(column["type"])}) for column in value["columns"]),
        identity=ReplicaIdentity(value["identity"]),
        version=value["version"],
    )


def _type(value: Mapping[str, Any]) -> PgType:
    inner = {name: None if value[name] is None else _type(value[name]) for name in ("element", "base")}
    return PgType(**{**value, **inner, "kind": TypeKind(value["kind"]), "labels": tuple(value["labels"])})
