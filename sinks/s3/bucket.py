"""A bucket of an S3 store as `sinks.files.storage.Storage`.

Objects are uploaded, several at a time and large ones in parts, once a commit knows their keys; until then rows wait in
a local scratch folder. Before the first object an intent is written that lists them all; it goes when the manifest is
there. Whatever a dead writer left is in an intent, and `tidy` removes what no manifest names.

A conditional PUT whose answer is lost is repeated by botocore and then fails on the object it made itself. Each
creation therefore has a mark in the object's metadata, by which it knows its own.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final

from sinks.files.layout import FORMAT_KEY, OWN_FOLDER, LaneFolders, encode_name
from sinks.files.storage import DataFile
from sinks.s3.config import S3Options
from wallaby.errors import MissingExtra, OutcomeUnknown, Transient
from wallaby.sink import Finding, error_finding
from wallaby.window import LaneId

try:
    import boto3
    from boto3.s3.transfer import TransferConfig
    from botocore.config import Config

    from sinks.s3 import errors
except ImportError as error:
    raise MissingExtra("s3 destinations need boto3", advice='pip install "wallaby[aws]"', field="type") from error

UPLOADS_MAX: Final = 8
"""Objects uploaded at once."""
PART_BYTES: Final = 16 << 20
"""Larger objects are uploaded in parts of this size: with `UPLOADS_MAX` it bounds the memory uploads take."""
_DELETE_KEYS_MAX: Final = 1_000
_CONFLICTS_MAX: Final = 10
_ATTEMPTS: Final = 4
_CONNECT_TIMEOUT: Final = timedelta(seconds=10)
_READ_TIMEOUT: Final = timedelta(seconds=60)
_DEFAULT_REGION: Final = "us-east-1"
_MARK: Final = "wallaby-attempt"
_FETCH_BYTES_MAX: Final = 64 << 20
"""Of a file that is read, kept in memory; more goes to a nameless file."""


class Bucket:
    """See `sinks.files.storage.Storage`."""

    def __init__(self, options: S3Options) -> None:
        self._options = options
        self._prefix = f"{options.prefix.strip('/')}/" if options.prefix.strip("/") else ""
        self._made_client: Any = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def __str__(self) -> str:
        return f"s3://{self._options.bucket}/{self._prefix}"

    def close(self) -> None:
        if self._made_client is not None:
            self._made_client.close()
            self._made_client = None
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def require(self) -> None:
        self._first_names()

    def findings(self) -> list[Finding]:
        try:
            found = self._first_names()
            is_ours = self.exists(FORMAT_KEY)
        except Transient as error:
            return [error_finding(str(self), error.message, error.advice, "destination-unreachable")]
        if not is_ours and any(name != OWN_FOLDER for name in found):
            message, advice = "holds objects that are not wallaby's", "Name an empty prefix"
            return [error_finding(str(self), message, advice, "foreign-files")]
        return []

    def prepare(self, lane: LaneId) -> None:
        """Keys need no folders, and no object is ever half made."""

    def names(self, folder: str) -> list[str]:
        with errors.translated(bucket=self._options.bucket):
            return [
                name
                for page in self._pages(folder)
                for entry in page.get("Contents", ())
                if (name := entry["Key"].rpartition("/")[2])
            ]

    def folders(self, folder: str) -> list[str]:
        with errors.translated(bucket=self._options.bucket):
            return [
                entry["Prefix"].rstrip("/").rpartition("/")[2]
                for page in self._pages(folder)
                for entry in page.get("CommonPrefixes", ())
            ]

    def exists(self, key: str) -> bool:
        try:
            with errors.translated(bucket=self._options.bucket):
                self._client.head_object(**self._at(key))
        except FileNotFoundError:
            return False
        return True

    def read(self, key: str) -> bytes:
        with errors.translated(bucket=self._options.bucket):
            return bytes(self._client.get_object(**self._at(key))["Body"].read())

    def create(self, key: str, content: bytes) -> bool:
        mark = uuid.uuid4().hex
        for _ in range(_CONFLICTS_MAX):
            try:
                self._client.put_object(**self._at(key), Body=content, IfNoneMatch="*", Metadata={_MARK: mark})
                return True
            except errors.ANY as error:
                if errors.status(error) == 412:
                    return self._is_marked(key, mark)
                if errors.code(error) == "ConditionalRequestConflict":
                    # Another request for the key is under way: what came of it the next one tells.
                    continue
                if errors.is_unanswered(error):
                    raise OutcomeUnknown(
                        "the store did not answer while an object was made",
                        advice="The manifests decide: recover",
                        bucket=self._options.bucket,
                    ) from None
                raise errors.translate(error, bucket=self._options.bucket) from None
        raise Transient("others write the same key without end", bucket=self._options.bucket)

    def sync(self, folder: str) -> None:
        """The store answers when an object is durable."""

    def remove(self, keys: Iterable[str]) -> None:
        wanted = list(keys)
        for start in range(0, len(wanted), _DELETE_KEYS_MAX):
            objects = [{"Key": self._prefix + key} for key in wanted[start : start + _DELETE_KEYS_MAX]]
            with errors.translated(bucket=self._options.bucket):
                answer = self._client.delete_objects(
                    Bucket=self._options.bucket, Delete={"Objects": objects, "Quiet": True}
                )
            if answer.get("Errors"):
                raise Transient(
                    "the store does not delete objects", advice="Allow s3:DeleteObject", bucket=self._options.bucket
                )

    @property
    def syncs_scratch(self) -> bool:
        return False

    def scratch(self, lane: LaneId, epoch: int) -> Path:
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="wallaby-s3-")
        own = (encode_name(lane.flow), encode_name(lane.destination), str(lane.index))
        folder = Path(self._scratch.name, *own)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def staged_name(self, made: Path) -> str:
        return ""

    def bring(self, lane: LaneId, epoch: int, files: Sequence[tuple[Path, DataFile]]) -> None:
        paths = [file.path for _, file in files]
        self.create(_intent(lane, epoch, paths), json.dumps(paths).encode())
        with errors.translated(bucket=self._options.bucket), ThreadPoolExecutor(UPLOADS_MAX) as uploads:
            for _ in uploads.map(self._upload, files):
                pass

    def settle(self, lane: LaneId, epoch: int, files: Sequence[DataFile]) -> None:
        if files:
            self.remove([_intent(lane, epoch, [file.path for file in files])])

    def tidy(self, lane: LaneId, epoch: int, live: Callable[[], Iterable[DataFile]]) -> None:
        # What a commit without an answer left here is not needed: objects are whole in the bucket or not there.
        for made in self.scratch(lane, epoch).iterdir():
            made.unlink()
        staging = LaneFolders(lane).staging
        intents = [
            f"{staging}/{folder}/{name}"
            for folder in self.folders(staging)
            if int(folder) <= epoch
            for name in self.names(f"{staging}/{folder}")
        ]
        if intents:
            named = {file.path for file in live()}
            brought = dict.fromkeys(path for intent in intents for path in json.loads(self.read(intent)))
            self.remove([path for path in brought if path not in named])
            self.remove(intents)

    def fetch(self, file: DataFile) -> BinaryIO:
        content = tempfile.SpooledTemporaryFile(_FETCH_BYTES_MAX)  # noqa: SIM115 - it is the caller's
        with errors.translated(bucket=self._options.bucket):
            self._client.download_fileobj(
                self._options.bucket, self._prefix + file.path, content, Config=TransferConfig(use_threads=False)
            )
        content.seek(0)
        return content  # type: ignore[return-value]  # it has all of BinaryIO

    @property
    def _client(self) -> Any:
        if self._made_client is None:
            options = self._options
            self._made_client = boto3.session.Session().client(
                "s3",
                region_name=options.region or (_DEFAULT_REGION if options.endpoint else None),
                endpoint_url=options.endpoint,
                aws_access_key_id=options.access_key,
                aws_secret_access_key=options.secret_key,
                aws_session_token=options.session_token,
                config=Config(
                    connect_timeout=_CONNECT_TIMEOUT.total_seconds(),
                    read_timeout=_READ_TIMEOUT.total_seconds(),
                    retries={"total_max_attempts": _ATTEMPTS, "mode": "standard"},
                    max_pool_connections=2 * UPLOADS_MAX,
                    use_fips_endpoint=options.use_fips or None,
                    use_dualstack_endpoint=options.use_dualstack or None,
                    # Servers that are not Amazon's may not know the newer checksums; manifests have SHA-256.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                    s3={"addressing_style": "path"} if options.force_path_style else None,
                ),
            )
        return self._made_client

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._options.bucket, "Key": self._prefix + key}

    def _first_names(self) -> list[str]:
        """Of objects and folders directly in the root, three or as many as there are: one request, however many."""
        with errors.translated(bucket=self._options.bucket):
            page = self._client.list_objects_v2(
                Bucket=self._options.bucket, Prefix=self._folder(""), Delimiter="/", MaxKeys=3
            )
        keys = [entry["Key"] for entry in page.get("Contents", ())]
        keys += [entry["Prefix"] for entry in page.get("CommonPrefixes", ())]
        return [key.removeprefix(self._prefix).rstrip("/") for key in keys]

    def _pages(self, folder: str) -> Iterable[Any]:
        pages = self._client.get_paginator("list_objects_v2")
        return pages.paginate(Bucket=self._options.bucket, Prefix=self._folder(folder), Delimiter="/")

    def _folder(self, folder: str) -> str:
        return f"{self._prefix}{folder}/" if folder else self._prefix

    def _upload(self, file: tuple[Path, DataFile]) -> None:
        made, named = file
        parts = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False)
        with made.open("rb") as content:
            # Not upload_file, which hides the store's answer.
            self._client.upload_fileobj(content, self._options.bucket, self._prefix + named.path, Config=parts)

    def _is_marked(self, key: str, mark: str) -> bool:
        try:
            with errors.translated(bucket=self._options.bucket):
                found = self._client.head_object(**self._at(key))
        except FileNotFoundError:
            return False
        except Transient as error:
            raise OutcomeUnknown(
                "the store did not say who made an object", advice="The manifests decide: recover", **error.where
            ) from None
        return bool(found.get("Metadata", {}).get(_MARK) == mark)


def _intent(lane: LaneId, epoch: int, paths: Sequence[str]) -> str:
    """The key of the list of what a commit brings: the same whenever it brings the same."""
    name = hashlib.sha256("\0".join(paths).encode()).hexdigest()[:32]
    return f"{LaneFolders(lane).staging_of(epoch)}/{name}.json"


__all__ = ["PART_BYTES", "UPLOADS_MAX", "Bucket"]
