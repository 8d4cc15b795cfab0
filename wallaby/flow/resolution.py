"""A flow with its secret references replaced, for the processes that open connections. Never stored, never printed."""

from __future__ import annotations

from wallaby import secret
from wallaby.flow.spec import EndpointSpec, FlowSpec


def resolved(flow: FlowSpec) -> FlowSpec:
    """``flow`` with every ``env:`` and ``file:`` read here and now; `ConfigError` with the field when one fails."""
    return flow.model_copy(
        update={
            "source": _resolved(flow.source, "source"),
            "destinations": tuple(
                _resolved(destination, f"destinations[{i}]") for i, destination in enumerate(flow.destinations)
            ),
        }
    )


def _resolved(endpoint: EndpointSpec, field: str) -> EndpointSpec:
    options = secret.resolve_options(endpoint.options, field=f"{field}.options")
    return endpoint.model_copy(update={"options": options})
