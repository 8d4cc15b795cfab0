"""Files in an S3 bucket as a destination: an append log per table, exactly once, readable by anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sinks.files.config import CAPABILITIES
from sinks.s3.config import S3Options, read_options
from wallaby.sink import Sink
from wallaby.typed_factory import TypedFactory


class _Factory(TypedFactory[S3Options]):
    """Describes without touching the bucket."""

    name = "s3"
    options_model = S3Options
    capabilities = CAPABILITIES
    types = "sinks.files.types"

    def read(self, options: Mapping[str, Any]) -> S3Options:
        return read_options(options)

    def make(self, options: S3Options, *, destination: str) -> Sink:
        from sinks.files.sink import FilesSink
        from sinks.s3.bucket import storage

        return FilesSink(options, storage(options), destination=destination)


FACTORY = _Factory()

__all__ = ["FACTORY"]
