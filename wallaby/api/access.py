"""The one table of what each method of the API needs. A method that is not in it is refused to everybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from wallaby.access import Role


@dataclass(frozen=True, slots=True)
class Rule:
    """What a method needs and does."""

    role: Role | None
    """The least role; None: anybody, without saying who it is, and without a record."""
    is_change: bool = False
    """It may change something: a repeat of the same request id gets the first answer."""
    keeps_answer: bool = True
    """False: neither its request nor its answer may be kept in any form, for they hold what is secret."""


_SHOWS: Final = Rule(Role.VIEWER)
_STEERS: Final = Rule(Role.OPERATOR, is_change=True)
_READS_ROWS: Final = Rule(Role.OPERATOR, is_change=True)
_HANDS_ROWS: Final = Rule(Role.OPERATOR)
"""The busy part of a stream: recorded as reads, it waits for no record and pushes no change out of the log."""
_ASKS_SOURCE: Final = Rule(Role.OPERATOR)
_INSPECTS: Final = Rule(Role.ADMIN)
_GOVERNS: Final = Rule(Role.ADMIN, is_change=True)
_HOLDS_SECRETS: Final = Rule(Role.ADMIN, is_change=True, keeps_answer=False)
_PUBLIC: Final = Rule(None)

_WALLABY: Final[Mapping[str, Mapping[str, Rule]]] = {
    "FlowService": {
        "CreateFlow": _STEERS,
        "UpdateFlow": _STEERS,
        "StartFlow": _STEERS,
        "RunFlowOnce": _STEERS,
        "StopFlow": _STEERS,
        "PauseFlow": _STEERS,
        "ResumeFlow": _STEERS,
        "GetFlow": _SHOWS,
        "ListFlows": _SHOWS,
        "DeleteFlow": _STEERS,
        "ValidateFlow": _SHOWS,
        "GetFlowStatus": _SHOWS,
        "PlanFlow": _SHOWS,
        "WatchFlow": _SHOWS,
    },
    "SnapshotService": {
        "GetSnapshot": _SHOWS,
        "ListSnapshots": _SHOWS,
        "RestartSnapshot": _STEERS,
        "CancelSnapshot": _STEERS,
    },
    "CheckpointService": {
        "GetCheckpoint": _SHOWS,
        "PutCheckpoint": _GOVERNS,
        "ListCheckpoints": _SHOWS,
    },
    "DDLService": {
        "ListPendingDDL": _SHOWS,
        "ListDDL": _SHOWS,
        "ApproveDDL": _STEERS,
        "RejectDDL": _STEERS,
        "MarkDDLApplied": _STEERS,
    },
    "DeadLetterService": {
        "ListDeadLetters": _SHOWS,
        "GetDeadLetter": _SHOWS,
        # The payload holds rows, which a viewer does not see.
        "GetDeadLetterPayload": _HANDS_ROWS,
        "ReplayDeadLetters": _STEERS,
        "DiscardDeadLetters": _STEERS,
    },
    "StreamService": {
        # Messages hold rows, which a viewer does not see.
        "Pull": _HANDS_ROWS,
        "Ack": _HANDS_ROWS,
        "Replay": _READS_ROWS,
        "Extend": _READS_ROWS,
        "Nack": _READS_ROWS,
        "ListGroups": _READS_ROWS,
        "GetLag": _READS_ROWS,
        "ConfigureGroup": _READS_ROWS,
        "DeleteGroup": _READS_ROWS,
        "ListDeadMessages": _READS_ROWS,
        "Redrive": _READS_ROWS,
    },
    # These act on the source's server, with whatever its role may do there.
    "SourceService": {
        "ListSlots": _ASKS_SOURCE,
        "DropSlot": _STEERS,
        "GetPublication": _ASKS_SOURCE,
        "ListUnpublishedTables": _ASKS_SOURCE,
        "AddPublicationTables": _STEERS,
        "RemovePublicationTables": _STEERS,
        "SyncPublication": _STEERS,
    },
    "IngestService": {
        "IngestBatch": _READS_ROWS,
    },
    "TokenService": {
        "CreateToken": _HOLDS_SECRETS,
        "ListTokens": _INSPECTS,
        "RevokeToken": _GOVERNS,
    },
    "SecretService": {
        "PutSecret": _HOLDS_SECRETS,
        "ListSecrets": _INSPECTS,
        "DeleteSecret": _GOVERNS,
        "RotateSecrets": _GOVERNS,
    },
    "AuditService": {
        "ListCalls": _INSPECTS,
    },
}

RULES: Final[Mapping[str, Rule]] = {
    **{
        f"/wallaby.v1.{service}/{method}": rule
        for service, methods in _WALLABY.items()
        for method, rule in methods.items()
    },
    # Probes have no token, and learn nothing but "serving".
    "/grpc.health.v1.Health/Check": _PUBLIC,
    "/grpc.health.v1.Health/List": _PUBLIC,
    "/grpc.health.v1.Health/Watch": _PUBLIC,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _SHOWS,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": _SHOWS,
}
"""The rule of each method by its full path."""
