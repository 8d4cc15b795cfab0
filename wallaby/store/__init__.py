"""The control store: its port, and the SQLite and PostgreSQL stores behind it."""

from wallaby.store.access import CallKind, CallRecord, RequestKey, SealedSecret, TokenRecord
from wallaby.store.opening import open_store, store_exists
from wallaby.store.port import (
    ActiveFlow,
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
    "ActiveFlow",
    "CallKind",
    "CallRecord",
    "Checkpoint",
    "DdlEvent",
    "DdlPage",
    "Epoch",
    "FlowPage",
    "FlowRecord",
    "RequestKey",
    "SealedSecret",
    "SnapshotState",
    "SnapshotStatus",
    "StateEvent",
    "Store",
    "TokenRecord",
    "open_store",
    "store_exists",
]
