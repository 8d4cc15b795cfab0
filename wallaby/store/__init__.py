"""The control store: its port, and the SQLite and PostgreSQL stores behind it."""

from wallaby.store.access import CallKind, CallRecord, RequestKey, SealedSecret, TokenRecord
from wallaby.store.letters import (
    LetterDecision,
    LetterFilter,
    LetterPage,
    LetterRecord,
    LetterRoom,
    LetterState,
    OpenScope,
    SealedLetter,
)
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
from wallaby.store.snapshots import Snapshot, SnapshotPage, TableCopyPage

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
    "LetterDecision",
    "LetterFilter",
    "LetterPage",
    "LetterRecord",
    "LetterRoom",
    "LetterState",
    "OpenScope",
    "RequestKey",
    "SealedLetter",
    "SealedSecret",
    "Snapshot",
    "SnapshotPage",
    "SnapshotState",
    "SnapshotStatus",
    "StateEvent",
    "Store",
    "TableCopyPage",
    "TokenRecord",
    "open_store",
    "store_exists",
]
