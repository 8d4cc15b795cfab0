"""The API's side of TLS: files read at the start, and again when they change, so that certificates can be renewed."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any, Final

import grpc

from wallaby.errors import ConfigError, WallabyError
from wallaby.settings import TlsFiles

_LOG: Final = logging.getLogger(__name__)
_FILE_BYTES_MAX: Final = 1 << 20


def server_credentials(files: TlsFiles) -> Any:
    """Credentials for a gRPC server. `ConfigError` for a file that cannot be read now.

    New connections use the files as they are then; files that cannot be read then leave everything as it was.
    """
    reader = _Reader(files)
    return grpc.dynamic_ssl_server_credentials(
        reader.read(), reader.changed, require_client_authentication=files.client_ca is not None
    )


class _Reader:
    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen: tuple[tuple[int, int], ...] = ()

    def read(self) -> Any:
        """What the files hold."""
        stamps = self._stamps()
        files = self._files
        _require_pair(files)
        key = _content(files.key, "WALLABY_GRPC_TLS_KEY")
        chain = _content(files.certificate, "WALLABY_GRPC_TLS_CERT")
        roots = _content(files.client_ca, "WALLABY_GRPC_CLIENT_CA") if files.client_ca else None
        self._seen = stamps
        return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=roots)

    def changed(self) -> Any:
        """What the files hold, None when they did not change. gRPC asks at new connections, in a thread of its own."""
        try:
            return None if self._stamps() == self._seen else self.read()
        except WallabyError as error:
            _LOG.error("the API goes on with the certificate it has: %s", error)
            return None

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        paths = [self._files.key, self._files.certificate, self._files.client_ca]
        return tuple(_stamp(path) for path in paths if path)


def _require_pair(files: TlsFiles) -> None:
    """gRPC takes a certificate and a key that do not belong together, and then fails at every connection."""
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(files.certificate, files.key, lambda: "")
    except ssl.SSLError:
        raise ConfigError(
            "is not the key of the certificate, needs a password, or one of the files is not PEM",
            field="WALLABY_GRPC_TLS_KEY",
            file=files.key,
        ) from None
    except OSError:
        return  # said better where the files are read


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_ino)


def _content(path: Path, field: str) -> bytes:
    try:
        with path.open("rb") as stream:
            content = stream.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror or type(error).__name__}", field=field, file=path) from None
    if b"-----BEGIN " not in content or len(content) > _FILE_BYTES_MAX:
        raise ConfigError("is not a PEM file", field=field, file=path)
    return content
