"""The one port of the log: where a destination's files and manifests lie. A directory is one, a bucket another."""

from __future__ import annotations

from typing import Protocol

from sinks.files.manifests import DataFile, ManifestLog
from sinks.files.store import Store
from sinks.files.writer import Places
from wallaby.sink import Finding, Severity
from wallaby.window import LaneId


class Root(Protocol):
    """What holds the logs of all lanes of a destination."""

    @property
    def store(self) -> Store:
        """Its small files."""
        ...

    def close(self) -> None:
        """Let go of connections. Idempotent."""
        ...

    def findings(self) -> list[Finding]:
        """What keeps it from being written, seen from outside. Changes nothing."""
        ...

    def require(self) -> None:
        """It is there and of our format, and marked as ours; `Transient` or `Refused` otherwise."""
        ...

    def places(self, lane: LaneId, epoch: int) -> Places:
        """Where a writer's files go."""
        ...

    def remove(self, files: tuple[DataFile, ...]) -> None:
        """Remove void files. Twice is once."""
        ...

    def tidy(self, lane: LaneId, log: ManifestLog, epoch: int) -> None:
        """The log is fenced for ``epoch``: finish what writers before left to do, remove what no manifest names."""
        ...


def error_finding(subject: str, message: str, advice: str, code: str) -> Finding:
    """A finding that stops the flow."""
    return Finding(severity=Severity.ERROR, subject=subject, message=message, advice=advice, code=code)


__all__ = ["Root", "error_finding"]
