"""A flow with its secret references replaced, for the processes that open connections. Never stored, never printed."""

from __future__ import annotations

from collections.abc import Mapping

from wallaby import secret
from wallaby.flow.spec import EndpointSpec, FlowSpec


def stored_secrets(flow: FlowSpec) -> frozenset[str]:
    """Names of the control store's secrets that ``flow`` refers to."""
    values = [value for endpoint in (flow.source, *flow.destinations) for value in endpoint.options.values()]
    return frozenset(name for value in values if (name := secret.stored_name(value)))


def resolved(flow: FlowSpec, stored: Mapping[str, str] | None = None) -> FlowSpec:
    """``flow`` with every ``env:`` and ``file:`` read here and now; `ConfigError` with the field when one fails.

    ``stored``: what is behind ``secret:NAME``, opened by the caller (see `wallaby.vault`).
    """
    secrets = stored or {}
    return flow.model_copy(
        update={
            "source": _resolved(flow.source, "source", secrets),
            "destinations": tuple(
                _resolved(destination, f"destinations[{i}]", secrets) for i, destination in enumerate(flow.destinations)
            ),
        }
    )


def _resolved(endpoint: EndpointSpec, field: str, secrets: Mapping[str, str]) -> EndpointSpec:
    options = secret.resolve_options(endpoint.options, field=f"{field}.options", stored=secrets)
    return endpoint.model_copy(update={"options": options})
