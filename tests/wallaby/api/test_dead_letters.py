"""DeadLetterService over a real store: lists, shows, and passes decisions on, in order or not at all."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pyarrow as pa
import pytest

from tests.wallaby.api.conftest import RememberingControl
from tests.wallaby.api.test_server import Code, fields, refusal
from wallaby.aside import first_position
from wallaby.flow import DeadLetterPayload
from wallaby.letter import Letter, pack_part
from wallaby.letter_box import LetterBox
from wallaby.lsn import Lsn, Position
from wallaby.settings import Limits
from wallaby.store import LetterDecision, Store
from wallaby.testing.changes import Stream, insert, table
from wallaby.v1 import dead_letter_pb2 as pb
from wallaby.v1 import dead_letter_pb2_grpc
from wallaby.vault import Vault
from wallaby.window import LaneId

KEY = base64.b64encode(bytes(range(32))).decode()
LANE = LaneId("shop", "copy")
ORDERS = table("shop.orders", {"id": "int8", "note": "text"}, key=["id"])


@pytest.fixture
async def letters(serving: Callable[..., Awaitable[Any]], monkeypatch: pytest.MonkeyPatch, store: Store) -> Any:
    monkeypatch.setenv("LETTER_KEY", KEY)
    server = await serving(secret_key="env:LETTER_KEY")
    async with grpc.aio.insecure_channel(server.address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        yield dead_letter_pb2_grpc.DeadLetterServiceStub(channel)  # type: ignore[no-untyped-call]  # generated


def put(
    store: Store, number: int, *, keys: tuple[int, ...] | None = (1,), lane: LaneId = LANE, keeps: bool = True
) -> int:
    stream = Stream(_lsn=0x1000 * number)
    stream.transaction([(ORDERS, insert(number, "a secret of the row"))])
    (part,) = stream.windows()[0].parts
    letter = Letter(
        table=ORDERS.name,
        position=first_position(part),
        rows=1,
        op="insert",
        keys=keys,
        error="RowRefused",
        message="a constraint",
        attempts=1,
        content=pack_part(part),
    )
    box = LetterBox(store, Vault([base64.b64decode(KEY)]), Limits())
    payload = DeadLetterPayload.ENCRYPTED if keeps else DeadLetterPayload.OMITTED
    box.put(lane, store.begin_epoch(lane.flow).epoch, (letter,), Position(Lsn(0x1000 * number + 0x140)), payload)
    return number


async def test_letters_are_listed_by_what_they_are_of_and_paged(letters: Any, store: Store) -> None:
    for number in range(1, 4):
        put(store, number)
    put(store, 4, lane=LaneId("other", "copy"))
    first = await letters.ListDeadLetters(pb.ListDeadLettersRequest(page_size=3))
    second = await letters.ListDeadLetters(pb.ListDeadLettersRequest(page_token=first.next_page_token))
    assert [letter.id for letter in (*first.letters, *second.letters)] == [1, 2, 3, 4]
    assert second.next_page_token == ""
    cases: tuple[tuple[dict[str, Any], int], ...] = (
        ({"flow_id": "shop"}, 3),
        ({"table": 'shop."orders"', "state": "open"}, 4),
        ({"table": "orders"}, 0),
        ({"destination": "lake"}, 0),
        ({"state": "replayed"}, 0),
    )
    for chosen, count in cases:
        answer = await letters.ListDeadLetters(pb.ListDeadLettersRequest(**chosen))
        assert len(answer.letters) == count, chosen
    letter = first.letters[0]
    assert (letter.lsn, letter.scope, letter.operation, letter.error) == ("0/1100", "key", "insert", "RowRefused")
    assert b"a secret" not in first.SerializeToString()


@pytest.mark.must_not_fail(24)
async def test_the_rows_are_shown_by_the_method_for_operators_only(letters: Any, store: Store) -> None:
    put(store, 1)
    put(store, 2, keys=(2,), keeps=False)
    answer = await letters.GetDeadLetterPayload(pb.GetDeadLetterPayloadRequest(id=1))
    rows = pa.ipc.open_stream(answer.arrow).read_all()
    assert rows["after"].to_pylist() == [{"id": 1, "note": "a secret of the row"}]
    assert b"a secret" not in (await letters.GetDeadLetter(pb.GetDeadLetterRequest(id=1))).SerializeToString()
    missing = await refusal(letters.GetDeadLetterPayload(pb.GetDeadLetterPayloadRequest(id=2)))
    assert missing.code() is Code.FAILED_PRECONDITION
    assert (await refusal(letters.GetDeadLetter(pb.GetDeadLetterRequest(id=9)))).code() is Code.NOT_FOUND


@pytest.mark.must_not_fail(16)
async def test_a_replay_is_asked_for_in_order_and_wakes_the_driver(
    letters: Any, store: Store, control: RememberingControl
) -> None:
    put(store, 1)
    put(store, 2)
    early = await refusal(letters.ReplayDeadLetters(selected(ids=[2])))
    assert early.code() is Code.FAILED_PRECONDITION
    assert "letter 1 comes before it" in (early.details() or "")
    assert control.told == []
    answer = await letters.ReplayDeadLetters(selected(ids=[2, 1]))
    assert [letter.state for letter in answer.letters] == ["replaying", "replaying"]
    assert control.told == ["changed shop"]
    again = await letters.ReplayDeadLetters(selected(ids=[1, 2]))
    assert again == answer
    [first, second] = store.letters_to_replay(LANE, 1)
    assert first.number == second.number


async def test_letters_of_a_flow_are_decided_together_and_what_is_not_kept_cannot_be_replayed(
    letters: Any, store: Store
) -> None:
    put(store, 1)
    put(store, 2, keys=(2,), keeps=False)
    put(store, 3, lane=LaneId("other", "copy"))
    refused = await refusal(letters.ReplayDeadLetters(selected(flow_id="shop")))
    assert (refused.code(), "were not kept" in (refused.details() or "")) == (Code.FAILED_PRECONDITION, True)
    answer = await letters.DiscardDeadLetters(
        selected(pb.DiscardDeadLettersRequest, flow_id="shop", table="shop.orders")
    )
    assert [(letter.id, letter.state, letter.has_payload) for letter in answer.letters] == [
        (1, "discarded", False),
        (2, "discarded", False),
    ]
    late = await refusal(letters.ReplayDeadLetters(selected(ids=[1])))
    assert late.code() is Code.FAILED_PRECONDITION


async def test_a_selection_names_what_is_wrong_with_it(letters: Any, store: Store) -> None:
    for wanted, path in (
        ({}, "selection.flow_id"),
        ({"ids": [1], "flow_id": "shop"}, "selection.ids"),
        ({"flow_id": "shop", "table": "shop.*"}, "selection.table"),
        ({"ids": [-1]}, "ids"),
    ):
        wrong = await refusal(letters.DiscardDeadLetters(selected(pb.DiscardDeadLettersRequest, **wanted)))
        assert (wrong.code(), fields(wrong)) == (Code.INVALID_ARGUMENT, [path]), wanted


async def test_a_repeated_decision_is_one_decision(letters: Any, store: Store) -> None:
    put(store, 1)
    before = store.newest_letter_decision("shop")
    metadata = (("wallaby-request-id", "again"),)
    first = await letters.ReplayDeadLetters(selected(ids=[1]), metadata=metadata)
    second = await letters.ReplayDeadLetters(selected(ids=[1]), metadata=metadata)
    assert first == second
    assert store.newest_letter_decision("shop") > before == 0
    assert store.decide_letters(LetterDecision.REPLAY, ids=[1])[0].state == "replaying"


def selected(kind: Any = pb.ReplayDeadLettersRequest, **chosen: Any) -> Any:
    return kind(selection=pb.DeadLetterSelection(**chosen))
