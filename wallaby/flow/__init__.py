"""Flow files: what a flow is, its options, and what is wrong with them."""

from wallaby.flow.duration import Duration, format_duration, parse_duration
from wallaby.flow.model import OptionsModel
from wallaby.flow.options import (
    BinaryMode,
    DestinationOptions,
    HistoryOptions,
    PublicationSync,
    SnapshotMode,
    SourceMode,
    SourceOptions,
    ToastFetch,
    TypeOptions,
    Unrepresentable,
)
from wallaby.flow.problems import InvalidFlow, Problem
from wallaby.flow.size import ByteSize, format_size, parse_size
from wallaby.flow.spec import (
    AckPolicy,
    DdlPolicy,
    DeadLetterPayload,
    DeadLetterPolicy,
    DeadLetters,
    EndpointSpec,
    FailureMode,
    FlowConfig,
    FlowSpec,
    GiveUpPolicy,
    WireFormat,
    default_slot,
    flow_id,
)
from wallaby.flow.tables import TablePattern, parse_table_pattern
from wallaby.sink import WriteMode

__all__ = [
    "AckPolicy",
    "BinaryMode",
    "ByteSize",
    "DdlPolicy",
    "DeadLetterPayload",
    "DeadLetterPolicy",
    "DeadLetters",
    "DestinationOptions",
    "Duration",
    "EndpointSpec",
    "FailureMode",
    "FlowConfig",
    "FlowSpec",
    "GiveUpPolicy",
    "HistoryOptions",
    "InvalidFlow",
    "OptionsModel",
    "Problem",
    "PublicationSync",
    "SnapshotMode",
    "SourceMode",
    "SourceOptions",
    "TablePattern",
    "ToastFetch",
    "TypeOptions",
    "Unrepresentable",
    "WireFormat",
    "WriteMode",
    "default_slot",
    "flow_id",
    "format_duration",
    "format_size",
    "parse_duration",
    "parse_size",
    "parse_table_pattern",
]
