"""Options of a destination of files in an S3 bucket, by the Go WALlaby's names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from pydantic import Field

from sinks.files.config import refuse_mirror
from sinks.objects.config import ObjectLogOptions
from wallaby import secret
from wallaby.errors import ConfigError
from wallaby.flow.bucket import BucketOptions

_ADDRESS: Final = re.compile(r"https?://[^/@?#\s][^@?#\s]*")


class S3Options(ObjectLogOptions, BucketOptions):
    """Which bucket, how it is reached, and how the files are written."""

    secret_fields: ClassVar[frozenset[str]] = BucketOptions.secret_fields

    bucket: str = Field(min_length=1, pattern=r"^[^/:]+$")
    """It must exist. Reading, writing, listing and deleting below ``prefix`` must be allowed."""
    access_key: str | None = None
    """Default: what the machine has (environment, profile, instance or pod role)."""
    use_fips: bool = False
    """Amazon's endpoints with FIPS 140 modules."""
    use_dualstack: bool = False
    """Amazon's endpoints that answer over IPv6 too."""


def read_options(options: Mapping[str, Any]) -> S3Options:
    """Validated options; `ConfigError` with the field's path otherwise."""
    refuse_mirror(options)
    read = S3Options.parse(options)
    read.require_log()
    read.require_bucket(is_bucket=True, field="bucket")
    if read.session_token is not None and read.access_key is None:
        raise ConfigError("belongs to keys", advice="Add access_key and secret_key", field="session_token")
    if read.endpoint is not None:
        if not secret.is_reference(read.endpoint) and not _ADDRESS.fullmatch(read.endpoint):
            raise ConfigError(
                "must be an address without a login", advice="Write https://HOST or http://HOST:PORT", field="endpoint"
            )
        for name in ("use_fips", "use_dualstack"):
            if getattr(read, name):
                raise ConfigError("chooses among Amazon's endpoints", advice="Remove it, or endpoint", field=name)
    return read


__all__ = ["S3Options", "read_options"]
