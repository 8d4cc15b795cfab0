"""Process settings (file > environment > default) and the named limits of every queue, buffer and loop."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of the data path. Each has a reason; none is unlimited."""

    arena_bytes: int = 8 << 20
    """The receive arena: 1 to 4 MB parse best, twice that leaves room for a message in flight. Larger ones grow it."""
    parse_bytes: int = 2 << 20
    """Parse when this much has been received (or when the socket is dry)."""
    window_bytes_max: int = 8 << 20
    """Close a window at this size: large enough that Ray's cost per object is below 0.15 us per row."""
    window_rows_max: int = 262_144
    window_age_max_ms: int = 50
    """Close a non-empty window at this age even while every lane is busy."""
    inflight_bytes_max: int = 64 << 20
    """Windows handed to lanes and not yet written, per flow. Reading stops beyond it; status updates go on."""
    inflight_windows_max: int = 16
    """Windows handed to one lane and not yet written: Ray's queue per sink actor stays this short."""
    inline_bytes_max: int = 96 << 10
    """Smaller windows travel inside the actor call; larger ones through the object store."""
    uncommitted_age_max_ms: int = 250
    """A lane that never falls idle commits at the latest after this time."""
    checkpoint_interval_ms: int = 200
    """The control store is written at most this often while changes flow."""
    idle_checkpoint_interval_ms: int = 2_000
    """... and this often when only the WAL position moves."""
    uncommitted_bytes_max: int = 64 << 20
    """A lane commits at the latest after this many written bytes (outside a split transaction)."""
    status_interval_ms: int = 10_000
    """Standby status updates at least this often; PostgreSQL gives up after wal_sender_timeout (default 60 s)."""
    heartbeat_interval_ms: int = 5_000
    """The supervisor pings source and sinks this often."""
    heartbeat_misses_max: int = 6
    restart_delay_min_ms: int = 200
    restart_delay_max_ms: int = 30_000
    healthy_after_ms: int = 60_000
    """A flow that ran this long starts its back-off anew."""
    copy_chunk_bytes: int = 4 << 20
    """Bytes of COPY data decoded at once."""
