"""Options of every log in an object store."""

from __future__ import annotations

from sinks.files.config import LogOptions


class ObjectLogOptions(LogOptions):
    """Where in the bucket, and how the files are written."""

    prefix: str = ""
    """The folder of everything in the bucket; shared with nobody but other flows."""


__all__ = ["ObjectLogOptions"]
