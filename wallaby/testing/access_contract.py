"""The part of the control-store contract about tokens, secrets, the audit log and repeated requests."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from wallaby.access import Role
from wallaby.errors import AlreadyExists, ConfigError, NotFound, Refused
from wallaby.store import access
from wallaby.store.access import CallKind, CallRecord, RequestKey, SealedSecret, TokenRecord
from wallaby.store.port import Store
from wallaby.testing.store_case import StoreCase

NOON = datetime(2026, 1, 2, 12, 0, 0, 123456, tzinfo=UTC)


def a_token(number: int = 1, **changes: Any) -> TokenRecord:
    """A stored token; ``number`` tells several apart."""
    values: dict[str, Any] = {
        "id": f"id{number}",
        "name": f"ci-{number}",
        "role": Role.OPERATOR,
        "salt": bytes(range(16)),
        "digest": b"\0\xff" * 16,
        "created_at": NOON + timedelta(seconds=number),
        "created_by": "local",
    }
    return TokenRecord(**values | changes)


def a_secret(name: str = "shop-dsn", **changes: Any) -> SealedSecret:
    """A sealed secret; nothing can open it."""
    values: dict[str, Any] = {"key_id": "k1", "sealed": b"\0\x01\xff", "updated_at": NOON, "updated_by": "local"}
    return SealedSecret(name=name, **values | changes)


def a_call(number: int = 0, **changes: Any) -> CallRecord:
    """One audit record."""
    values: dict[str, Any] = {
        "at": NOON + timedelta(seconds=number),
        "principal": "token:ci",
        "role": Role.VIEWER,
        "kind": CallKind.READ,
        "method": "wallaby.v1.FlowService/GetFlow",
        "flow_id": "shop",
        "code": "OK",
        "request_id": f"r{number}",
    }
    return CallRecord(**values | changes)


def a_request(request_id: str = "r1", **changes: Any) -> RequestKey:
    """What tells one request from another."""
    values: dict[str, Any] = {"principal": "local", "method": "m", "digest": b"d" * 32}
    return RequestKey(request_id=request_id, **values | changes)


class TokenContract(StoreCase):
    """Tokens."""

    def test_a_token_comes_back_as_it_was_stored(self, store: Store, make_store: Callable[[], Store]) -> None:
        tokens = (a_token(1), a_token(2, role=Role.ADMIN, expires_at=NOON, created_by="token:Ünï 'q'"))
        for token in tokens:
            store.add_token(token)
        assert make_store().list_tokens() == tokens
        assert store.get_token("id2") == tokens[1]
        assert store.get_token("nope") is None

    def test_two_live_tokens_never_share_a_name(self, store: Store) -> None:
        store.add_token(a_token(1, name="ci"))
        with pytest.raises(AlreadyExists):
            store.add_token(a_token(2, name="ci"))
        store.revoke_token("ci", NOON)
        store.add_token(a_token(2, name="ci"))
        assert [(token.id, token.revoked_at) for token in store.list_tokens()] == [("id1", NOON), ("id2", None)]

    @pytest.mark.parametrize("word", ["id1", "ci-1"])
    def test_a_token_is_revoked_once_by_name_or_id(self, store: Store, word: str) -> None:
        store.add_token(a_token())
        assert store.revoke_token(word, NOON).revoked_at == NOON
        assert store.revoke_token(word, NOON + timedelta(days=1)).revoked_at == NOON
        with pytest.raises(NotFound):
            store.revoke_token("nope", NOON)

    def test_the_number_of_tokens_is_bounded(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("wallaby.store.sql_access.TOKENS_MAX", 2)
        store.add_token(a_token(1))
        store.add_token(a_token(2))
        with pytest.raises(Refused):
            store.add_token(a_token(3))
        for number in range(1, 6):
            store.revoke_token(f"id{number}", NOON + timedelta(minutes=number))
            store.add_token(a_token(number + 2))
        assert [token.id for token in store.list_tokens()] == ["id4", "id5", "id6", "id7"]


class SecretContract(StoreCase):
    """Sealed secrets."""

    def test_a_secret_is_stored_replaced_and_deleted(self, store: Store, make_store: Callable[[], Store]) -> None:
        store.put_secret(a_secret())
        newer = a_secret(sealed=b"other", key_id="k2", updated_by="token:ci", updated_at=NOON + timedelta(hours=1))
        store.put_secret(newer)
        store.put_secret(a_secret("a"))
        assert make_store().list_secrets() == (a_secret("a"), newer)
        assert store.get_secret("shop-dsn") == newer
        store.delete_secret("shop-dsn")
        for call in (store.get_secret, store.delete_secret):
            with pytest.raises(NotFound, match="wallaby secret set shop-dsn"):
                call("shop-dsn")

    def test_the_number_of_secrets_is_bounded(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("wallaby.store.sql_access.SECRETS_MAX", 1)
        store.put_secret(a_secret("a"))
        with pytest.raises(Refused):
            store.put_secret(a_secret("b"))
        store.put_secret(a_secret("a", key_id="k2"))
        assert [secret.key_id for secret in store.list_secrets()] == ["k2"]

    def test_records_print_without_what_they_protect(self) -> None:
        shown = f"{a_secret()!r}{a_token()!r}"
        assert "xff" not in shown
        assert "x00" not in shown


class AuditContract(StoreCase):
    """The audit log."""

    def test_calls_come_back_newest_first_page_by_page(self, store: Store, make_store: Callable[[], Store]) -> None:
        store.record_calls([a_call(number) for number in range(5)])
        store.record_calls([])
        first = make_store().list_calls(limit=3)
        assert [call.request_id for call in first] == ["r4", "r3", "r2"]
        second = store.list_calls(limit=3, before=first[-1].id)
        assert [call.request_id for call in second] == ["r1", "r0"]
        assert store.list_calls(before=second[-1].id) == ()
        assert all(a_call(4 - i, id=call.id) == call for i, call in enumerate((*first, *second)))

    def test_calls_are_found_by_caller_and_flow(self, store: Store) -> None:
        refused = a_call(1, principal="127.0.0.1", role=None, kind=CallKind.REFUSED, flow_id="", code="UNAUTHENTICATED")
        store.record_calls([a_call(0), refused, a_call(2, flow_id="other")])
        assert [call.request_id for call in store.list_calls(principal="token:ci")] == ["r2", "r0"]
        assert [call.request_id for call in store.list_calls(flow_id="shop")] == ["r0"]
        [found] = store.list_calls(principal="127.0.0.1", flow_id="")
        assert (found.role, found.kind, found.code) == (None, CallKind.REFUSED, "UNAUTHENTICATED")

    def test_many_calls_at_once_are_all_recorded(self, store: Store) -> None:
        store.record_calls([a_call(number) for number in range(1_201)])
        assert len(store.list_calls(limit=10_000)) == access.CALLS_PAGE_MAX

    def test_reads_never_push_out_changes(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("wallaby.store.sql_access.CALLS_MAX", 3)
        store.record_calls([a_call(number, kind=CallKind.CHANGE) for number in range(2)])
        for number in range(2, 12):
            store.record_calls([a_call(number)])
        assert [call.request_id for call in store.list_calls()] == ["r11", "r10", "r9", "r1", "r0"]

    def test_the_oldest_are_forgotten_at_the_latest_a_hundredth_later(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("wallaby.store.sql_access.CALLS_MAX", 200)
        for number in range(0, 260, 10):
            store.record_calls([a_call(number + i) for i in range(10)])
            kept = len(store.list_calls(limit=1_000))
            assert min(number + 10, 200) <= kept <= 202
        assert store.list_calls(limit=1)[0].request_id == "r259"


class RequestContract(StoreCase):
    """Requests that are repeated after a lost answer."""

    def test_a_repeated_request_gets_the_first_answer_and_does_nothing(
        self, store: Store, make_store: Callable[[], Store]
    ) -> None:
        ran: list[int] = []

        def work() -> bytes:
            ran.append(1)
            store.add_token(a_token(len(ran)))
            return b"\0answer"

        assert store.once(a_request(), work) == b"\0answer"
        assert make_store().once(a_request(), work) == b"\0answer"
        assert store.once(a_request(principal="token:ci"), work) == b"\0answer"
        assert len(store.list_tokens()) == len(ran) == 2

    def test_a_request_that_fails_leaves_nothing_and_may_be_repeated(self, store: Store) -> None:
        def fail() -> bytes:
            store.add_token(a_token())
            store.delete_secret("nope")
            raise AssertionError("not reached")

        with pytest.raises(NotFound):
            store.once(a_request(), fail)
        assert store.list_tokens() == ()
        assert store.once(a_request(), lambda: b"now") == b"now"

    @pytest.mark.parametrize("other", [{"method": "n"}, {"digest": b"e" * 32}])
    def test_an_id_used_for_another_request_is_a_config_error(self, store: Store, other: dict[str, Any]) -> None:
        store.once(a_request(), lambda: b"a")
        with pytest.raises(ConfigError) as refused:
            store.once(a_request(**other), lambda: b"b")
        assert refused.value.where["field"] == "wallaby-request-id"

    def test_a_forgotten_request_runs_again(self, store: Store) -> None:
        store.once(a_request(), lambda: b"a")
        store.forget_request(a_request())
        assert store.once(a_request(), lambda: b"b") == b"b"

    def test_the_number_of_answers_kept_is_bounded(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("wallaby.store.sql_access.REQUESTS_MAX", 2)
        for number in range(4):
            store.once(a_request(f"r{number}"), lambda: b"first")
        assert store.once(a_request("r0"), lambda: b"again") == b"again"
        assert store.once(a_request("r3"), lambda: b"again") == b"first"

    @pytest.mark.must_not_fail(20)
    def test_of_many_who_send_one_request_at_once_one_runs_it(self, make_store: Callable[[], Store]) -> None:
        stores = [make_store() for _ in range(4)]

        def send(number: int) -> bytes:
            def work() -> bytes:
                stores[number].add_token(a_token(number))
                return str(number).encode()

            return stores[number].once(a_request(), work)

        with ThreadPoolExecutor(len(stores)) as threads:
            answers = list(threads.map(send, range(len(stores))))
        [token] = stores[0].list_tokens()
        assert answers == [token.id.removeprefix("id").encode()] * len(stores)


class AccessContract(TokenContract, SecretContract, AuditContract, RequestContract):
    """Everything the API's protection needs of a store."""
