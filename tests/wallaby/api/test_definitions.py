"""A definition becomes a message once, and every look gets a message of its own."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from wallaby.api.conversion import message_from_record
from wallaby.api.definitions import BYTES_MAX, Definitions
from wallaby.lifecycle import FlowState
from wallaby.store import FlowRecord
from wallaby.testing.store_contract import a_flow

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_record(flow_id: str = "shop", name: str = "Shop") -> FlowRecord:
    return FlowRecord(id=flow_id, spec=a_flow(flow_id, name=name), created_at=NOW, updated_at=NOW)


def test_a_look_shows_the_record_as_it_is_now() -> None:
    definitions, record = Definitions(), a_record()
    moved = replace(record, state=FlowState.RUNNING, revision=3, reason="started")
    changed = replace(record, spec=a_flow(name="Other"), revision=4)
    for shown in (record, moved, changed, record):
        assert definitions.message(shown) == message_from_record(shown)


def test_what_one_caller_does_with_its_message_no_other_sees() -> None:
    definitions, record = Definitions(), a_record()
    definitions.message(record).source.options["dsn"] = "mine"
    assert definitions.message(record) == message_from_record(record)


def test_a_secret_in_clear_is_hidden_at_every_look() -> None:
    definitions = Definitions()
    record = replace(a_record(), spec=a_flow(dsn="postgresql://me:hunter2@db/shop"))
    assert all("hunter2" not in str(definitions.message(record)) for _ in range(2))


def test_only_so_many_messages_are_kept() -> None:
    definitions = Definitions(kept_max=2)
    for name in ("a", "b", "c", "a"):
        assert definitions.message(a_record(name)) == message_from_record(a_record(name))
    assert list(definitions._kept) == ["c", "a"]


def test_a_large_message_is_made_anew_each_time() -> None:
    definitions, record = Definitions(), replace(a_record(), spec=a_flow(dsn="env:" + "X" * BYTES_MAX))
    assert definitions.message(record) == message_from_record(record)
    assert not definitions._kept
