"""The control store: its port, and the SQLite and PostgreSQL stores behind it."""

from wallaby.store.opening import open_store
from wallaby.store.port import (
    Checkpoint,
    DdlEvent,
    DdlPage,
    Epoch,
    FlowPage,
    FlowRecord,
    SnapshotState,
    SnapshotStatus,
    StateEvent,
    Store,
)

__all__ = [
    "Checkpoint",
    "DdlEvent",
    "DdlPage",
    "Epoch",
    "FlowPage",
    "FlowRecord",
    "SnapshotState",
    "SnapshotStatus",
    "StateEvent",
    "Store",
    "open_store",
]
