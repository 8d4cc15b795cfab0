"""Reading a replication stream frame by frame, slowly and obviously, as a reference for tests."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from wallaby.lsn import Lsn
from wallaby.pgoutput.relations import Relation, parse_relation
from wallaby.postgres.arena import Arena
from wallaby.postgres.replication import ReplicationStream

PATIENCE_S = 20.0


@dataclass(frozen=True)
class Frame:
    """One CopyData message: ``kind`` is ``k`` or pgoutput's tag."""

    kind: str
    wal_end: Lsn
    body: bytes


def take(arena: Arena) -> Iterator[Frame]:
    """Consume every frame of the arena."""
    while len(arena):
        (length,) = struct.unpack_from("<I", arena.data, arena.begin)
        payload = arena.data[arena.begin + 4 : arena.begin + 4 + length].tobytes()
        arena.consume(4 + length)
        if payload[:1] == b"k":
            yield Frame("k", Lsn(struct.unpack_from("!Q", payload, 1)[0]), payload[9:])
        else:
            assert payload[:1] == b"w"
            yield Frame(chr(payload[25]), Lsn(struct.unpack_from("!Q", payload, 9)[0]), payload[26:])


def read_until(stream: ReplicationStream, is_enough: Callable[[list[Frame]], bool]) -> list[Frame]:
    """Receive until the condition holds; fails when the server has nothing more to say."""
    frames: list[Frame] = []
    while not is_enough(frames):
        assert stream.receive(PATIENCE_S), f"nothing more came after {[frame.kind for frame in frames][-20:]}"
        frames += take(stream.arena)
    return frames


def drain_until_error(stream: ReplicationStream, *, timeout_s: float = PATIENCE_S) -> None:
    """Receive and throw away until the stream raises; pytest's time limit ends a stream that never does."""
    while True:
        stream.receive(timeout_s)
        stream.arena.consume(len(stream.arena))


def commits(count: int) -> Callable[[list[Frame]], bool]:
    """Enough when so many transactions with something in them ended; PostgreSQL 14 sends empty ones, too."""

    def is_enough(frames: list[Frame]) -> bool:
        kinds = [frame.kind for frame in frames if frame.kind != "k"]
        return sum(pair[1] == "C" and pair[0] != "B" for pair in pairwise(kinds)) >= count

    return is_enough


def relations(frames: list[Frame]) -> dict[str, Relation]:
    """The Relation messages by table name; the last one wins."""
    found = [parse_relation(frame.body) for frame in frames if frame.kind == "R"]
    return {relation.name: relation for relation in found}
