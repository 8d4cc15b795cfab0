"""Process settings (file > environment > default) and the named limits of every queue, buffer and loop."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from wallaby.access import Role
from wallaby.errors import ConfigError
from wallaby.switch import switched


class Authentication(StrEnum):
    """Whether callers of the API must say who they are."""

    AUTO = "auto"
    """Not on loopback without TLS, where every user of the machine is an admin; everywhere else."""
    ON = "on"
    """Everywhere. For loopback that others reach through a proxy or a tunnel, or share."""
    OFF = "off"
    """Nowhere; on loopback only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files of the API's own side of TLS."""

    certificate: Path
    """The certificate, then those that lead to its CA."""
    key: Path
    client_ca: Path | None = None
    """Given: every client needs a certificate of this CA."""


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
    stream_rds_iam: bool = False
    """Log in there with IAM authentication of RDS, by AWS's own configuration; the DSN then holds no password."""
    stream_schema: str = "wallaby"
    """Their schema there: ``state_schema`` of the pgstream destination."""
    state_dir: Path = Path(".wallaby")
    """Where the embedded control store lives."""
    grpc_tls_cert: str = ""
    """The API's certificate chain (PEM file). Read again when the file changes."""
    grpc_tls_key: str = ""
    """... and its private key."""
    grpc_client_ca: str = ""
    """CA of client certificates (PEM file); given, every client needs one."""
    grpc_client_roles: str = ""
    """What client certificates may do, by a name in them: ``deploy=operator,ops.example=admin``."""
    grpc_auth: str = "auto"
    """``auto``, ``on`` or ``off``; see `Authentication`."""
    secret_key: str = ""
    """Refers to the keys of ``secret:NAME``: ``file:PATH`` or ``env:NAME``."""

    def __repr__(self) -> str:
        store = "postgres" if self.postgres_dsn else f"sqlite in {self.state_dir}"
        return f"Settings(grpc_listen={self.grpc_listen!r}, grpc_reflection={self.grpc_reflection}, store={store})"

    @property
    def grpc_address(self) -> tuple[str, int]:
        """Host and port of the API. `ConfigError` for an address that is none, or others could reach without TLS."""
        match = re.fullmatch(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]*):(?P<port>\d{1,5})", self.grpc_listen)
        if match is None or int(match["port"]) > 65_535:
            raise ConfigError(
                "is not host:port", field="WALLABY_GRPC_LISTEN", advice="Write for example 127.0.0.1:8080"
            )
        host = match["host"].strip("[]") or "0.0.0.0"  # noqa: S104 refused right below without TLS
        if not is_loopback(host) and self.grpc_tls is None:
            raise ConfigError(
                f"{host} can be reached by others, which needs TLS",
                field="WALLABY_GRPC_LISTEN",
                advice="Set WALLABY_GRPC_TLS_CERT and WALLABY_GRPC_TLS_KEY, or listen on 127.0.0.1:8080",
            )
        return host, int(match["port"])

    @property
    def grpc_tls(self) -> TlsFiles | None:
        """The files of TLS; None without. `ConfigError` when one is missing. They are not read here."""
        if not self.grpc_tls_cert and not self.grpc_tls_key:
            if self.grpc_client_ca:
                raise ConfigError("needs TLS", field="WALLABY_GRPC_CLIENT_CA", advice="Set WALLABY_GRPC_TLS_CERT too")
            return None
        if not self.grpc_tls_cert or not self.grpc_tls_key:
            missing = "WALLABY_GRPC_TLS_KEY" if self.grpc_tls_cert else "WALLABY_GRPC_TLS_CERT"
            raise ConfigError("is missing: TLS needs a certificate and its key", field=missing)
        return TlsFiles(
            certificate=Path(self.grpc_tls_cert).expanduser(),
            key=Path(self.grpc_tls_key).expanduser(),
            client_ca=Path(self.grpc_client_ca).expanduser() if self.grpc_client_ca else None,
        )

    @property
    def grpc_needs_authentication(self) -> bool:
        """Whether callers must say who they are. `ConfigError` for ``off`` where others could reach the API."""
        try:
            wanted = Authentication(self.grpc_auth.strip().lower())
        except ValueError:
            raise ConfigError("must be auto, on or off", field="WALLABY_GRPC_AUTH") from None
        is_local = is_loopback(self.grpc_address[0])
        match wanted:
            case Authentication.ON:
                return True
            case Authentication.OFF:
                if not is_local:
                    raise ConfigError(
                        "off is for loopback only: others can reach this address",
                        field="WALLABY_GRPC_AUTH",
                        advice="Set it to auto, and give every caller a token or a certificate",
                    )
                return False
            case Authentication.AUTO:
                return not is_local or self.grpc_tls is not None

    @property
    def grpc_certificate_roles(self) -> Mapping[str, Role]:
        """Roles by the names in client certificates. `ConfigError` for an entry that is none."""
        roles: dict[str, Role] = {}
        for entry in filter(None, (part.strip() for part in self.grpc_client_roles.split(","))):
            name, equals, role = (word.strip() for word in entry.rpartition("="))
            if not equals or not name or role not in list(Role) or name in roles:
                raise ConfigError(
                    "must be entries such as deploy=operator, each name once",
                    field="WALLABY_GRPC_CLIENT_ROLES",
                    advice=f"The roles are {', '.join(Role)}",
                )
            roles[name] = Role(role)
        if roles and not self.grpc_client_ca:
            raise ConfigError("needs WALLABY_GRPC_CLIENT_CA", field="WALLABY_GRPC_CLIENT_ROLES")
        return roles

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
        for name in ("grpc_reflection", "stream_rds_iam"):
            if name in given:
                settings[name] = _boolean(given[name], VARIABLES[name])
        if "state_dir" in given:
            settings["state_dir"] = Path(given["state_dir"]).expanduser()
        return cls(**settings)


