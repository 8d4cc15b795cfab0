"""A typed client of a running wallaby, with two faces over the same calls: `Client` waits, `AsyncClient` is awaited.

::

    from wallaby.client import Client

    with Client.connect("localhost:8080") as wallaby:
        wallaby.create_flow({"name": "shop", "source": {...}, "destinations": [...]}, start=True)
        for event in wallaby.watch("shop"):
            print(event.after, event.reason)

`ClientSettings` in place of the endpoint say more: certificates, a token, a request id.

Calls raise our errors: `NotFound`, `AlreadyExists`, `IllegalMove`, `ConfigError` for what is wrong with the request,
`Unauthenticated`, `PermissionDenied`, `TooManyCalls`, `StoreUnavailable` when nobody answers (try again later),
`OutcomeUnknown` when no answer came in time. Every call may be repeated.
"""

from wallaby.client.aio import AsyncClient
from wallaby.client.calls import PlannedFlow
from wallaby.client.sync import Client
from wallaby.client.values import (
    Checkpoint,
    DdlEvent,
    DeadLetter,
    Flow,
    FlowEvent,
    FlowRun,
    Snapshot,
    TableSnapshot,
    Validity,
)
from wallaby.settings import ClientSettings

__all__ = [
    "AsyncClient",
    "Checkpoint",
    "Client",
    "ClientSettings",
    "DdlEvent",
    "DeadLetter",
    "Flow",
    "FlowEvent",
    "FlowRun",
    "PlannedFlow",
    "Snapshot",
    "TableSnapshot",
    "Validity",
]
