"""Options of a destination of files in a Google Cloud Storage bucket."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from sinks.files.config import refuse_mirror
from sinks.objects.config import ObjectLogOptions
from wallaby import secret
from wallaby.errors import ConfigError


class GcsOptions(ObjectLogOptions):
    """Which bucket, how it is reached, and how the files are written."""

    secret_fields: ClassVar[frozenset[str]] = frozenset({"credentials"})

    bucket: str = Field(min_length=1, pattern=r"^[^/:]+$")
    """It must exist. Reading, writing, listing and deleting below ``prefix`` must be allowed."""
    credentials: str | None = None
    """A service account's key, JSON; default: what the machine has (``GOOGLE_APPLICATION_CREDENTIALS``, workload
    identity, the instance's service account)."""
    endpoint: str | None = Field(default=None, pattern=r"^https?://[^/@]+/?$")
    """Address of a server that is not Google's public one; ``http://`` is asked without credentials."""

    @property
    def is_anonymous(self) -> bool:
        """True when requests have no credentials: a token is not for an unencrypted line."""
        return self.endpoint is not None and self.endpoint.startswith("http://")


def service_account(credentials: str) -> dict[str, Any]:
    """The key as `google.oauth2` takes it; `ConfigError` for anything else."""
    try:
        key = json.loads(credentials)
    except ValueError:
        key = None
    if not isinstance(key, dict) or key.get("type") != "service_account":
        raise ConfigError(
            "must be the JSON of a service account's key",
            advice="Write file:PATH of the downloaded key, or leave credentials out and use the machine's",
            field="credentials",
        )
    return key


def read_options(options: Mapping[str, Any]) -> GcsOptions:
    """Validated options; `ConfigError` with the field's path otherwise."""
    refuse_mirror(options)
    read = GcsOptions.parse(options)
    read.require_log()
    if read.credentials is not None:
        if read.is_anonymous:
            raise ConfigError(
                "credentials are not sent unencrypted", advice="Remove them, or name https://…", field="endpoint"
            )
        if not secret.is_reference(read.credentials):
            service_account(read.credentials)
    return read


__all__ = ["GcsOptions", "read_options", "service_account"]
