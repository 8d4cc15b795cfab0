"""The served API that the client speaks to."""

from tests.wallaby.api.running import running

__all__ = ["running"]
