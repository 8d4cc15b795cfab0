"""Options of whatever keeps things in an S3 bucket: how it is reached, and with whose keys."""

from __future__ import annotations

from typing import ClassVar, Final

from wallaby.errors import ConfigError
from wallaby.flow.model import OptionsModel

_DEFAULT_REGION: Final = "us-east-1"


class BucketOptions(OptionsModel):
    """How a bucket is reached."""

    secret_fields: ClassVar[frozenset[str]] = frozenset({"access_key", "secret_key", "session_token"})

    region: str | None = None
    """The bucket's region; default: ``us-east-1`` with ``endpoint``, else the environment's."""
    endpoint: str | None = None
    """Address of an S3 server that is not Amazon's; ``http://`` is unencrypted."""
    access_key: str | None = None
    """Default: what the machine has (environment, instance or pod role)."""
    secret_key: str | None = None
    """Belongs to ``access_key``."""
    session_token: str | None = None
    """Belongs to temporary keys."""
    force_path_style: bool = False
    """Address the bucket in the path, not in the host name, as most S3 servers that are not Amazon's want it."""

    @property
    def known_region(self) -> str | None:
        """The bucket's region; None leaves it to the environment."""
        return self.region or (_DEFAULT_REGION if self.endpoint else None)

    def require_bucket(self, *, is_bucket: bool, field: str) -> None:
        """`ConfigError` for one key without the other, and for any of these options where ``field`` is no bucket."""
        for name in BucketOptions.model_fields if not is_bucket else ():
            if getattr(self, name):
                raise ConfigError("belongs to a bucket", advice=f"Remove it, or name s3://… in {field}", field=name)
        if (self.access_key is None) != (self.secret_key is None):
            missing = "secret_key" if self.secret_key is None else "access_key"
            raise ConfigError("access_key and secret_key come together", advice=f"Add {missing}", field=missing)


__all__ = ["BucketOptions"]
