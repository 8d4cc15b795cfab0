import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StreamMessage(_message.Message):
    __slots__ = ("id", "stream", "namespace", "table", "lsn", "wire_format", "payload", "created_at", "claim", "attempts", "visible_at", "operation", "key")
    ID_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    LSN_FIELD_NUMBER: _ClassVar[int]
    WIRE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    VISIBLE_AT_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    id: int
    stream: str
    namespace: str
    table: str
    lsn: str
    wire_format: str
    payload: bytes
    created_at: _timestamp_pb2.Timestamp
    claim: int
    attempts: int
    visible_at: _timestamp_pb2.Timestamp
    operation: str
    key: str
    def __init__(self, id: _Optional[int] = ..., stream: _Optional[str] = ..., namespace: _Optional[str] = ..., table: _Optional[str] = ..., lsn: _Optional[str] = ..., wire_format: _Optional[str] = ..., payload: _Optional[bytes] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., claim: _Optional[int] = ..., attempts: _Optional[int] = ..., visible_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., operation: _Optional[str] = ..., key: _Optional[str] = ...) -> None: ...

class StreamPullRequest(_message.Message):
    __slots__ = ("stream", "consumer_group", "max_messages", "visibility_timeout_seconds", "consumer_id", "wait_seconds", "max_bytes")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_GROUP_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    VISIBILITY_TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_ID_FIELD_NUMBER: _ClassVar[int]
    WAIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    stream: str
    consumer_group: str
    max_messages: int
    visibility_timeout_seconds: int
    consumer_id: str
    wait_seconds: int
    max_bytes: int
    def __init__(self, stream: _Optional[str] = ..., consumer_group: _Optional[str] = ..., max_messages: _Optional[int] = ..., visibility_timeout_seconds: _Optional[int] = ..., consumer_id: _Optional[str] = ..., wait_seconds: _Optional[int] = ..., max_bytes: _Optional[int] = ...) -> None: ...

