"""A sink actor's way to the dead-letter store: each call is one of the coordinator's, which has store and keys."""

from __future__ import annotations

from typing import Any

import ray

from actors.failures import cause_of
from wallaby.flow import DeadLetterPayload
from wallaby.letter import Aside, Letter, Replay
from wallaby.lsn import Position
from wallaby.window import LaneId

_TIMEOUT_S = 120.0


class RayLetters:
    """The `wallaby.letter.Letters` of a lane in an actor."""

    def __init__(self, coordinator: Any) -> None:
        self._coordinator = coordinator

    def begin(self, lane: LaneId, epoch: int, position: Position) -> Aside:
        aside: Aside = self._call("begin", lane, epoch, position)
        return aside

    def put(
        self, lane: LaneId, epoch: int, letters: tuple[Letter, ...], upto: Position, payload: DeadLetterPayload
    ) -> Aside:
        aside: Aside = self._call("put", lane, epoch, letters, upto, payload)
        return aside

    def replays(self, lane: LaneId, epoch: int) -> tuple[Replay, ...]:
        replays: tuple[Replay, ...] = self._call("replays", lane, epoch)
        return replays

    def settle(self, lane: LaneId, epoch: int, number: int, done: tuple[int, ...], failure: str) -> Aside:
        aside: Aside = self._call("settle", lane, epoch, number, done, failure)
        return aside

    def forget(self, lane: LaneId, epoch: int) -> None:
        self._call("forget", lane, epoch)

    def _call(self, method: str, *args: Any) -> Any:
        try:
            return ray.get(self._coordinator.letters.remote(method, *args), timeout=_TIMEOUT_S)
        except Exception as error:
            raise cause_of(error, actor="coordinator") from error
