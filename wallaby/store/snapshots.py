"""What the control store tells of copies: one summary per flow, and the tables behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from wallaby.lsn import Lsn
from wallaby.snapshot.progress import CopyState, TableCopy


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The copy of a flow, summed up over its tables."""

    flow_id: str
    state: CopyState
    is_wanted: bool
    """A new copy was asked for and has not begun; the figures are those of the present one."""
    epoch: int = 0
    """The run that copied; 0 before the first."""
    snapshot_lsn: Lsn | None = None
    """The rows are those of this place in the stream; None while no table is known."""
    tables: int = 0
    tables_done: int = 0
    """Tables of which every row was read."""
    expected_rows: int = 0
    """Rows of the tables that are done, and of the others what the planner believes, or what came if that is more."""
    rows: int = 0
    bytes: int = 0
    """See `wallaby.snapshot.progress.TableCopy`."""
    started_at: datetime | None = None
    updated_at: datetime | None = None
    finished_at: datetime | None = None
    """None while a table is not done."""

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values under the names of the API's message."""
        moments = {name: getattr(self, name) for name in ("started_at", "updated_at", "finished_at")}
        return {
            "flow_id": self.flow_id,
            "state": self.state.value,
            "wanted": self.is_wanted,
            "epoch": self.epoch,
            "snapshot_lsn": "" if self.snapshot_lsn is None else str(self.snapshot_lsn),
            "tables": self.tables,
            "tables_done": self.tables_done,
            "expected_rows": self.expected_rows,
            "copied_rows": self.rows,
            "copied_bytes": self.bytes,
            **{name: None if moment is None else moment.isoformat() for name, moment in moments.items()},
        }


@dataclass(frozen=True, slots=True)
class SnapshotPage:
    """Snapshots in order of their flows' ids; ``next_page_token`` is empty on the last page."""

    snapshots: tuple[Snapshot, ...]
    next_page_token: str = ""


@dataclass(frozen=True, slots=True)
class TableCopyPage:
    """Tables in the order in which they are copied; ``next_page_token`` is empty on the last page."""

    tables: tuple[TableCopy, ...]
    next_page_token: str = ""


class SnapshotStore(Protocol):
    """The part of the control store that knows how far copies are. States are as of now (`progress.state_now`)."""

    def copy_due(self, flow_id: str) -> int:
        """The number of the copy that was asked for and has not begun; 0 when none is, or nobody knows the flow.

        Numbers grow with every request, so that who was told of one knows a later one.
        """
        ...

    def note_copy(self, flow_id: str, epoch: int, tables: Sequence[TableCopy]) -> None:
        """Write down how far these tables are; earlier figures of them are replaced. `Fenced` when outdated."""
        ...

    def finish_copy(self, flow_id: str, epoch: int, tables: Sequence[TableCopy]) -> None:
        """The whole copy is durable in every required destination; ``tables`` are its last figures. `Fenced`."""
        ...

    def get_snapshot(self, flow_id: str) -> Snapshot:
        """`NotFound` without the flow, and for one that neither copied nor was asked to."""
        ...

    def list_snapshots(self, page_size: int = 0, page_token: str = "") -> SnapshotPage:
        """Flows that copied or were asked to, in order of ids. Sizes and tokens as `Store.list_flows` has them."""
        ...

    def list_table_copies(self, flow_id: str, page_size: int = 0, page_token: str = "") -> TableCopyPage:
        """A page of the tables of a flow's copy. ``page_size`` 0 means the most, 1,000; `ConfigError` for a foreign
        token."""
        ...