VARIABLES: Final[Mapping[str, str]] = {
    "grpc_listen": "WALLABY_GRPC_LISTEN",
    "grpc_reflection": "WALLABY_GRPC_REFLECTION",
    "postgres_dsn": "WALLABY_POSTGRES_DSN",
    "stream_dsn": "WALLABY_STREAM_DSN",
    "stream_rds_iam": "WALLABY_STREAM_RDS_IAM",
    "stream_schema": "WALLABY_STREAM_SCHEMA",
    "state_dir": "WALLABY_STATE_DIR",
    "grpc_tls_cert": "WALLABY_GRPC_TLS_CERT",
    "grpc_tls_key": "WALLABY_GRPC_TLS_KEY",
    "grpc_client_ca": "WALLABY_GRPC_CLIENT_CA",
    "grpc_client_roles": "WALLABY_GRPC_CLIENT_ROLES",
    "grpc_auth": "WALLABY_GRPC_AUTH",
    "secret_key": "WALLABY_SECRET_KEY",
}
"""The environment variable of each setting."""


def _boolean(text: str, field: str) -> bool:
    if (word := switched(text)) is None:
        raise ConfigError("must be true or false", field=field)
    return word


def is_loopback(host: str) -> bool:
    """True for an address only this machine reaches; other names than ``localhost`` are not looked up."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """How a command reaches the API: its options, else the environment, else these defaults."""

    endpoint: str = "localhost:8080"
    """``host:port``."""
    is_insecure: bool | None = None
    """True: without TLS; False: with TLS; None: with TLS unless the endpoint is loopback and no file is given."""
    ca_file: str = ""
    """CA of the server's certificate (PEM); empty: the CAs gRPC knows."""
    cert_file: str = ""
    """Our certificate (PEM), for servers that ask for one."""
    key_file: str = ""
    token: str = field(default="", repr=False)
    """The bearer token, or a reference ``env:NAME`` or ``file:PATH`` to it."""
    request_id: str = ""
    """Sent with every call that changes something; empty: a new one each."""

    @classmethod
    def load(cls, environment: Mapping[str, str], options: Mapping[str, Any]) -> ClientSettings:
        """``options`` (None or empty: not given) before the environment. `ConfigError` for a token in clear in them."""
        given = {
            name: environment[variable] for name, variable in CLIENT_VARIABLES.items() if environment.get(variable)
        }
        token = options.get("token")
        if token and not (token.startswith("env:") or (token.startswith("file:") and not token.startswith("file://"))):
            raise ConfigError(
                "must not hold the token itself: everybody on this machine could read it",
                field="-token",
                advice="Write file:PATH or env:NAME, or set WALLABY_TOKEN",
            )
        return cls(**given | {name: value for name, value in options.items() if value not in (None, "")})

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is made with TLS. `ConfigError` for options that contradict each other."""
        if bool(self.cert_file) != bool(self.key_file):
            raise ConfigError("a client certificate needs both", field="-cert-file, -key-file")
        has_files = bool(self.ca_file or self.cert_file)
        if self.is_insecure and has_files:
            raise ConfigError("contradicts the files of TLS that are given", field="-insecure")
        host = self.endpoint.rpartition(":")[0].strip("[]")
        is_near = is_loopback(host)
        if self.is_insecure and self.token and not is_near:
            raise ConfigError(
                "would send the token over the network in clear",
                field="-insecure",
                advice="Leave it out: TLS is used then",
            )
        return not self.is_insecure if self.is_insecure is not None else has_files or not is_near


CLIENT_VARIABLES: Final[Mapping[str, str]] = {
    "endpoint": "WALLABY_ENDPOINT",
    "ca_file": "WALLABY_CA_FILE",
    "cert_file": "WALLABY_CERT_FILE",
    "key_file": "WALLABY_KEY_FILE",
    "token": "WALLABY_TOKEN",
}
"""The environment variable of each setting of a client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiLimits:
    """Bounds of the API."""

    calls_max: int = 512
    """Calls at once, open watches included; more are answered RESOURCE_EXHAUSTED."""
    watchers_max: int = 256
    """Open watches; more are told to come back later."""
    request_bytes_max: int = 4 << 20
    """The largest flow definition is a quarter of it."""
    answer_bytes_max: int = 32 << 20
    calls_per_s: float = 500
    """Per caller, in the long run: a loop that went mad must not take the control store from the others."""
    calls_burst: int = 1_000
    """... and at once after a pause."""
    failures_per_s: float = 1
    """Callers that are not let in, per address."""
    failures_burst: int = 20
    callers_max: int = 4_096
    """Callers whose rate is remembered; the one that was quiet longest is forgotten first."""
    audit_queue_max: int = 10_000
    """Audit records on their way to the store. When it is full calls are refused: none goes unrecorded."""
    audit_batch_max: int = 500
    audit_delay_ms: int = 200
    """Records of reads wait this long for company; a change is answered after its record is stored."""
    audit_wait_ms: int = 5_000
    """... or after this long, when the store went away in between."""
    source_calls_max: int = 4
    """Calls that ask a flow's source at once, each with a connection to it; more wait for their turn."""
    source_statement_ms: int = 30_000
    """... where a table may be locked by somebody's open transaction."""
    source_names_max: int = 10_000
    """Tables or schemas in one such call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of the data path. Each has a reason; none is unlimited."""

    arena_bytes: int = 8 << 20
    """The receive arena: 1 to 4 MB parse best, twice that leaves room for a message in flight. Larger ones grow it."""
    parse_bytes: int = 1 << 20
    """In a flood, decode when this much has been received: a feed costs a millisecond however little it decodes."""
    parse_age_max_ms: int = 100
    """... or when the oldest of it has waited this long,"""
    parse_age_live_max_ms: int = 5
    """... or this long while the stream is not behind."""
    flood_bytes_per_s: int = 1 << 20
    """From this speed on the stream is in flood: what arrives is gathered before it is decoded and sent."""
    behind_after_ms: int = 250
    """A change committed this long before the server sent it comes from a backlog: throughput before latency."""
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
    process_start_ms_max: int = 120_000
    """A process that does not answer its first question for this long is given up; a busy machine needs a minute."""
    flows_starting_max: int = 4
    """Flows of one driver whose processes come up at once: each takes seconds of CPU."""
    status_poll_ms: int = 250
    """The supervisor asks a flow for its status this often,"""
    status_polls_per_s_max: int = 40
    """... unless that would be more questions than these, over all flows of the driver."""
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
    copy_note_interval_ms: int = 1_000
    """The control store hears at most this often how far a copy is."""
    isolated_bytes_max: int = 128 << 20
    """A lane keeps what it wrote since its last commit, so that refused rows can be found in it; a transaction beyond
    this is not kept, and a row of it that is refused stops the flow."""
    isolated_rows_max: int = 100
    """Refused rows (keys) of one commit; more are no accident of single rows, and stop the flow."""
    isolation_trials_max: int = 4_096
    """Writes that may be tried in search of them, per commit."""
    letters_max: int = 10_000
    """Dead letters of a flow that wait for somebody."""
    letters_bytes_max: int = 256 << 20
    """... and what their contents may take in the control store."""
    letters_settled_max: int = 10_000
    """Dead letters of a flow remembered after they were replayed or discarded, without content."""
    care_jobs_max: int = 1
    """Jobs of care for lake tables at once, over all flows of a driver: each has a core, which the streams lack."""
    care_job_ms_max: int = 3_600_000
    """A job that takes longer is ended; what it did not commit is nobody's."""
    care_poll_ms: int = 1_000
    """A round that is due waits for its flow to stream, and looks this often."""
    replay_bytes_max: int = 64 << 20
    """A lane reads letters to replay this much at a time, and at least one replay."""
    fetch_timeout_ms: int = 5_000
    """Reading unchanged values for one window takes at most this long: status updates to the server wait meanwhile."""
    fetch_rest_ms: int = 10_000
    """A source that was too slow for that is not asked again for this long."""
    filled_bytes_max: int = 64 << 20
    """Filling unchanged values adds at most this much to a window, and the one value that reaches it."""
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
