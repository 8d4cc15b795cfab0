"""Tokens: only the very token is valid, for its time, and nothing stored leads back to it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from wallaby.access import Role
from wallaby.api import tokens
from wallaby.store import TokenRecord

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def a_token() -> tuple[str, TokenRecord]:
    minted = tokens.mint()
    record = TokenRecord(
        id=minted.id,
        name="ci",
        role=Role.VIEWER,
        salt=minted.salt,
        digest=minted.digest,
        created_at=NOW,
        created_by="local",
    )
    return minted.bearer, record


def test_the_token_is_valid_and_every_change_of_a_letter_is_not() -> None:
    bearer, record = a_token()
    assert tokens.is_valid(bearer, record, NOW)
    for i, letter in enumerate(bearer):
        other = bearer[:i] + ("A" if letter != "A" else "B") + bearer[i + 1 :]
        assert not tokens.is_valid(other, record, NOW), i


@pytest.mark.parametrize("text", ["", "wlb_", "wlb_000000000000_", "x" * 10_000, "wlb_000000000000_" + "é" * 43])
def test_other_text_has_no_id_and_is_not_valid(text: str) -> None:
    assert tokens.id_of(text) is None
    assert not tokens.is_valid(text, a_token()[1], NOW)
    assert not tokens.is_valid(text, None, NOW)


def test_a_token_ends_with_its_time_and_when_it_is_revoked() -> None:
    bearer, record = a_token()
    ending = replace(record, expires_at=NOW + timedelta(seconds=1))
    assert tokens.is_valid(bearer, ending, NOW)
    assert not tokens.is_valid(bearer, ending, NOW + timedelta(seconds=1))
    assert not tokens.is_valid(bearer, replace(record, revoked_at=NOW + timedelta(days=1)), NOW)


def test_the_proof_of_one_token_does_not_open_another() -> None:
    (first, _), (_, second) = a_token(), a_token()
    assert not tokens.is_valid(f"wlb_{second.id}_{first.split('_', 2)[2]}", second, NOW)


@pytest.mark.must_not_fail(24)
def test_nothing_printed_or_stored_holds_the_token() -> None:
    minted = tokens.mint()
    proof = minted.bearer.split("_", 2)[2]
    assert proof not in repr(minted)
    assert proof.encode() not in minted.digest + minted.salt
    assert len({tokens.mint().bearer for _ in range(100)}) == 100
