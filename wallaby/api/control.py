"""What the API asks of whoever runs the flows."""

from __future__ import annotations

from typing import Protocol

from wallaby.status import FlowStatus


class FlowControl(Protocol):
    """The running side. The store holds what is wanted; these calls only make it quick and tell how it goes."""

    async def changed(self, flow_id: str) -> None:
        """A flow's definition or wanted state changed in the store."""
        ...

    async def run_once(self, flow_id: str) -> bool:
        """A flow was told to run once; False when nobody is there to run it."""
        ...

    async def status(self, flow_id: str) -> FlowStatus | None:
        """How the flow does; None when it does not run here."""
        ...
