"""Iceberg tables as a destination: mirror and append, exactly once per table, over SQL, REST and Glue catalogs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sinks.iceberg.config import CAPABILITIES, IcebergOptions, read_options
from wallaby.care import Keeper, Maintenance
from wallaby.endpoints import needed_packages
from wallaby.sink import Sink
from wallaby.typed_factory import TypedFactory


class _Factory(TypedFactory[IcebergOptions]):
    """Describes without importing pyiceberg; imports it when a sink is made."""

    name = "iceberg"
    options_model = IcebergOptions
    capabilities = CAPABILITIES
    types = "sinks.iceberg.types"

    def read(self, options: Mapping[str, Any]) -> IcebergOptions:
        return read_options(options)

    def make(self, options: IcebergOptions, *, destination: str) -> Sink:
        from sinks.iceberg.sink import IcebergSink

        return IcebergSink(options, destination=destination)

    def maintenance(self, options: Mapping[str, Any]) -> tuple[Maintenance, int]:
        """See `wallaby.care.KeeperFactory`."""
        read = read_options(options)
        return read.maintenance, read.maintenance_interval // timedelta(milliseconds=1)

    def keeper(self, options: Mapping[str, Any], *, flow: str, destination: str) -> Keeper:
        """A keeper, not yet connected. `MissingExtra` without the ``pyiceberg`` package."""
        read = read_options(options)
        with needed_packages(self.name):
            from sinks.iceberg.care import IcebergKeeper
        return IcebergKeeper(read, flow=flow, destination=destination)


FACTORY = _Factory()

__all__ = ["FACTORY"]
