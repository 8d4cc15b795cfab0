"""Files in a local directory as a destination: an append log per table, exactly once, readable by anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sinks.files.config import CAPABILITIES, FilesOptions, read_options
from wallaby.sink import Sink
from wallaby.typed_factory import TypedFactory


class _Factory(TypedFactory[FilesOptions]):
    """Describes without touching the directory."""

    name = "files"
    options_model = FilesOptions
    capabilities = CAPABILITIES
    types = "sinks.files.types"

    def read(self, options: Mapping[str, Any]) -> FilesOptions:
        return read_options(options)

    def make(self, options: FilesOptions, *, destination: str) -> Sink:
        from sinks.files.directory import Directory
        from sinks.files.sink import FilesSink

        return FilesSink(options, Directory(options.path, fsync=options.fsync), destination=destination)


FACTORY = _Factory()

__all__ = ["FACTORY"]
