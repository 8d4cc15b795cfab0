"""Which destination types exist, and how to get the sink behind a name.

Sinks come through the entry-point group ``wallaby.sinks``; wallaby's own are also known without it, because
``ray job submit --working-dir .`` runs them without an installed distribution.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from typing import Any, Final, cast

from wallaby.errors import ConfigError, MissingExtra
from wallaby.sink import SinkFactory
from wallaby.suggestion import nearest

SOURCE_TYPE: Final = "postgres"
"""The one source type."""

_GROUP: Final = "wallaby.sinks"
_OWN: Final[Mapping[str, str]] = {
    "postgres": "sinks.postgres:FACTORY",
    "duckdb": "sinks.duckdb:FACTORY",
    "ducklake": "sinks.ducklake:FACTORY",
    "files": "sinks.files:FACTORY",
    "iceberg": "sinks.iceberg:FACTORY",
    "pgstream": "sinks.pgstream:FACTORY",
    "delta": "sinks.delta:FACTORY",
    "s3": "sinks.s3:FACTORY",
    "gcs": "sinks.gcs:FACTORY",
    "azure": "sinks.azure:FACTORY",
    "blackhole": "sinks.blackhole:FACTORY",
}
_EXTRAS: Final[Mapping[str, str]] = {
    **{name: name for name in ("duckdb", "ducklake", "delta", "iceberg", "gcs", "azure")},
    "s3": "aws",
}
_GO_TYPES: Final = frozenset(
    {
        *("snowflake", "snowpipe", "clickhouse"),
        *("kafka", "redpanda", "bufstream", "http", "grpc", "proto"),
    }
)
TYPE_ALIASES: Final[Mapping[str, str]] = {"postgresql": "postgres", "parquet": "files", "file": "files"}


def known_types() -> tuple[str, ...]:
    """The destination types a flow may name, sorted."""
    return tuple(sorted(_targets()))


def sink_factory(name: str) -> SinkFactory:
    """The sink of a destination type.

    `ConfigError` for an unknown type, with the nearest known one; `MissingExtra` with the ``pip install`` to run when
    its package needs something that is not installed.
    """
    target = _targets().get(name) or _targets().get(TYPE_ALIASES.get(name, ""))
    if target is None:
        known = known_types()
        if name in _GO_TYPES:
            raise ConfigError(
                f"destination type {name!r} is not supported yet", advice=f"Known are: {', '.join(known)}", field="type"
            )
        raise ConfigError(
            f"{name!r} is not a known destination type", advice=nearest(name, (*known, *TYPE_ALIASES)), field="type"
        )
    return _load(name, target)


@contextmanager
def needed_packages(name: str) -> Iterator[None]:
    """Imports for a destination type: `MissingExtra` with the ``pip install`` to run for what is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = error.name or "a package"
        extra = _EXTRAS.get(name)
        advice = f'Run: pip install "wallaby[{extra}]"' if extra else f"Install the package that provides {missing}"
        raise MissingExtra(f"destination type {name!r} needs {missing}", advice=advice, field="type") from error


def _targets() -> dict[str, str]:
    return dict(_OWN) | {point.name: point.value for point in metadata.entry_points(group=_GROUP)}


def _load(name: str, target: str) -> SinkFactory:
    module_name, _, attribute = target.partition(":")
    with needed_packages(name):
        module: Any = importlib.import_module(module_name)
    try:
        return cast(SinkFactory, getattr(module, attribute))
    except AttributeError as error:
        raise ConfigError(
            f"destination type {name!r} names {target}, which does not exist",
            advice="Upgrade or remove the package that registers it",
            field="type",
        ) from error
