"""A bucket of Google Cloud Storage as `sinks.objects.store.ObjectStore`.

An object is created by ``ifGenerationMatch=0``: only if no live object has the key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final

from sinks.gcs.config import GcsOptions, service_account
from sinks.objects.errors import creation_error
from sinks.objects.parallel import each
from sinks.objects.storage import ObjectStorage
from sinks.objects.store import CONNECT_TIMEOUT, PART_BYTES, READ_TIMEOUT, RETRY_TIME, Listing
from wallaby.errors import ConfigError, MissingExtra

try:
    from google.auth.credentials import AnonymousCredentials
    from google.auth.transport.requests import AuthorizedSession
    from google.cloud.storage import Client
    from google.cloud.storage.retry import DEFAULT_RETRY
    from google.oauth2.service_account import Credentials

    from sinks.gcs import errors
except ImportError as error:
    raise MissingExtra(
        "gcs destinations need google-cloud-storage", advice='pip install "wallaby[gcs]"', field="type"
    ) from error

_MARK: Final = "wallaby-attempt"
_CONTENT_TYPE: Final = "application/octet-stream"
_ABSENT: Final = 0
"""The generation of an object that is not there."""
_PRECONDITION_FAILED: Final = 412


def storage(options: GcsOptions) -> ObjectStorage:
    """Where the options' log lies; close it."""
    return ObjectStorage(Bucket(options), prefix=options.prefix)


class Bucket:
    """See `sinks.objects.store.ObjectStore`."""

    def __init__(self, options: GcsOptions) -> None:
        self._options = options
        self._made_client: Any = None
        self._patience = {
            "timeout": (CONNECT_TIMEOUT.total_seconds(), READ_TIMEOUT.total_seconds()),
            "retry": DEFAULT_RETRY.with_timeout(RETRY_TIME.total_seconds()),
        }

    def __str__(self) -> str:
        return f"gs://{self._options.bucket}"

    def close(self) -> None:
        if self._made_client is not None:
            self._made_client.close()
            self._made_client = None

    def first(self, folder: str) -> Listing:
        with errors.translated(absent_is_place=True, bucket=self._options.bucket):
            return _listing(islice(self._pages(folder, max_results=3), 1), folder)

    def list(self, folder: str) -> Listing:
        with errors.translated(absent_is_place=True, bucket=self._options.bucket):
            return _listing(self._pages(folder), folder)

    def mark(self, key: str) -> str:
        with errors.translated(bucket=self._options.bucket):
            blob = self._blob(key)
            blob.reload(**self._patience)
        return str((blob.metadata or {}).get(_MARK, ""))

    def read(self, key: str) -> bytes:
        with errors.translated(bucket=self._options.bucket):
            return bytes(self._blob(key).download_as_bytes(**self._patience))

    def create(self, key: str, content: bytes, mark: str) -> bool:
        try:
            blob = self._blob(key)
            blob.metadata = {_MARK: mark}
            blob.upload_from_string(content, content_type=_CONTENT_TYPE, if_generation_match=_ABSENT, **self._patience)
        except errors.ANY as error:
            answer = errors.answer(error)
            if answer.status == _PRECONDITION_FAILED:
                return False
            raise creation_error(answer, errors.ADVICE, bucket=self._options.bucket) from None
        return True

    def upload(self, made: Path, key: str) -> None:
        with errors.translated(absent_is_place=True, bucket=self._options.bucket):
            blob = self._blob(key)
            blob.chunk_size = PART_BYTES
            blob.upload_from_filename(str(made), content_type=_CONTENT_TYPE, **self._patience)

    def download(self, key: str, into: BinaryIO) -> None:
        with errors.translated(bucket=self._options.bucket):
            self._blob(key).download_to_file(into, **self._patience)

    def delete(self, keys: Sequence[str]) -> None:
        each(self._delete, keys)

    @property
    def _client(self) -> Any:
        if self._made_client is None:
            endpoint = self._options.endpoint
            credentials = _credentials(self._options)
            self._made_client = Client(
                # Only where buckets are made the project matters.
                project="none",
                credentials=credentials,
                # Nobody has no newer token after 401.
                _http=AuthorizedSession(credentials, refresh_status_codes=()) if self._options.is_anonymous else None,
                client_options={"api_endpoint": endpoint.rstrip("/")} if endpoint else None,
            )
            # It would ask for the bucket's metadata beside our requests, for traces nobody takes.
            self._made_client._bucket_metadata_cache = None
        return self._made_client

    def _blob(self, key: str) -> Any:
        return self._client.bucket(self._options.bucket).blob(key)

    def _pages(self, folder: str, *, max_results: int | None = None) -> Iterable[Any]:
        found = self._client.list_blobs(
            self._options.bucket,
            prefix=folder,
            delimiter="/",
            max_results=max_results,
            fields="items(name),prefixes,nextPageToken",
            **self._patience,
        )
        return found.pages

    def _delete(self, key: str) -> None:
        with suppress(FileNotFoundError), errors.translated(bucket=self._options.bucket):
            self._blob(key).delete(**self._patience)


def _credentials(options: GcsOptions) -> Any:
    """None for the machine's."""
    if options.is_anonymous:
        return AnonymousCredentials()
    if options.credentials is None:
        return None
    try:
        return Credentials.from_service_account_info(service_account(options.credentials), scopes=Client.SCOPE)
    except ValueError:
        # Without a cause on purpose: texts may quote the key.
        raise ConfigError(
            "is not a service account's key", advice="Download the key again", field="credentials"
        ) from None


def _listing(pages: Iterable[Any], folder: str) -> Listing:
    names: list[str] = []
    folders: list[str] = []
    for page in pages:
        names += [blob.name.removeprefix(folder) for blob in page if blob.name != folder]
        folders += [prefix.removeprefix(folder).rstrip("/") for prefix in page.prefixes]
    return Listing(tuple(names), tuple(folders))


__all__ = ["Bucket", "storage"]
