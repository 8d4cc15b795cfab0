"""Options of a destination of files in an S3 bucket, by the Go WALlaby's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from sinks.files.config import LogOptions, refuse_mirror
from wallaby.errors import ConfigError


class S3Options(LogOptions):
    """Which bucket, how it is reached, and how the files are written."""

    secret_fields: ClassVar[frozenset[str]] = frozenset({"access_key", "secret_key", "session_token"})

    bucket: str = Field(min_length=1, pattern=r"^[^/:]+$")
    """It must exist. Reading, writing, listing and deleting below ``prefix`` must be allowed."""
    prefix: str = ""
    """The folder of everything in the bucket; shared with nobody but other flows."""
    region: str | None = None
    """The bucket's region; default: ``us-east-1`` with ``endpoint``, else the environment's."""
    endpoint: str | None = None
    """Address of an S3 server that is not Amazon's; ``http://`` is unencrypted."""
    access_key: str | None = None
    """Default: what the machine has (environment, profile, instance or pod role)."""
    secret_key: str | None = None
    """Belongs to ``access_key``."""
    session_token: str | None = None
    """Belongs to temporary keys."""
    force_path_style: bool = False
    """Address the bucket in the path, not in the host name, as most S3 servers that are not Amazon's want it."""
    use_fips: bool = False
    """Amazon's endpoints with FIPS 140 modules."""
    use_dualstack: bool = False
    """Amazon's endpoints that answer over IPv6 too."""


def read_options(options: Mapping[str, Any]) -> S3Options:
    """Validated options; `ConfigError` with the field's path otherwise."""
    refuse_mirror(options)
    read = S3Options.parse(options)
    read.require_log()
    if (read.access_key is None) != (read.secret_key is None):
        missing = "secret_key" if read.secret_key is None else "access_key"
        raise ConfigError("access_key and secret_key come together", advice=f"Add {missing}", field=missing)
    if read.session_token is not None and read.access_key is None:
        raise ConfigError("belongs to keys", advice="Add access_key and secret_key", field="session_token")
    if read.endpoint is not None:
        for name in ("use_fips", "use_dualstack"):
            if getattr(read, name):
                raise ConfigError("chooses among Amazon's endpoints", advice="Remove it, or endpoint", field=name)
    return read


__all__ = ["S3Options", "read_options"]
