"""Delta Lake as a destination: one table per source table, in a directory or a bucket, exactly once per table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sinks.delta.config import CAPABILITIES, DeltaOptions, read_options
from wallaby.errors import MissingExtra
from wallaby.sink import Capabilities, Sink


class _Factory:
    """Describes without importing deltalake; imports it when a sink is made."""

    name = "delta"
    options_model = DeltaOptions

    def describe(self, options: Mapping[str, Any]) -> Capabilities:
        """The same for every valid set of options."""
        read_options(options)
        return CAPABILITIES

    def create(self, options: Mapping[str, Any], *, destination: str) -> Sink:
        """A sink, not yet open. `MissingExtra` without the ``deltalake`` package."""
        try:
            from sinks.delta.sink import DeltaSink
        except ModuleNotFoundError as error:
            raise MissingExtra(
                f"destination type 'delta' needs {error.name}",
                advice='Run: pip install "wallaby[delta]"',
                field="type",
            ) from error
        return DeltaSink(read_options(options), destination=destination)


FACTORY = _Factory()

__all__ = ["FACTORY"]
