"""Delta Lake as a destination: one table per source table, in a directory or a bucket, exactly once per table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sinks.delta.config import CAPABILITIES, DeltaOptions, read_options
from wallaby.care import Keeper, Maintenance
from wallaby.errors import MissingExtra
from wallaby.sink import Capabilities, Sink
from wallaby.type_options import check_types, with_types

if TYPE_CHECKING:
    from wallaby.kept_types import Kept
    from wallaby.schema import PgType
    from wallaby.type_map import TypeNames


class _Factory:
    """Describes without importing deltalake; imports it when a sink is made."""

    name = "delta"
    options_model = DeltaOptions

    def describe(self, options: Mapping[str, Any]) -> Capabilities:
        """The same for every valid set of options."""
        check_types(read_options(options), _type_names)
        return CAPABILITIES

    def create(self, options: Mapping[str, Any], *, destination: str) -> Sink:
        """A sink, not yet open. `MissingExtra` without the ``deltalake`` package."""
        with _deltalake():
            from sinks.delta.sink import DeltaSink
        read = read_options(options)
        return with_types(DeltaSink(read, destination=destination), read, _type_names)

    def kept_as(self, pg_type: PgType, typmod: int) -> Kept:
        """What a type of PostgreSQL becomes there."""
        from sinks.delta.types import kept_as

        return kept_as(pg_type, typmod)

    def maintenance(self, options: Mapping[str, Any]) -> tuple[Maintenance, int]:
        """See `wallaby.care.KeeperFactory`."""
        read = read_options(options)
        return read.maintenance, read.maintenance_interval // timedelta(milliseconds=1)

    def keeper(self, options: Mapping[str, Any], *, flow: str, destination: str) -> Keeper:
        """A keeper, not yet connected. `MissingExtra` without the ``deltalake`` package."""
        del flow, destination  # a table does not say whose lanes have written to it
        with _deltalake():
            from sinks.delta.care import DeltaKeeper
        return DeltaKeeper(read_options(options))


def _type_names() -> TypeNames:
    from sinks.delta.types import TYPE_NAMES

    return TYPE_NAMES


@contextmanager
def _deltalake() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"destination type 'delta' needs {error.name}",
            advice='Run: pip install "wallaby[delta]"',
            field="type",
        ) from error


FACTORY = _Factory()

__all__ = ["FACTORY"]
