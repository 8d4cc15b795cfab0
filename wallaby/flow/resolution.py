"""A flow with its secret references replaced, for the processes that open connections. Never stored, never printed."""

from __future__ import annotations

from collections.abc import Mapping

from wallaby import secret
from wallaby.flow.options import SourceOptions
from wallaby.flow.spec import EndpointSpec, FlowSpec


def stored_secrets(flow: FlowSpec) -> frozenset[str]:
    """Names of the control store's secrets that ``flow`` refers to."""
    return frozenset().union(*map(_stored_secrets, (flow.source, *flow.destinations)))


def source_secrets(flow: FlowSpec) -> frozenset[str]:
    """... and its source alone."""
    return _stored_secrets(flow.source)


def resolved_source(flow: FlowSpec, stored: Mapping[str, str] | None = None) -> SourceOptions:
    """The source's options, as `resolved` makes them; secrets of the destinations are not needed."""
    source = _resolved(flow.source, "source", stored or {})
    return flow.model_copy(update={"source": source}).source_options()


def _stored_secrets(endpoint: EndpointSpec) -> frozenset[str]:
    values = endpoint.options.values()
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
