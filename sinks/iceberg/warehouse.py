"""What keeps the warehouse from being written, seen before anything is written to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import urlparse

from pyarrow.fs import FileSelector, FileSystem, FileType
from pyiceberg.io.pyarrow import PyArrowFileIO

from sinks.iceberg.catalogs import catalog_properties, warehouse
from sinks.iceberg.config import CatalogType, IcebergOptions
from sinks.iceberg.errors import says_denied, says_wrong_keys
from wallaby.sink import Finding, error_finding, unlisted_finding

_S3: Final = frozenset({"s3", "s3a", "s3n"})


def warehouse_findings(options: IcebergOptions) -> list[Finding]:
    """A missing bucket, keys that do not open it, a directory that cannot be written. Writes nothing.

    A REST catalog knows itself where its warehouse is: nothing is looked at.
    """
    if options.catalog_type is CatalogType.REST or not options.warehouse:
        return []
    place = urlparse(warehouse(options))
    if place.scheme == "file":
        return _directory_findings(Path(place.path), options.warehouse)
    if place.scheme in _S3:
        return _bucket_findings(options, place.netloc, place.path.strip("/"))
    return []


def _directory_findings(path: Path, subject: str) -> list[Finding]:
    """The directory is made when the first table is: what of its path is there decides."""
    found = path.absolute()
    while not found.exists() and found != found.parent:
        found = found.parent
    if not found.is_dir():
        return [
            error_finding(
                subject, f"{found} is not a directory", "Name a directory as the warehouse", "not-a-directory"
            )
        ]
    if not os.access(found, os.W_OK | os.X_OK):
        advice = f"Give this user write permission for {found}"
        return [error_finding(subject, "the warehouse cannot be written", advice, "read-only")]
    return []


def _bucket_findings(options: IcebergOptions, bucket: str, prefix: str) -> list[Finding]:
    subject = f"s3://{bucket}"
    try:
        files: FileSystem = PyArrowFileIO(catalog_properties(options)).fs_by_scheme("s3", bucket)
        # Who may not list gets an answer that tells wrong keys from narrow ones; a question for the bucket does not.
        files.get_file_info(FileSelector(f"{bucket}/{prefix}", allow_not_found=True))
    except OSError as error:
        return [_denied(subject, str(error))]
    try:
        is_missing = files.get_file_info(bucket).type is FileType.NotFound
    except OSError:
        return []  # there, and not to be asked about by these keys
    if is_missing:
        return [
            error_finding(subject, "the bucket does not exist", "Create it, or correct warehouse", "missing-bucket")
        ]
    return []


def _denied(subject: str, text: str) -> Finding:
    """The store's own text names the keys: it is read and not shown."""
    if says_wrong_keys(text):
        return error_finding(
            subject, "the store refuses the keys", "Correct access_key and secret_key", "access-denied"
        )
    if says_denied(text):
        return unlisted_finding(subject, "warehouse")
    return error_finding(
        subject, "the store does not answer", "Look at endpoint, region and the network", "destination-unreachable"
    )


__all__ = ["warehouse_findings"]
