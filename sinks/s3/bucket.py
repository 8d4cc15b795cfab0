"""A bucket as the root of logs: the keys are the file names of `sinks.files.layout`.

There is no rename on S3. A file is made on the local disk (in the temporary folder), and uploaded by the commit under
its final key, which holds a digest of its content, of the epoch and of the manifest's number: two writers never write
different bytes to one key. An upload in parts appears whole or not at all. Only a manifest makes an object count, and
a manifest is a PUT that fails when the key exists (``If-None-Match: *``).

Before it uploads, a writer notes the keys in an object of its own under ``_wallaby/staging``, one per writer, written
anew at each commit. Once the lane is fenced, a writer of an older epoch can have no manifest any more: what its note
names and the log does not is removed, without listing the bucket. A writer that wakes up after that leaves objects
nobody looks at, and a note by which the next epoch removes them.

What we dislike: a killed process leaves the files of one commit in the temporary folder.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
import weakref
from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import S3Store

from sinks.files.errors import translated as translated_locally
from sinks.files.layout import FORMAT_VERSION, OWN_FOLDER, lane_staging
from sinks.files.manifests import DataFile, ManifestLog, live_files
from sinks.files.parquet import ParquetFile
from sinks.files.root import error_finding
from sinks.s3.config import S3Options
from sinks.s3.errors import after_commit, outcome_unknown, translated
from wallaby.errors import Refused, Transient, WallabyError
from wallaby.sink import Finding
from wallaby.window import LaneId

UPLOAD_PART_BYTES: Final = 8 << 20
"""Of an upload in parts. S3 allows 10,000 parts: an object has 80 GB at most."""
UPLOAD_PARTS_MAX: Final = 4
"""Parts on their way at once: with the above, the memory an upload takes."""
_RETRIES_MAX: Final = 3
_RETRY_FOR: Final = timedelta(seconds=20)
_DEFAULT_REGION: Final = "us-east-1"
_EPOCH_DIGITS: Final = 20
_FORMAT_KEY: Final = f"{OWN_FOLDER}/format.json"


class ObjectStore:
    """See `sinks.files.store.Store`, over any store the library knows."""

    def __init__(self, store: S3Store) -> None:
        self.objects = store

    def prepare(self, folder: str) -> None:
        """A key needs no folder, and a PUT leaves nothing half made."""

    def create(self, key: str, text: str) -> bool:
        try:
            with outcome_unknown(key=key):
                obstore.put(self.objects, key, text.encode(), mode="create", use_multipart=False)
            return True
        except AlreadyExistsError:
            pass
        # A PUT whose answer was lost is repeated by the library, and then finds itself.
        with after_commit(key=key):
            found = self._text(key)
        if found is None:
            raise Transient("two writers met, and neither wrote", key=key)
        return found == text

    def read(self, key: str) -> str:
        with translated(key=key):
            return bytes(obstore.get(self.objects, key).bytes()).decode()

    def exists(self, key: str) -> bool:
        try:
            with translated(key=key):
                obstore.head(self.objects, key)
        except FileNotFoundError:
            return False
        return True

    def names(self, folder: str) -> list[str]:
        with translated(folder=folder):
            found = obstore.list_with_delimiter(self.objects, folder)["objects"]
        return [entry["path"].rpartition("/")[2] for entry in found]

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in the folder, in order."""
        with translated(folder=folder):
            found = obstore.list_with_delimiter(self.objects, folder)["common_prefixes"]
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found)

    def remove(self, keys: Iterable[str]) -> None:
        if wanted := list(keys):
            with translated(keys=len(wanted)):
                obstore.delete(self.objects, wanted)

    def committed(self, folder: str) -> AbstractContextManager[None]:
        return after_commit(folder=folder)

    def _text(self, key: str) -> str | None:
        try:
            return self.read(key)
        except FileNotFoundError:
            return None


