"""Options of a destination of objects in a bucket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from sinks.files.config import CAPABILITIES, LogOptions, refuse_mirror
from wallaby.errors import ConfigError


class S3Options(LogOptions):
    """Where the objects go and how they are written."""

    secret_fields: ClassVar[frozenset[str]] = frozenset({"access_key", "secret_key", "session_token"})

    bucket: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The bucket; it must exist."""
    prefix: str = ""
    """Before every key, shared with nobody but other flows; default: the whole bucket."""
    region: str | None = None
    """The bucket's region; default: ``us-east-1`` with ``endpoint``, else the environment's."""
    endpoint: str | None = None
    """Address of an S3 server that is not Amazon's; ``http://`` is unencrypted."""
    access_key: str | None = None
    """Default: what the machine has (environment, instance, container or pod role)."""
    secret_key: str | None = None
    """Belongs to ``access_key``."""
    session_token: str | None = None
    """Belongs to temporary keys."""
    force_path_style: bool = False
    """Address the bucket in the path, not in the host name, which is what happens with ``endpoint`` anyway."""


def read_options(options: Mapping[str, Any]) -> S3Options:
    """Validated options; `ConfigError` with the field's path otherwise."""
    refuse_mirror(options)
    read = S3Options.parse(options)
    read.require_mode(CAPABILITIES)
    if (read.access_key is None) != (read.secret_key is None):
        missing = "secret_key" if read.secret_key is None else "access_key"
        raise ConfigError("access_key and secret_key come together", advice=f"Add {missing}", field=missing)
    if read.session_token is not None and read.access_key is None:
        raise ConfigError("belongs to access_key and secret_key", advice="Add them", field="session_token")
    return read


__all__ = ["CAPABILITIES", "S3Options", "read_options"]
