"""Iceberg tables as a destination: mirror and append, exactly once per table, over SQL, REST and Glue catalogs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sinks.iceberg.config import CAPABILITIES, IcebergOptions, read_options
from wallaby.errors import MissingExtra
from wallaby.sink import Capabilities, Sink


class _Factory:
    """Describes without importing pyiceberg; imports it when a sink is made."""

    name = "iceberg"
    options_model = IcebergOptions

    def describe(self, options: Mapping[str, Any]) -> Capabilities:
        """The same for every valid set of options."""
        read_options(options)
        return CAPABILITIES

    def create(self, options: Mapping[str, Any], *, destination: str) -> Sink:
        """A sink, not yet open. `MissingExtra` without the ``pyiceberg`` package."""
        read = read_options(options)
        try:
            from sinks.iceberg.sink import IcebergSink
        except ModuleNotFoundError as error:
            raise MissingExtra(
                f"an iceberg destination needs {error.name}", advice='Run: pip install "wallaby[iceberg]"', field="type"
            ) from error
        return IcebergSink(read, destination=destination)


FACTORY = _Factory()

__all__ = ["FACTORY"]
