"""A bucket of an S3 store as `sinks.objects.store.ObjectStore`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from sinks.objects.errors import creation_error
from sinks.objects.storage import ObjectStorage
from sinks.objects.store import ATTEMPTS, CONNECT_TIMEOUT, PART_BYTES, READ_TIMEOUT, UPLOADS_MAX, Listing
from sinks.s3.config import S3Options
from wallaby.errors import MissingExtra, OutcomeUnknown, Transient

try:
    from boto3.s3.transfer import TransferConfig

    from sinks.s3 import errors
    from sinks.s3_client import s3_client
except ImportError as error:
    raise MissingExtra("s3 destinations need boto3", advice='pip install "wallaby[aws]"', field="type") from error

_DELETE_KEYS_MAX: Final = 1_000
_CONFLICTS_MAX: Final = 10
_MARK: Final = "wallaby-attempt"


def storage(options: S3Options) -> ObjectStorage:
    """Where the options' log lies; close it."""
    return ObjectStorage(Bucket(options), prefix=options.prefix)


class Bucket:
    """See `sinks.objects.store.ObjectStore`."""

    def __init__(self, options: S3Options) -> None:
        self._options = options
        self._made_client: Any = None

    def __str__(self) -> str:
        return f"s3://{self._options.bucket}"

    def close(self) -> None:
        if self._made_client is not None:
            self._made_client.close()
            self._made_client = None

    def first(self, folder: str) -> Listing:
        with errors.translated(bucket=self._options.bucket):
            return _listing([self._client.list_objects_v2(**self._below(folder), MaxKeys=3)], folder)

    def list(self, folder: str) -> Listing:
        with errors.translated(bucket=self._options.bucket):
            return _listing(self._client.get_paginator("list_objects_v2").paginate(**self._below(folder)), folder)

    def mark(self, key: str) -> str:
        with errors.translated(bucket=self._options.bucket):
            return str(self._client.head_object(**self._at(key)).get("Metadata", {}).get(_MARK, ""))

    def read(self, key: str) -> bytes:
        with errors.translated(bucket=self._options.bucket):
            return bytes(self._client.get_object(**self._at(key))["Body"].read())

    def create(self, key: str, content: bytes, mark: str) -> bool:
        for _ in range(_CONFLICTS_MAX):
            try:
                self._client.put_object(**self._at(key), Body=content, IfNoneMatch="*", Metadata={_MARK: mark})
                return True
            except errors.ANY as error:
                answer = errors.answer(error)
                if answer.status == 412:
                    return False
                if answer.code == "ConditionalRequestConflict":
                    # Another request for the key is under way: what came of it the next one tells.
                    continue
                raise creation_error(answer, errors.ADVICE, bucket=self._options.bucket) from None
        # One of the others may be an earlier attempt of this very call.
        raise OutcomeUnknown(
            "others write the same key without end",
            advice="The manifests decide: recover",
            bucket=self._options.bucket,
        )

    def upload(self, made: Path, key: str) -> None:
        parts = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False)
        with errors.translated(bucket=self._options.bucket), made.open("rb") as content:
            # Not upload_file, which hides the store's answer.
            self._client.upload_fileobj(content, self._options.bucket, key, Config=parts)

    def download(self, key: str, into: BinaryIO) -> None:
        one_thread = TransferConfig(use_threads=False)
        with errors.translated(bucket=self._options.bucket):
            self._client.download_fileobj(self._options.bucket, key, into, Config=one_thread)

    def delete(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), _DELETE_KEYS_MAX):
            objects = [{"Key": key} for key in keys[start : start + _DELETE_KEYS_MAX]]
            with errors.translated(bucket=self._options.bucket):
                answer = self._client.delete_objects(
                    Bucket=self._options.bucket, Delete={"Objects": objects, "Quiet": True}
                )
            if answer.get("Errors"):
                raise Transient(
                    "the store does not delete objects", advice="Allow s3:DeleteObject", bucket=self._options.bucket
                )

    @property
    def _client(self) -> Any:
        if self._made_client is None:
            options = self._options
            self._made_client = s3_client(
                options,
                connect_timeout=CONNECT_TIMEOUT.total_seconds(),
                read_timeout=READ_TIMEOUT.total_seconds(),
                retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
                max_pool_connections=2 * UPLOADS_MAX,
                use_fips_endpoint=options.use_fips or None,
                use_dualstack_endpoint=options.use_dualstack or None,
            )
        return self._made_client

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._options.bucket, "Key": key}

    def _below(self, folder: str) -> dict[str, str]:
        return {"Bucket": self._options.bucket, "Prefix": folder, "Delimiter": "/"}


def _listing(pages: Iterable[Any], folder: str) -> Listing:
    names: list[str] = []
    folders: list[str] = []
    for page in pages:
        names += [entry["Key"].removeprefix(folder) for entry in page.get("Contents", ()) if entry["Key"] != folder]
        folders += [entry["Prefix"].removeprefix(folder).rstrip("/") for entry in page.get("CommonPrefixes", ())]
    return Listing(tuple(names), tuple(folders))


__all__ = ["Bucket", "storage"]
