"""The factory of a sink whose columns may be of mapped types (`wallaby.flow.options.TypeOptions`).

Packages that only the sink needs, and Arrow, are imported where they are first needed: a client that looks at a flow's
options needs neither.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from wallaby.endpoints import needed_packages
from wallaby.flow.options import TypeOptions
from wallaby.sink import Capabilities, Sink

if TYPE_CHECKING:
    from wallaby.kept_types import Kept
    from wallaby.schema import PgType
    from wallaby.type_map import TypeMap

_Options = TypeVar("_Options", bound=TypeOptions)


class TypedFactory(ABC, Generic[_Options]):
    """See `wallaby.sink.SinkFactory`: what is the same for all, around ``read`` and ``make``."""

    name: ClassVar[str]
    options_model: ClassVar[type[TypeOptions]]
    capabilities: ClassVar[Capabilities]
    """The same for every valid set of options."""
    types: ClassVar[str]
    """The module with the sink's ``TYPE_NAMES`` and ``kept_as``."""

    @abstractmethod
    def read(self, options: Mapping[str, Any]) -> _Options:
        """Validated options; `ConfigError` with the field's path otherwise. Opens nothing."""

    @abstractmethod
    def make(self, options: _Options, *, destination: str) -> Sink:
        """The sink itself, not yet open; imports what it needs."""

    def describe(self, options: Mapping[str, Any]) -> Capabilities:
        """`ConfigError` also for a mapping to a type the destination lacks, or whose file cannot be read."""
        self._type_map(self.read(options))
        return self.capabilities

    def create(self, options: Mapping[str, Any], *, destination: str) -> Sink:
        """A sink, not yet open, with mapped columns where there are mappings. `MissingExtra` without its packages."""
        read = self.read(options)
        with needed_packages(self.name):
            sink = self.make(read, destination=destination)
        if (types := self._type_map(read)) is None:
            return sink
        from wallaby.mapped_sink import MappedSink

        return MappedSink(sink, types)

    def kept_as(self, pg_type: PgType, typmod: int) -> Kept:
        """What a type of PostgreSQL becomes there."""
        kept: Kept = import_module(self.types).kept_as(pg_type, typmod)
        return kept

    def _type_map(self, options: _Options) -> TypeMap | None:
        if not options.has_type_mappings:
            return None
        from wallaby.type_map import TypeMap

        return TypeMap.of(options, import_module(self.types).TYPE_NAMES)


__all__ = ["TypedFactory"]
