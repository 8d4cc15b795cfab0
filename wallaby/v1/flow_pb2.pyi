import datetime

from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from wallaby.v1 import snapshot_pb2 as _snapshot_pb2
from wallaby.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PlannedAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PLANNED_ACTION_UNSPECIFIED: _ClassVar[PlannedAction]
    PLANNED_ACTION_NONE: _ClassVar[PlannedAction]
    PLANNED_ACTION_CREATE: _ClassVar[PlannedAction]
    PLANNED_ACTION_UPDATE: _ClassVar[PlannedAction]
    PLANNED_ACTION_DELETE: _ClassVar[PlannedAction]
PLANNED_ACTION_UNSPECIFIED: PlannedAction
PLANNED_ACTION_NONE: PlannedAction
PLANNED_ACTION_CREATE: PlannedAction
PLANNED_ACTION_UPDATE: PlannedAction
PLANNED_ACTION_DELETE: PlannedAction

class CreateFlowRequest(_message.Message):
    __slots__ = ("flow", "start_immediately")
    FLOW_FIELD_NUMBER: _ClassVar[int]
    START_IMMEDIATELY_FIELD_NUMBER: _ClassVar[int]
    flow: _types_pb2.Flow
    start_immediately: bool
    def __init__(self, flow: _Optional[_Union[_types_pb2.Flow, _Mapping]] = ..., start_immediately: bool = ...) -> None: ...

class UpdateFlowRequest(_message.Message):
    __slots__ = ("flow", "expected_revision")
    FLOW_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_REVISION_FIELD_NUMBER: _ClassVar[int]
    flow: _types_pb2.Flow
    expected_revision: int
    def __init__(self, flow: _Optional[_Union[_types_pb2.Flow, _Mapping]] = ..., expected_revision: _Optional[int] = ...) -> None: ...

class StartFlowRequest(_message.Message):
    __slots__ = ("flow_id",)
    FLOW_ID_FIELD_NUMBER: _ClassVar[int]
    flow_id: str
    def __init__(self, flow_id: _Optional[str] = ...) -> None: ...

class RunFlowOnceRequest(_message.Message):
    __slots__ = ("flow_id",)
    FLOW_ID_FIELD_NUMBER: _ClassVar[int]
    flow_id: str
    def __init__(self, flow_id: _Optional[str] = ...) -> None: ...

class RunFlowOnceResponse(_message.Message):
    __slots__ = ("dispatched",)
    DISPATCHED_FIELD_NUMBER: _ClassVar[int]
    dispatched: bool
    def __init__(self, dispatched: bool = ...) -> None: ...

class StopFlowRequest(_message.Message):
    __slots__ = ("flow_id",)
    FLOW_ID_FIELD_NUMBER: _ClassVar[int]
    flow_id: str
    def __init__(self, flow_id: _Optional[str] = ...) -> None: ...

class ResumeFlowRequest(_message.Message):
    __slots__ = ("flow_id",)
    FLOW_ID_FIELD_NUMBER: _ClassVar[int]
    flow_id: str
    def __init__(self, flow_id: _Optional[str] = ...) -> None: ...

class GetFlowRequest(_message.Message):
    __slots__ = ("flow_id",)
    FLOW_ID_FIELD_NUMBER: _ClassVar[int]
    flow_id: str
    def __init__(self, flow_id: _Optional[str] = ...) -> None: ...

class ListFlowsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListFlowsResponse(_message.Message):
    __slots__ = ("flows", "next_page_token")
    FLOWS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    flows: _containers.RepeatedCompositeFieldContainer[_types_pb2.Flow]
    next_page_token: str
    def __init__(self, flows: _Optional[_Iterable[_Union[_types_pb2.Flow, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteFlowRequest(_message.Message):
    __slots__ = ("flow_id",)
    FLOW_ID_FIELD_NUMBER: _ClassVar[int]
    flow_id: str
    def __init__(self, flow_id: _Optional[str] = ...) -> None: ...

class DeleteFlowResponse(_message.Message):
    __slots__ = ("deleted",)
    DELETED_FIELD_NUMBER: _ClassVar[int]
    deleted: bool
    def __init__(self, deleted: bool = ...) -> None: ...

class ValidateFlowRequest(_message.Message):
    __slots__ = ("flow",)
    FLOW_FIELD_NUMBER: _ClassVar[int]
    flow: _types_pb2.Flow
    def __init__(self, flow: _Optional[_Union[_types_pb2.Flow, _Mapping]] = ...) -> None: ...

class FieldProblem(_message.Message):
    __slots__ = ("field", "message", "advice")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    field: str
    message: str
    advice: str
    def __init__(self, field: _Optional[str] = ..., message: _Optional[str] = ..., advice: _Optional[str] = ...) -> None: ...

class FlowFinding(_message.Message):
    __slots__ = ("severity", "subject", "message", "advice", "code")
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    severity: str
    subject: str
    message: str
    advice: str
    code: str
    def __init__(self, severity: _Optional[str] = ..., subject: _Optional[str] = ..., message: _Optional[str] = ..., advice: _Optional[str] = ..., code: _Optional[str] = ...) -> None: ...

class ValidateFlowResponse(_message.Message):
    __slots__ = ("valid", "problems", "findings", "guarantees")
    class GuaranteesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    VALID_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    GUARANTEES_FIELD_NUMBER: _ClassVar[int]
    valid: bool
    problems: _containers.RepeatedCompositeFieldContainer[FieldProblem]
    findings: _containers.RepeatedCompositeFieldContainer[FlowFinding]
    guarantees: _containers.ScalarMap[str, str]
    def __init__(self, valid: bool = ..., problems: _Optional[_Iterable[_Union[FieldProblem, _Mapping]]] = ..., findings: _Optional[_Iterable[_Union[FlowFinding, _Mapping]]] = ..., guarantees: _Optional[_Mapping[str, str]] = ...) -> None: ...

class GetFlowStatusRequest(_message.Message):
    __slots__ = ("flow_id",)
    FLOW_ID_FIELD_NUMBER: _ClassVar[int]
    flow_id: str
    def __init__(self, flow_id: _Optional[str] = ...) -> None: ...

class GetFlowStatusResponse(_message.Message):
    __slots__ = ("flow_id", "state", "status")
    FLOW_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    flow_id: str
    state: _types_pb2.FlowState
    status: _struct_pb2.Struct
    def __init__(self, flow_id: _Optional[str] = ..., state: _Optional[_Union[_types_pb2.FlowState, str]] = ..., status: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class PauseFlowRequest(_message.Message):
    __slots__ = ("flow_id",)
    FLOW_ID_FIELD_NUMBER: _ClassVar[int]
    flow_id: str
    def __init__(self, flow_id: _Optional[str] = ...) -> None: ...

class PlanFlowRequest(_message.Message):
    __slots__ = ("flow", "deleted_flow_ids")
    FLOW_FIELD_NUMBER: _ClassVar[int]
    DELETED_FLOW_IDS_FIELD_NUMBER: _ClassVar[int]
    flow: _types_pb2.Flow
    deleted_flow_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, flow: _Optional[_Union[_types_pb2.Flow, _Mapping]] = ..., deleted_flow_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class PlannedChange(_message.Message):
    __slots__ = ("field", "before", "after", "destructive")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    DESTRUCTIVE_FIELD_NUMBER: _ClassVar[int]
    field: str
    before: str
    after: str
    destructive: str
    def __init__(self, field: _Optional[str] = ..., before: _Optional[str] = ..., after: _Optional[str] = ..., destructive: _Optional[str] = ...) -> None: ...

class PlanFlowResponse(_message.Message):
    __slots__ = ("flow_id", "action", "changes", "state", "revision")
    FLOW_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    flow_id: str
    action: PlannedAction
    changes: _containers.RepeatedCompositeFieldContainer[PlannedChange]
    state: _types_pb2.FlowState
    revision: int
    def __init__(self, flow_id: _Optional[str] = ..., action: _Optional[_Union[PlannedAction, str]] = ..., changes: _Optional[_Iterable[_Union[PlannedChange, _Mapping]]] = ..., state: _Optional[_Union[_types_pb2.FlowState, str]] = ..., revision: _Optional[int] = ...) -> None: ...

class WatchFlowRequest(_message.Message):
    __slots__ = ("flow_id", "cursor", "snapshots")
    FLOW_ID_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    flow_id: str
    cursor: int
    snapshots: bool
    def __init__(self, flow_id: _Optional[str] = ..., cursor: _Optional[int] = ..., snapshots: bool = ...) -> None: ...

class WatchFlowResponse(_message.Message):
    __slots__ = ("cursor", "flow_id", "command", "before", "after", "reason", "at", "snapshot")
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    FLOW_ID_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    cursor: int
    flow_id: str
    command: str
    before: _types_pb2.FlowState
    after: _types_pb2.FlowState
    reason: str
    at: _timestamp_pb2.Timestamp
    snapshot: _snapshot_pb2.Snapshot
    def __init__(self, cursor: _Optional[int] = ..., flow_id: _Optional[str] = ..., command: _Optional[str] = ..., before: _Optional[_Union[_types_pb2.FlowState, str]] = ..., after: _Optional[_Union[_types_pb2.FlowState, str]] = ..., reason: _Optional[str] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., snapshot: _Optional[_Union[_snapshot_pb2.Snapshot, _Mapping]] = ...) -> None: ...
