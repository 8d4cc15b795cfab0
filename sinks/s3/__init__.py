"""Files in an S3 bucket as a destination: an append log per table, exactly once, readable by anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sinks.files.config import CAPABILITIES
from sinks.s3.config import S3Options, read_options
from wallaby.sink import Capabilities, Sink
from wallaby.type_options import check_types, with_types

if TYPE_CHECKING:
    from wallaby.kept_types import Kept
    from wallaby.schema import PgType
    from wallaby.type_map import TypeNames


class _Factory:
    """Describes without touching the bucket."""

    name = "s3"
    options_model = S3Options

    def describe(self, options: Mapping[str, Any]) -> Capabilities:
        """The same for every valid set of options."""
        check_types(read_options(options), _type_names)
        return CAPABILITIES

    def create(self, options: Mapping[str, Any], *, destination: str) -> Sink:
        """A sink, not yet open."""
        from sinks.files.sink import FilesSink
        from sinks.s3.bucket import Bucket

        read = read_options(options)
        return with_types(FilesSink(read, Bucket(read), destination=destination), read, _type_names)

    def kept_as(self, pg_type: PgType, typmod: int) -> Kept:
        """What a type of PostgreSQL becomes there."""
        from sinks.files.types import kept_as

        return kept_as(pg_type, typmod)


def _type_names() -> TypeNames:
    from sinks.files.types import TYPE_NAMES

    return TYPE_NAMES


FACTORY = _Factory()

__all__ = ["FACTORY"]