class StreamPullResponse(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[StreamMessage]
    def __init__(self, messages: _Optional[_Iterable[_Union[StreamMessage, _Mapping]]] = ...) -> None: ...

class StreamAckRequest(_message.Message):
    __slots__ = ("stream", "consumer_group", "ids", "claims", "consumer_id")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_GROUP_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_ID_FIELD_NUMBER: _ClassVar[int]
    stream: str
    consumer_group: str
    ids: _containers.RepeatedScalarFieldContainer[int]
    claims: _containers.RepeatedScalarFieldContainer[int]
    consumer_id: str
    def __init__(self, stream: _Optional[str] = ..., consumer_group: _Optional[str] = ..., ids: _Optional[_Iterable[int]] = ..., claims: _Optional[_Iterable[int]] = ..., consumer_id: _Optional[str] = ...) -> None: ...

class StreamAckResponse(_message.Message):
    __slots__ = ("acked", "stale_ids")
    ACKED_FIELD_NUMBER: _ClassVar[int]
    STALE_IDS_FIELD_NUMBER: _ClassVar[int]
    acked: int
    stale_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, acked: _Optional[int] = ..., stale_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class StreamReplayRequest(_message.Message):
    __slots__ = ("stream", "consumer_group", "from_lsn", "since")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_GROUP_FIELD_NUMBER: _ClassVar[int]
    FROM_LSN_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    stream: str
    consumer_group: str
    from_lsn: str
    since: _timestamp_pb2.Timestamp
    def __init__(self, stream: _Optional[str] = ..., consumer_group: _Optional[str] = ..., from_lsn: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class StreamReplayResponse(_message.Message):
    __slots__ = ("reset",)
    RESET_FIELD_NUMBER: _ClassVar[int]
    reset: int
    def __init__(self, reset: _Optional[int] = ...) -> None: ...

class StreamExtendRequest(_message.Message):
    __slots__ = ("stream", "consumer_group", "ids", "claims", "consumer_id", "visibility_timeout_seconds")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_GROUP_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_ID_FIELD_NUMBER: _ClassVar[int]
    VISIBILITY_TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    stream: str
    consumer_group: str
    ids: _containers.RepeatedScalarFieldContainer[int]
    claims: _containers.RepeatedScalarFieldContainer[int]
    consumer_id: str
    visibility_timeout_seconds: int
    def __init__(self, stream: _Optional[str] = ..., consumer_group: _Optional[str] = ..., ids: _Optional[_Iterable[int]] = ..., claims: _Optional[_Iterable[int]] = ..., consumer_id: _Optional[str] = ..., visibility_timeout_seconds: _Optional[int] = ...) -> None: ...

class StreamExtendResponse(_message.Message):
    __slots__ = ("extended", "stale_ids")
    EXTENDED_FIELD_NUMBER: _ClassVar[int]
    STALE_IDS_FIELD_NUMBER: _ClassVar[int]
    extended: int
    stale_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, extended: _Optional[int] = ..., stale_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class StreamNackRequest(_message.Message):
    __slots__ = ("stream", "consumer_group", "ids", "claims", "consumer_id", "delay_seconds")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_GROUP_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_ID_FIELD_NUMBER: _ClassVar[int]
    DELAY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    stream: str
    consumer_group: str
    ids: _containers.RepeatedScalarFieldContainer[int]
    claims: _containers.RepeatedScalarFieldContainer[int]
    consumer_id: str
    delay_seconds: int
    def __init__(self, stream: _Optional[str] = ..., consumer_group: _Optional[str] = ..., ids: _Optional[_Iterable[int]] = ..., claims: _Optional[_Iterable[int]] = ..., consumer_id: _Optional[str] = ..., delay_seconds: _Optional[int] = ...) -> None: ...

class StreamNackResponse(_message.Message):
    __slots__ = ("returned", "stale_ids")
    RETURNED_FIELD_NUMBER: _ClassVar[int]
    STALE_IDS_FIELD_NUMBER: _ClassVar[int]
    returned: int
    stale_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, returned: _Optional[int] = ..., stale_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class StreamGroup(_message.Message):
    __slots__ = ("stream", "consumer_group", "ordered", "max_attempts", "last_id", "cursor_id", "pending", "claimed", "available", "blocked", "dead")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_GROUP_FIELD_NUMBER: _ClassVar[int]
    ORDERED_FIELD_NUMBER: _ClassVar[int]
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    LAST_ID_FIELD_NUMBER: _ClassVar[int]
    CURSOR_ID_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    CLAIMED_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_FIELD_NUMBER: _ClassVar[int]
    DEAD_FIELD_NUMBER: _ClassVar[int]
    stream: str
    consumer_group: str
    ordered: bool
    max_attempts: int
    last_id: int
    cursor_id: int
    pending: int
    claimed: int
    available: int
    blocked: int
    dead: int
    def __init__(self, stream: _Optional[str] = ..., consumer_group: _Optional[str] = ..., ordered: bool = ..., max_attempts: _Optional[int] = ..., last_id: _Optional[int] = ..., cursor_id: _Optional[int] = ..., pending: _Optional[int] = ..., claimed: _Optional[int] = ..., available: _Optional[int] = ..., blocked: _Optional[int] = ..., dead: _Optional[int] = ...) -> None: ...

class StreamListGroupsRequest(_message.Message):
    __slots__ = ("stream",)
    STREAM_FIELD_NUMBER: _ClassVar[int]
    stream: str
    def __init__(self, stream: _Optional[str] = ...) -> None: ...

class StreamListGroupsResponse(_message.Message):
    __slots__ = ("groups",)
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedCompositeFieldContainer[StreamGroup]
    def __init__(self, groups: _Optional[_Iterable[_Union[StreamGroup, _Mapping]]] = ...) -> None: ...

class StreamLag(_message.Message):
    __slots__ = ("consumer_group", "messages", "bytes", "seconds", "oldest_at")
    CONSUMER_GROUP_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    OLDEST_AT_FIELD_NUMBER: _ClassVar[int]
    consumer_group: str
    messages: int
    bytes: int
    seconds: float
    oldest_at: _timestamp_pb2.Timestamp
    def __init__(self, consumer_group: _Optional[str] = ..., messages: _Optional[int] = ..., bytes: _Optional[int] = ..., seconds: _Optional[float] = ..., oldest_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class StreamGetLagRequest(_message.Message):
    __slots__ = ("stream", "consumer_group")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_GROUP_FIELD_NUMBER: _ClassVar[int]
    stream: str
    consumer_group: str
    def __init__(self, stream: _Optional[str] = ..., consumer_group: _Optional[str] = ...) -> None: ...

class StreamGetLagResponse(_message.Message):
    __slots__ = ("groups",)
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedCompositeFieldContainer[StreamLag]
    def __init__(self, groups: _Optional[_Iterable[_Union[StreamLag, _Mapping]]] = ...) -> None: ...

class StreamConfigureGroupRequest(_message.Message):
    __slots__ = ("stream", "consumer_group", "ordered", "max_attempts")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_GROUP_FIELD_NUMBER: _ClassVar[int]
    ORDERED_FIELD_NUMBER: _ClassVar[int]
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    stream: str
    consumer_group: str
    ordered: bool
    max_attempts: int
    def __init__(self, stream: _Optional[str] = ..., consumer_group: _Optional[str] = ..., ordered: bool = ..., max_attempts: _Optional[int] = ...) -> None: ...

class StreamDeleteGroupRequest(_message.Message):
    __slots__ = ("stream", "consumer_group")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_GROUP_FIELD_NUMBER: _ClassVar[int]
    stream: str
    consumer_group: str
    def __init__(self, stream: _Optional[str] = ..., consumer_group: _Optional[str] = ...) -> None: ...

class StreamDeleteGroupResponse(_message.Message):
    __slots__ = ("deleted",)
    DELETED_FIELD_NUMBER: _ClassVar[int]
    deleted: bool
    def __init__(self, deleted: bool = ...) -> None: ...

class StreamListDeadMessagesRequest(_message.Message):
    __slots__ = ("stream", "consumer_group", "page_size", "page_token")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_GROUP_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    stream: str
    consumer_group: str
    page_size: int
    page_token: str
    def __init__(self, stream: _Optional[str] = ..., consumer_group: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class StreamListDeadMessagesResponse(_message.Message):
    __slots__ = ("messages", "next_page_token")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[StreamMessage]
    next_page_token: str
    def __init__(self, messages: _Optional[_Iterable[_Union[StreamMessage, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class StreamRedriveRequest(_message.Message):
    __slots__ = ("stream", "consumer_group", "ids")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_GROUP_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    stream: str
    consumer_group: str
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, stream: _Optional[str] = ..., consumer_group: _Optional[str] = ..., ids: _Optional[_Iterable[int]] = ...) -> None: ...

class StreamRedriveResponse(_message.Message):
    __slots__ = ("redriven",)
    REDRIVEN_FIELD_NUMBER: _ClassVar[int]
    redriven: int
    def __init__(self, redriven: _Optional[int] = ...) -> None: ...
