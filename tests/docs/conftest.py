"""The served API that a transcript speaks to."""

from tests.wallaby.conftest import running

__all__ = ["running"]
