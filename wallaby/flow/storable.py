"""Which definitions may be stored or sent: those that hold no secret in clear."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from wallaby import secret
from wallaby.flow.problems import InvalidFlow, Problem
from wallaby.flow.spec import FlowSpec

_ADVICE: Final = "Write env:NAME, file:PATH or secret:NAME instead"


def refuse_literal_secrets(spec: FlowSpec) -> None:
    """`InvalidFlow` naming every option that holds a secret in clear."""
    _refuse(spec, secret.literal_secrets, "holds a secret in clear, which is never stored")


def refuse_hidden_secrets(spec: FlowSpec) -> None:
    """`InvalidFlow` naming every option that holds the stars shown in place of a secret."""
    _refuse(spec, secret.hidden_secrets, "holds the stars that are shown in place of a secret")


def _refuse(spec: FlowSpec, find: Callable[[Mapping[str, Any]], Iterator[str]], rule: str) -> None:
    endpoints = [("source", spec.source)]
    endpoints += [(f"destinations[{index}]", item) for index, item in enumerate(spec.destinations)]
    problems = [
        Problem(f"{path}.options.{name}", rule, _ADVICE)
        for path, endpoint in endpoints
        for name in find(endpoint.options)
    ]
    if problems:
        raise InvalidFlow(problems)
