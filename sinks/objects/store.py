"""The port to an object store: what `sinks.objects.storage` asks of S3, of Google's and of Azure's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Final, Protocol

UPLOADS_MAX: Final = 8
"""Requests at once, of one storage: uploads, and deletions where a store takes one key per request."""
PART_BYTES: Final = 16 << 20
"""Larger objects are uploaded in parts of this size: with `UPLOADS_MAX` it bounds the memory uploads take."""
CONNECT_TIMEOUT: Final = timedelta(seconds=10)
READ_TIMEOUT: Final = timedelta(seconds=60)
ATTEMPTS: Final = 4
"""Of a request that is not answered, the first included."""
RETRY_TIME: Final = timedelta(seconds=20)
"""The same where a library counts time: no attempt begins later."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What lies directly in a folder, by last names."""

    names: tuple[str, ...]
    folders: tuple[str, ...]


class ObjectStore(Protocol):
    """One bucket. Keys are whole, with ``/``; a folder is empty or ends with ``/``.

    Every method may raise `Transient` for a store that does not answer or refuses, and `Refused` for one that does not
    know a request. Requests without an answer are repeated.
    """

    def __str__(self) -> str:
        """The bucket, for people."""
        ...

    def close(self) -> None:
        """Let go of connections. Idempotent."""
        ...

    def first(self, folder: str) -> Listing:
        """Three entries or more, or as many as there are: one request, however many."""
        ...

    def list(self, folder: str) -> Listing: ...

    def mark(self, key: str) -> str:
        """The mark the object was created with; empty without one. FileNotFoundError when there is no such key."""
        ...

    def read(self, key: str) -> bytes:
        """The whole content. FileNotFoundError when there is no such key."""
        ...

    def create(self, key: str, content: bytes, mark: str) -> bool:
        """Make the object, whole and durable, with the mark in its metadata, if it is absent: True.

        False when it is there, which may be the work of an earlier attempt of this very call. `OutcomeUnknown` when no
        attempt was answered.
        """
        ...

    def upload(self, made: Path, key: str) -> None:
        """Make or replace the object with a local file's content; durable. For several threads at once."""
        ...

    def download(self, key: str, into: BinaryIO) -> None:
        """FileNotFoundError when there is no such key."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Absent keys are fine."""
        ...


__all__ = [
    "ATTEMPTS",
    "CONNECT_TIMEOUT",
    "PART_BYTES",
    "READ_TIMEOUT",
    "RETRY_TIME",
    "UPLOADS_MAX",
    "Listing",
    "ObjectStore",
]
