"""A table's folder, where wallaby writes beside the engine: files of any name, and log entries only one writer makes.

A version of a Delta table is the file of its number, and whoever makes that file first has made the version. A
directory has links for this, which fail where the name exists; a bucket creates an object if it is absent.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

import pyarrow as pa
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from sinks.delta.config import DeltaOptions
from sinks.delta.errors import Doing, translated
from sinks.delta.vectors import FOLDER
from wallaby.errors import Refused, Transient
from wallaby.schema import TableName

_RETRIES_MAX: Final = 8
"""Tries to create an object of which another request is under way."""


class Maker(Protocol):
    """What a directory and a bucket do in ways of their own."""

    def write(self, path: str, fill: Callable[[pa.NativeFile], None]) -> int:
        """A new file, durable when this returns; its size in bytes."""
        ...

    def create(self, path: str, content: bytes, *, scratch: str) -> bool:
        """A new file as a whole, durable; False when there is one. Of any number of callers one makes it.

        ``scratch`` is a folder for what is not whole. An error says nothing about whether it was made.
        """
        ...


class TableFolder:
    """Files below one table, by paths relative to it."""

    def __init__(self, files: FileSystem, maker: Maker, root: str, *, table: TableName) -> None:
        self._files = files
        self._maker = maker
        self._root = root
        self.table = table

    @property
    def root(self) -> str:
        """Tells tables apart."""
        return self._root

    def open(self, path: str) -> pa.NativeFile:
        """For reading from any place; FileNotFoundError when there is none."""
        return self._files.open_input_file(self._at(path))

    def read(self, path: str) -> bytes:
        """All of it; FileNotFoundError when there is none."""
        with self.open(path) as file:
            return bytes(file.read())

    def has(self, path: str) -> bool:
        """True when there is such a file."""
        return bool(self._files.get_file_info(self._at(path)).type is FileType.File)

    def write(self, path: str, fill: Callable[[pa.NativeFile], None]) -> int:
        """A new file with what ``fill`` writes, durable; its size in bytes. After an error there is none."""
        with translated(Doing.WORK, table=self.table):
            try:
                return self._maker.write(self._at(path), fill)
            except BaseException:
                # On a full disk what every try leaves would keep it full.
                with suppress(OSError):
                    self._files.delete_file(self._at(path))
                raise

    def create(self, path: str, content: bytes) -> bool:
        """See `Maker.create`."""
        with translated(Doing.WORK, table=self.table):
            return self._maker.create(self._at(path), content, scratch=self._at(FOLDER))

    def aged(self, folder: str) -> list[tuple[str, datetime]]:
        """The files directly in a folder, with the time of their last change."""
        with translated(Doing.WORK, table=self.table):
            found = self._files.get_file_info(FileSelector(self._at(folder), allow_not_found=True))
        return [(f"{folder}/{info.base_name}", info.mtime) for info in found if info.type is FileType.File]

    def names(self, folder: str) -> list[str]:
        """The names of the files directly in a folder."""
        return [path.rpartition("/")[2] for path, _ in self.aged(folder)]

    def remove(self, paths: Iterable[str]) -> None:
        """Those that are there."""
        for path in paths:
            with translated(Doing.WORK, table=self.table):
                if self.has(path):
                    self._files.delete_file(self._at(path))

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"


class Directory:
    """See `Maker`. What is written survives the machine's end, not just the process's."""

    def write(self, path: str, fill: Callable[[pa.NativeFile], None]) -> int:
        _require_folder(os.path.dirname(path))
        with pa.OSFile(path, "wb") as file:
            fill(file)
            size = int(file.tell())
        _sync(path)
        _sync(os.path.dirname(path))
        return size

    def create(self, path: str, content: bytes, *, scratch: str) -> bool:
        # Made whole under another name and then linked: linking fails when the name exists.
        _require_folder(scratch)
        prepared = f"{scratch}/{uuid.uuid4()}.tmp"
        try:
            with open(prepared, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(prepared, path)
            except FileExistsError:
                # A network file system repeats a request without an answer, and then meets what it made itself.
                return Path(path).read_bytes() == content
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
                    raise
                raise Refused(
                    "the file system does not make links, by which one of several writers is the first",
                    advice="Put the tables on another file system, or switch deletion_vectors off",
                    path=os.path.dirname(path),
                ) from error
        finally:
            Path(prepared).unlink(missing_ok=True)
        _sync(os.path.dirname(path))
        return True


class Bucket:
    """See `Maker`. The store answers when an object is durable."""

    def __init__(self, files: FileSystem, options: DeltaOptions) -> None:
        self._files = files
        self._options = options
        self._client: Any = None

    def write(self, path: str, fill: Callable[[pa.NativeFile], None]) -> int:
        with self._files.open_output_stream(path) as file:
            fill(file)
            return int(file.tell())

    def create(self, path: str, content: bytes, *, scratch: str) -> bool:
        from botocore.exceptions import ClientError

        bucket, _, key = path.partition("/")
        for _ in range(_RETRIES_MAX):
            try:
                self._connected().put_object(Bucket=bucket, Key=key, Body=content, IfNoneMatch="*")
            except ClientError as error:
                match error.response["Error"]["Code"]:
                    case "PreconditionFailed" | "412":
                        # The library repeats a request without an answer, and then meets what it made itself.
                        return self._holds(path, content)
                    case "ConditionalRequestConflict" | "409":
                        # Another request for the key is under way: what came of it the next one tells.
                        continue
                    case _:
                        raise
            return True
        raise Transient("others write the same object without end", bucket=bucket)

    def _holds(self, path: str, content: bytes) -> bool:
        with self._files.open_input_file(path) as file:
            return bool(file.read() == content)

    def _connected(self) -> Any:
        if self._client is None:
            from sinks.s3_client import s3_client

            self._client = s3_client(self._options)
        return self._client


def maker_of(files: FileSystem, options: DeltaOptions) -> Maker:
    """For where the options put the tables."""
    return Directory() if isinstance(files, LocalFileSystem) else Bucket(files, options)


def _require_folder(path: str) -> None:
    """A folder of the table, not the table's own: that is there, or its disk is not mounted."""
    with suppress(FileExistsError):
        os.mkdir(path)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


__all__ = ["Bucket", "Directory", "Maker", "TableFolder", "maker_of"]
