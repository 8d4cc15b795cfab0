"""The dead-letter store for lanes: contents are sealed on their way in and opened on their way out, here and only here.

The process that holds the control store holds the keys as well (`wallaby.vault`); lanes have neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from wallaby.errors import CheckFailed, ConfigError
from wallaby.flow import DeadLetterPayload
from wallaby.letter import BARRIER_OPS, Aside, Keys, Letter, Replay
from wallaby.lsn import Position
from wallaby.schema import TableName
from wallaby.settings import Limits
from wallaby.store import LetterRecord, LetterRoom, OpenScope, SealedLetter, Store
from wallaby.vault import Vault
from wallaby.window import LaneId


class LetterBox:
    """The `wallaby.letter.Letters` of the flows of one control store."""

    def __init__(self, store: Store, vault: Vault, limits: Limits) -> None:
        self._store = store
        self._vault = vault
        self._limits = limits
        self._room = LetterRoom(limits.letters_max, limits.letters_bytes_max, limits.letters_settled_max)

    def begin(self, lane: LaneId, epoch: int, position: Position) -> Aside:
        return _aside(self._store.begin_letters(lane, epoch, position))

    def put(
        self, lane: LaneId, epoch: int, letters: tuple[Letter, ...], upto: Position, payload: DeadLetterPayload
    ) -> Aside:
        keeps = keeps_content(self._vault, payload)
        sealed = [self._sealed(lane, letter, keeps=keeps) for letter in letters]
        return _aside(self._store.put_letters(lane, epoch, sealed, upto, self._room))

    def replays(self, lane: LaneId, epoch: int) -> tuple[Replay, ...]:
        self._store.follow_replays(lane, epoch)
        found: dict[int, list[LetterRecord]] = {}
        for record in self._store.letters_to_replay(lane, self._limits.replay_bytes_max):
            assert record.number is not None, f"letter {record.id} is to be replayed without a decision"
            found.setdefault(record.number, []).append(record)
        return tuple(self._replay(number, records) for number, records in found.items())

    def settle(self, lane: LaneId, epoch: int, number: int, done: tuple[int, ...], failure: str) -> Aside:
        return _aside(self._store.settle_letters(lane, epoch, number, done, failure, self._room))

    def forget(self, lane: LaneId, epoch: int) -> None:
        self._store.forget_letters(lane, epoch)

    def _replay(self, number: int, records: list[LetterRecord]) -> Replay:
        barriers = frozenset(record.id for record in records if record.op in BARRIER_OPS)
        try:
            letters = tuple((record.id, content_of(self._vault, record)) for record in records)
        except (ConfigError, CheckFailed) as error:
            # What is wrong with a letter must not stop the flow: it is one more reason why it is not applied.
            return Replay(number, tuple((record.id, b"") for record in records), barriers, failure=str(error))
        return Replay(number, letters, barriers)

    def _sealed(self, lane: LaneId, letter: Letter, *, keeps: bool) -> SealedLetter:
        key_id, sealed = "", None
        if keeps and letter.content is not None:
            place = _place(lane.flow, lane.destination, lane.index, letter.table, letter.position)
            key_id, sealed = self._vault.seal_content(place, letter.content)
        return SealedLetter(
            table=letter.table,
            position=letter.position,
            rows=letter.rows,
            op=letter.op,
            keys=letter.keys,
            error=letter.error,
            message=letter.message,
            attempts=letter.attempts,
            key_id=key_id,
            sealed=sealed,
        )


def keeps_content(vault: Vault, payload: DeadLetterPayload) -> bool:
    """Whether contents are kept; `ConfigError` when they should be and nothing can seal them."""
    if payload is DeadLetterPayload.ENCRYPTED and not vault.has_keys:
        raise ConfigError(
            "is encrypted, but WALLABY_SECRET_KEY is not set",
            field="config.dead_letters.payload",
            advice="Set it (docs/security.md), or choose auto or omitted",
        )
    return vault.has_keys and payload is not DeadLetterPayload.OMITTED


def content_of(vault: Vault, record: LetterRecord) -> bytes:
    """A letter's content, opened; the record was read with it."""
    assert record.sealed is not None, f"letter {record.id} was read without its content"
    place = _place(record.flow_id, record.destination, record.lane, record.table, record.position)
    return vault.open_content(place, record.key_id, record.sealed)


def _place(flow: str, destination: str, lane: int, table: TableName, position: Position) -> str:
    return "\0".join((flow, destination, str(lane), table.schema, table.name, str(position)))


def _aside(scopes: Iterable[OpenScope]) -> Aside:
    scopes = tuple(scopes)
    tables = frozenset(scope.table for scope in scopes if scope.keys is None)
    keys: dict[TableName, set[int]] = {}
    for scope in scopes:
        if scope.table not in tables:
            keys.setdefault(scope.table, set()).update(scope.keys or ())
    dropped = frozenset(scope.table for scope in scopes if scope.keys is None and not scope.is_kept)
    return Aside(tables, _sorted(keys), dropped)


def _sorted(keys: Mapping[TableName, set[int]]) -> dict[TableName, Keys]:
    return {table: np.array(sorted(hashes), np.uint64) for table, hashes in keys.items()}
