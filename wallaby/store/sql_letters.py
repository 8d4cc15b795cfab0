"""Dead letters over SQL; see `wallaby.store.letters` for the rules."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from wallaby.errors import ConfigError, IllegalMove, LettersFull, NotFound
from wallaby.lifecycle import FlowState
from wallaby.lsn import Position
from wallaby.schema import TableName
from wallaby.store.edge import Edge, Transaction
from wallaby.store.letters import (
    LetterDecision,
    LetterFilter,
    LetterPage,
    LetterRecord,
    LetterRoom,
    LetterState,
    OpenScope,
    SealedLetter,
)
from wallaby.store.port import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX
from wallaby.store.sql_rows import after_token, count_change, foreign_token, hold, storable_text, time_of, token_for

if TYPE_CHECKING:  # Arrow is large, and a store needs none of it
    from wallaby.window import LaneId

_ID_MAX: Final = 2**63 - 1
_BATCH_MAX: Final = 500
"""Letters per statement."""
_LETTER: Final = (
    "id, flow_id, destination, lane, table_schema, table_name, position, row_count, op, keys, error, message, attempts,"
    " state, decision, created_at, decided_at, key_id, sealed_bytes, sealed IS NOT NULL"
)
_INSERTED: Final = (
    "flow_id, destination, lane, epoch, table_schema, table_name, position, upto, row_count, op, keys, error, message,"
    " attempts, state, created_at, key_id, sealed, sealed_bytes"
)
_ROW: Final = f"({', '.join(['%s'] * (_INSERTED.count(',') + 1))})"
_LANE: Final = "flow_id = %s AND destination = %s AND lane = %s"
_UNSETTLED: Final = "state IN ('open', 'replaying')"
_NO_ROOM: Final = "The dead-letter store of the flow is full: from here on the changes of the table are not kept"
_COPIED: Final = "The flow was copied again"
_STATES: Final = {
    LetterDecision.REPLAY: frozenset({LetterState.REPLAYING, LetterState.REPLAYED}),
    LetterDecision.DISCARD: frozenset({LetterState.DISCARDED}),
}


class SqlLetters:
    """A `LetterStore` over an `Edge`."""

    _edge: Edge

    def begin_letters(self, lane: LaneId, epoch: int, position: Position) -> tuple[OpenScope, ...]:
        with self._edge.transaction() as transaction:
            hold(transaction, lane.flow, epoch)
            transaction.execute(
                f"DELETE FROM wallaby.dead_letters WHERE {_LANE} AND {_UNSETTLED} AND upto > %s",
                (*_key(lane), str(position)),
            )
            return _scopes(transaction, lane)

    def put_letters(
        self, lane: LaneId, epoch: int, letters: Sequence[SealedLetter], upto: Position, room: LetterRoom
    ) -> tuple[OpenScope, ...]:
        now = datetime.now(UTC).isoformat()
        with self._edge.transaction() as transaction:
            hold(transaction, lane.flow, epoch)
            rows = [
                (
                    *(*_key(lane), epoch, letter.table.schema, letter.table.name, str(letter.position), str(upto)),
                    *(letter.rows, letter.op, _dump(letter.keys), letter.error, storable_text(letter.message)),
                    *(letter.attempts, LetterState.OPEN, now, letter.key_id, letter.sealed, len(letter.sealed or b"")),
                )
                for letter in _admitted(transaction, lane, letters, room)
            ]
            for some in _batches(rows):
                transaction.execute(
                    f"INSERT INTO wallaby.dead_letters ({_INSERTED}) VALUES {', '.join([_ROW] * len(some))}",
                    [value for row in some for value in row],
                )
            return _scopes(transaction, lane)

    def list_letters(self, chosen: LetterFilter, page_size: int = 0, page_token: str = "") -> LetterPage:
        if page_size < 0:
            raise ConfigError("must not be negative", field="page_size")
        size = min(page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        after = after_token(page_token) or "0"
        if not after.isdecimal() or int(after) > _ID_MAX:
            raise foreign_token()
        condition, values = _condition(chosen)
        rows = self._edge.read(
            f"SELECT {_LETTER} FROM wallaby.dead_letters WHERE id > %s{condition} ORDER BY id LIMIT %s",
            (int(after), *values, size + 1),
        )
        letters = tuple(map(_letter, rows[:size]))
        return LetterPage(letters, token_for(str(letters[-1].id)) if len(rows) > size else "")

    def get_letter(self, letter_id: int) -> LetterRecord:
        rows = self._edge.read(f"SELECT {_LETTER}, sealed FROM wallaby.dead_letters WHERE id = %s", (letter_id,))
        if not rows:
            raise _unknown(letter_id)
        return _letter(rows[0])

    def decide_letters(
        self, decision: LetterDecision, *, ids: Sequence[int] = (), chosen: LetterFilter | None = None
    ) -> tuple[LetterRecord, ...]:
        with self._edge.transaction() as transaction:
            count_change(transaction)  # decisions take turns, and have a number of their own
            wanted = _by_id(transaction, ids) if chosen is None else _by_filter(transaction, chosen)
            pending = []
            for letter in wanted:
                if letter.state is LetterState.OPEN or _may_give_up(transaction, letter, decision):
                    pending.append(letter)
                elif letter.state not in _STATES[decision]:
                    raise IllegalMove(f"the letter is {letter.state}", advice="List the open ones", letter=letter.id)
            if decision is LetterDecision.REPLAY:
                groups = _groups(_replayable(transaction, pending))
                state = LetterState.REPLAYING
            else:
                groups, state = [pending] if pending else [], LetterState.DISCARDED
            _decide(transaction, groups, state)
            return tuple(_by_id(transaction, [letter.id for letter in wanted]))

    def follow_replays(self, lane: LaneId, epoch: int) -> None:
        with self._edge.transaction() as transaction:
            hold(transaction, lane.flow, epoch)
            if not _followers(transaction, lane):
                return
        with self._edge.transaction() as transaction:
            # In the order of `decide_letters`, which another process may be at: the count of changes comes first.
            count_change(transaction)
            hold(transaction, lane.flow, epoch)
            _decide(transaction, _groups(_followers(transaction, lane)), LetterState.REPLAYING)

    def letters_to_replay(self, lane: LaneId, bytes_max: int) -> tuple[LetterRecord, ...]:
        where = f"{_LANE} AND state = 'replaying'"
        with self._edge.transaction() as transaction:
            sizes = transaction.execute(
                f"SELECT decision, sum(sealed_bytes) FROM wallaby.dead_letters WHERE {where}"
                " GROUP BY decision ORDER BY decision",
                _key(lane),
            )
            if not sizes:
                return ()
            last, total = sizes[0][0], 0
            for number, size in sizes:
                total += int(size)
                if total > bytes_max and number != sizes[0][0]:
                    break
                last = number
            rows = transaction.execute(
                f"SELECT {_LETTER}, sealed FROM wallaby.dead_letters WHERE {where} AND decision <= %s"
                " ORDER BY decision, id",
                (*_key(lane), last),
            )
        return tuple(map(_letter, rows))

    def settle_letters(
        self, lane: LaneId, epoch: int, number: int, done: Sequence[int], failure: str, room: LetterRoom
    ) -> tuple[OpenScope, ...]:
        with self._edge.transaction() as transaction:
            hold(transaction, lane.flow, epoch)
            now = datetime.now(UTC).isoformat()
            for some in _batches(list(done)):
                transaction.execute(
                    "UPDATE wallaby.dead_letters SET state = 'replayed', decided_at = %s, key_id = '', sealed = NULL,"
                    f" sealed_bytes = 0 WHERE {_LANE} AND state = 'replaying' AND id IN ({_marks(some)})",
                    (now, *_key(lane), *some),
                )
            if failure:
                _reopen(transaction, lane, number, storable_text(failure))
            _trim(transaction, lane.flow, room)
            return _scopes(transaction, lane)

    def forget_letters(self, lane: LaneId, epoch: int) -> None:
        with self._edge.transaction() as transaction:
            hold(transaction, lane.flow, epoch)
            transaction.execute(
                "UPDATE wallaby.dead_letters SET state = 'discarded', decided_at = %s, message = %s, key_id = '',"
                f" sealed = NULL, sealed_bytes = 0 WHERE {_LANE} AND {_UNSETTLED}",
                (datetime.now(UTC).isoformat(), _COPIED, *_key(lane)),
            )

    def newest_letter_decision(self, flow_id: str) -> int:
        rows = self._edge.read("SELECT max(decision) FROM wallaby.dead_letters WHERE flow_id = %s", (flow_id,))
        return int(rows[0][0] or 0)


def _admitted(
    transaction: Transaction, lane: LaneId, letters: Sequence[SealedLetter], room: LetterRoom
) -> Iterator[SealedLetter]:
    """What is stored of ``letters``: not what is there, nor what lies in a closed scope, nor contents without room."""
    [(count, size)] = transaction.execute(
        "SELECT count(*), coalesce(sum(sealed_bytes), 0) FROM wallaby.dead_letters"
        f" WHERE flow_id = %s AND {_UNSETTLED}",
        (lane.flow,),
    )
    seen: set[tuple[Any, ...]] = set()
    for some in _batches([str(letter.position) for letter in letters]):
        seen.update(
            transaction.execute(
                f"SELECT table_schema, table_name, position, op FROM wallaby.dead_letters WHERE {_LANE}"
                f" AND {_UNSETTLED} AND position IN ({_marks(some)})",
                (*_key(lane), *some),
            )
        )
    closed = [scope for scope in _scopes(transaction, lane) if not scope.is_kept]
    count, size = int(count), int(size)
    for letter in letters:
        place = (letter.table.schema, letter.table.name, str(letter.position), letter.op)
        if place in seen or any(_covers(scope, letter.table, letter.keys) for scope in closed):
            continue
        size += len(letter.sealed or b"")
        if letter.sealed is not None and (count >= room.letters_max or size > room.bytes_max):
            size -= len(letter.sealed)
            letter = _without_room(letter)
        elif count >= room.letters_max and letter.keys is not None:
            raise _full(letter)
        if letter.sealed is None:
            closed.append(OpenScope(letter.table, letter.keys, is_kept=False))
        count += 1
        yield letter


def _without_room(letter: SealedLetter) -> SealedLetter:
    if letter.keys is not None:
        raise _full(letter)
    message = f"{letter.message}. {_NO_ROOM}" if letter.error else _NO_ROOM
    return replace(letter, message=message, key_id="", sealed=None)


def _full(letter: SealedLetter) -> LettersFull:
    return LettersFull(
        "the dead-letter store of the flow is full",
        advice="Replay or discard letters (wallaby dead-letter list), then start the flow again",
        table=letter.table,
        position=letter.position,
    )


def _may_give_up(transaction: Transaction, letter: LetterRecord, decision: LetterDecision) -> bool:
    """No lane is at work on the letter, though it is to be replayed. A start counts as a change, so it waits for us."""
    if decision is not LetterDecision.DISCARD or letter.state is not LetterState.REPLAYING:
        return False
    rows = transaction.execute("SELECT state FROM wallaby.flows WHERE id = %s", (letter.flow_id,))
    return bool(rows) and FlowState(rows[0][0]) not in (FlowState.RUNNING, FlowState.STOPPING)


def _replayable(transaction: Transaction, letters: Sequence[LetterRecord]) -> Sequence[LetterRecord]:
    """``letters``, which may all be replayed; `IllegalMove` names one that may not."""
    for letter in letters:
        if not letter.is_kept:
            raise IllegalMove(
                "the rows of the letter were not kept, so it cannot be replayed",
                advice="Copy the table again (wallaby run FLOW --resnapshot), or discard the letter",
                letter=letter.id,
            )
    chosen = {letter.id for letter in letters}
    for lane in dict.fromkeys((letter.flow_id, letter.destination, letter.lane) for letter in letters):
        own = [letter for letter in letters if (letter.flow_id, letter.destination, letter.lane) == lane]
        earlier = transaction.execute(
            f"SELECT {_LETTER} FROM wallaby.dead_letters WHERE {_LANE} AND state = 'open' AND id < %s",
            (*lane, max(letter.id for letter in own)),
        )
        for before in map(_letter, earlier):
            for letter in own if before.id not in chosen else ():
                if before.id < letter.id and _meet(before, letter):
                    raise IllegalMove(
                        f"letter {before.id} comes before it and is open",
                        advice="Replay them together, or discard the earlier one first",
                        letter=letter.id,
                    )
    return letters


def _followers(transaction: Transaction, lane: LaneId) -> list[LetterRecord]:
    """Open letters behind one that is to be replayed, as far as nothing that stays open comes before them."""
    [(first,)] = transaction.execute(
        f"SELECT min(id) FROM wallaby.dead_letters WHERE {_LANE} AND state = 'replaying'", _key(lane)
    )
    if first is None:
        return []
    rows = transaction.execute(
        f"SELECT {_LETTER} FROM wallaby.dead_letters WHERE {_LANE} AND {_UNSETTLED} ORDER BY id", _key(lane)
    )
    asked, staying = _Met(), _Met()
    followers = []
    for letter in map(_letter, rows):
        if letter.state is LetterState.REPLAYING:
            asked.add(letter)
        elif letter.is_kept and asked.meets(letter) and not staying.meets(letter):
            asked.add(letter)
            followers.append(letter)
        else:
            staying.add(letter)
    return followers


class _Met:
    """The scopes of some letters of one lane."""

    def __init__(self) -> None:
        self._tables: set[TableName] = set()
        self._whole: set[TableName] = set()
        self._keys: set[tuple[TableName, int]] = set()

    def add(self, letter: LetterRecord) -> None:
        self._tables.add(letter.table)
        if letter.keys is None:
            self._whole.add(letter.table)
        self._keys.update((letter.table, key) for key in letter.keys or ())

    def meets(self, letter: LetterRecord) -> bool:
        """Whether one of them shares a key, or its table, with ``letter``."""
        if letter.keys is None:
            return letter.table in self._tables
        return letter.table in self._whole or any((letter.table, key) in self._keys for key in letter.keys)


def _groups(letters: Iterable[LetterRecord]) -> list[list[LetterRecord]]:
    """Letters that share keys or a table, directly or through others, together, each group in order of ids."""
    groups: list[list[LetterRecord]] = []
    owners: dict[tuple[object, ...], int] = {}
    parents: list[int] = []

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    members = list(letters)
    whole = {_place(letter) for letter in members if letter.keys is None}
    for number, letter in enumerate(members):
        parents.append(number)
        place = _place(letter)
        marks = [(*place, None)] if place in whole else [(*place, key) for key in letter.keys or ()]
        for mark in marks:
            parents[root(number)] = root(owners.setdefault(mark, number))
    numbered: dict[int, list[LetterRecord]] = {}
    for number, letter in enumerate(members):
        numbered.setdefault(root(number), []).append(letter)
    groups.extend(sorted(group, key=lambda letter: letter.id) for group in numbered.values())
    return groups


def _decide(transaction: Transaction, groups: Sequence[Sequence[LetterRecord]], state: LetterState) -> None:
    """A number for each group; `count_change` has been called, so the row of numbers is ours.

    The letters were read without a lock: `IllegalMove` when a lane has settled or forgotten one of them since.
    """
    if not groups:
        return
    [(version,)] = transaction.execute(
        "UPDATE wallaby.changes SET version = version + %s WHERE id = 1 RETURNING version", (len(groups),)
    )
    first = int(version) - len(groups) + 1
    chosen = [(letter.id, first + number, letter.state) for number, group in enumerate(groups) for letter in group]
    drops = ", key_id = '', sealed = NULL, sealed_bytes = 0" if state is LetterState.DISCARDED else ""
    now = datetime.now(UTC).isoformat()
    for some in _batches(chosen):
        found = transaction.execute(
            f"UPDATE wallaby.dead_letters SET state = %s, decided_at = %s, decision = chosen.column2{drops}"
            f" FROM (VALUES {', '.join(['(%s, %s, %s)'] * len(some))}) AS chosen"
            " WHERE id = chosen.column1 AND state = chosen.column3 RETURNING id",
            (state, now, *(value for letter in some for value in letter)),
        )
        if gone := {letter for letter, *_ in some} - {letter for (letter,) in found}:
            raise IllegalMove("the letter was settled meanwhile", advice="List the open ones", letter=min(gone))


def _reopen(transaction: Transaction, lane: LaneId, number: int, failure: str) -> None:
    rows = transaction.execute(
        f"SELECT {_LETTER} FROM wallaby.dead_letters WHERE {_LANE} AND state = 'replaying' AND decision >= %s"
        " ORDER BY decision, id",
        (*_key(lane), number),
    )
    letters = list(map(_letter, rows))
    failed = [letter for letter in letters if letter.number == number]
    reopened = list(failed)
    for letter in letters:
        if letter.number != number and any(_meet(other, letter) for other in reopened):
            reopened.append(letter)
    tried = {letter.id for letter in failed}
    for some in _batches(reopened):
        ids = [letter.id for letter in some]
        transaction.execute(
            "UPDATE wallaby.dead_letters SET state = 'open', decided_at = NULL, decision = NULL"
            f" WHERE id IN ({_marks(ids)})",
            ids,
        )
    for batch in _batches(sorted(tried)):
        transaction.execute(
            f"UPDATE wallaby.dead_letters SET message = %s, attempts = attempts + 1 WHERE id IN ({_marks(batch)})",
            (failure, *batch),
        )


def _trim(transaction: Transaction, flow_id: str, room: LetterRoom) -> None:
    transaction.execute(
        "DELETE FROM wallaby.dead_letters WHERE flow_id = %s AND state IN ('replayed', 'discarded') AND id NOT IN"
        " (SELECT id FROM wallaby.dead_letters WHERE flow_id = %s AND state IN ('replayed', 'discarded')"
        " ORDER BY id DESC LIMIT %s)",
        (flow_id, flow_id, room.settled_max),
    )


def _scopes(transaction: Transaction, lane: LaneId) -> tuple[OpenScope, ...]:
    rows = transaction.execute(
        "SELECT table_schema, table_name, keys, min(CASE WHEN sealed IS NULL THEN 0 ELSE 1 END)"
        f" FROM wallaby.dead_letters WHERE {_LANE} AND {_UNSETTLED} GROUP BY table_schema, table_name, keys",
        _key(lane),
    )
    return tuple(OpenScope(TableName(schema, name), _load(keys), bool(kept)) for schema, name, keys, kept in rows)


def _by_id(transaction: Transaction, ids: Sequence[int]) -> list[LetterRecord]:
    found: list[LetterRecord] = []
    for some in _batches(sorted(set(ids))):
        if any(not 0 < letter_id <= _ID_MAX for letter_id in some):
            raise ConfigError("must be positive", field="ids")
        rows = transaction.execute(f"SELECT {_LETTER} FROM wallaby.dead_letters WHERE id IN ({_marks(some)})", some)
        letters = {letter.id: letter for letter in map(_letter, rows)}
        for letter_id in some:
            if letter_id not in letters:
                raise _unknown(letter_id)
        found += letters.values()
    return sorted(found, key=lambda letter: letter.id)


def _by_filter(transaction: Transaction, chosen: LetterFilter) -> list[LetterRecord]:
    condition, values = _condition(LetterFilter(chosen.flow_id, chosen.destination, chosen.table, LetterState.OPEN))
    rows = transaction.execute(
        f"SELECT {_LETTER} FROM wallaby.dead_letters WHERE id > 0{condition} ORDER BY id", values
    )
    return list(map(_letter, rows))


def _condition(chosen: LetterFilter) -> tuple[str, list[Any]]:
    table = chosen.table
    given = {
        "flow_id": chosen.flow_id or None,
        "destination": chosen.destination or None,
        "table_schema": table.schema if table else None,
        "table_name": table.name if table else None,
        "state": chosen.state,
    }
    used = {name: value for name, value in given.items() if value is not None}
    return "".join(f" AND {name} = %s" for name in used), list(used.values())


def _meet(one: LetterRecord, other: LetterRecord) -> bool:
    if _place(one) != _place(other):
        return False
    return one.keys is None or other.keys is None or not set(one.keys).isdisjoint(other.keys)


def _covers(scope: OpenScope, table: TableName, keys: tuple[int, ...] | None) -> bool:
    if scope.table != table:
        return False
    return scope.keys is None or (keys is not None and set(keys) <= set(scope.keys))


def _place(letter: LetterRecord) -> tuple[object, ...]:
    return letter.flow_id, letter.destination, letter.lane, letter.table


def _letter(row: tuple[Any, ...]) -> LetterRecord:
    (letter_id, flow_id, destination, lane, schema, name, position, rows, op, keys, error, message, attempts) = row[:13]
    state, number, created_at, decided_at, key_id, size, is_kept, *sealed = row[13:]
    return LetterRecord(
        id=int(letter_id),
        flow_id=flow_id,
        destination=destination,
        lane=int(lane),
        table=TableName(schema, name),
        position=Position.parse(position),
        rows=int(rows),
        op=op,
        keys=_load(keys),
        error=error,
        message=message,
        attempts=int(attempts),
        state=LetterState(state),
        number=None if number is None else int(number),
        created_at=time_of(created_at),
        decided_at=None if decided_at is None else time_of(decided_at),
        key_id=key_id,
        sealed_bytes=int(size),
        is_kept=bool(is_kept),
        sealed=bytes(sealed[0]) if sealed and sealed[0] is not None else None,
    )


def _batches(items: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(items), _BATCH_MAX):
        yield items[start : start + _BATCH_MAX]


def _marks(items: Sequence[Any]) -> str:
    return ", ".join(["%s"] * len(items))


def _key(lane: LaneId) -> tuple[str, str, int]:
    return lane.flow, lane.destination, lane.index


def _dump(keys: tuple[int, ...] | None) -> str | None:
    return None if keys is None else json.dumps(keys)


def _load(keys: str | None) -> tuple[int, ...] | None:
    return None if keys is None else tuple(json.loads(keys))


def _unknown(letter_id: int) -> NotFound:
    return NotFound("there is no dead letter of this id", advice="List those there are", letter=letter_id)
