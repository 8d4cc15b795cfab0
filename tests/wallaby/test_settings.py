"""Settings: file before environment before default; what others could reach is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from wallaby.access import Role
from wallaby.errors import ConfigError
from wallaby.settings import VARIABLES, ClientSettings, Settings

TLS = {"WALLABY_GRPC_TLS_CERT": "cert.pem", "WALLABY_GRPC_TLS_KEY": "key.pem"}


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
    assert Settings.load({"WALLABY_STREAM_RDS_IAM": text}).stream_rds_iam is value


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


@pytest.mark.parametrize("address", [":8080", "0.0.0.0:8080", "[::]:8080", "db.example:8080"])
def test_an_address_others_could_reach_is_served_with_tls_and_authentication(address: str) -> None:
    settings = Settings.load(TLS | {"WALLABY_GRPC_LISTEN": address})
    assert settings.grpc_address[1] == 8080
    assert settings.grpc_needs_authentication
    open_to_all = Settings.load(TLS | {"WALLABY_GRPC_LISTEN": address, "WALLABY_GRPC_AUTH": "off"})
    with pytest.raises(ConfigError, match="loopback only") as refused:
        _ = open_to_all.grpc_needs_authentication
    assert refused.value.where["field"] == "WALLABY_GRPC_AUTH"


@pytest.mark.parametrize(
    ("environment", "needed"),
    [
        ({}, False),
        (TLS, True),
        ({"WALLABY_GRPC_AUTH": "on"}, True),
        (TLS | {"WALLABY_GRPC_AUTH": "OFF"}, False),
        ({"WALLABY_GRPC_AUTH": "Auto"}, False),
    ],
)
def test_on_loopback_callers_are_asked_with_tls_or_when_told_to(environment: dict[str, str], needed: bool) -> None:
    assert Settings.load(environment).grpc_needs_authentication is needed


@pytest.mark.parametrize(
    ("environment", "field"),
    [
        ({"WALLABY_GRPC_TLS_CERT": "cert.pem"}, "WALLABY_GRPC_TLS_KEY"),
        ({"WALLABY_GRPC_TLS_KEY": "key.pem"}, "WALLABY_GRPC_TLS_CERT"),
        ({"WALLABY_GRPC_CLIENT_CA": "ca.pem"}, "WALLABY_GRPC_CLIENT_CA"),
        ({"WALLABY_GRPC_AUTH": "maybe"}, "WALLABY_GRPC_AUTH"),
        (TLS | {"WALLABY_GRPC_CLIENT_ROLES": "a=admin"}, "WALLABY_GRPC_CLIENT_ROLES"),
    ],
)
def test_half_a_setup_is_refused_and_named(environment: dict[str, str], field: str) -> None:
    settings = Settings.load(environment)
    with pytest.raises(ConfigError) as refused:
        _ = (settings.grpc_tls, settings.grpc_needs_authentication, settings.grpc_certificate_roles)
    assert refused.value.where["field"] == field


def test_certificates_get_roles_by_their_names() -> None:
    environment = TLS | {
        "WALLABY_GRPC_CLIENT_CA": "ca.pem",
        "WALLABY_GRPC_CLIENT_ROLES": " a=viewer, spiffe://x=y=admin,",
    }
    roles = Settings.load(environment).grpc_certificate_roles
    assert roles == {"a": Role.VIEWER, "spiffe://x=y": Role.ADMIN}


@pytest.mark.parametrize("text", ["a", "=admin", "a=boss", "a=viewer,a=admin"])
def test_what_names_no_role_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="deploy=operator"):
        _ = Settings(
            grpc_tls_cert="c", grpc_tls_key="k", grpc_client_ca="ca", grpc_client_roles=text
        ).grpc_certificate_roles


# The client's side


@pytest.mark.parametrize(
    ("options", "uses_tls"),
    [
        ({}, False),
        ({"endpoint": "127.0.0.1:1"}, False),
        ({"endpoint": "[::1]:1"}, False),
        ({"endpoint": "wallaby.example:8080"}, True),
        ({"endpoint": "10.0.0.1:8080"}, True),
        ({"endpoint": "localhost.example:8080"}, True),
        ({"ca_file": "ca.pem"}, True),
        ({"cert_file": "c", "key_file": "k"}, True),
        ({"is_insecure": False}, True),
        ({"endpoint": "10.0.0.1:8080", "is_insecure": True}, False),
    ],
)
def test_a_client_uses_tls_unless_the_api_is_on_this_machine(options: dict[str, object], uses_tls: bool) -> None:
    assert ClientSettings.load({}, options).uses_tls is uses_tls


def test_options_of_a_client_come_before_its_environment() -> None:
    environment = {"WALLABY_ENDPOINT": "a:1", "WALLABY_TOKEN": "wlb_x", "WALLABY_CA_FILE": "ca.pem"}
    settings = ClientSettings.load(environment, {"endpoint": "b:2", "token": None, "ca_file": ""})
    assert (settings.endpoint, settings.token, settings.ca_file) == ("b:2", "wlb_x", "ca.pem")


@pytest.mark.must_not_fail(24)
def test_a_token_never_travels_or_stands_in_clear() -> None:
    with pytest.raises(ConfigError, match="file:PATH") as refused:
        ClientSettings.load({}, {"token": "wlb_hunter2"})
    assert "hunter2" not in str(refused.value)
    settings = ClientSettings.load({"WALLABY_TOKEN": "wlb_hunter2"}, {"endpoint": "10.0.0.1:1", "is_insecure": True})
    assert "hunter2" not in repr(settings)
    with pytest.raises(ConfigError, match="in clear"):
        _ = settings.uses_tls


@pytest.mark.parametrize("options", [{"is_insecure": True, "ca_file": "x"}, {"cert_file": "x"}, {"key_file": "x"}])
def test_options_of_a_client_that_contradict_each_other_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        _ = ClientSettings.load({}, options).uses_tls
