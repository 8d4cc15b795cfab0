"""Sealed secrets: opened by their key and name only, whatever is done to what is stored."""

from __future__ import annotations

import base64
import os
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallaby.errors import CheckFailed, ConfigError, MissingExtra
from wallaby.store import SealedSecret
from wallaby.vault import Vault

SECRET = "hunter2"
NOW = datetime(2026, 1, 2, tzinfo=UTC)
KEYS = [bytes([number]) * 32 for number in range(3)]


def sealed(vault: Vault, value: str = SECRET, name: str = "shop") -> SealedSecret:
    return vault.seal(name, value, at=NOW, by="local")


def key_file(directory: Path, *keys: bytes) -> str:
    (directory / "keys").write_text("".join(base64.b64encode(key).decode() + "\n" for key in keys))
    return f"file:{directory / 'keys'}"


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=300))
def test_what_is_sealed_opens_as_it_was(value: str) -> None:
    vault = Vault(KEYS[:1])
    assert vault.open(sealed(vault, value)) == value


def test_the_same_secret_is_never_sealed_alike_twice() -> None:
    vault = Vault(KEYS[:1])
    assert len({sealed(vault).sealed for _ in range(50)}) == 50


@pytest.mark.must_not_fail(24)
def test_every_changed_byte_and_another_name_are_noticed_without_a_content() -> None:
    vault = Vault(KEYS[:1])
    whole = sealed(vault)
    damaged = [replace(whole, name="other"), replace(whole, sealed=b""), replace(whole, sealed=whole.sealed[:12])]
    for i in range(len(whole.sealed)):
        content = bytearray(whole.sealed)
        content[i] ^= 1
        damaged.append(replace(whole, sealed=bytes(content)))
        damaged.append(replace(whole, sealed=whole.sealed[:i]))
    for item in damaged:
        with pytest.raises(CheckFailed, match="altered") as refused:
            vault.open(item)
        assert SECRET not in f"{refused.value}{refused.value.__cause__!r}"
    assert SECRET.encode() not in whole.sealed


def test_a_new_key_seals_and_old_ones_still_open() -> None:
    old, both, new = Vault(KEYS[:1]), Vault([KEYS[1], KEYS[0]]), Vault([KEYS[1]])
    before = sealed(old)
    assert both.open(before) == SECRET
    after = sealed(both, both.open(before))
    assert new.open(after) == SECRET
    with pytest.raises(CheckFailed, match=f"does not hold key {before.key_id}"):
        new.open(before)


def test_keys_come_from_a_file_or_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    urlsafe = base64.urlsafe_b64encode(b"\xff" * 32).decode()
    monkeypatch.setenv("THE_KEY", urlsafe)
    one = sealed(Vault([b"\xff" * 32]))
    assert Vault.from_reference("env:THE_KEY").open(one) == SECRET
    assert Vault.from_reference(key_file(tmp_path, KEYS[0], b"\xff" * 32)).open(one) == SECRET


@pytest.mark.must_not_fail(24)
def test_what_is_no_key_is_refused_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clear = base64.b64encode(os.urandom(32)).decode()
    monkeypatch.setenv("SHORT", SECRET)
    (tmp_path / "empty").write_text("\n")
    references = [clear, SECRET, "env:SHORT", f"file:{tmp_path / 'empty'}", "file:/no/such/file", "secret:x"]
    references.append(key_file(tmp_path, *[bytes([number]) * 32 for number in range(9)]))
    for reference in references:
        with pytest.raises(ConfigError) as refused:
            Vault.from_reference(reference)
        assert refused.value.where["field"] == "WALLABY_SECRET_KEY"
        assert SECRET not in str(refused.value)
        assert clear not in str(refused.value)


def test_without_keys_nothing_is_sealed_or_opened_and_the_advice_says_how() -> None:
    with pytest.raises(ConfigError, match="openssl rand"):
        sealed(Vault.from_reference(""))
    with pytest.raises(ConfigError, match="WALLABY_SECRET_KEY"):
        Vault().open(sealed(Vault(KEYS[:1])))
    assert Vault().open_all(()) == {}


def test_a_vault_prints_no_key() -> None:
    assert repr(Vault(KEYS[:2])) == "Vault(2 keys)"


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"wallaby\[secrets\]"):
        sealed(Vault(KEYS[:1]))
