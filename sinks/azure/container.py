"""A container of Azure Blob Storage as `sinks.objects.store.ObjectStore`.

An object is created by ``If-None-Match: *``: of the one request, or of the last when it is large and goes in blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final

from sinks.azure.config import AzureOptions
from sinks.objects.errors import creation_error
from sinks.objects.parallel import each
from sinks.objects.storage import ObjectStorage
from sinks.objects.store import ATTEMPTS, CONNECT_TIMEOUT, PART_BYTES, READ_TIMEOUT, Listing
from wallaby.errors import MissingExtra

try:
    from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
    from azure.identity import ClientSecretCredential, DefaultAzureCredential
    from azure.storage.blob import BlobPrefix, ContainerClient

    from sinks.azure import errors
except ImportError as error:
    raise MissingExtra(
        "azure destinations need azure-storage-blob and azure-identity",
        advice='pip install "wallaby[azure]"',
        field="type",
    ) from error

_MARK: Final = "wallaby_attempt"


def storage(options: AzureOptions) -> ObjectStorage:
    """Where the options' log lies; close it."""
    return ObjectStorage(Container(options), prefix=options.prefix)


class Container:
    """See `sinks.objects.store.ObjectStore`."""

    def __init__(self, options: AzureOptions) -> None:
        self._options = options
        self._made_client: Any = None
        self._identity: Any = None

    def __str__(self) -> str:
        return f"az://{self._options.account}/{self._options.container}"

    def close(self) -> None:
        for made in (self._made_client, self._identity):
            if made is not None:
                made.close()
        self._made_client = self._identity = None

    def first(self, folder: str) -> Listing:
        with errors.translated(container=self._options.container):
            return _listing(islice(self._pages(folder, results_per_page=3), 1), folder)

    def list(self, folder: str) -> Listing:
        with errors.translated(container=self._options.container):
            return _listing(self._pages(folder), folder)

    def mark(self, key: str) -> str:
        with errors.translated(container=self._options.container):
            return str(self._client.get_blob_client(key).get_blob_properties().metadata.get(_MARK, ""))

    def read(self, key: str) -> bytes:
        with errors.translated(container=self._options.container):
            return bytes(self._client.download_blob(key).readall())

    def create(self, key: str, content: bytes, mark: str) -> bool:
        try:
            self._client.upload_blob(key, content, overwrite=False, metadata={_MARK: mark})
        except errors.ANY as error:
            answer = errors.answer(error)
            if answer.code in errors.ALREADY_THERE:
                return False
            raise creation_error(answer, errors.ADVICE, container=self._options.container) from None
        return True

    def upload(self, made: Path, key: str) -> None:
        with errors.translated(container=self._options.container), made.open("rb") as content:
            self._client.upload_blob(key, content, overwrite=True, max_concurrency=1)

    def download(self, key: str, into: BinaryIO) -> None:
        with errors.translated(container=self._options.container):
            self._client.download_blob(key, max_concurrency=1).readinto(into)

    def delete(self, keys: Sequence[str]) -> None:
        each(self._delete, keys)

    @property
    def _client(self) -> Any:
        if self._made_client is None:
            options = self._options
            self._made_client = ContainerClient(
                options.endpoint or f"https://{options.account}.blob.core.windows.net",
                options.container,
                credential=self._credential(),
                max_single_put_size=PART_BYTES,
                max_block_size=PART_BYTES,
                max_single_get_size=PART_BYTES,
                max_chunk_get_size=PART_BYTES,
                connection_timeout=CONNECT_TIMEOUT.total_seconds(),
                read_timeout=READ_TIMEOUT.total_seconds(),
                retry_total=ATTEMPTS - 1,
                initial_backoff=1,
                increment_base=2,
                random_jitter_range=1,
            )
        return self._made_client

    def _credential(self) -> Any:
        options = self._options
        if options.account_key is not None:
            return AzureNamedKeyCredential(options.account, options.account_key)
        if options.sas_token is not None:
            return AzureSasCredential(options.sas_token)
        if options.client_secret is not None:
            self._identity = ClientSecretCredential(options.tenant_id, options.client_id, options.client_secret)
        elif options.client_id is not None:
            self._identity = DefaultAzureCredential(managed_identity_client_id=options.client_id)
        else:
            self._identity = DefaultAzureCredential()
        return self._identity

    def _pages(self, folder: str, *, results_per_page: int | None = None) -> Iterable[Any]:
        return self._client.walk_blobs(folder, delimiter="/", results_per_page=results_per_page).by_page()

    def _delete(self, key: str) -> None:
        with suppress(FileNotFoundError), errors.translated(container=self._options.container):
            self._client.delete_blob(key)


def _listing(pages: Iterable[Any], folder: str) -> Listing:
    names: list[str] = []
    folders: list[str] = []
    for page in pages:
        for entry in page:
            if isinstance(entry, BlobPrefix):
                folders.append(entry.name.removeprefix(folder).rstrip("/"))
            elif entry.name != folder:
                names.append(entry.name.removeprefix(folder))
    return Listing(tuple(names), tuple(folders))


__all__ = ["Container", "storage"]
