"""TLS and client certificates over real connections: who may connect, with which role, and after a renewal."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.wallaby.api.certificates import Authority, Pair
from tests.wallaby.api.conftest import RememberingControl
from tests.wallaby.api.test_guard import LIST, Serving, add_token, bearing, recorded, stub
from tests.wallaby.api.test_server import refusal
from wallaby.access import Role
from wallaby.api.server import ApiServer, serve
from wallaby.errors import ConfigError
from wallaby.settings import Settings
from wallaby.store import Store
from wallaby.v1 import flow_pb2

Code = grpc.StatusCode
STOP = flow_pb2.StopFlowRequest(flow_id="nope")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue("server")


def tls(pair: Pair, **more: str) -> dict[str, Any]:
    return {"grpc_tls_cert": str(pair.certificate), "grpc_tls_key": str(pair.key), **more}


@asynccontextmanager
async def secured(server: ApiServer, ca: Path, pair: Pair | None = None) -> AsyncIterator[Any]:
    credentials = grpc.ssl_channel_credentials(
        ca.read_bytes(), pair.key.read_bytes() if pair else None, pair.certificate.read_bytes() if pair else None
    )
    # Without a session cache and a shared pool every channel makes a handshake of its own.
    options = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))
    async with grpc.aio.secure_channel(server.address, credentials, options=options) as channel:
        yield stub(channel)


async def test_with_tls_a_token_is_needed_and_travels_encrypted(
    store: Store, serving: Serving, authority: Authority, pair: Pair
) -> None:
    server = await serving(**tls(pair))
    bearer = add_token(store, Role.VIEWER)
    async with secured(server, authority.ca) as flows:
        assert (await refusal(flows.ListFlows(LIST))).code() is Code.UNAUTHENTICATED
        assert (await flows.ListFlows(LIST, metadata=bearing(bearer))).flows == []
    async with grpc.aio.insecure_channel(server.address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        assert (await refusal(stub(channel).ListFlows(LIST, metadata=bearing(bearer)))).code() is Code.UNAVAILABLE


async def test_with_tls_other_interfaces_are_served(
    store: Store, control: RememberingControl, authority: Authority, pair: Pair
) -> None:
    server = await serve(store, control, Settings(grpc_listen="0.0.0.0:0", **tls(pair)))
    server.address = server.address.replace("0.0.0.0", "127.0.0.1")
    async with secured(server, authority.ca) as flows:
        assert (await refusal(flows.ListFlows(LIST))).code() is Code.UNAUTHENTICATED
    await server.stop(0)


async def test_a_client_certificate_gives_the_role_of_its_names(
    store: Store, serving: Serving, authority: Authority, pair: Pair
) -> None:
    roles = "deploy=operator, ops.example=admin, both=viewer"
    server = await serving(**tls(pair, grpc_client_ca=str(authority.ca), grpc_client_roles=roles))
    token = add_token(store, Role.VIEWER)
    async with secured(server, authority.ca, authority.issue("deploy")) as flows:
        assert (await refusal(flows.StopFlow(STOP))).code() is Code.NOT_FOUND
        assert (await refusal(flows.StopFlow(STOP, metadata=bearing(token)))).code() is Code.PERMISSION_DENIED
    async with secured(server, authority.ca, authority.issue("someone", "ops.example")) as flows:
        assert (await refusal(flows.StopFlow(STOP))).code() is Code.NOT_FOUND
    async with secured(server, authority.ca, authority.issue("both", "ops.example")) as flows:
        assert (await refusal(flows.StopFlow(STOP))).code() is Code.PERMISSION_DENIED
    async with secured(server, authority.ca, authority.issue("stranger")) as flows:
        assert (await refusal(flows.ListFlows(LIST))).code() is Code.UNAUTHENTICATED
        await flows.ListFlows(LIST, metadata=bearing(token))
    names = {call.principal for call in await recorded(server, store)}
    assert {"certificate:deploy", "certificate:ops.example", "certificate:both", "token:viewer"} <= names


async def test_without_a_certificate_of_the_ca_there_is_no_connection(
    store: Store, serving: Serving, authority: Authority, pair: Pair, tmp_path: Path
) -> None:
    server = await serving(**tls(pair, grpc_client_ca=str(authority.ca), grpc_client_roles="deploy=admin"))
    bearer = add_token(store, Role.ADMIN)
    foreign = Authority(tmp_path / "foreign").issue("deploy")
    for certificate in (None, foreign):
        async with secured(server, authority.ca, certificate) as flows:
            assert (await refusal(flows.ListFlows(LIST, metadata=bearing(bearer)))).code() is Code.UNAVAILABLE


async def test_a_renewed_certificate_is_used_without_a_restart_and_a_broken_one_is_not(
    serving: Serving, authority: Authority, tmp_path: Path
) -> None:
    live = Pair(tmp_path / "live.pem", tmp_path / "live.key")
    first, newer = Authority(tmp_path / "first"), Authority(tmp_path / "newer")

    def install(pair: Pair) -> None:
        for old, new in ((pair.certificate, live.certificate), (pair.key, live.key)):
            shutil.copy(old, new.with_suffix(".new"))
            os.replace(new.with_suffix(".new"), new)

    async def answers(ca: Path) -> Code:
        async with secured(server, ca) as flows:
            return (await refusal(flows.ListFlows(LIST))).code()

    install(first.issue("server"))
    server = await serving(**tls(live))
    assert [await answers(first.ca), await answers(newer.ca)] == [Code.UNAUTHENTICATED, Code.UNAVAILABLE]
    install(newer.issue("server"))
    assert [await answers(first.ca), await answers(newer.ca)] == [Code.UNAVAILABLE, Code.UNAUTHENTICATED]
    install(Pair(first.issue("other").certificate, newer.issue("other").key))
    assert await answers(newer.ca) is Code.UNAUTHENTICATED
    live.key.unlink()
    assert await answers(newer.ca) is Code.UNAUTHENTICATED


async def test_files_that_cannot_serve_are_named_at_the_start(
    store: Store, control: RememberingControl, authority: Authority, pair: Pair, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("hunter2")
    other = authority.issue("unrelated")
    broken = [
        (tls(Pair(tmp_path / "none", pair.key)), "WALLABY_GRPC_TLS_CERT"),
        (tls(Pair(pair.certificate, tmp_path / "none")), "WALLABY_GRPC_TLS_KEY"),
        (tls(Pair(pair.certificate, other.key)), "WALLABY_GRPC_TLS_KEY"),
        (tls(Pair(pair.certificate, tmp_path / "text")), "WALLABY_GRPC_TLS_KEY"),
        (tls(pair, grpc_client_ca=str(tmp_path / "text")), "WALLABY_GRPC_CLIENT_CA"),
    ]
    for settings, field in broken:
        with pytest.raises(ConfigError) as refused:
            await serve(store, control, Settings(grpc_listen="127.0.0.1:0", **settings))
        assert refused.value.where["field"] == field
        assert "hunter2" not in str(refused.value)
