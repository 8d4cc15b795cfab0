"""Tokens, secrets and the audit log through the API: made, used, ended; and nothing of them shown."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.wallaby.api.test_guard import LIST, Serving, add_token, bearing, connected, stub
from tests.wallaby.api.test_server import fields, refusal
from wallaby.access import Role
from wallaby.store import Store
from wallaby.v1 import access_pb2, access_pb2_grpc
from wallaby.vault import Vault

Code = grpc.StatusCode
SECRET = "hunter2"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(base64.b64encode(b"1" * 32).decode())
    return path


@pytest.fixture
async def access(serving: Serving, key_file: Path) -> AsyncIterator[Any]:
    """All three services and the flows, on one channel of an API with a key."""

    class Stubs:
        def __init__(self, channel: grpc.aio.Channel) -> None:
            self.tokens = access_pb2_grpc.TokenServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
            self.secrets = access_pb2_grpc.SecretServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
            self.audit = access_pb2_grpc.AuditServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
            self.flows = stub(channel)

    server = await serving(secret_key=f"file:{key_file}")
    async with connected(server) as channel:
        yield Stubs(channel)


def put(name: str = "shop-dsn", value: str = SECRET) -> access_pb2.PutSecretRequest:
    return access_pb2.PutSecretRequest(name=name, value=value)


@pytest.mark.must_not_fail(24)
async def test_a_token_is_shown_once_works_and_ends(access: Any, store: Store, tmp_path: Path) -> None:
    request = access_pb2.CreateTokenRequest(name="ci", role=access_pb2.ROLE_VIEWER, lifetime_seconds=3_600)
    made = await access.tokens.CreateToken(request)
    assert (made.token.name, made.token.role, made.token.created_by) == ("ci", access_pb2.ROLE_VIEWER, "local")
    assert made.token.expires_at.seconds - made.token.created_at.seconds == 3_600
    await access.flows.ListFlows(LIST, metadata=bearing(made.bearer))
    listing = await access.tokens.ListTokens(access_pb2.ListTokensRequest())
    assert list(listing.tokens) == [made.token]
    assert made.bearer.split("_", 2)[2] not in str(listing)
    revoked = await access.tokens.RevokeToken(access_pb2.RevokeTokenRequest(name="ci"))
    assert revoked.token.HasField("revoked_at")
    error = await refusal(access.flows.ListFlows(LIST, metadata=bearing(made.bearer)))
    assert error.code() is Code.UNAUTHENTICATED
    store.close()
    for path in (tmp_path / "state").iterdir():
        assert made.bearer.split("_", 2)[2].encode() not in path.read_bytes()


async def test_a_creation_repeated_with_its_id_makes_no_second_token_and_shows_none_again(access: Any) -> None:
    request = access_pb2.CreateTokenRequest(name="ci", role=access_pb2.ROLE_ADMIN)
    await access.tokens.CreateToken(request, metadata=bearing("", "a"))
    error = await refusal(access.tokens.CreateToken(request, metadata=bearing("", "a")))
    assert error.code() is Code.ALREADY_EXISTS
    assert len((await access.tokens.ListTokens(access_pb2.ListTokensRequest())).tokens) == 1


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (access_pb2.CreateTokenRequest(name="", role=access_pb2.ROLE_ADMIN), "name"),
        (access_pb2.CreateTokenRequest(name="a b", role=access_pb2.ROLE_ADMIN), "name"),
        (access_pb2.CreateTokenRequest(name="a"), "role"),
        (access_pb2.CreateTokenRequest(name="a", role=77), "role"),  # type: ignore[arg-type]  # of a newer client
        (access_pb2.CreateTokenRequest(name="a", role=1, lifetime_seconds=-1), "lifetime_seconds"),  # type: ignore[arg-type]  # a number
        (access_pb2.CreateTokenRequest(name="a", role=1, lifetime_seconds=2**62), "lifetime_seconds"),  # type: ignore[arg-type]  # a number
    ],
)
async def test_a_wrong_token_request_names_its_field(access: Any, request_: Any, path: str) -> None:
    error = await refusal(access.tokens.CreateToken(request_))
    assert (error.code(), fields(error)) == (Code.INVALID_ARGUMENT, [path])


async def test_the_maker_of_a_token_is_remembered(access: Any, store: Store) -> None:
    bearer = add_token(store, Role.ADMIN, name="boss")
    request = access_pb2.CreateTokenRequest(name="ci", role=access_pb2.ROLE_VIEWER)
    made = await access.tokens.CreateToken(request, metadata=bearing(bearer))
    assert made.token.created_by == "token:boss"


@pytest.mark.must_not_fail(24)
async def test_a_secret_goes_in_and_never_comes_out(
    access: Any, store: Store, tmp_path: Path, key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await access.secrets.PutSecret(put(), metadata=bearing("", "r"))
    listing = await access.secrets.ListSecrets(access_pb2.ListSecretsRequest())
    assert [secret.name for secret in listing.secrets] == ["shop-dsn"]
    assert Vault.from_reference(f"file:{key_file}").open(store.get_secret("shop-dsn")) == SECRET
    calls = await access.audit.ListCalls(access_pb2.ListCallsRequest())
    assert SECRET not in f"{answer}{listing}{calls}{caplog.text}"
    store.close()
    for path in (tmp_path / "state").iterdir():
        assert SECRET.encode() not in path.read_bytes()


async def test_a_secret_is_replaced_and_deleted(access: Any, store: Store, key_file: Path) -> None:
    await access.secrets.PutSecret(put())
    await access.secrets.PutSecret(put(value="newer"))
    assert Vault.from_reference(f"file:{key_file}").open(store.get_secret("shop-dsn")) == "newer"
    assert (await access.secrets.DeleteSecret(access_pb2.DeleteSecretRequest(name="shop-dsn"))).deleted
    error = await refusal(access.secrets.DeleteSecret(access_pb2.DeleteSecretRequest(name="shop-dsn")))
    assert error.code() is Code.NOT_FOUND


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (put(""), "name"),
        (put("a/b"), "name"),
        (put(value=""), "value"),
        (put(value="a\0b"), "value"),
        (put(value="é" * (33 << 10)), "value"),
    ],
)
async def test_a_wrong_secret_names_its_field(access: Any, request_: Any, path: str) -> None:
    error = await refusal(access.secrets.PutSecret(request_))
    assert (error.code(), fields(error)) == (Code.INVALID_ARGUMENT, [path])


async def test_a_server_without_a_key_takes_no_secret(serving: Serving, store: Store) -> None:
    server = await serving()
    async with connected(server) as channel:
        secrets = access_pb2_grpc.SecretServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
        error = await refusal(secrets.PutSecret(put()))
        assert (error.code(), "WALLABY_SECRET_KEY" in (error.details() or "")) == (Code.FAILED_PRECONDITION, True)
        assert store.list_secrets() == ()


async def test_rotation_seals_everything_anew_or_nothing(serving: Serving, store: Store, tmp_path: Path) -> None:
    lines = [base64.b64encode(bytes([number]) * 32).decode() for number in range(3)]
    vaults = []
    for number, line in enumerate(lines):
        (tmp_path / f"key{number}").write_text(line)
        vaults.append(Vault.from_reference(f"file:{tmp_path / f'key{number}'}"))
    for name, vault in (("a", vaults[0]), ("b", vaults[1]), ("c", vaults[2])):
        store.put_secret(vault.seal(name, f"value of {name}", at=datetime.now(UTC), by="local"))
    before = store.list_secrets()
    for content, code in (((2, 1), Code.FAILED_PRECONDITION), ((2, 1, 0), Code.OK)):
        (tmp_path / "keys").write_text("\n".join(lines[number] for number in content))
        server = await serving(secret_key=f"file:{tmp_path / 'keys'}")
        async with connected(server) as channel:
            secrets = access_pb2_grpc.SecretServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
            call = secrets.RotateSecrets(access_pb2.RotateSecretsRequest())
            if code is Code.OK:
                assert (await call).rotated == 2
            else:
                assert (await refusal(call)).code() is code
                assert store.list_secrets() == before
    opened = {item.name: vaults[2].open(item) for item in store.list_secrets()}
    assert opened == {name: f"value of {name}" for name in "abc"}


async def test_the_audit_log_is_shown_in_pages_and_by_caller_and_flow(access: Any, store: Store) -> None:
    bearer = add_token(store, Role.ADMIN, name="boss")
    for name in ("a", "b", "c"):
        await access.secrets.PutSecret(put(name), metadata=bearing(bearer))
    first = await access.audit.ListCalls(access_pb2.ListCallsRequest(page_size=2, principal="token:boss"))
    token = first.next_page_token
    second = await access.audit.ListCalls(
        access_pb2.ListCallsRequest(page_size=2, page_token=token, principal="token:boss")
    )
    calls = [*first.calls, *second.calls]
    assert [(call.method, call.role, call.code) for call in calls] == [
        ("wallaby.v1.SecretService/PutSecret", access_pb2.ROLE_ADMIN, "OK")
    ] * 3
    assert [call.id for call in calls] == sorted((call.id for call in calls), reverse=True)
    assert second.next_page_token == ""
    assert not (await access.audit.ListCalls(access_pb2.ListCallsRequest(flow_id="shop"))).calls


@pytest.mark.parametrize("token", ["x", "%%", "LTE=", "é"])
async def test_a_foreign_page_token_is_refused(access: Any, token: str) -> None:
    error = await refusal(access.audit.ListCalls(access_pb2.ListCallsRequest(page_token=token)))
    assert (error.code(), fields(error)) == (Code.INVALID_ARGUMENT, ["page_token"])
    error = await refusal(access.audit.ListCalls(access_pb2.ListCallsRequest(page_size=-1)))
    assert fields(error) == ["page_size"]
