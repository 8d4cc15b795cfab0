"""Options of the blackhole destination: the shared ones, none of its own."""

from __future__ import annotations

from wallaby.flow import DestinationOptions


class BlackholeOptions(DestinationOptions):
    """No options of its own."""
