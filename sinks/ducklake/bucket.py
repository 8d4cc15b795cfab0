"""The bucket of a lake's data: how DuckDB gets its keys, and what keeps it from being used, seen beforehand."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

import duckdb

from sinks.duckdb.errors import store_answer
from sinks.duckdb.session import engine_config
from sinks.ducklake.config import DuckLakeOptions
from sinks.ducklake.extensions import load
from sinks.ducklake.literals import literal
from wallaby.sink import Finding, Severity, unlisted_finding

_LOOKED_FOR: Final = "wallaby-check-*"
"""Nothing is called so: the store lists nothing, and says whether we may ask."""


def secret_statement(options: DuckLakeOptions) -> str:
    """CREATE SECRET for the bucket of this lake only, in the memory of this process."""
    parts = [
        "TYPE s3",
        f"REGION {literal(options.region or 'us-east-1')}",
        f"SCOPE {literal(f's3://{_name(options)}')}",
    ]
    for word, value in (
        ("KEY_ID", options.access_key),
        ("SECRET", options.secret_key),
        ("SESSION_TOKEN", options.session_token),
    ):
        if value is not None:
            parts.append(f"{word} {literal(value)}")
    if options.endpoint is not None:
        address = urlsplit(options.endpoint if "://" in options.endpoint else f"https://{options.endpoint}")
        parts.append(f"ENDPOINT {literal(address.netloc)}")
        parts.append(f"USE_SSL {'false' if address.scheme == 'http' else 'true'}")
    if options.force_path_style:
        parts.append("URL_STYLE 'path'")
    return f"CREATE OR REPLACE SECRET wallaby_bucket ({', '.join(parts)})"


def bucket_findings(options: DuckLakeOptions) -> list[Finding]:
    """A missing bucket, keys that do not open it, a store that does not answer. Writes nothing."""
    assert options.is_remote, "the data is in no bucket"
    folder = str(options.data_path).rstrip("/")
    with duckdb.connect(config=engine_config(options)) as connection:
        load(connection, "httpfs")
        try:
            connection.execute(secret_statement(options))
            connection.execute("FROM glob(?)", [f"{folder}/{_LOOKED_FOR}"]).fetchall()
        except duckdb.Error as error:
            return [_refused(f"s3://{_name(options)}", error)]
    return []


def _refused(subject: str, error: duckdb.Error) -> Finding:
    """The store's own text names the keys: it is read and not shown."""
    if "<Code>AccessDenied</Code>" in str(getattr(error, "body", "")):
        return unlisted_finding(subject, "data path")
    said = store_answer(error)
    return Finding(severity=Severity.ERROR, subject=subject, message=said.message, advice=said.advice, code=said.code)


def _name(options: DuckLakeOptions) -> str:
    return str(options.data_path).removeprefix("s3://").split("/")[0]


__all__ = ["bucket_findings", "secret_statement"]
