"""Which definitions may be stored or sent: those that hold no secret in clear."""

from __future__ import annotations

from wallaby import secret
from wallaby.flow.problems import InvalidFlow, Problem
from wallaby.flow.spec import FlowSpec


def refuse_literal_secrets(spec: FlowSpec) -> None:
    """`InvalidFlow` naming every option that holds a secret in clear."""
    endpoints = [("source", spec.source)]
    endpoints += [(f"destinations[{index}]", item) for index, item in enumerate(spec.destinations)]
    problems = [
        Problem(
            f"{path}.options.{name}",
            "holds a secret in clear, which is never stored",
            "Write env:NAME or file:PATH instead",
        )
        for path, endpoint in endpoints
        for name in secret.literal_secrets(endpoint.options)
    ]
    if problems:
        raise InvalidFlow(problems)
