"""What the control store keeps of dead letters; `wallaby.letter` says what one is and when it counts.

Contents come sealed and are opened elsewhere. Letters of a scope (the keys one sets aside, or its table) are settled in
the order in which they came: one is replayed only with, or after, every earlier open one of its scope.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from wallaby.lsn import Position
from wallaby.schema import TableName

if TYPE_CHECKING:
    from wallaby.window import LaneId


class LetterState(StrEnum):
    """Where a letter is on its way out."""

    OPEN = "open"
    """Nobody has decided; its keys or its table are set aside."""
    REPLAYING = "replaying"
    """Somebody asked for it: the flow applies it at its next commit, or when it runs again."""
    REPLAYED = "replayed"
    """Applied in the destination."""
    DISCARDED = "discarded"
    """Given up, or made moot by a new copy of the table."""


class LetterDecision(StrEnum):
    """What may be asked."""

    REPLAY = "replay"
    DISCARD = "discard"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedLetter:
    """A letter as it is put; see `wallaby.letter.Letter` for the fields."""

    table: TableName
    position: Position
    rows: int
    op: str
    keys: tuple[int, ...] | None
    error: str
    message: str
    attempts: int
    key_id: str = ""
    sealed: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterRecord:
    """A letter as stored."""

    id: int
    flow_id: str
    destination: str
    lane: int
    table: TableName
    position: Position
    rows: int
    op: str
    keys: tuple[int, ...] | None
    error: str
    message: str
    attempts: int
    state: LetterState
    number: int | None
    """Of the decision; grows from decision to decision over all flows. None: nobody has decided."""
    created_at: datetime
    decided_at: datetime | None
    key_id: str
    sealed_bytes: int
    is_kept: bool
    """It has a content."""
    sealed: bytes | None = field(default=None, repr=False)
    """Only where asked for."""


@dataclass(frozen=True, slots=True)
class LetterPage:
    """Letters in order of their ids, without contents; ``next_page_token`` is empty on the last page."""

    letters: tuple[LetterRecord, ...]
    next_page_token: str = ""


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which letters; empty text and None stand for any."""

    flow_id: str = ""
    destination: str = ""
    table: TableName | None = None
    state: LetterState | None = None


@dataclass(frozen=True, slots=True)
class OpenScope:
    """Something set aside by letters that are open or about to be replayed."""

    table: TableName
    keys: tuple[int, ...] | None
    is_kept: bool
    """False: a change of it was not kept, so that no later one needs to be."""


@dataclass(frozen=True, slots=True)
class LetterRoom:
    """How much is kept of a flow's letters; see `wallaby.settings.Limits`."""

    letters_max: int
    bytes_max: int
    settled_max: int


class LetterStore(Protocol):
    """This part of the `Store`; the rules of `wallaby.store.port` hold here too."""

    def begin_letters(self, lane: LaneId, epoch: int, position: Position) -> tuple[OpenScope, ...]:
        """Forget unsettled letters that count only beyond ``position``; what is set aside. `Fenced`."""
        ...

    def put_letters(
        self, lane: LaneId, epoch: int, letters: Sequence[SealedLetter], upto: Position, room: LetterRoom
    ) -> tuple[OpenScope, ...]:
        """Store letters that count once the lane's record reaches ``upto``; what is set aside then. Twice is once.

        A letter without content closes its scope: later ones of it are not stored. Without room a letter of a whole
        table loses its content, and any other is `LettersFull`. `Fenced`.
        """
        ...

    def list_letters(self, chosen: LetterFilter, page_size: int = 0, page_token: str = "") -> LetterPage:
        """A page in order of ids. ``page_size`` 0 means 100, at most 1,000; `ConfigError` for a foreign token."""
        ...

    def get_letter(self, letter_id: int) -> LetterRecord:
        """With its sealed content. `NotFound`."""
        ...

    def decide_letters(
        self, decision: LetterDecision, *, ids: Sequence[int] = (), chosen: LetterFilter | None = None
    ) -> tuple[LetterRecord, ...]:
        """Ask for letters, by id or by filter, to be replayed, or give them up; all of them or none.

        Again changes nothing. `NotFound` for an id, `IllegalMove` for a letter decided otherwise, for a replay of one
        without content, and for one that has an earlier open one of its scope which is not asked for. While its flow
        is known and does not run, a letter asked to be replayed may be given up by its id.
        """
        ...

    def follow_replays(self, lane: LaneId, epoch: int) -> None:
        """Ask for open letters that came behind one to be replayed, too, if nothing else open comes before them.

        While a table is set aside its changes go on joining it: without this, whoever asks is always too late for the
        last of them. Call it where the lane stands between two commits: nothing more comes then. `Fenced`.
        """
        ...

    def letters_to_replay(self, lane: LaneId, bytes_max: int) -> tuple[LetterRecord, ...]:
        """What was asked for, by number and id, with contents: whole decisions, at least one, up to ``bytes_max``."""
        ...

    def settle_letters(
        self, lane: LaneId, epoch: int, number: int, done: Sequence[int], failure: str, room: LetterRoom
    ) -> tuple[OpenScope, ...]:
        """A replay ended: ``done`` are replayed, and with a ``failure`` the others open again. Twice is once.

        Later replays that share a scope with one that failed are open again too. `Fenced`.
        """
        ...

    def forget_letters(self, lane: LaneId, epoch: int) -> None:
        """The lane begins anew with a copy: its unsettled letters are discarded, whatever their tables. `Fenced`."""
        ...

    def newest_letter_decision(self, flow_id: str) -> int:
        """The highest number of a decision on letters of the flow; 0 before the first."""
        ...
