"""What the factories of sinks do with `TypeOptions`. Arrow is imported only where a flow has mappings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from wallaby.flow.options import TypeOptions
from wallaby.sink import Sink

if TYPE_CHECKING:
    from wallaby.type_map import TypeNames


def check_types(options: TypeOptions, names: Callable[[], TypeNames]) -> None:
    """`ConfigError` when a mapping names a type the destination lacks, or the file with them cannot be read."""
    if options.has_type_mappings:
        from wallaby.type_map import TypeMap

        TypeMap.of(options, names())


def with_types(sink: Sink, options: TypeOptions, names: Callable[[], TypeNames]) -> Sink:
    """``sink`` itself, or one with mapped columns in front of it."""
    if not options.has_type_mappings:
        return sink
    from wallaby.mapped_sink import MappedSink
    from wallaby.type_map import TypeMap

    return MappedSink(sink, TypeMap.of(options, names()))


__all__ = ["check_types", "with_types"]
