"""Settings: file before environment before default; what others could reach is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from wallaby.errors import ConfigError
from wallaby.settings import VARIABLES, Settings


def test_nothing_set_means_loopback_and_the_embedded_store() -> None:
    settings = Settings.load({})
    assert settings.grpc_address == ("127.0.0.1", 8080)
    assert settings.postgres_dsn == ""
    assert settings.state_dir == Path(".wallaby")
    assert settings.grpc_reflection


def test_a_file_beats_the_environment_which_beats_the_default() -> None:
    environment = {"WALLABY_GRPC_LISTEN": "127.0.0.1:1", "WALLABY_STATE_DIR": "/from/environment"}
    settings = Settings.load(environment, {"state_dir": "/from/file"})
    assert settings.grpc_address == ("127.0.0.1", 1)
    assert settings.state_dir == Path("/from/file")


@pytest.mark.parametrize("address", ["localhost:0", "[::1]:8080", "127.3.2.1:65535"])
def test_loopback_addresses_are_served(address: str) -> None:
    assert Settings(grpc_listen=address).grpc_address[1] in (0, 8080, 65535)


@pytest.mark.parametrize("address", [":8080", "0.0.0.0:8080", "[::]:8080", "10.0.0.1:8080", "db.example:8080"])
def test_an_address_others_could_reach_is_refused_without_tls(address: str) -> None:
    with pytest.raises(ConfigError, match="TLS") as refused:
        _ = Settings(grpc_listen=address).grpc_address
    assert refused.value.where["field"] == "WALLABY_GRPC_LISTEN"


@pytest.mark.parametrize("address", ["", "8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:70000", "a b:1", "1:2:3"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="host:port"):
        _ = Settings(grpc_listen=address).grpc_address


@pytest.mark.parametrize(("text", "value"), [("TRUE", True), ("yes", True), ("0", False), ("No", False)])
def test_switches_read_what_the_go_wallaby_reads(text: str, value: bool) -> None:
    assert Settings.load({"WALLABY_GRPC_REFLECTION": text}).grpc_reflection is value


def test_a_switch_that_is_neither_is_an_error_and_not_the_default() -> None:
    with pytest.raises(ConfigError, match="WALLABY_GRPC_REFLECTION"):
        Settings.load({"WALLABY_GRPC_REFLECTION": "maybe"})


def test_an_unknown_setting_in_a_file_is_an_error() -> None:
    with pytest.raises(ConfigError, match=next(iter(VARIABLES))):
        Settings.load({}, {"grpc_listn": "127.0.0.1:1"})


@pytest.mark.must_not_fail(24)
def test_the_dsn_is_not_in_the_printed_settings() -> None:
    settings = Settings(postgres_dsn="postgresql://me:hunter2@db/wallaby")
    assert "hunter2" not in f"{settings}{settings!r}"
