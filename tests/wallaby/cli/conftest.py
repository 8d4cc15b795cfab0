"""The served API that commands speak to."""

from tests.wallaby.api.running import running

__all__ = ["running"]
