"""Where the tables are: addresses, the store's settings, and the engine's handles.

::

    <path>/<schema>/<table>/            a Delta table; names are encoded where a path or URL could misread them
    <path>/_wallaby/lanes/              a Delta table without rows, whose log holds the lanes' records
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Field, PostCommitHookProperties, Schema, Transaction
from deltalake.exceptions import TableNotFoundError
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem, S3FileSystem

from sinks.delta.config import DeltaOptions
from sinks.delta.errors import Conflict, Doing, translated
from sinks.delta.folder import Maker, TableFolder, maker_of
from wallaby.errors import Transient
from wallaby.schema import TableName

OWN_FOLDER: Final = "_wallaby"
_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
_ENCODED: Final = re.compile("~([0-9a-f]{2})")
NO_HOOKS: Final = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
"""Checkpoints and clean-up belong to `sinks.delta.upkeep`, beside the commits and not in them."""


class Store:
    """Opens and makes Delta tables below the options' path."""

    def __init__(self, options: DeltaOptions) -> None:
        self.options = options
        self._storage = storage_options(options)
        self._files: FileSystem | None = None
        self._maker: Maker | None = None

    @property
    def lanes_uri(self) -> str:
        return f"{self._root}/{OWN_FOLDER}/lanes"

    def uri(self, table: TableName) -> str:
        """The address of a target."""
        return f"{self._root}/{encode_name(table.schema)}/{encode_name(table.name)}"

    def tables(self) -> tuple[TableName, ...]:
        """Every Delta table where a target could be, sorted; whose it is is not asked."""
        files, root = self._listed(), self._root.removeprefix("s3://")
        with translated(Doing.OPEN, path=self.options.path):
            found = [
                TableName(decode_name(schema), decode_name(table))
                for schema in _folders(files, root)
                if schema != OWN_FOLDER
                for table in _folders(files, f"{root}/{schema}")
                if files.get_file_info(f"{root}/{schema}/{table}/_delta_log").type is FileType.Directory
            ]
        return tuple(sorted(found, key=str))

    def folder(self, uri: str, *, table: TableName) -> TableFolder:
        """The files of the table at ``uri``, beside the engine."""
        files = self._listed()
        if self._maker is None:
            self._maker = maker_of(files, self.options)
        return TableFolder(files, self._maker, uri.removeprefix("s3://"), table=table)

    def _listed(self) -> FileSystem:
        """The engine opens tables and does not look for them: Arrow's file systems do."""
        if self._files is None:
            self._files = self._connected() if self.options.is_remote else LocalFileSystem()
        return self._files

    def _connected(self) -> S3FileSystem:
        options = self.options
        address = urlsplit(options.endpoint or "https://")
        # Without an endpoint Arrow puts the bucket into the host name, as Amazon wants it.
        return S3FileSystem(
            access_key=options.access_key,
            secret_key=options.secret_key,
            session_token=options.session_token,
            region=options.known_region,
            scheme=address.scheme,
            endpoint_override=address.netloc or None,
            force_virtual_addressing=_is_in_host(options),
        )

    @property
    def _root(self) -> str:
        return self.options.path.rstrip("/") if self.options.is_remote else str(Path(self.options.path).absolute())

    def require(self) -> None:
        """`Transient` when the directory is not there: nothing is written where a disk is not mounted."""
        if not self.options.is_remote and not os.path.isdir(self._root):
            raise Transient(
                "the directory does not exist",
                advice="Create it, or mount what should be there",
                path=self.options.path,
            )

    def open(self, uri: str, **where: Any) -> DeltaTable | None:
        """The table's newest version; None when there is no table."""
        with translated(Doing.OPEN, **where):
            try:
                return DeltaTable(uri, storage_options=self._storage)
            except TableNotFoundError:
                return None

    def create(self, uri: str, fields: pa.Schema, *, configuration: Mapping[str, str], **where: Any) -> DeltaTable:
        """A new, empty table, or the one somebody else made first."""
        self.require()
        # Who is second at the very first version is told of a conflict; ``mode`` is about tables found before.
        with suppress(Conflict), translated(Doing.WORK, **where):
            DeltaTable.create(
                uri,
                delta_schema(fields),
                mode="ignore",
                partition_by=[name for name in self.options.partitions if name in fields.names],
                configuration=dict(configuration),
                storage_options=self._storage,
                raise_if_key_not_exists=False,
                post_commithook_properties=NO_HOOKS,
            )
        with translated(Doing.OPEN, **where):
            return DeltaTable(uri, storage_options=self._storage)


