"""Files in an S3 bucket as a destination: an append log per table, exactly once, readable by anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sinks.files.config import CAPABILITIES
from sinks.s3.config import S3Options, read_options
from wallaby.sink import Capabilities, Sink


class _Factory:
    """Describes without touching the bucket."""

    name = "s3"
    options_model = S3Options

    def describe(self, options: Mapping[str, Any]) -> Capabilities:
        """The same for every valid set of options."""
        read_options(options)
        return CAPABILITIES

    def create(self, options: Mapping[str, Any], *, destination: str) -> Sink:
        """A sink, not yet open."""
        from sinks.files.sink import FilesSink
        from sinks.s3.bucket import Bucket

        read = read_options(options)
        return FilesSink(read, Bucket(read), destination=destination)


FACTORY = _Factory()

__all__ = ["FACTORY"]
