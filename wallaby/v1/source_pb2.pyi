from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReplicationSlot(_message.Message):
    __slots__ = ("name", "plugin", "active", "wal_status", "lost", "restart_lsn", "confirmed_flush_lsn", "kept_bytes", "safe_wal_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PLUGIN_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    WAL_STATUS_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    RESTART_LSN_FIELD_NUMBER: _ClassVar[int]
    CONFIRMED_FLUSH_LSN_FIELD_NUMBER: _ClassVar[int]
    KEPT_BYTES_FIELD_NUMBER: _ClassVar[int]
    SAFE_WAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    plugin: str
    active: bool
    wal_status: str
    lost: str
    restart_lsn: str
    confirmed_flush_lsn: str
    kept_bytes: int
    safe_wal_bytes: int
    def __init__(self, name: _Optional[str] = ..., plugin: _Optional[str] = ..., active: bool = ..., wal_status: _Optional[str] = ..., lost: _Optional[str] = ..., restart_lsn: _Optional[str] = ..., confirmed_flush_lsn: _Optional[str] = ..., kept_bytes: _Optional[int] = ..., safe_wal_bytes: _Optional[int] = ...) -> None: ...

class ListSlotsRequest(_message.Message):
    __slots__ = ("flow_id",)
    FLOW_ID_FIELD_NUMBER: _ClassVar[int]
    flow_id: str
    def __init__(self, flow_id: _Optional[str] = ...) -> None: ...

class ListSlotsResponse(_message.Message):
    __slots__ = ("slots",)
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    slots: _containers.RepeatedCompositeFieldContainer[ReplicationSlot]
    def __init__(self, slots: _Optional[_Iterable[_Union[ReplicationSlot, _Mapping]]] = ...) -> None: ...

class DropSlotRequest(_message.Message):
    __slots__ = ("flow_id", "slot")
    FLOW_ID_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    flow_id: str
    slot: str
    def __init__(self, flow_id: _Optional[str] = ..., slot: _Optional[str] = ...) -> None: ...

class DropSlotResponse(_message.Message):
    __slots__ = ("slot",)
    SLOT_FIELD_NUMBER: _ClassVar[int]
    slot: str
    def __init__(self, slot: _Optional[str] = ...) -> None: ...

class GetPublicationRequest(_message.Message):
    __slots__ = ("flow_id", "publication")
    FLOW_ID_FIELD_NUMBER: _ClassVar[int]
    PUBLICATION_FIELD_NUMBER: _ClassVar[int]
    flow_id: str
    publication: str
    def __init__(self, flow_id: _Optional[str] = ..., publication: _Optional[str] = ...) -> None: ...

class GetPublicationResponse(_message.Message):
    __slots__ = ("publication", "tables")
    PUBLICATION_FIELD_NUMBER: _ClassVar[int]
    TABLES_FIELD_NUMBER: _ClassVar[int]
    publication: str
    tables: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, publication: _Optional[str] = ..., tables: _Optional[_Iterable[str]] = ...) -> None: ...

class ListUnpublishedTablesRequest(_message.Message):
    __slots__ = ("flow_id", "publication", "schemas")
    FLOW_ID_FIELD_NUMBER: _ClassVar[int]
    PUBLICATION_FIELD_NUMBER: _ClassVar[int]
    SCHEMAS_FIELD_NUMBER: _ClassVar[int]
    flow_id: str
    publication: str
    schemas: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, flow_id: _Optional[str] = ..., publication: _Optional[str] = ..., schemas: _Optional[_Iterable[str]] = ...) -> None: ...

class ListUnpublishedTablesResponse(_message.Message):
    __slots__ = ("publication", "tables")
    PUBLICATION_FIELD_NUMBER: _ClassVar[int]
    TABLES_FIELD_NUMBER: _ClassVar[int]
    publication: str
    tables: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, publication: _Optional[str] = ..., tables: _Optional[_Iterable[str]] = ...) -> None: ...

class AddPublicationTablesRequest(_message.Message):
    __slots__ = ("flow_id", "publication", "tables")
    FLOW_ID_FIELD_NUMBER: _ClassVar[int]
    PUBLICATION_FIELD_NUMBER: _ClassVar[int]
    TABLES_FIELD_NUMBER: _ClassVar[int]
    flow_id: str
    publication: str
    tables: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, flow_id: _Optional[str] = ..., publication: _Optional[str] = ..., tables: _Optional[_Iterable[str]] = ...) -> None: ...

class AddPublicationTablesResponse(_message.Message):
    __slots__ = ("publication", "added")
    PUBLICATION_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    publication: str
    added: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, publication: _Optional[str] = ..., added: _Optional[_Iterable[str]] = ...) -> None: ...

class RemovePublicationTablesRequest(_message.Message):
    __slots__ = ("flow_id", "publication", "tables")
    FLOW_ID_FIELD_NUMBER: _ClassVar[int]
    PUBLICATION_FIELD_NUMBER: _ClassVar[int]
    TABLES_FIELD_NUMBER: _ClassVar[int]
    flow_id: str
    publication: str
    tables: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, flow_id: _Optional[str] = ..., publication: _Optional[str] = ..., tables: _Optional[_Iterable[str]] = ...) -> None: ...

class RemovePublicationTablesResponse(_message.Message):
    __slots__ = ("publication", "removed")
    PUBLICATION_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    publication: str
    removed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, publication: _Optional[str] = ..., removed: _Optional[_Iterable[str]] = ...) -> None: ...

class SyncPublicationRequest(_message.Message):
    __slots__ = ("flow_id", "publication", "tables", "schemas", "drop")
    FLOW_ID_FIELD_NUMBER: _ClassVar[int]
    PUBLICATION_FIELD_NUMBER: _ClassVar[int]
    TABLES_FIELD_NUMBER: _ClassVar[int]
    SCHEMAS_FIELD_NUMBER: _ClassVar[int]
    DROP_FIELD_NUMBER: _ClassVar[int]
    flow_id: str
    publication: str
    tables: _containers.RepeatedScalarFieldContainer[str]
    schemas: _containers.RepeatedScalarFieldContainer[str]
    drop: bool
    def __init__(self, flow_id: _Optional[str] = ..., publication: _Optional[str] = ..., tables: _Optional[_Iterable[str]] = ..., schemas: _Optional[_Iterable[str]] = ..., drop: bool = ...) -> None: ...

class SyncPublicationResponse(_message.Message):
    __slots__ = ("publication", "added", "removed")
    PUBLICATION_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    publication: str
    added: _containers.RepeatedScalarFieldContainer[str]
    removed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, publication: _Optional[str] = ..., added: _Optional[_Iterable[str]] = ..., removed: _Optional[_Iterable[str]] = ...) -> None: ...
