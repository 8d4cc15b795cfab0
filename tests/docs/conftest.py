"""The served API that a transcript speaks to."""

from tests.wallaby.api.running import running

__all__ = ["running"]
