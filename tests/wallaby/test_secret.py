"""References are found and resolved; secrets in clear are hidden wherever they stand."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wallaby import secret
from wallaby.errors import ConfigError

SECRET = "hunter2"

DSNS = [
    f"postgres://me:{SECRET}@db/shop",
    f"postgresql://me:{SECRET}@db:5432,db2:5433/shop?sslmode=require",
    f"postgresql://me:a@b{SECRET}@db/shop",
    f"postgresql://me:a/b{SECRET}@db/shop",
    f"postgresql://me:a?b{SECRET}@db/shop",
    f"postgresql://db/shop?user=me&password={SECRET}",
    f"postgresql://db/shop?sslpassword={SECRET}&user=me",
    f"postgresql://db/shop?%70assword={SECRET}",
    f"host=db password={SECRET} user=me",
    f"host=db password = '{SECRET} and \\'more {SECRET}' user=me",
    f"host=db PASSWORD={SECRET}",
    f"password='{SECRET}",
    f"password=a\\ {SECRET} host=db",
    f"me:{SECRET}@account/database",
    f"md:shop?motherduck_token={SECRET}",
    f"https://me:{SECRET}@host/path",
    f"clickhouse://me:{SECRET}@h:9000/db",
]


@pytest.mark.must_not_fail(24)
@pytest.mark.parametrize("dsn", DSNS)
def test_the_password_of_a_dsn_is_hidden(dsn: str) -> None:
    shown = secret.redact_dsn(dsn)
    assert SECRET not in shown
    assert secret.HIDDEN in shown
    assert list(secret.literal_secrets({"dsn": dsn})) == ["dsn"]


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me@db:5432/shop?sslmode=verify-full",
        "postgresql://db:5432/shop?options=-c%20a=b&application_name=x@y",
        "host=db port=5432 user=me dbname=shop",
        "/data/shop.duckdb",
        "public.orders,public.customers",
        "env:SHOP_DSN",
        "file:/run/secrets/dsn",
        "http://localhost:9000",
        "",
    ],
)
def test_text_without_a_password_stays_as_it_is(text: str) -> None:
    assert secret.redact_dsn(text) == text
    assert list(secret.literal_secrets({"dsn": text})) == []


@pytest.mark.must_not_fail(24)
@settings(deadline=None, derandomize=True)
@given(st.text(min_size=4, max_size=20).filter(lambda text: text.strip() == text and not text.startswith("****")))
def test_any_password_quoted_as_libpq_wants_it_is_hidden(password: str) -> None:
    marked = f"zqx{password}zqx"
    escaped = marked.replace("\\", "\\\\").replace("'", "\\'")
    for dsn in (f"postgresql://me:{quote(marked, safe='')}@db/shop", f"host=db password='{escaped}' user=me"):
        assert "zqx" not in secret.redact_dsn(dsn)


@pytest.mark.must_not_fail(24)
def test_a_mapping_is_redacted_at_every_depth_and_references_stay_readable() -> None:
    mapping = {
        "source": {"options": {"dsn": DSNS[0], "aws_secret_key": SECRET}},
        "destinations": [
            {"options": {"password": SECRET, "headers": f"Authorization:Bearer {SECRET}", "tokens": [SECRET]}},
            {"options": {"password": "env:PASSWORD", "token": "file:/run/token", "url": f"s3://k:{SECRET}@b"}},
        ],
    }
    shown = json.dumps(secret.redact(mapping))
    assert SECRET not in shown
    assert "env:PASSWORD" in shown
    assert "file:/run/token" in shown
    assert list(secret.literal_secrets(mapping["destinations"][1]["options"])) == ["url"]  # type: ignore[index]


def test_references_resolve_from_environment_and_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", SECRET)
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    assert secret.resolve("env:SHOP_PASSWORD") == SECRET
    assert secret.resolve(f"file:{tmp_path / 'secret'}") == SECRET
    assert secret.resolve("plain") == "plain"
    assert secret.resolve("file:///data") == "file:///data"
    assert secret.resolve_options({"a": "env:SHOP_PASSWORD", "b": 1, "c": ["x"]}) == {"a": SECRET, "b": 1, "c": ["x"]}


@pytest.mark.parametrize("reference", ["env:NOT_SET_ANYWHERE", "env:", "env:a b", "file:/no/such/file", "file:a\0b"])
def test_a_reference_that_leads_nowhere_names_the_field(reference: str) -> None:
    with pytest.raises(ConfigError) as refused:
        secret.resolve_options({"dsn": reference}, field="source.options")
    assert refused.value.where["field"] == "source.options.dsn"


@pytest.mark.must_not_fail(24)
def test_a_secret_file_that_is_not_text_is_refused_without_its_content(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"hunter2\xff\xfe")
    (tmp_path / "large").write_text(SECRET * 20_000)
    for name in ("binary", "large"):
        with pytest.raises(ConfigError) as refused:
            secret.resolve(f"file:{tmp_path / name}", field="dsn")
        assert SECRET not in f"{refused.value}{refused.value.__cause__!r}"


@pytest.mark.parametrize("name", ["dsn", "password"])
def test_a_hidden_secret_is_known_as_such_and_never_used_as_a_password(name: str) -> None:
    options = secret.redact({"dsn": f"postgresql://me:{SECRET}@db/shop", "password": SECRET, "table": "a****b"})
    assert list(secret.literal_secrets(options)) == []
    assert list(secret.hidden_secrets(options)) == ["dsn", "password"]
    with pytest.raises(ConfigError, match="not stored") as refused:
        secret.resolve_options({name: options[name]}, field="source.options")
    assert refused.value.where["field"] == f"source.options.{name}"


def test_a_secret_of_the_control_store_is_a_reference_like_the_others() -> None:
    options = {"dsn": "secret:shop-dsn", "password": "secret:a.b_C-1"}
    assert list(secret.literal_secrets(options)) == []
    assert secret.redact(options) == options
    assert [secret.stored_name(value) for value in options.values()] == ["shop-dsn", "a.b_C-1"]
    stored = {"shop-dsn": "the dsn", "a.b_C-1": SECRET}
    assert secret.resolve_options(options, stored=stored) == {"dsn": "the dsn", "password": SECRET}


@pytest.mark.must_not_fail(24)
@pytest.mark.parametrize(
    "value", ["secret:", f"secret:{SECRET}!", "secret:a b", "secret://host", "secret:" + "x" * 129]
)
def test_what_only_looks_like_a_reference_counts_as_a_secret_in_clear(value: str) -> None:
    assert not secret.is_reference(value)
    assert secret.stored_name(value) is None
    assert list(secret.literal_secrets({"password": value})) == ["password"]
    assert secret.redact_option("password", value) == secret.HIDDEN


def test_a_secret_that_is_not_stored_names_field_and_command() -> None:
    with pytest.raises(ConfigError, match="wallaby secret set shop") as refused:
        secret.resolve_options({"dsn": "secret:shop"}, field="source.options", stored={"other": SECRET})
    assert refused.value.where["field"] == "source.options.dsn"
    assert SECRET not in str(refused.value)
    with pytest.raises(ConfigError, match="cannot stand here"):
        secret.resolve("secret:shop")


def test_a_rule_about_a_column_of_a_telling_name_is_no_secret() -> None:
    options = {
        "mask_columns": ["users.password = hash", "users.api_key = redact"],
        "where": "users: token = 'used'",
        "mask_secret": "a secret of sixteen",
    }
    assert secret.redact(options) == {**options, "mask_secret": secret.HIDDEN}
    assert list(secret.literal_secrets(options)) == ["mask_secret"]
    assert list(secret.hidden_secrets(options)) == []
