"""The wire contract: names, numbers and types a client of the Go WALlaby relies on never change."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FieldDescriptor

ROOT = Path(__file__).parents[3]
ADDITIONS_FROM = 100
"""Our own fields and values of shared messages and enums begin here."""

SERVICES = """
flow FlowService.CreateFlow: CreateFlowRequest -> Flow
flow FlowService.UpdateFlow: UpdateFlowRequest -> Flow
flow FlowService.StartFlow: StartFlowRequest -> Flow
flow FlowService.RunFlowOnce: RunFlowOnceRequest -> RunFlowOnceResponse
flow FlowService.StopFlow: StopFlowRequest -> Flow
flow FlowService.ResumeFlow: ResumeFlowRequest -> Flow
flow FlowService.GetFlow: GetFlowRequest -> Flow
flow FlowService.ListFlows: ListFlowsRequest -> ListFlowsResponse
flow FlowService.DeleteFlow: DeleteFlowRequest -> DeleteFlowResponse
checkpoint CheckpointService.GetCheckpoint: GetCheckpointRequest -> FlowCheckpoint
checkpoint CheckpointService.PutCheckpoint: PutCheckpointRequest -> FlowCheckpoint
checkpoint CheckpointService.ListCheckpoints: ListCheckpointsRequest -> ListCheckpointsResponse
ddl DDLService.ListPendingDDL: ListPendingDDLRequest -> ListPendingDDLResponse
ddl DDLService.ListDDL: ListDDLRequest -> ListDDLResponse
ddl DDLService.ApproveDDL: ApproveDDLRequest -> ApproveDDLResponse
ddl DDLService.RejectDDL: RejectDDLRequest -> RejectDDLResponse
ddl DDLService.MarkDDLApplied: MarkDDLAppliedRequest -> MarkDDLAppliedResponse
stream StreamService.Pull: StreamPullRequest -> StreamPullResponse
stream StreamService.Ack: StreamAckRequest -> StreamAckResponse
stream StreamService.Replay: StreamReplayRequest -> StreamReplayResponse
ingest IngestService.IngestBatch: IngestBatchRequest -> IngestBatchResponse
"""

MESSAGES = """
checkpoint GetCheckpointRequest:
  string flow_id = 1
checkpoint PutCheckpointRequest:
  string flow_id = 1
  Checkpoint checkpoint = 2
checkpoint ListCheckpointsRequest:
checkpoint FlowCheckpoint:
  string flow_id = 1
  Checkpoint checkpoint = 2
checkpoint ListCheckpointsResponse:
  repeated FlowCheckpoint checkpoints = 1
data SchemaColumn:
  string name = 1
  string type = 2
  bool nullable = 3
  bool generated = 4
  string expression = 5
data Schema:
  string name = 1
  string namespace = 2
  int64 version = 3
  repeated SchemaColumn columns = 4
data Record:
  string table = 1
  string operation = 2
  bytes key = 3
  bytes before_json = 4
  bytes after_json = 5
  string ddl = 6
  int64 timestamp_unix_millis = 7
  int64 schema_version = 8
  repeated string unchanged = 9
data Batch:
  Schema schema = 1
  repeated Record records = 2
  Checkpoint checkpoint = 3
  WireFormat wire_format = 4
ddl DDLEvent:
  int64 id = 1
  string ddl = 2
  string lsn = 3
  string status = 4
  string plan_json = 5
  google.protobuf.Timestamp created_at = 6
  string flow_id = 7
ddl ListPendingDDLRequest:
  string flow_id = 1
ddl ListPendingDDLResponse:
  repeated DDLEvent events = 1
ddl ListDDLRequest:
  string status = 1
  string flow_id = 2
ddl ListDDLResponse:
  repeated DDLEvent events = 1
ddl ApproveDDLRequest:
  int64 id = 1
ddl ApproveDDLResponse:
  DDLEvent event = 1
ddl RejectDDLRequest:
  int64 id = 1
ddl RejectDDLResponse:
  DDLEvent event = 1
ddl MarkDDLAppliedRequest:
  int64 id = 1
ddl MarkDDLAppliedResponse:
  DDLEvent event = 1
flow CreateFlowRequest:
  Flow flow = 1
  bool start_immediately = 2
flow UpdateFlowRequest:
  Flow flow = 1
flow StartFlowRequest:
  string flow_id = 1
flow RunFlowOnceRequest:
  string flow_id = 1
flow RunFlowOnceResponse:
  bool dispatched = 1
