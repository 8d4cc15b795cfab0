"""Delta Lake as a destination: one table per source table, in a directory or a bucket, exactly once per table."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from importlib import import_module
from typing import Any

from sinks.delta.config import CAPABILITIES, DeltaOptions, read_options
from wallaby.care import Keeper, Maintenance
from wallaby.endpoints import needed_packages
from wallaby.sink import Sink
from wallaby.typed_factory import TypedFactory


class _Factory(TypedFactory[DeltaOptions]):
    """Describes without importing deltalake; imports it when a sink is made."""

    name = "delta"
    options_model = DeltaOptions
    capabilities = CAPABILITIES
    types = "sinks.delta.types"

    def read(self, options: Mapping[str, Any]) -> DeltaOptions:
        return read_options(options)

    def make(self, options: DeltaOptions, *, destination: str) -> Sink:
        from sinks.delta.sink import DeltaSink

        if options.deletion_vectors and options.is_remote:
            import_module("boto3")  # its commits are made without the engine

        return DeltaSink(options, destination=destination)

    def maintenance(self, options: Mapping[str, Any]) -> tuple[Maintenance, int]:
        """See `wallaby.care.KeeperFactory`."""
        read = read_options(options)
        return read.maintenance, read.maintenance_interval // timedelta(milliseconds=1)

    def keeper(self, options: Mapping[str, Any], *, flow: str, destination: str) -> Keeper:
        """A keeper, not yet connected. `MissingExtra` without the ``deltalake`` package."""
        del flow, destination  # a table does not say whose lanes have written to it
        with needed_packages(self.name):
            from sinks.delta.care import DeltaKeeper
        return DeltaKeeper(read_options(options))


FACTORY = _Factory()

__all__ = ["FACTORY"]
