"""Parquet objects in a bucket as a destination: the log of `sinks.files`, with S3's conditional PUT as its commit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import obstore  # noqa: F401 - what is missing is said when the type is asked for

from sinks.s3.config import CAPABILITIES, S3Options, read_options
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