flow StopFlowRequest:
  string flow_id = 1
flow ResumeFlowRequest:
  string flow_id = 1
flow GetFlowRequest:
  string flow_id = 1
flow ListFlowsRequest:
  int32 page_size = 1
  string page_token = 2
flow ListFlowsResponse:
  repeated Flow flows = 1
  string next_page_token = 2
flow DeleteFlowRequest:
  string flow_id = 1
flow DeleteFlowResponse:
  bool deleted = 1
ingest IngestBatchRequest:
  string flow_id = 1
  string destination = 2
  WireFormat wire_format = 3
  bytes payload = 4
  Checkpoint checkpoint = 5
ingest IngestBatchResponse:
  bool accepted = 1
  string message = 2
stream StreamMessage:
  int64 id = 1
  string stream = 2
  string namespace = 3
  string table = 4
  string lsn = 5
  string wire_format = 6
  bytes payload = 7
  google.protobuf.Timestamp created_at = 8
stream StreamPullRequest:
  string stream = 1
  string consumer_group = 2
  int32 max_messages = 3
  int32 visibility_timeout_seconds = 4
  string consumer_id = 5
stream StreamPullResponse:
  repeated StreamMessage messages = 1
stream StreamAckRequest:
  string stream = 1
  string consumer_group = 2
  repeated int64 ids = 3
stream StreamAckResponse:
  int64 acked = 1
stream StreamReplayRequest:
  string stream = 1
  string consumer_group = 2
  string from_lsn = 3
  google.protobuf.Timestamp since = 4
stream StreamReplayResponse:
  int64 reset = 1
types Endpoint:
  string name = 1
  EndpointType type = 2
  map<string, string> options = 3
types FlowConfig:
  AckPolicy ack_policy = 1
  string primary_destination = 2
  FailureMode failure_mode = 3
  GiveUpPolicy give_up_policy = 4
  DDLPolicy ddl = 5
types DDLPolicy:
  optional bool gate = 1
  optional bool auto_approve = 2
  optional bool auto_apply = 3
types Flow:
  string id = 1
  string name = 2
  Endpoint source = 3
  repeated Endpoint destinations = 4
  FlowState state = 5
  WireFormat wire_format = 6
  int32 parallelism = 7
  FlowConfig config = 8
types Checkpoint:
  string lsn = 1
  int64 timestamp_unix_millis = 2
  map<string, string> metadata = 3
"""

ENUMS = """
types FlowState:
  FLOW_STATE_UNSPECIFIED = 0
  FLOW_STATE_CREATED = 1
  FLOW_STATE_RUNNING = 2
  FLOW_STATE_PAUSED = 3
  FLOW_STATE_STOPPING = 4
  FLOW_STATE_FAILED = 5
types EndpointType:
  ENDPOINT_TYPE_UNSPECIFIED = 0
  ENDPOINT_TYPE_POSTGRES = 1
  ENDPOINT_TYPE_SNOWFLAKE = 2
  ENDPOINT_TYPE_S3 = 3
  ENDPOINT_TYPE_KAFKA = 4
  ENDPOINT_TYPE_HTTP = 5
  ENDPOINT_TYPE_GRPC = 6
  ENDPOINT_TYPE_PROTO = 7
  ENDPOINT_TYPE_PGSTREAM = 8
  ENDPOINT_TYPE_SNOWPIPE = 9
  ENDPOINT_TYPE_PARQUET = 10
  ENDPOINT_TYPE_DUCKDB = 11
  ENDPOINT_TYPE_BUFSTREAM = 12
  ENDPOINT_TYPE_CLICKHOUSE = 13
  ENDPOINT_TYPE_DUCKLAKE = 14
types WireFormat:
  WIRE_FORMAT_UNSPECIFIED = 0
  WIRE_FORMAT_ARROW = 1
  WIRE_FORMAT_PARQUET = 2
  WIRE_FORMAT_PROTO = 3
  WIRE_FORMAT_AVRO = 4
  WIRE_FORMAT_JSON = 5
types AckPolicy:
  ACK_POLICY_UNSPECIFIED = 0
  ACK_POLICY_ALL = 1
  ACK_POLICY_PRIMARY = 2
types FailureMode:
  FAILURE_MODE_UNSPECIFIED = 0
  FAILURE_MODE_HOLD_SLOT = 1
  FAILURE_MODE_DROP_SLOT = 2
types GiveUpPolicy:
  GIVE_UP_POLICY_UNSPECIFIED = 0
  GIVE_UP_POLICY_NEVER = 1
  GIVE_UP_POLICY_ON_RETRY_EXHAUSTION = 2
