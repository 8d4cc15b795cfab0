"""The page on security says what the code does: settings, options, limits, and who may call what."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.wallaby.api.test_access import METHODS
from wallaby.access import Role
from wallaby.api.access import RULES
from wallaby.secret import BYTES_MAX
from wallaby.settings import CLIENT_VARIABLES, VARIABLES, ApiLimits, Settings
from wallaby.store import access

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", VARIABLES)
def test_every_setting_of_the_server_is_there_with_its_default(name: str) -> None:
    default = getattr(Settings(), name)
    shown = f"`{str(default).lower() if isinstance(default, bool) else default}`" if str(default) else "–"
    assert f"| `{VARIABLES[name]}` | {shown} |" in PAGE


@pytest.mark.parametrize("name", CLIENT_VARIABLES)
def test_every_setting_of_the_client_is_there(name: str) -> None:
    assert f"| `--{name.replace('_', '-')}` | `{CLIENT_VARIABLES[name]}` |" in PAGE


@pytest.mark.parametrize("service", sorted({path.split("/")[1] for path, _ in METHODS if path.startswith("/wallaby.")}))
def test_every_method_stands_in_the_column_of_its_role(service: str) -> None:
    names: dict[Role, list[str]] = {role: [] for role in Role}
    for path, method in METHODS:
        role = RULES[path].role
        if path.startswith(f"/{service}/") and role is not None:
            names[role].append(method.name)
    cells = " | ".join(", ".join(names[role]) for role in Role)
    row = re.sub(r" +", " ", f"| `{service.rpartition('.')[2]}` | {cells} |")
    assert row in PAGE, row


def test_the_limits_are_those_of_the_code() -> None:
    limits = ApiLimits()
    for text in (
        f"| calls of one caller | {limits.calls_per_s:.0f} per second, {limits.calls_burst:,} at once |",
        f"| {limits.failures_per_s:.0f} per second, {limits.failures_burst} at once;",
        f"| calls and watches at once | {limits.calls_max}, of them {limits.watchers_max} watches |",
        f"| a request, an answer | {limits.request_bytes_max >> 20} MiB, {limits.answer_bytes_max >> 20} MiB |",
        f"| tokens, secrets | {access.TOKENS_MAX:,} each; a secret has at most {BYTES_MAX >> 10} KiB |",
        f"| {limits.source_calls_max} at once, each with one connection to its source",
        f"; {limits.source_statement_ms // 1000} s per statement |",
        f"The newest {access.CALLS_MAX:,} changes",
        f"The newest {access.REQUESTS_MAX:,} answers",
    ):
        assert text in PAGE, text
    assert access.TOKENS_MAX == access.SECRETS_MAX
