"""Process settings (file > environment > default) and the named limits of every queue, buffer and loop."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from wallaby.errors import ConfigError

_TRUE: Final = frozenset({"1", "t", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "f", "false", "no", "off"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of a wallaby process. All need a restart."""

    grpc_listen: str = "127.0.0.1:8080"
    """``host:port`` of the API; port 0 takes a free one. ``:8080`` means all interfaces, which needs TLS."""
    grpc_reflection: bool = True
    """Serve gRPC reflection, so that tools find the services by themselves."""
    postgres_dsn: str = ""
    """The control store in PostgreSQL (or a reference ``env:``/``file:``); empty: SQLite in ``state_dir``."""
    stream_dsn: str = ""
    """The database of the streams the API serves (or a reference); empty: that of ``postgres_dsn``."""
    stream_schema: str = "wallaby"
    """Their schema there: ``state_schema`` of the pgstream destination."""
    state_dir: Path = Path(".wallaby")
    """Where the embedded control store lives."""

    def __repr__(self) -> str:
        store = "postgres" if self.postgres_dsn else f"sqlite in {self.state_dir}"
        return f"Settings(grpc_listen={self.grpc_listen!r}, grpc_reflection={self.grpc_reflection}, store={store})"

    @property
    def grpc_address(self) -> tuple[str, int]:
        """Host and port of the API. `ConfigError` for an address that is none, or that others could reach."""
        match = re.fullmatch(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]*):(?P<port>\d{1,5})", self.grpc_listen)
        if match is None or int(match["port"]) > 65_535:
            raise ConfigError(
                "is not host:port", field="WALLABY_GRPC_LISTEN", advice="Write for example 127.0.0.1:8080"
            )
        host = match["host"].strip("[]") or "0.0.0.0"  # noqa: S104 refused right below
        if not _is_loopback(host):
            raise ConfigError(
                f"{host} can be reached by others, which needs TLS; this API has none yet",
                field="WALLABY_GRPC_LISTEN",
                advice="Listen on 127.0.0.1:8080 and let a proxy with TLS, or an SSH tunnel, in front of it",
            )
        return host, int(match["port"])

    @classmethod
    def load(cls, environment: Mapping[str, str], values: Mapping[str, Any] | None = None) -> Settings:
        """Settings from a file's ``values`` (names as the fields here), else the environment, else the defaults.

        `ConfigError` for a value that is not understood and for an unknown name in ``values``.
        """
        given = {name: environment[variable] for name, variable in VARIABLES.items() if environment.get(variable)}
        for name, value in (values or {}).items():
            if name not in VARIABLES:
                raise ConfigError(f"is not a known setting; known are {', '.join(VARIABLES)}", field=name)
            given[name] = str(value)
        settings: dict[str, Any] = dict(given)
        if "grpc_reflection" in given:
            settings["grpc_reflection"] = _boolean(given["grpc_reflection"], VARIABLES["grpc_reflection"])
        if "state_dir" in given:
            settings["state_dir"] = Path(given["state_dir"]).expanduser()
        return cls(**settings)


VARIABLES: Final[Mapping[str, str]] = {
    "grpc_listen": "WALLABY_GRPC_LISTEN",
    "grpc_reflection": "WALLABY_GRPC_REFLECTION",
    "postgres_dsn": "WALLABY_POSTGRES_DSN",
    "stream_dsn": "WALLABY_STREAM_DSN",
    "stream_schema": "WALLABY_STREAM_SCHEMA",
    "state_dir": "WALLABY_STATE_DIR",
}
"""The environment variable of each setting."""


def _boolean(text: str, field: str) -> bool:
    word = text.strip().lower()
    if word not in _TRUE | _FALSE:
        raise ConfigError("must be true or false", field=field)
    return word in _TRUE


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of the data path. Each has a reason; none is unlimited."""

    arena_bytes: int = 8 << 20
    """The receive arena: 1 to 4 MB parse best, twice that leaves room for a message in flight. Larger ones grow it."""
    parse_bytes: int = 1 << 20
    """In a flood, decode when this much has been received: a feed costs a millisecond however little it decodes."""
    parse_age_max_ms: int = 25
    """... or when the oldest of it has waited this long."""
    flood_bytes_per_s: int = 1 << 20
    """From this speed on the stream is in flood: what arrives is gathered before it is decoded and sent."""
    window_bytes_max: int = 8 << 20
    """Close a window at this size: large enough that Ray's cost per object is below 0.15 us per row."""
    window_rows_max: int = 262_144
    window_age_max_ms: int = 50
    """Close a non-empty window at this age even while every lane is busy."""
    inflight_bytes_max: int = 64 << 20
    """Windows handed to a lane and not yet written. Reading stops beyond it; status updates go on."""
    inflight_windows_max: int = 16
    """Windows on their way to one lane: Ray's queue per sink actor stays this short. More wait at the source."""
    held_windows_max: int = 8_192
    """Windows on their way to one lane or waiting for it: bounds what small windows cost beyond their bytes."""
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
    fruitless_epochs_max: int = 10
    """With ``give_up_policy: on_retry_exhaustion``: restarts in a row without any progress before the flow fails."""
    healthy_after_ms: int = 60_000
    """A flow that ran this long, or moved every destination on, starts its back-off anew."""
    copy_attempts_max: int = 10
    """A table truncated or rewritten between snapshot and lock makes the copy start over, at most this often."""
    copy_chunk_bytes: int = 4 << 20
    """Bytes of COPY data decoded at once."""
    stream_pull_messages_max: int = 10_000
    """Messages one pull of a stream may ask for."""
    stream_pull_bytes_max: int = 3 << 20
    """... and about how many bytes it answers: gRPC clients take 4 MB unless told otherwise. A message always goes."""
    stream_ids_max: int = 10_000
    """Messages one acknowledgement, extension or return may name."""
    stream_visibility_max_s: int = 43_200
    """A claim lasts twelve hours at most; it can be extended again."""
    stream_wait_max_s: int = 60
    """A pull waits this long at most for messages."""
    stream_poll_ms: int = 1_000
    """A waiting pull looks by itself this often: claims run out silently, and a notification may be lost."""
    stream_lookahead: int = 1_000
    """Messages an ordered group looks at beyond those it takes, in search of free keys."""
    stream_blocked_max: int = 10_000
    """Messages of an ordered group that may wait behind others of their key before it stops looking further."""
    stream_retention_page: int = 10_000
    """Messages one statement of the retention looks at."""
    stream_retention_pages_max: int = 20
    """... and how many such statements run in a row."""
    stream_retention_interval_s: int = 10
    """A stream's retention runs at most this often."""
    stream_connections_max: int = 8
    """Connections of the API to the database of the streams."""
    stream_list_max: int = 1_000
    """Groups or dead letters one answer lists."""