"""


def blocks(text: str) -> list[tuple[str, str, list[str]]]:
    """(module, name, lines below) for every heading of an indented text."""
    result: list[tuple[str, str, list[str]]] = []
    for line in text.strip().splitlines():
        if line.startswith(" "):
            result[-1][2].append(line.strip())
        else:
            module, name = line.rstrip(":").split(" ")
            result.append((module, name, []))
    return result


def descriptor(module: str) -> Any:
    return importlib.import_module(f"wallaby.v1.{module}_pb2").DESCRIPTOR


TYPES = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
}


def written(field: Any) -> str:
    """A field as the table writes it: ``repeated Flow flows = 1``."""
    kind = TYPES.get(field.type) or (field.enum_type or field.message_type).full_name.removeprefix("wallaby.v1.")
    label = ""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = (written(field.message_type.fields_by_name[n]).split(" ")[0] for n in ("key", "value"))
        kind = f"map<{key}, {value}>"
    elif field.is_repeated:
        label = "repeated "
    elif field.has_presence and field.message_type is None:
        label = "optional "
    return f"{label}{kind} {field.name} = {field.number}"


def test_the_tables_here_are_not_empty() -> None:
    assert (len(SERVICES.strip().splitlines()), len(blocks(MESSAGES)), len(blocks(ENUMS))) == (21, 46, 6)


@pytest.mark.parametrize("line", SERVICES.strip().splitlines())
def test_every_call_has_its_name_and_messages(line: str) -> None:
    module, name, request, _, answer = line.split(" ")
    service, _, method = name.rstrip(":").partition(".")
    found = descriptor(module).services_by_name[service].methods_by_name[method]
    assert (found.input_type.name, found.output_type.name) == (request, answer)
    assert found.containing_service.full_name == f"wallaby.v1.{service}"


@pytest.mark.parametrize(("module", "name", "fields"), blocks(MESSAGES))
def test_every_message_has_its_fields(module: str, name: str, fields: list[str]) -> None:
    message = descriptor(module).message_types_by_name[name]
    assert message.full_name == f"wallaby.v1.{name}"
    assert [written(field) for field in message.fields if field.number < ADDITIONS_FROM] == fields


@pytest.mark.parametrize(("module", "name", "values"), blocks(ENUMS))
def test_every_enum_has_its_values(module: str, name: str, values: list[str]) -> None:
    enum = descriptor(module).enum_types_by_name[name]
    assert [f"{value.name} = {value.number}" for value in enum.values if value.number < ADDITIONS_FROM] == values


def test_the_generated_code_is_what_the_contract_says(tmp_path: Path) -> None:
    """Whatever release of the generator is at hand: descriptors are compared, not text."""
    pytest.importorskip("grpc_tools", reason="the generator is not installed; the extra dev has it")
    protos = sorted((ROOT / "proto" / "wallaby" / "v1").glob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(ROOT / "proto")]
    command += [f"--descriptor_set_out={tmp_path / 'all.pb'}", *map(str, protos)]
    subprocess.run(command, check=True, timeout=60)
    compiled = descriptor_pb2.FileDescriptorSet.FromString((tmp_path / "all.pb").read_bytes())
    assert {file.name for file in compiled.file} == {f"wallaby/v1/{path.name}" for path in protos}
    for file in compiled.file:
        generated = descriptor_pb2.FileDescriptorProto()
        descriptor(Path(file.name).stem).CopyToProto(generated)
        for message in (file, generated):
            for each in _messages(message.message_type):
                for field in each.field:
                    field.ClearField("json_name")
        assert generated == file, f"run `make proto`: {file.name} differs from what is committed"


def _messages(messages: Any) -> Any:
    for message in messages:
        yield message
        yield from _messages(message.nested_type)


def test_generated_code_runs_with_the_oldest_libraries_supported() -> None:
    """Generated code refuses libraries older than its generator; `proto/generate.sh` pins it."""
    for path in (ROOT / "wallaby" / "v1").glob("*_pb2.py"):
        assert "# Protobuf Python Version: 6.31." in path.read_text(), path.name
    for path in (ROOT / "wallaby" / "v1").glob("*_pb2_grpc.py"):
        assert "GRPC_GENERATED_VERSION = '1.76." in path.read_text(), path.name


def test_no_init_file_shadows_proto_plus() -> None:
    assert not list((ROOT / "proto").rglob("__init__.py"))
