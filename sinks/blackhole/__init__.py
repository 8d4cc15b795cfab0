"""The destination that keeps nothing: for measuring a source, and for draining a slot on purpose."""

from sinks.blackhole.sink import FACTORY

__all__ = ["FACTORY"]
