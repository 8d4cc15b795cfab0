"""A lane with dead letters over a real sink and a real store, started as often as a test wants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from wallaby.flow import DeadLetterPolicy, DeadLetters
from wallaby.lane import Lane
from wallaby.letter_box import LetterBox, content_of
from wallaby.set_aside import SetAside
from wallaby.settings import Limits
from wallaby.sink import Sink
from wallaby.store import LetterDecision, LetterFilter
from wallaby.store.letters import LetterRecord
from wallaby.store.opening import open_sqlite
from wallaby.testing.changes import Stream
from wallaby.vault import Vault
from wallaby.window import LaneId

LANE = LaneId("shop", "copy")
_VAULT = Vault([bytes(32)])


class Lettered:
    """``make_sink`` takes a destination's options; sinks it made are closed by the lanes they were made for."""

    def __init__(self, folder: Path, make_sink: Callable[..., Sink]) -> None:
        self._store = open_sqlite(folder)
        self._make_sink = make_sink
        self._lane: Lane | None = None

    def begin(self, policy: DeadLetterPolicy = DeadLetterPolicy.SKIP, **options: Any) -> Lane:
        """The lane as a process after the last one has it, under the next epoch."""
        self._close_lane()
        epoch = self._store.begin_epoch(LANE.flow).epoch
        box = LetterBox(self._store, _VAULT, Limits())
        aside = SetAside(box, LANE, epoch, rules=DeadLetters(policy=policy), limits=Limits())
        self._lane = Lane(self._make_sink(**options), LANE, epoch, set_aside=aside)
        self._lane.recover()
        return self._lane

    def letters(self) -> tuple[LetterRecord, ...]:
        """All of them, in stream order."""
        return tuple(self._store.list_letters(LetterFilter()).letters)

    def content(self, letter: LetterRecord) -> bytes:
        """What the letter holds, opened."""
        return content_of(_VAULT, self._store.get_letter(letter.id))

    def replay(self, lane: Lane) -> None:
        """Ask for all letters and let ``lane`` replay them."""
        self._store.decide_letters(LetterDecision.REPLAY, chosen=LetterFilter(flow_id=LANE.flow))
        lane.replay()

    def close(self) -> None:
        self._close_lane()
        self._store.close()

    def _close_lane(self) -> None:
        if self._lane is not None:
            self._lane.close()
            self._lane = None


def feed(lane: Lane, *transactions: list[Any], commit_every: int = 1) -> None:
    """One window each, those the lane has not committed yet; every ``commit_every``-th and the last commit."""
    stream = Stream()
    for steps in transactions:
        stream.transaction(steps)
    windows = [window for window in stream.windows() if window.after >= lane.position]
    for number, window in enumerate(windows, 1):
        lane.write(window, commit=number % commit_every == 0 or number == len(windows))
