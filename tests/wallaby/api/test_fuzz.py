"""Nonsense in every field of every call: refused with a reason and a path, or taken as it is, and never anything else.

The calls and fields come from the descriptors, the values from the list below and a seed, so a new method or field is
covered the day it is there. Each call must end with a status a client can act on, show no traceback and none of our
inner words, and change nothing in the store when it is refused.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from tests.wallaby.api.conftest import RememberingControl, a_message
from tests.wallaby.api.test_access import METHODS
from tests.wallaby.api.test_server import fields
from wallaby.api.access import RULES
from wallaby.api.server import ApiServer, serve
from wallaby.ddl.approval import DECISIONS, DdlStatus, Decision
from wallaby.lifecycle import Command, FlowState
from wallaby.lsn import Lsn, Position
from wallaby.schema import TableName
from wallaby.settings import ApiLimits, Settings
from wallaby.store import LetterFilter, LetterRoom, SealedLetter, Store
from wallaby.testing.store_contract import a_flow
from wallaby.v1 import access_pb2, checkpoint_pb2, ddl_pb2, dead_letter_pb2, flow_pb2, types_pb2
from wallaby.window import LaneId

Code = grpc.StatusCode
SEED = 20_26
ACTIONABLE = {
    Code.OK,
    Code.INVALID_ARGUMENT,
    Code.NOT_FOUND,
    Code.ALREADY_EXISTS,
    Code.FAILED_PRECONDITION,
    Code.ABORTED,
}

NONSENSE = [
    "",
    " ",
    "\0",
    "a\0b",
    "\n\r\t\x0b\x1b[2J\x7f",
    "x" * 300,
    "é" * 5_000,
    "ÀÑŚ ﷽ 🦘 \u202e\u200b\ufeff",
    "\U0010ffff\ufffe",
    "'; DROP TABLE wallaby.flows; --",
    '" OR 1=1 --',
    "$(id) `id` ${HOME} %s %n {0} {{7*7}}",
    "../../../etc/passwd",
    "file:/etc/hostname",
    "env:PATH",
    "secret:../x",
    "secret:",
    "-1",
    "0/0",
    "FFFFFFFF/FFFFFFFF",
    "123456789/1",
    "1e999",
    "nan",
    "null",
    "[]",
    '{"a":1}',
    "<script>alert(1)</script>",
    "postgresql://me:pw@[::1/x",
    "****",
]
NUMBERS = [-(2**31), -1, 0, 1, 2**31 - 1]
LARGE = [*NUMBERS, -(2**63), 2**31, 2**63 - 1]
"""For fields that hold them."""

WATCHES = 8
"""How many watches are open at a time: fewer than the API allows."""

SERVED = [
    (path, method)
    for path, method in METHODS
    if path.split("/")[1].split(".")[-1]
    in (
        "FlowService",
        "SnapshotService",
        "CheckpointService",
        "DDLService",
        "DeadLetterService",
        "TokenService",
        "SecretService",
        "AuditService",
    )
]


def base(method: Any) -> Any:
    """A request of this method that would do something."""
    made: dict[str, Any] = {
        "CreateFlow": flow_pb2.CreateFlowRequest(flow=a_message("Other")),
        "UpdateFlow": flow_pb2.UpdateFlowRequest(flow=a_message(id="shop")),
        "ValidateFlow": flow_pb2.ValidateFlowRequest(flow=a_message()),
        "PlanFlow": flow_pb2.PlanFlowRequest(flow=a_message(id="shop"), deleted_flow_ids=["other"]),
        "GetDeadLetter": dead_letter_pb2.GetDeadLetterRequest(id=1),
        "GetDeadLetterPayload": dead_letter_pb2.GetDeadLetterPayloadRequest(id=1),
        "ReplayDeadLetters": dead_letter_pb2.ReplayDeadLettersRequest(
            selection=dead_letter_pb2.DeadLetterSelection(flow_id="shop", table="shop.orders")
        ),
        "DiscardDeadLetters": dead_letter_pb2.DiscardDeadLettersRequest(
            selection=dead_letter_pb2.DeadLetterSelection(flow_id="shop", destination="copy")
        ),
        "ApproveDDL": ddl_pb2.ApproveDDLRequest(id=1),
        "RejectDDL": ddl_pb2.RejectDDLRequest(id=1),
        "MarkDDLApplied": ddl_pb2.MarkDDLAppliedRequest(id=1),
        "PutCheckpoint": checkpoint_pb2.PutCheckpointRequest(
            flow_id="shop", checkpoint=types_pb2.Checkpoint(lsn="0/1"), force=True
        ),
        "CreateToken": access_pb2.CreateTokenRequest(name="ci", role=access_pb2.ROLE_VIEWER),
        "PutSecret": access_pb2.PutSecretRequest(name="dsn", value="x"),
        "RevokeToken": access_pb2.RevokeTokenRequest(name="ci"),
        "DeleteSecret": access_pb2.DeleteSecretRequest(name="dsn"),
    }
    request = made.get(method.name) or GetMessageClass(method.input_type)()
    if "flow_id" in method.input_type.fields_by_name and not request.flow_id and method.name != "ListCalls":
        request.flow_id = "shop"
    return request


def spoilt(message: Any, generator: random.Random) -> Iterator[Any]:
    """Copies of ``message`` with one field each replaced by nonsense, at every depth."""
    for field in message.DESCRIPTOR.fields:
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        if is_map:
            for key, value in [(text, "x") for text in NONSENSE] + [("dsn", text) for text in NONSENSE]:
                yield _with(message, lambda copy, k=key, v=value: getattr(copy, field.name).update({k: v}))  # noqa: B023
        elif field.is_repeated and field.message_type is None:
            values = NONSENSE if field.type == FieldDescriptor.TYPE_STRING else _numbers(field)
            for value in values:
                yield _with(message, lambda copy, v=value: getattr(copy, field.name).append(v))  # noqa: B023
        elif field.type == FieldDescriptor.TYPE_STRING:
            for text in [*NONSENSE, _random_text(generator)]:
                yield _with(message, lambda copy, t=text: setattr(copy, field.name, t))  # noqa: B023
        elif field.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_ENUM):
            for number in _numbers(field):
                yield _with(message, lambda copy, n=number: setattr(copy, field.name, n))  # noqa: B023
        elif field.message_type is not None and field.is_repeated:
            for index, item in enumerate(getattr(message, field.name)):
                for part in spoilt(item, generator):
                    yield _with(message, lambda copy, i=index, p=part: getattr(copy, field.name)[i].CopyFrom(p))  # noqa: B023
        elif field.message_type is not None and message.HasField(field.name):
            for part in spoilt(getattr(message, field.name), generator):
                yield _with(message, lambda copy, p=part: getattr(copy, field.name).CopyFrom(p))  # noqa: B023


def _numbers(field: Any) -> list[int]:
    return LARGE if field.type == FieldDescriptor.TYPE_INT64 else NUMBERS


def _with(message: Any, change: Any) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    change(copy)
    return copy


def _random_text(generator: random.Random) -> str:
    points = (generator.choice((generator.randrange(0x20), generator.randrange(0xD800))) for _ in range(40))
    return "".join(map(chr, points))


async def first_answer(stream: Any) -> None:
    """Returns when a watch has begun: with its first answer, or when none and no error came for a moment."""
    first = asyncio.ensure_future(stream.read())
    await asyncio.wait([first], timeout=0.2)
    if first.done():
        first.result()
    stream.cancel()
    await asyncio.wait([first])
    first.cancelled() or first.exception()


@pytest.fixture
async def calling(store: Store, control: RememberingControl) -> AsyncIterator[Any]:
    """A function that sends bytes to a path, and tells status, text and fields."""
    limits = ApiLimits(calls_burst=1_000_000)
    server: ApiServer = await serve(store, control, Settings(grpc_listen="127.0.0.1:0"), limits=limits)
    async with grpc.aio.insecure_channel(server.address, options=(("grpc.enable_http_proxy", 0),)) as channel:

        async def call(path: str, content: bytes) -> tuple[Code, str, list[str]]:
            try:
                if dict(METHODS)[path].server_streaming:
                    await first_answer(channel.unary_stream(path)(content))
                else:
                    await channel.unary_unary(path)(content)
            except grpc.aio.AioRpcError as error:
                return error.code(), error.details() or "", fields(error)
            return Code.OK, "", []

        yield call
    await server.stop(0)


def contents(store: Store) -> Any:
    return (
        store.list_flows().flows,
        store.list_checkpoints(),
        store.list_snapshots().snapshots,
        store.list_ddl().events,
        store.list_letters(LetterFilter()),
        store.list_tokens(),
        store.list_secrets(),
    )


def set_aside(store: Store) -> None:
    """A dead letter of the flow shop, without content."""
    letter = SealedLetter(
        table=TableName("shop", "orders"),
        position=Position(Lsn(1)),
        rows=1,
        op="insert",
        keys=(1,),
        error="RowRefused",
        message="a constraint",
        attempts=1,
    )
    epoch = store.begin_epoch("shop").epoch
    store.put_letters(LaneId("shop", "copy"), epoch, [letter], Position(Lsn(1)), LetterRoom(10, 1000, 10))


@pytest.mark.must_not_fail(24)
async def test_nonsense_in_any_field_is_refused_with_its_path_or_taken(
    calling: Any, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.create_flow(a_flow())
    store.record_ddl("shop", position=Position(Lsn(1)), ddl="ALTER TABLE shop.orders ADD note text")
    set_aside(store)
    generator, counts = random.Random(SEED), Counter[str]()
    before = contents(store)
    for path, method in SERVED:
        requests = list(spoilt(base(method), generator))
        # Of those that only watch, many at once: each waits a moment, and all together may change nothing.
        for some in _groups(requests, WATCHES if method.server_streaming else 1):
            answers = await asyncio.gather(*(calling(path, request.SerializeToString()) for request in some))
            after = contents(store)
            for request, (code, text, found) in zip(some, answers, strict=True):
                where = f"{path} {request!r}"[:500]
                assert code in ACTIONABLE, f"{where}: {code} {text}"
                assert "Traceback" not in text, where
                assert all(character.isprintable() or character == "\n" for character in text), where
                if code is Code.INVALID_ARGUMENT:
                    assert found, f"{where}: {text}"
                if code is not Code.OK or method.server_streaming:
                    assert after == before, where
                counts[code.name] += 1
                counts["calls"] += 1
            before = after
    with capsys.disabled():
        print(f"\nnonsense in {len(SERVED)} methods: {dict(sorted(counts.items()))}")
    assert counts["calls"] > 1_000
    assert counts["INVALID_ARGUMENT"] > 500


def _groups(requests: list[Any], size: int) -> Iterator[list[Any]]:
    return (requests[at : at + size] for at in range(0, len(requests), size))


async def test_bytes_that_are_no_message_are_an_invalid_argument(calling: Any, store: Store) -> None:
    generator = random.Random(SEED)
    counts = Counter[Code]()
    for path, method in SERVED:
        whole = base(method).SerializeToString()
        pieces = [whole[: generator.randrange(len(whole) + 1)] for _ in range(5)]
        pieces += [bytes(generator.randrange(256) for _ in range(generator.randrange(1, 60))) for _ in range(20)]
        pieces += [b"\x0a\x02\xff\xfe", b"\xff" * 11, b"\x0a\xff\xff\xff\xff\x0f"]
        for content in pieces:
            code, text, _ = await calling(path, content)
            assert code in ACTIONABLE, f"{path} {content!r}: {code} {text}"
            counts[code] += 1
    assert counts[Code.INVALID_ARGUMENT] > 100


MOVES = {
    "StartFlow": Command.START,
    "StopFlow": Command.STOP,
    "PauseFlow": Command.PAUSE,
    "ResumeFlow": Command.RESUME,
    "RunFlowOnce": Command.RUN_ONCE,
    "RestartSnapshot": Command.RESNAPSHOT,
    "CancelSnapshot": Command.UPDATE,
    "UpdateFlow": Command.UPDATE,
    "DeleteFlow": Command.DELETE,
}


@pytest.mark.parametrize("state", list(FlowState))
async def test_in_every_state_each_command_moves_as_the_table_says_or_changes_nothing(
    calling: Any, store: Store, state: FlowState
) -> None:
    from wallaby.lifecycle import MOVES as LEGAL

    for name, command in MOVES.items():
        flow_id = name.lower()
        store.create_flow(a_flow(flow_id), state=state)
        before = store.get_flow(flow_id)
        [path] = [path for path, method in SERVED if method.name == name]
        request = (
            flow_pb2.UpdateFlowRequest(flow=a_message(id=flow_id))
            if name == "UpdateFlow"
            else GetMessageClass(dict(SERVED)[path].input_type)(flow_id=flow_id)
        )
        code, text, _ = await calling(path, request.SerializeToString())
        if state in LEGAL[command]:
            assert code is Code.OK, f"{name} in {state}: {text}"
        else:
            assert code is Code.FAILED_PRECONDITION, f"{name} in {state}: {code} {text}"
            assert store.get_flow(flow_id) == before
        for flow in store.list_flows().flows:  # slots of the next flows must not clash with this one's
            if flow.state in (FlowState.RUNNING, FlowState.STOPPING):
                store.move_flow(flow.id, Command.FAIL)
            store.delete_flow(flow.id)


DECIDING = {"ApproveDDL": Decision.APPROVE, "RejectDDL": Decision.REJECT, "MarkDDLApplied": Decision.MARK_APPLIED}
PATHS_TO = {
    DdlStatus.PENDING: (),
    DdlStatus.APPROVED: (Decision.APPROVE,),
    DdlStatus.REJECTED: (Decision.REJECT,),
    DdlStatus.APPLIED: (Decision.APPROVE, Decision.MARK_APPLIED),
}


@pytest.mark.parametrize("status", list(DdlStatus))
async def test_in_every_status_each_decision_is_made_as_the_table_says_or_changes_nothing(
    calling: Any, store: Store, status: DdlStatus
) -> None:
    for number, (name, decision) in enumerate(DECIDING.items()):
        event = store.record_ddl("shop", position=Position(Lsn(1 + number)), ddl=f"ALTER TABLE t ADD {name} int")
        for earlier in PATHS_TO[status]:
            store.decide_ddl(event.id, earlier)
        before = store.get_ddl(event.id)
        assert before.status is status
        request = GetMessageClass(dict(SERVED)[f"/wallaby.v1.DDLService/{name}"].input_type)(id=event.id)
        code, text, _ = await calling(f"/wallaby.v1.DDLService/{name}", request.SerializeToString())
        if status in DECISIONS[decision]:
            assert code is Code.OK, f"{name} in {status}: {text}"
            assert store.get_ddl(event.id).status is DECISIONS[decision][status]
        else:
            assert code is Code.FAILED_PRECONDITION, f"{name} in {status}: {code} {text}"
            assert store.get_ddl(event.id) == before


def test_every_served_method_is_fuzzed() -> None:
    assert len(SERVED) >= 30
    assert {path for path, _ in SERVED} <= set(RULES)
    elsewhere = {"StreamService", "SourceService", "IngestService"}  # see test_fuzz_databases; the last is not served
    ours = {path for path in RULES if path.startswith("/wallaby.v1.")}
    assert {path.split("/")[1].split(".")[-1] for path in ours - {path for path, _ in SERVED}} == elsewhere
