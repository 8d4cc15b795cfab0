"""Options of the null destination: the shared ones, none of its own."""

from __future__ import annotations

from wallaby.flow import DestinationOptions


class NullOptions(DestinationOptions):
    """No options of its own."""
