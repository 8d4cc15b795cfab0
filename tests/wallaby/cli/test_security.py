"""``wallaby token|secret|audit`` against a real API, with and without TLS and tokens."""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.wallaby.api.certificates import Authority
from tests.wallaby.api.conftest import RememberingControl
from wallaby import cli
from wallaby.api.server import serve
from wallaby.errors import (
    ConfigError,
    PermissionDenied,
    StoreUnavailable,
    TooManyCalls,
    Unauthenticated,
)
from wallaby.settings import CLIENT_VARIABLES, ApiLimits, Settings
from wallaby.store import Store
from wallaby.store.opening import open_sqlite
from wallaby.testing.store_contract import a_flow
from wallaby.vault import Vault

SECRET = "hunter2"


class Api:
    """An API in a thread of its own, as another process would have it; started again with other settings by `start`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.address = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server: Any = None

    def start(self, limits: ApiLimits | None = None, **settings: str) -> None:
        self._halt()
        wanted = Settings(**{"grpc_listen": "127.0.0.1:0", **settings})  # type: ignore[arg-type]  # all are text
        self._server = self._call(serve(self.store, RememberingControl(), wanted, limits=limits))
        self.address = self._server.address

    def stop(self) -> None:
        self._halt()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _halt(self) -> None:
        if self._server is not None:
            self._call(self._server.stop(0))

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


@pytest.fixture
def key(tmp_path: Path) -> str:
    (tmp_path / "key").write_text(base64.b64encode(b"1" * 32).decode())
    return f"file:{tmp_path / 'key'}"


@pytest.fixture
def api(tmp_path: Path, key: str) -> Iterator[Api]:
    store = open_sqlite(tmp_path / "state")
    api = Api(store)
    api.start(secret_key=key)
    yield api
    api.stop()
    store.close()


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CLIENT_VARIABLES.values():
        monkeypatch.delenv(name, raising=False)


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    cli.register(parser.add_subparsers(dest="command"))
    return parser.parse_args(cli.long_flags(words))


@pytest.fixture
def wallaby(api: Api) -> Callable[..., str]:
    def run(*words: str) -> str:
        output = io.StringIO()
        assert cli.run(parsed(*words, "-endpoint", api.address), output) == 0
        return output.getvalue()

    return run


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Sets what comes from standard input."""

    def type_in(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return type_in


@pytest.mark.must_not_fail(24)
def test_a_token_is_printed_alone_and_once(wallaby: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    bearer = wallaby("token", "create", "ci", "-role", "operator", "-expires", "90d")
    assert bearer.startswith("wlb_")
    assert len(bearer.splitlines()) == 1
    assert "Keep token ci (operator) now" in capsys.readouterr().err
    listing = wallaby("token", "list")
    assert [line.split()[1:4] for line in listing.splitlines()] == [
        ["NAME", "ROLE", "MADE"],
        ["ci", "operator", "local"],
    ]
    assert bearer.strip().split("_", 2)[2] not in listing
    made = json.loads(wallaby("token", "create", "other", "-json"))
    assert (made["name"], made["role"], made["expires_at"], made["token"][:4]) == ("other", "viewer", "", "wlb_")
    assert wallaby("token", "revoke", "ci") == "Revoked token ci\n"
    tokens = json.loads(wallaby("token", "list", "-json"))["tokens"]
    assert [bool(token["revoked_at"]) for token in tokens] == [True, False]


@pytest.mark.parametrize("text", ["0d", "90", "d", "1w", "-1d", "1.5h", "99999999d"])
def test_a_time_that_is_none_is_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError, match="90d"):
        cli.run(parsed("token", "create", "x", f"--expires={text}", "-endpoint", "127.0.0.1:1"))


def test_a_secret_comes_from_standard_input_or_a_file_and_never_back(
    wallaby: Callable[..., str], api: Api, key: str, typed: Callable[[bytes], None], tmp_path: Path
) -> None:
    vault = Vault.from_reference(key)
    typed(SECRET.encode() + b"\n")
    said = wallaby("secret", "set", "shop-dsn")
    assert said == "Stored secret shop-dsn; flows refer to it as secret:shop-dsn\n"
    assert vault.open(api.store.get_secret("shop-dsn")) == SECRET
    (tmp_path / "value").write_text("line 1\nline 2\n")
    wallaby("secret", "set", "pem", "-file", str(tmp_path / "value"))
    assert vault.open(api.store.get_secret("pem")) == "line 1\nline 2"
    assert [line.split()[0] for line in wallaby("secret", "list").splitlines()] == ["NAME", "pem", "shop-dsn"]
    assert json.loads(wallaby("secret", "rotate", "-json")) == {"rotated": 0}
    assert wallaby("secret", "delete", "pem") == "Deleted secret pem\n"
    assert json.loads(wallaby("secret", "list", "-json"))["count"] == 1
    assert SECRET not in wallaby("secret", "list", "-json") + wallaby("audit", "-json")


@pytest.mark.must_not_fail(24)
def test_a_secret_that_cannot_be_read_or_is_no_text_is_refused_unseen(
    wallaby: Callable[..., str], typed: Callable[[bytes], None], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        wallaby("secret", "set", "x", "-file", str(tmp_path / "none"))
    for content in (b"hunter2\xff", b"", SECRET.encode() * 20_000):
        typed(content)
        with pytest.raises(ConfigError) as refused:
            wallaby("secret", "set", "x")
        assert SECRET not in f"{refused.value}{refused.value.__cause__!r}"


def test_the_audit_log_is_shown_newest_first(wallaby: Callable[..., str]) -> None:
    assert wallaby("audit", "-principal", "token:nobody") == "No calls found.\n"
    wallaby("token", "create", "a")
    wallaby("flow", "list")
    wallaby("token", "create", "b", "-request-id", "mine")
    lines = wallaby("audit", "-principal", "local").splitlines()
    assert lines[0].split() == ["TIME", "WHO", "CALL", "FLOW", "OUTCOME"]
    assert [line.split()[2:] for line in lines if "CreateToken" in line] == [["CreateToken", "OK"]] * 2
    [newest] = json.loads(wallaby("audit", "-limit", "1", "-principal", "local", "-json"))["calls"]
    assert newest["principal"] == "local"
    calls = json.loads(wallaby("audit", "-json"))["calls"]
    assert "mine/CreateToken" in {call["request_id"] for call in calls}


def test_a_token_opens_what_its_role_may_and_errors_say_what_to_do(
    wallaby: Callable[..., str], api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "viewer").write_text(wallaby("token", "create", "v"))
    api.start(grpc_auth="on")
    with pytest.raises(Unauthenticated, match="WALLABY_TOKEN"):
        wallaby("flow", "list")
    assert wallaby("flow", "list", "-token", f"file:{tmp_path / 'viewer'}") == "No flows found.\n"
    monkeypatch.setenv("WALLABY_TOKEN", f"file:{tmp_path / 'viewer'}")
    with pytest.raises(PermissionDenied, match="the role viewer, the call needs admin"):
        wallaby("token", "list")
    monkeypatch.setenv("WALLABY_TOKEN", (tmp_path / "viewer").read_text().strip())
    assert wallaby("flow", "list") == "No flows found.\n"
    monkeypatch.setenv("WALLABY_TOKEN", "two words")
    with pytest.raises(ConfigError, match="-token"):
        wallaby("flow", "list")


def test_a_caller_over_its_rate_is_told_so(wallaby: Callable[..., str], api: Api) -> None:
    api.start(ApiLimits(calls_per_s=0.001, calls_burst=1))
    wallaby("flow", "list")
    with pytest.raises(TooManyCalls, match="more slowly"):
        wallaby("flow", "list")


def test_a_request_id_makes_a_command_repeatable(wallaby: Callable[..., str], api: Api) -> None:
    api.store.create_flow(a_flow())
    for _ in range(2):
        assert wallaby("flow", "delete", "shop", "-request-id", "mine") == "Deleted flow shop\n"


def test_over_tls_with_a_client_certificate_and_errors_that_name_the_options(
    wallaby: Callable[..., str], api: Api, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    ours, client = authority.issue("server"), authority.issue("deploy")
    api.start(
        grpc_tls_cert=str(ours.certificate),
        grpc_tls_key=str(ours.key),
        grpc_client_ca=str(authority.ca),
        grpc_client_roles="deploy=viewer",
    )
    files = ("-ca-file", str(authority.ca), "-cert-file", str(client.certificate), "-key-file", str(client.key))
    assert wallaby("flow", "list", *files) == "No flows found.\n"
    foreign = Authority(tmp_path / "foreign")
    for words in (("-ca-file", str(foreign.ca)), ("-insecure=false",), ()):
        with pytest.raises(StoreUnavailable, match="-ca-file"):
            wallaby("flow", "list", *words)
    with pytest.raises(ConfigError, match="cannot be read"):
        wallaby("flow", "list", "-ca-file", str(tmp_path / "none"))
