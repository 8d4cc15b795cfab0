"""What ``wallaby init`` asks about each type of destination, and what it writes into the flow file about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from wallaby.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Where the destination is, as the file has it."""

    target: str
    catalog: str = ""
    """Where a lake keeps its catalog; empty for what has none."""
    is_rest: bool = False
    """The catalog is behind HTTP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A type of destination. In defaults, ``{}`` stands for the flow's id."""

    question: str
    default: str = ""
    """Empty: there is none, it must be said."""
    catalog_question: str = ""
    catalog_default: str = ""
    lines: Callable[[Answer, Callable[[str], str]], list[str]]
    """The options in YAML, from the answer and what quotes a value."""


def _duckdb(answer: Answer, quoted: Callable[[str], str]) -> list[str]:
    return [f"dsn: {quoted(answer.target)}", *_MODES, *_NO_TEXT]


def _postgres(answer: Answer, quoted: Callable[[str], str]) -> list[str]:
    return [
        f"dsn: {quoted(answer.target)}",
        *_MODES,
        "# What to do with values the target cannot hold: refuse, null or text.",
        "unrepresentable: refuse",
    ]


def _pgstream(answer: Answer, quoted: Callable[[str], str]) -> list[str]:
    return [
        f"dsn: {quoted(answer.target)}",
        "# How long messages are kept; without it for ever.",
        "retention_age: 168h",
    ]


def _files(answer: Answer, quoted: Callable[[str], str]) -> list[str]:
    return [f"path: {quoted(answer.target)}", *_LOG]


def _s3(answer: Answer, quoted: Callable[[str], str]) -> list[str]:
    bucket, prefix = _taken_apart(answer.target, _S3, 1)
    named = [f"prefix: {quoted(prefix)}"] if prefix else []
    return [f"bucket: {quoted(bucket)}", *named, *_of_bucket(_S3), *_LOG]


def _gcs(answer: Answer, quoted: Callable[[str], str]) -> list[str]:
    bucket, prefix = _taken_apart(answer.target, "gs://", 1)
    return [
        f"bucket: {quoted(bucket)}",
        *([f"prefix: {quoted(prefix)}"] if prefix else []),
        "# A service account's key; without it, as the machine may.",
        "# credentials: file:key.json",
        *_LOG,
    ]


def _azure(answer: Answer, quoted: Callable[[str], str]) -> list[str]:
    account, container, prefix = _taken_apart(answer.target, "az://", 2)
    return [
        f"account: {quoted(account)}",
        f"container: {quoted(container)}",
        *([f"prefix: {quoted(prefix)}"] if prefix else []),
        "# One of the account's keys; without it, as the machine may.",
        "# account_key: env:AZURE_ACCOUNT_KEY",
        *_LOG,
    ]


def _delta(answer: Answer, quoted: Callable[[str], str]) -> list[str]:
    return [
        f"path: {quoted(answer.target)}",
        *_of_bucket(answer.target),
        *_PACE,
        "# Columns new tables are partitioned by; every table must have them.",
        "# partition_by: country",
        *_MODES,
        *_NO_TEXT,
    ]


def _iceberg(answer: Answer, quoted: Callable[[str], str]) -> list[str]:
    return [
        "# sql: SQLite or PostgreSQL; rest and glue are the others.",
        f"catalog_type: {'rest' if answer.is_rest else 'sql'}",
        f"catalog_uri: {quoted(answer.catalog)}",
        *(["# catalog_token: env:CATALOG_TOKEN"] if answer.is_rest else []),
        f"warehouse: {quoted(answer.target)}",
        *_of_bucket(answer.target),
        *_PACE,
        "# Fields new tables are partitioned by; every table must have their columns.",
        "# partition_by: created_at:day",
        *_MODES,
        *_NO_TEXT,
    ]


def _ducklake(answer: Answer, quoted: Callable[[str], str]) -> list[str]:
    return [
        "# A DuckDB file, sqlite:FILE or postgres:DSN.",
        f"catalog: {quoted(answer.catalog)}",
        f"data_path: {quoted(answer.target)}",
        *_of_bucket(answer.target, has_roles=False),
        *_PACE,
        *_MODES,
        *_NO_TEXT,
    ]


def _taken_apart(target: str, scheme: str, names: int) -> list[str]:
    """``names`` names and a prefix, which may be empty. `ConfigError` when a name is missing."""
    parts = target.removeprefix(scheme).strip("/").split("/", names)
    if "://" in target.removeprefix(scheme) or len(parts) < names or not all(parts[:names]):
        form = "account/container/prefix" if names > 1 else f"{scheme}bucket/prefix"
        raise ConfigError("does not say where the objects shall be", advice=f"Write {form}", field="--target")
    return [*parts, ""][: names + 1]


def _of_bucket(target: str, *, has_roles: bool = True) -> list[str]:
    """How a bucket is reached; nothing for what is none. ``has_roles``: without keys, what the machine may counts."""
    if not target.startswith(_S3):
        return []
    mark = "# " if has_roles else ""
    return [
        "# region: eu-central-1",
        "# endpoint: https://s3.example.com",
        *(["# Without keys: as the machine may (environment, instance or pod role)."] if has_roles else []),
        f"{mark}access_key: env:AWS_ACCESS_KEY_ID",
        f"{mark}secret_key: env:AWS_SECRET_ACCESS_KEY",
    ]


_S3: Final = "s3://"
_MODES: Final = (
    "# mirror: the target equals the source; append: every change is a row; history: every version of a row.",
    "write_mode: mirror",
)
_NO_TEXT: Final = (
    "# What to do with values the target cannot hold: refuse or null; in append, text too.",
    "unrepresentable: refuse",
)
_PACE: Final = (
    "# Files per table and commit: longer means fewer and larger ones, and later readers.",
    "commit_interval: 1s",
)
_LOG: Final = (
    "# parquet, arrow, avro, json or proto.",
    "format: parquet",
    *_PACE,
    "# Values the format cannot hold go into a text column. refuse: stop at them instead.",
    "unrepresentable: text",
)
_CONNECTION: Final = "Connection string, env:NAME or file:PATH"

KINDS: Final[Mapping[str, Kind]] = {
    "azure": Kind(question="account/container/prefix", lines=_azure),
    "delta": Kind(question="Directory, which exists, or s3://bucket/prefix", default="{}-lake", lines=_delta),
    "duckdb": Kind(question="Database file", default="{}.duckdb", lines=_duckdb),
    "ducklake": Kind(
        question="Folder of the data, or s3://bucket/prefix",
        default="{}-lake",
        catalog_question="Catalog (FILE, sqlite:FILE, postgres:DSN or env:NAME)",
        catalog_default="sqlite:{}-catalog.sqlite",
        lines=_ducklake,
    ),
    "files": Kind(question="Directory, which exists", default="{}-files", lines=_files),
    "gcs": Kind(question="gs://bucket/prefix", lines=_gcs),
    "iceberg": Kind(
        question="Folder of the tables, s3://bucket/prefix, or a REST catalog's warehouse",
        default="{}-lake",
        catalog_question="Catalog (sqlite:///FILE, postgresql://…, https://… or env:NAME)",
        catalog_default="sqlite:///{}-catalog.db",
        lines=_iceberg,
    ),
    "pgstream": Kind(question=_CONNECTION, lines=_pgstream),
    "postgres": Kind(question=_CONNECTION, lines=_postgres),
    "s3": Kind(question="s3://bucket/prefix", lines=_s3),
}
"""Types `init` knows the options of, sorted."""


__all__ = ["KINDS", "Answer", "Kind"]
