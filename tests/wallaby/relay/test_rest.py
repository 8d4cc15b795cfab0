"""While the stream is better left alone the relay does not look at it, and does everything else."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from wallaby.clock import SystemClock
from wallaby.lsn import START, Lsn
from wallaby.pgoutput.decoder import Decoder
from wallaby.postgres.arena import Arena
from wallaby.relay.relay import Relay, RelayConfig
from wallaby.settings import Limits
from wallaby.testing.in_process import InProcessTransport
from wallaby.window import LaneId


@dataclass
class RestingStream:
    """A stream with something to read, to be left alone for as long as ``rest_s`` says."""

    descriptor: int
    rest_s: float
    arena: Arena = field(default_factory=lambda: Arena(1 << 10))
    has_pending: bool = False
    is_behind: bool = False
    sent_at_us: int | None = None
    looks: int = 0
    looked: threading.Event = field(default_factory=threading.Event)
    told: list[Lsn] = field(default_factory=list)
    was_told: threading.Event = field(default_factory=threading.Event)

    def fileno(self) -> int:
        return self.descriptor

    def receive(self, timeout_s: float) -> bool:
        self.looks += 1
        self.looked.set()
        return False

    def send_status(self, *, received: Lsn, flushed: Lsn, reply_requested: bool = False) -> None:
        self.told.append(flushed)
        if len(self.told) >= 3:
            self.was_told.set()

    def close(self) -> None: ...


@pytest.fixture
def readable() -> Iterator[int]:
    reader, writer = os.pipe()
    os.write(writer, b"\0")
    yield reader
    os.close(reader)
    os.close(writer)


def _run(stream: RestingStream, until: threading.Event) -> None:
    limits = Limits(status_interval_ms=1)
    transport = InProcessTransport({})
    config = RelayConfig(flow="f", epoch=1, commit_intervals_ms={}, required=frozenset({"target"}))
    lanes = {LaneId("f", "target"): START}
    relay = Relay(config, lanes=lanes, checkpoint=START, transport=transport, clock=SystemClock(), limits=limits)

    def resolve(*_: object) -> None:
        raise AssertionError

    decoder = Decoder(resolve)  # type: ignore[arg-type]  # nothing is decoded here
    thread = threading.Thread(target=relay.run, args=(stream, decoder, Lsn(1)))
    thread.start()
    try:
        assert until.wait(60)
    finally:
        relay.request_stop()
        thread.join(60)
        transport.close()
    assert not thread.is_alive()


def test_a_resting_stream_is_not_looked_at_and_the_server_still_hears_of_us(readable: int) -> None:
    stream = RestingStream(readable, rest_s=3600.0)
    _run(stream, stream.was_told)
    assert stream.looks == 0


def test_a_stream_that_does_not_rest_is_looked_at(readable: int) -> None:
    stream = RestingStream(readable, rest_s=0.0)
    _run(stream, stream.looked)
    assert stream.looks > 0


def test_what_did_not_fit_the_arena_is_taken_without_a_rest(readable: int) -> None:
    stream = RestingStream(readable, rest_s=3600.0, has_pending=True)
    _run(stream, stream.looked)
    assert stream.looks > 0