class Bucket:
    """See `sinks.files.root.Root`."""

    def __init__(self, options: S3Options) -> None:
        self._options = options
        self.store = ObjectStore(object_store(options))

    def __repr__(self) -> str:
        return repr(f"s3://{self._options.bucket}/{self._options.prefix}")

    def close(self) -> None:
        """The library closes its connections by itself."""

    def findings(self) -> list[Finding]:
        subject = f"bucket {self._options.bucket}"
        try:
            self._require_known_format()
            # The bucket is asked for by name: a missing key looks like a missing bucket otherwise.
            self.store.names(OWN_FOLDER)
        except Refused as error:
            return [error_finding(subject, error.message, error.advice, "format-version")]
        except WallabyError as error:
            return [error_finding(subject, error.message, error.advice, "destination-unreachable")]
        return []

    def require(self) -> None:
        if not self._require_known_format():
            self.store.create(_FORMAT_KEY, json.dumps({"version": FORMAT_VERSION}))

    def places(self, lane: LaneId, epoch: int) -> Uploads:
        return Uploads(self.store, f"{lane_staging(lane)}/{epoch:0{_EPOCH_DIGITS}d}-{uuid.uuid4().hex}.json")

    def remove(self, files: tuple[DataFile, ...]) -> None:
        self.store.remove(dict.fromkeys(file.path for file in files))

    def tidy(self, lane: LaneId, log: ManifestLog, epoch: int) -> None:
        """Remove the objects that notes of older epochs name and the log does not, then the notes."""
        folder = lane_staging(lane)
        notes = [f"{folder}/{name}" for name in self.store.names(folder) if int(name[:_EPOCH_DIGITS]) < epoch]
        if not notes:
            return
        noted = [key for note in notes for key in self._noted(note)]
        live = {file.path for file in live_files(log.all())}
        self.store.remove(key for key in noted if key not in live)
        self.store.remove(notes)

    def _noted(self, note: str) -> list[str]:
        try:
            return list(json.loads(self.store.read(note)))
        except FileNotFoundError:
            return []

    def _require_known_format(self) -> bool:
        """False when the prefix is not marked yet."""
        try:
            text = self.store.read(_FORMAT_KEY)
        except FileNotFoundError:
            return False
        try:
            version = json.loads(text)["version"]
        except (ValueError, KeyError, TypeError):
            version = "unknown"
        if version != FORMAT_VERSION:
            raise Refused(
                f"the bucket has format {version}, this wallaby knows {FORMAT_VERSION}",
                advice="Use the wallaby that wrote it, or another prefix",
            )
        return True


class Uploads:
    """See `sinks.files.writer.Places`: files on the local disk until the commit uploads them."""

    fsync = False

    def __init__(self, store: ObjectStore, note: str) -> None:
        self._store = store
        self._note = note
        self._folder: Path | None = None
        self._noted: dict[str, None] = {}

    def staging(self) -> Path:
        with translated_locally():
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="wallaby-"))
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder

    def staged(self, file: ParquetFile, final: str) -> str:
        return final

    def publish(self, files: list[tuple[ParquetFile, DataFile]]) -> None:
        # A commit that failed may have uploaded some: its keys stay in the notes of this writer.
        self._noted |= dict.fromkeys(content.path for _, content in files)
        with translated(files=len(files)):
            note = json.dumps(list(self._noted)).encode()
            obstore.put(self._store.objects, self._note, note, use_multipart=False)
        for file, content in files:
            with translated(table=content.name):
                obstore.put(
                    self._store.objects,
                    content.path,
                    file.path,
                    use_multipart=content.bytes > UPLOAD_PART_BYTES,
                    chunk_size=UPLOAD_PART_BYTES,
                    max_concurrency=UPLOAD_PARTS_MAX,
                )
            with translated_locally(table=content.name):
                file.path.unlink(missing_ok=True)

    def settle(self, files: tuple[DataFile, ...]) -> None:
        """The files have their final names; what counts needs no note."""
        for file in files:
            self._noted.pop(file.path, None)


def object_store(options: S3Options) -> S3Store:
    """The bucket, seen from its prefix. Nothing is asked of it yet."""
    given: dict[str, Any] = {
        "region": options.region or (_DEFAULT_REGION if options.endpoint else None),
        "endpoint": options.endpoint,
        "access_key_id": options.access_key,
        "secret_access_key": options.secret_key,
        "session_token": options.session_token,
        "virtual_hosted_style_request": False if options.force_path_style or options.endpoint else None,
    }
    return S3Store(
        options.bucket,
        prefix=options.prefix.strip("/") or None,
        client_options={"allow_http": (options.endpoint or "").startswith("http://")},
        retry_config={"max_retries": _RETRIES_MAX, "retry_timeout": _RETRY_FOR},
        **{name: value for name, value in given.items() if value is not None},
    )


__all__ = ["UPLOAD_PARTS_MAX", "UPLOAD_PART_BYTES", "Bucket", "ObjectStore", "Uploads", "object_store"]
