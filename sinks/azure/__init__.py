"""Files in an Azure Blob Storage container as a destination: an append log per table, exactly once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sinks.azure.config import AzureOptions, read_options
from sinks.files.config import CAPABILITIES
from wallaby.sink import Sink
from wallaby.typed_factory import TypedFactory


class _Factory(TypedFactory[AzureOptions]):
    """Describes without touching the container."""

    name = "azure"
    options_model = AzureOptions
    capabilities = CAPABILITIES
    types = "sinks.files.types"

    def read(self, options: Mapping[str, Any]) -> AzureOptions:
        return read_options(options)

    def make(self, options: AzureOptions, *, destination: str) -> Sink:
        from sinks.azure.container import storage
        from sinks.files.sink import FilesSink

        return FilesSink(options, storage(options), destination=destination)


FACTORY = _Factory()

__all__ = ["FACTORY"]
