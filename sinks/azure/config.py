"""Options of a destination of files in an Azure Blob Storage container."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from sinks.files.config import refuse_mirror
from sinks.objects.config import ObjectLogOptions
from wallaby.errors import ConfigError


class AzureOptions(ObjectLogOptions):
    """Which container, how it is reached, and how the files are written."""

    secret_fields: ClassVar[frozenset[str]] = frozenset({"account_key", "sas_token", "client_secret"})

    account: str = Field(pattern=r"^[a-z0-9]{3,24}$")
    """The storage account's name."""
    container: str = Field(min_length=1, pattern=r"^[^/:]+$")
    """It must exist. Reading, writing, listing and deleting below ``prefix`` must be allowed."""
    account_key: str | None = None
    """One of the account's keys. Default: what the machine has (environment, workload or managed identity)."""
    sas_token: str | None = None
    """Instead of a key: a shared access signature that may read, create, write, list and delete."""
    tenant_id: str | None = None
    """Where the application ``client_id`` is registered; belongs to ``client_secret``."""
    client_id: str | None = None
    """An application, with ``client_secret``; without, the managed identity of that name."""
    client_secret: str | None = None
    """Instead of a key: the application's secret."""
    endpoint: str | None = Field(default=None, pattern=r"^https?://[^@?#]+$")
    """Address of the blob service where it is not ``https://<account>.blob.core.windows.net``."""


def read_options(options: Mapping[str, Any]) -> AzureOptions:
    """Validated options; `ConfigError` with the field's path otherwise."""
    refuse_mirror(options)
    read = AzureOptions.parse(options)
    read.require_log()
    given = [name for name in ("account_key", "sas_token", "client_secret") if getattr(read, name) is not None]
    if len(given) > 1:
        raise ConfigError("one way in is enough", advice=f"Remove {given[1]}, or {given[0]}", field=given[1])
    if read.client_secret is not None:
        for name in ("tenant_id", "client_id"):
            if getattr(read, name) is None:
                raise ConfigError("belongs to client_secret", advice=f"Add {name}", field=name)
    elif read.tenant_id is not None:
        raise ConfigError("belongs to client_secret", advice="Add client_secret, or remove it", field="tenant_id")
    elif read.client_id is not None and given:
        raise ConfigError("names an identity", advice=f"Remove it, or {given[0]}", field="client_id")
    has_own_key = read.account_key is not None or read.sas_token is not None
    if read.endpoint is not None and read.endpoint.startswith("http://") and not has_own_key:
        raise ConfigError(
            "an identity's token is not sent unencrypted",
            advice="Name https://…, or use account_key or sas_token",
            field="endpoint",
        )
    return read


__all__ = ["AzureOptions", "read_options"]
