"""Iceberg tables as a destination: mirror and append, exactly once per table, over SQL, REST and Glue catalogs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sinks.iceberg.config import CAPABILITIES, IcebergOptions, read_options
from wallaby.care import Keeper, Maintenance
from wallaby.errors import MissingExtra
from wallaby.sink import Capabilities, Sink
from wallaby.type_options import check_types, with_types

if TYPE_CHECKING:
    from wallaby.kept_types import Kept
    from wallaby.schema import PgType
    from wallaby.type_map import TypeNames


class _Factory:
    """Describes without importing pyiceberg; imports it when a sink is made."""

    name = "iceberg"
    options_model = IcebergOptions

    def describe(self, options: Mapping[str, Any]) -> Capabilities:
        """The same for every valid set of options."""
        check_types(read_options(options), _type_names)
        return CAPABILITIES

    def create(self, options: Mapping[str, Any], *, destination: str) -> Sink:
        """A sink, not yet open. `MissingExtra` without the ``pyiceberg`` package."""
        read = read_options(options)
        with _pyiceberg():
            from sinks.iceberg.sink import IcebergSink
        return with_types(IcebergSink(read, destination=destination), read, _type_names)

    def kept_as(self, pg_type: PgType, typmod: int) -> Kept:
        """What a type of PostgreSQL becomes there."""
        from sinks.iceberg.types import kept_as

        return kept_as(pg_type, typmod)

    def maintenance(self, options: Mapping[str, Any]) -> tuple[Maintenance, int]:
        """See `wallaby.care.KeeperFactory`."""
        read = read_options(options)
        return read.maintenance, read.maintenance_interval // timedelta(milliseconds=1)

    def keeper(self, options: Mapping[str, Any], *, flow: str, destination: str) -> Keeper:
        """A keeper, not yet connected. `MissingExtra` without the ``pyiceberg`` package."""
        read = read_options(options)
        with _pyiceberg():
            from sinks.iceberg.care import IcebergKeeper
        return IcebergKeeper(read, flow=flow, destination=destination)


def _type_names() -> TypeNames:
    from sinks.iceberg.types import TYPE_NAMES

    return TYPE_NAMES


@contextmanager
def _pyiceberg() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"an iceberg destination needs {error.name}", advice='Run: pip install "wallaby[iceberg]"', field="type"
        ) from error


FACTORY = _Factory()

__all__ = ["FACTORY"]