def delta_schema(fields: pa.Schema) -> Schema:
    """The Delta form of Arrow fields; their metadata is text."""
    plain = Schema.from_arrow(fields.remove_metadata())
    return Schema(
        [
            Field(
                kept.name,
                kept.type,
                nullable=True,
                metadata={key.decode(): value.decode() for key, value in (field.metadata or {}).items()},
            )
            for kept, field in zip(plain.fields, fields, strict=True)
        ]
    )


def shape(table: DeltaTable) -> pa.Schema:
    """The table's columns in Arrow, field metadata included."""
    return pa.schema(table.schema().to_arrow())


def commit_properties(transactions: list[Transaction], metadata: Mapping[str, str]) -> CommitProperties:
    """What a commit of ours carries: records that fence it, and what people read in the table's history."""
    return CommitProperties(app_transactions=transactions, custom_metadata=dict(metadata))


def storage_options(options: DeltaOptions) -> dict[str, str]:
    """The engine's settings for the store; empty for a directory."""
    if not options.is_remote:
        return {}
    endpoint = options.endpoint
    if endpoint and _is_in_host(options):
        # The engine takes an endpoint for the bucket's own then.
        address = urlsplit(endpoint)
        bucket = options.path.removeprefix("s3://").split("/")[0]
        endpoint = address._replace(netloc=f"{bucket}.{address.netloc}").geturl()
    settings = {
        "AWS_REGION": options.known_region,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": options.access_key,
        "AWS_SECRET_ACCESS_KEY": options.secret_key,
        "AWS_SESSION_TOKEN": options.session_token,
        "AWS_ALLOW_HTTP": "true" if (options.endpoint or "").startswith("http://") else None,
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true" if _is_in_host(options) else "false",
        # A version is made only if it is absent: the store decides races, no lock table is needed.
        "aws_conditional_put": "etag",
    }
    return {name: value for name, value in settings.items() if value is not None}


def _is_in_host(options: DeltaOptions) -> bool:
    """Whether the bucket is part of the host's name: an address, or a name without dots, has none below it."""
    host = urlsplit(options.endpoint).hostname or "" if options.endpoint else "amazonaws.com"
    return not options.force_path_style and bool(re.search(r"\.[^.]*[a-z][^.]*$", host))


def _folders(files: FileSystem, path: str) -> list[str]:
    found = files.get_file_info(FileSelector(path, allow_not_found=True))
    return [info.base_name for info in found if info.type is FileType.Directory]


def hours(duration: timedelta) -> str:
    """As Delta's table properties write durations."""
    return f"interval {max(1, int(duration.total_seconds() // 3600))} hours"


def encode_name(name: str) -> str:
    """A folder's name for any name: ASCII letters, digits, ``-`` and ``_`` stay, other bytes are ``~`` and two digits.

    A name that begins with ``_`` is encoded further: readers take such folders for hidden, and ours is one.
    """
    text = "".join(
        chr(byte) if chr(byte) in _PLAIN else f"~{byte:02x}" for byte in name.encode("utf-8", "surrogatepass")
    )
    return f"~5f{text[1:]}" if text.startswith("_") else text


def decode_name(folder: str) -> str:
    """The name `encode_name` made ``folder`` of; other folders have themselves as names."""
    parts = _ENCODED.sub(lambda match: chr(int(match[1], 16)), folder)
    try:
        name = parts.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return folder
    return name if encode_name(name) == folder else folder


__all__ = [
    "NO_HOOKS",
    "OWN_FOLDER",
    "Store",
    "commit_properties",
    "decode_name",
    "delta_schema",
    "encode_name",
    "hours",
    "shape",
    "storage_options",
]
