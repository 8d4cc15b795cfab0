"""Files in a Google Cloud Storage bucket as a destination: an append log per table, exactly once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sinks.files.config import CAPABILITIES
from sinks.gcs.config import GcsOptions, read_options
from wallaby.sink import Sink
from wallaby.typed_factory import TypedFactory


class _Factory(TypedFactory[GcsOptions]):
    """Describes without touching the bucket."""

    name = "gcs"
    options_model = GcsOptions
    capabilities = CAPABILITIES
    types = "sinks.files.types"

    def read(self, options: Mapping[str, Any]) -> GcsOptions:
        return read_options(options)

    def make(self, options: GcsOptions, *, destination: str) -> Sink:
        from sinks.files.sink import FilesSink
        from sinks.gcs.bucket import storage

        return FilesSink(options, storage(options), destination=destination)


FACTORY = _Factory()

__all__ = ["FACTORY"]
