"""libpq and server errors told as wallaby errors: what the caller may do, what an operator can do, and no secrets.

The server's own sentence is repeated only for classes that speak about names and settings, never for those that may
quote data. A DSN that does not parse is not quoted at all: libpq's complaint may contain a piece of the password.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from wallaby.errors import (
    BinaryUnsupported,
    CheckFailed,
    ConfigError,
    SlotBusy,
    SlotLost,
    SourceUnavailable,
    WallabyError,
)
from wallaby.login import IAM_ADVICE, Dsn, IamDsn, dsn_text, require_iam_fit

_REPEATABLE: Final = ("08", "28", "3D", "42", "53", "55", "57", "58")
"""SQLSTATE classes whose primary message names objects, settings and limits only."""


def describe_dsn(dsn: Dsn) -> str:
    """``host:port/database`` for messages; never the user, the password or other parameters."""
    try:
        parts = conninfo_to_dict(dsn_text(dsn))
    except psycopg.ProgrammingError:
        return "(unreadable connection string)"
    host = str(parts.get("hostaddr") or parts.get("host") or "local socket")
    if host.startswith("/"):
        host = "local socket"
    return f"{host}:{parts.get('port') or 5432}/{parts.get('dbname') or parts.get('user') or ''}"


def validate_dsn(dsn: Dsn, field: str) -> None:
    """`ConfigError` naming ``field`` when the text is no connection string, names no host, or does not fit IAM.

    Nothing is contacted.
    """
    advice = "Write postgresql://user:password@host:5432/database, or keyword=value pairs."
    try:
        parts = conninfo_to_dict(dsn_text(dsn))
    except psycopg.ProgrammingError:
        raise ConfigError("this is not a PostgreSQL connection string", advice=advice, field=field) from None
    if not parts.get("host") and not parts.get("hostaddr") and not parts.get("service"):
        raise ConfigError("the connection string names no host", advice=advice, field=field)
    if not parts.get("dbname") and not parts.get("service"):
        raise ConfigError("the connection string names no database", advice=advice, field=field)
    ports = [port or "5432" for port in str(parts.get("port") or "").split(",")]
    if not all(port.isascii() and port.isdigit() and 0 < int(port) < 65_536 for port in ports):
        raise ConfigError("the port is not a number from 1 to 65535", advice=advice, field=field)
    if "replication" in parts:
        raise ConfigError(
            "the connection string sets replication", advice="Leave it out: it is added where needed.", field=field
        )
    if isinstance(dsn, IamDsn):
        require_iam_fit(dict(parts), field=field)


def translate(error: psycopg.Error, *, dsn: Dsn, doing: str, slot: str | None = None) -> WallabyError:
    """The wallaby error for ``error``; raise it ``from`` the original. ``doing`` completes "cannot …"."""
    state = error.sqlstate
    if state is None:
        return _without_state(str(error), dsn=dsn, doing=doing, slot=slot)
    said = (error.diag.message_primary or "") if state.startswith(_REPEATABLE) else ""
    return _with_state(state, said, dsn=dsn, doing=doing, slot=slot)


def _with_state(state: str, said: str, *, dsn: Dsn, doing: str, slot: str | None) -> WallabyError:
    make, advice = _classify(state, said)
    because = f": {said}" if said else ""
    return make(f"cannot {doing}{because}", advice=advice, source=describe_dsn(dsn), slot=slot, sqlstate=state)


def _classify(state: str, said: str) -> tuple[Callable[..., WallabyError], str]:
    match state:
        case "28P01":
            return CheckFailed, "Check user and password of the connection."
        case "28000":
            return CheckFailed, "Allow this user, database and address in pg_hba.conf (and TLS, if it is demanded)."
        case "3D000":
            return CheckFailed, "Check the database name of the connection."
        case "55006" if "slot" in said:
            return SlotBusy, "Another consumer streams from this slot; stop it or use another slot."
        case "42501":
            return CheckFailed, "Grant the missing privilege to the role of the connection."
        case "42883" if "no binary output function" in said:
            return BinaryUnsupported, "The stream is opened again as text."
        case "42704" if "publication" in said:
            return CheckFailed, (
                "The publication did not exist at the position the slot stands at; "
                "create it, then reset the flow so that a new slot is made."
            )
        case "42704" if "slot" in said:
            return SlotLost, "The slot is gone. Reset the flow to copy anew, or restore the slot."
        case "55000" if "wal_level" in said:
            return CheckFailed, "Set wal_level = logical and restart the server."
        case "55000" if "slot" in said or "logical decoding" in said:
            return SlotLost, "The server invalidated the slot. Reset the flow to copy anew; see max_slot_wal_keep_size."
        case "58P01":
            return SlotLost, "WAL the slot needs was removed. Reset the flow to copy anew; see max_slot_wal_keep_size."
        case "53400":
            return CheckFailed, "Raise max_replication_slots, or drop slots nobody uses."
        case _ if state[:2] in ("08", "40", "53", "57", "58", "XX") or state in ("55006", "55P03"):
            return SourceUnavailable, "It is tried again."
        case _:
            return CheckFailed, "The server refused; its log has the details."


_NO_PRIMARY: Final = "none of the servers takes writes: a standby waits to be promoted"

_CONNECT_WORDS: Final[tuple[tuple[str, type[WallabyError], str, str], ...]] = (
    ("password authentication failed", CheckFailed, "28P01", "the server refuses user or password"),
    ("no password supplied", CheckFailed, "28P01", "the server demands a password and none is given"),
    ("no pg_hba.conf entry", CheckFailed, "28000", "pg_hba.conf has no entry for this user, database and address"),
    ("pg_hba.conf rejects", CheckFailed, "28000", "pg_hba.conf rejects this user, database and address"),
    ("authentication failed", CheckFailed, "28000", "the server refuses the authentication"),
    ("role ", CheckFailed, "28000", "the role does not exist or may not log in"),
    ("permission denied", CheckFailed, "42501", "permission denied"),
    ("must be superuser or replication", CheckFailed, "42501", "the role lacks the REPLICATION attribute"),
    ("certificate", CheckFailed, "28000", "the TLS certificate is not accepted"),
    ("does not support SSL", CheckFailed, "28000", "the server offers no TLS but the connection demands it"),
    ("starting up", SourceUnavailable, "57P03", "the server is starting up"),
    ("shutting down", SourceUnavailable, "57P03", "the server is shutting down"),
    ("recovery mode", SourceUnavailable, "57P03", "the server is recovering"),
    ("session is read-only", SourceUnavailable, "57P03", _NO_PRIMARY),
    ("hot standby mode", SourceUnavailable, "57P03", _NO_PRIMARY),
    ("too many clients", SourceUnavailable, "53300", "the server has no free connection"),
    ("remaining connection slots", SourceUnavailable, "53300", "the server has no free connection"),
    ("wal senders", SourceUnavailable, "53300", "the server has no free walsender; raise max_wal_senders"),
    ("refused", SourceUnavailable, "08001", "nobody listens there"),
    ("timeout", SourceUnavailable, "08001", "the server does not answer in time"),
    ("translate host name", SourceUnavailable, "08001", "the host name cannot be resolved"),
)
"""libpq gives no SQLSTATE while connecting. English words first; anything else is "unavailable"."""
_LOGIN_REFUSED: Final = ("the server refuses user or password", "the server refuses the authentication")
"""RDS says the latter of a token it does not take."""


def _without_state(text: str, *, dsn: Dsn, doing: str, slot: str | None) -> WallabyError:
    lowered = text.lower()
    if "database " in lowered and "does not exist" in lowered:
        return _with_state("3D000", "the database does not exist", dsn=dsn, doing=doing, slot=slot)
    for words, kind, state, meaning in _CONNECT_WORDS:
        if words.lower() in lowered:
            _, advice = _classify(state, "")
            if isinstance(dsn, IamDsn) and meaning in _LOGIN_REFUSED:
                advice = IAM_ADVICE
            return kind(f"cannot {doing}: {meaning}", advice=advice, source=describe_dsn(dsn), slot=slot)
    return SourceUnavailable(
        f"cannot {doing}: the connection is lost or was never made",
        advice="Check that the server runs and is reachable; it is tried again.",
        source=describe_dsn(dsn),
        slot=slot,
    )
