"""As `test_fuzz`, for the services whose effects lie in other databases: streams, and the sources of flows.

What a refused call must not change is what those databases hold: tables of the streams, slots and publications.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf import timestamp_pb2
from google.protobuf.message_factory import GetMessageClass

from tests.wallaby.api.conftest import RememberingControl
from tests.wallaby.api.test_access import METHODS
from tests.wallaby.api.test_fuzz import ACTIONABLE, SEED, Code, spoilt
from tests.wallaby.api.test_server import fields
from tests.wallaby.streams.shop import GROUP, STREAM, Message, Shop
from wallaby.api.server import serve
from wallaby.flow import EndpointSpec, FlowSpec
from wallaby.settings import ApiLimits, Settings
from wallaby.store import Store
from wallaby.testing.postgres import ScratchDatabase

Observer = psycopg.Connection[Any]
"""Looks at a database beside the calls, again and again."""
Call = Callable[[str, bytes], Awaitable[tuple[Code, str, list[str]]]]
SLOT = "wallaby_fuzz"


def methods_of(service: str) -> list[tuple[str, Any]]:
    return [(path, method) for path, method in METHODS if f".{service}/" in path]


@pytest.fixture
async def calling(
    store: Store, shop: Shop, database: ScratchDatabase, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Call]:
    """A function that sends bytes to a path, and tells status, text and fields."""
    monkeypatch.setenv("FUZZED_DSN", database.dsn)
    settings = Settings(grpc_listen="127.0.0.1:0", stream_dsn=shop.database.dsn)
    server = await serve(store, RememberingControl(), settings, limits=ApiLimits(calls_burst=1_000_000))
    async with grpc.aio.insecure_channel(server.address, options=(("grpc.enable_http_proxy", 0),)) as channel:

        async def call(path: str, content: bytes) -> tuple[Code, str, list[str]]:
            try:
                await channel.unary_unary(path)(content)
            except grpc.aio.AioRpcError as error:
                return error.code(), error.details() or "", fields(error)
            return Code.OK, "", []

        yield call
    await server.stop(0)


def stream_base(method: Any) -> Any:
    """A request of StreamService that would do something."""
    request = GetMessageClass(method.input_type)()
    request.stream = STREAM
    names = method.input_type.fields_by_name
    if "consumer_group" in names:
        request.consumer_group = GROUP
    if "ids" in names:
        request.ids.append(1)
    if "claims" in names:
        request.claims.append(1)
    if "since" in names:
        request.since.CopyFrom(timestamp_pb2.Timestamp(seconds=int(datetime.now(UTC).timestamp())))
    return request


def source_base(method: Any) -> Any:
    """A request of SourceService that would do something."""
    request = GetMessageClass(method.input_type)(flow_id="shop")
    for name, values in (("tables", ["public.orders"]), ("schemas", ["public"])):
        if name in method.input_type.fields_by_name:
            getattr(request, name).extend(values)
    return request


@pytest.fixture
def observer(database: ScratchDatabase) -> Iterator[Observer]:
    with database.connect() as connection:
        yield connection


@pytest.fixture
def stream_observer(shop: Shop) -> Iterator[Observer]:
    with shop.database.connect() as connection:
        yield connection


def stream_contents(observer: Observer) -> Any:
    tables = ("streams", "stream_tables", "stream_events", "stream_groups", "stream_deliveries")
    hashes = (f"(SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM wallaby.{name} AS t)" for name in tables)
    return observer.execute(f"SELECT {', '.join(hashes)}".encode()).fetchall()


def source_contents(observer: Observer) -> Any:
    queries = (
        "SELECT tablename FROM pg_publication_tables WHERE pubname = 'pub' ORDER BY 1",
        "SELECT slot_name FROM pg_replication_slots WHERE database = current_database() ORDER BY 1",
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1",
    )
    return [observer.execute(query.encode()).fetchall() for query in queries]


@pytest.mark.must_not_fail(24)
async def test_nonsense_to_streams_is_refused_with_its_path_or_taken(
    calling: Call, shop: Shop, stream_observer: Observer, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.publish("a", Message("b", key="k"), "c")
    streams = shop.streams()
    streams.configure(STREAM, GROUP, is_ordered=False, max_attempts=2)
    streams.pull(STREAM, GROUP, max_messages=2)

    counts = await spoil(calling, methods_of("StreamService"), stream_base, lambda: stream_contents(stream_observer))
    report(capsys, "StreamService", counts)
    assert counts["calls"] > 700
    assert counts["INVALID_ARGUMENT"] > 100


@pytest.mark.must_not_fail(24)
async def test_nonsense_to_sources_is_refused_with_its_path_or_taken(
    calling: Call, store: Store, database: ScratchDatabase, observer: Observer, capsys: pytest.CaptureFixture[str]
) -> None:
    database.execute(
        "CREATE TABLE orders (id int PRIMARY KEY)",
        "CREATE TABLE lines (id int PRIMARY KEY)",
        "CREATE PUBLICATION pub FOR TABLE lines",
        f"SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')",
    )
    options = {"dsn": "env:FUZZED_DSN", "publication": "pub", "slot": "wallaby_nothing"}
    store.create_flow(
        FlowSpec(
            id="shop",
            name="Shop",
            source=EndpointSpec(type="postgres", options=options),
            destinations=(EndpointSpec(name="nowhere", type="blackhole"),),
        )
    )
    try:
        counts = await spoil(
            calling, methods_of("SourceService"), source_base, lambda: (source_contents(observer), store.list_flows())
        )
        assert database.slots() == [SLOT]
    finally:
        database.execute(f"SELECT pg_drop_replication_slot('{SLOT}')")
    report(capsys, "SourceService", counts)
    assert counts["calls"] > 500
    assert counts["INVALID_ARGUMENT"] > 80


async def spoil(
    call: Call, methods: list[tuple[str, Any]], base: Callable[[Any], Any], contents: Callable[[], Any]
) -> Counter[str]:
    """Every field of every method replaced by nonsense; how the calls ended."""
    generator, counts = random.Random(SEED), Counter[str](methods=len(methods))
    before = contents()
    for path, method in methods:
        for request in spoilt(base(method), generator):
            code, text, found = await call(path, request.SerializeToString())
            where = f"{path} {request!r}"[:500]
            assert code in ACTIONABLE, f"{where}: {code} {text}"
            assert "Traceback" not in text, where
            assert all(character.isprintable() or character == "\n" for character in text), where
            if code is Code.INVALID_ARGUMENT:
                assert found, f"{where}: {text}"
            after = contents()
            if code is not Code.OK:
                assert after == before, where
            before = after
            counts[code.name] += 1
            counts["calls"] += 1
    return counts


def report(capsys: pytest.CaptureFixture[str], service: str, counts: Counter[str]) -> None:
    with capsys.disabled():
        print(f"\nnonsense to {service}: {dict(sorted(counts.items()))}")


@pytest.mark.parametrize("service", ["StreamService", "SourceService"])
async def test_bytes_that_are_no_message_are_an_invalid_argument(calling: Call, service: str) -> None:
    generator, counts = random.Random(SEED), Counter[Code]()
    base = stream_base if service == "StreamService" else source_base
    for path, method in methods_of(service):
        whole = base(method).SerializeToString()
        pieces = [whole[: generator.randrange(len(whole))] for _ in range(5)]
        pieces += [bytes(generator.randrange(256) for _ in range(generator.randrange(1, 60))) for _ in range(20)]
        pieces += [b"\x0a\x02\xff\xfe", b"\xff" * 11, b"\x0a\xff\xff\xff\xff\x0f"]
        for content in pieces:
            code, text, _ = await calling(path, content)
            assert code in ACTIONABLE, f"{path} {content!r}: {code} {text}"
            counts[code] += 1
    assert counts[Code.INVALID_ARGUMENT] > 100


STATES = ("waiting", "claimed", "run out", "given back", "acknowledged", "dead")
SETTLING = ("Ack", "Extend", "Nack")


@pytest.mark.parametrize("state", STATES)
async def test_in_every_state_of_a_message_a_claim_that_is_not_ours_changes_nothing(
    calling: Call, shop: Shop, stream_observer: Observer, state: str
) -> None:
    """Acknowledging, extending and giving back by another's number, in each state a message can have for a group."""
    shop.publish("only")
    streams = shop.streams()
    streams.configure(STREAM, GROUP, is_ordered=False, max_attempts=1 if state == "dead" else 0)
    claim = 0
    if state != "waiting":
        [delivery] = streams.pull(STREAM, GROUP, consumer="ours")
        claim = delivery.claim
    if state in ("run out", "dead"):
        shop.expire()
    if state == "dead":
        assert streams.pull(STREAM, GROUP) == []
    if state in ("given back", "acknowledged"):
        request = settling("Nack" if state == "given back" else "Ack", claim)
        assert (await calling(*request))[0] is Code.OK
    before = stream_contents(stream_observer)
    for name in SETTLING:
        for foreign in (claim + 1, 2**63 - 1, -1):
            code, text, _ = await calling(*settling(name, foreign))
            assert code in (Code.OK, Code.INVALID_ARGUMENT), f"{name} {foreign}: {code} {text}"
            assert stream_contents(stream_observer) == before, f"{name} {foreign}"
    if state != "dead":
        redrive = methods_named("Redrive")
        request = GetMessageClass(redrive[1].input_type)(stream=STREAM, consumer_group=GROUP, ids=[1])
        assert (await calling(redrive[0], request.SerializeToString()))[0] is Code.OK
        assert stream_contents(stream_observer) == before


def settling(name: str, claim: int) -> tuple[str, bytes]:
    path, method = methods_named(name)
    request = GetMessageClass(method.input_type)(stream=STREAM, consumer_group=GROUP, ids=[1], claims=[claim])
    return path, request.SerializeToString()


def methods_named(name: str) -> tuple[str, Any]:
    [found] = [(path, method) for path, method in methods_of("StreamService") if method.name == name]
    return found


def test_every_method_of_both_services_is_fuzzed() -> None:
    assert len(methods_of("StreamService")) >= 11
    assert len(methods_of("SourceService")) >= 7
