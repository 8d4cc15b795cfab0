from wallaby.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SchemaColumn(_message.Message):
    __slots__ = ("name", "type", "nullable", "generated", "expression")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    NULLABLE_FIELD_NUMBER: _ClassVar[int]
    GENERATED_FIELD_NUMBER: _ClassVar[int]
    EXPRESSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    nullable: bool
    generated: bool
    expression: str
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., nullable: bool = ..., generated: bool = ..., expression: _Optional[str] = ...) -> None: ...

class Schema(_message.Message):
    __slots__ = ("name", "namespace", "version", "columns", "arrow")
    NAME_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    ARROW_FIELD_NUMBER: _ClassVar[int]
    name: str
    namespace: str
    version: int
    columns: _containers.RepeatedCompositeFieldContainer[SchemaColumn]
    arrow: bytes
    def __init__(self, name: _Optional[str] = ..., namespace: _Optional[str] = ..., version: _Optional[int] = ..., columns: _Optional[_Iterable[_Union[SchemaColumn, _Mapping]]] = ..., arrow: _Optional[bytes] = ...) -> None: ...

class Outlier(_message.Message):
    __slots__ = ("column", "text")
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    column: str
    text: str
    def __init__(self, column: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class Record(_message.Message):
    __slots__ = ("table", "operation", "key", "before_json", "after_json", "ddl", "timestamp_unix_millis", "schema_version", "unchanged", "commit_lsn", "ordinal", "xid", "committed_at_unix_micros", "outliers")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    BEFORE_JSON_FIELD_NUMBER: _ClassVar[int]
    AFTER_JSON_FIELD_NUMBER: _ClassVar[int]
    DDL_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_UNIX_MILLIS_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    COMMIT_LSN_FIELD_NUMBER: _ClassVar[int]
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    XID_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_AT_UNIX_MICROS_FIELD_NUMBER: _ClassVar[int]
    OUTLIERS_FIELD_NUMBER: _ClassVar[int]
    table: str
    operation: str
    key: bytes
    before_json: bytes
    after_json: bytes
    ddl: str
    timestamp_unix_millis: int
    schema_version: int
    unchanged: _containers.RepeatedScalarFieldContainer[str]
    commit_lsn: int
    ordinal: int
    xid: int
    committed_at_unix_micros: int
    outliers: _containers.RepeatedCompositeFieldContainer[Outlier]
    def __init__(self, table: _Optional[str] = ..., operation: _Optional[str] = ..., key: _Optional[bytes] = ..., before_json: _Optional[bytes] = ..., after_json: _Optional[bytes] = ..., ddl: _Optional[str] = ..., timestamp_unix_millis: _Optional[int] = ..., schema_version: _Optional[int] = ..., unchanged: _Optional[_Iterable[str]] = ..., commit_lsn: _Optional[int] = ..., ordinal: _Optional[int] = ..., xid: _Optional[int] = ..., committed_at_unix_micros: _Optional[int] = ..., outliers: _Optional[_Iterable[_Union[Outlier, _Mapping]]] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("schema", "records", "checkpoint", "wire_format", "arrow_stream", "is_last", "crc32")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    WIRE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    ARROW_STREAM_FIELD_NUMBER: _ClassVar[int]
    IS_LAST_FIELD_NUMBER: _ClassVar[int]
    CRC32_FIELD_NUMBER: _ClassVar[int]
    schema: Schema
    records: _containers.RepeatedCompositeFieldContainer[Record]
    checkpoint: _types_pb2.Checkpoint
    wire_format: _types_pb2.WireFormat
    arrow_stream: bytes
    is_last: bool
    crc32: int
    def __init__(self, schema: _Optional[_Union[Schema, _Mapping]] = ..., records: _Optional[_Iterable[_Union[Record, _Mapping]]] = ..., checkpoint: _Optional[_Union[_types_pb2.Checkpoint, _Mapping]] = ..., wire_format: _Optional[_Union[_types_pb2.WireFormat, str]] = ..., arrow_stream: _Optional[bytes] = ..., is_last: bool = ..., crc32: _Optional[int] = ...) -> None: ...
