"""Files in a local directory as a destination: an append log per table, exactly once, readable by anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sinks.files.config import CAPABILITIES, FilesOptions, read_options
from wallaby.sink import Capabilities, Sink


class _Factory:
    """Describes without touching the directory."""

    name = "files"
    options_model = FilesOptions

    def describe(self, options: Mapping[str, Any]) -> Capabilities:
        """The same for every valid set of options."""
        read_options(options)
        return CAPABILITIES

    def create(self, options: Mapping[str, Any], *, destination: str) -> Sink:
        """A sink, not yet open."""
        from sinks.files.directory import Directory
        from sinks.files.sink import FilesSink

        read = read_options(options)
        return FilesSink(read, Directory(read.path, fsync=read.fsync), destination=destination)


FACTORY = _Factory()

__all__ = ["FACTORY"]
