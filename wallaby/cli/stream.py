"""``wallaby stream pull|ack|nack|extend|replay|groups|lag|configure|dead|redrive|delete-group``."""

from __future__ import annotations

import argparse
import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from wallaby.cli.commands import ClientWork, add_client_command, add_group
from wallaby.cli.connection import add_switch
from wallaby.cli.report import table
from wallaby.errors import ConfigError

if TYPE_CHECKING:
    from wallaby.cli.report import Report
    from wallaby.client import Client

EXIT_OK: Final = 0
_SERVICE: Final = "StreamService"

_Arguments = argparse.Namespace


def register(subparsers: Any) -> None:
    """Add ``stream`` and its commands."""
    commands = add_group(subparsers, "stream", "pull, acknowledge and replay the messages of a stream")

    def add(name: str, help_text: str, work: ClientWork, *, group: bool | None = True) -> argparse.ArgumentParser:
        parser = add_client_command(commands, name, help_text, work)
        parser.add_argument("--stream", required=True, metavar="STREAM", help="the stream's name")
        if group is not None:
            parser.add_argument("--group", required=group, default="", metavar="GROUP", help="the consumer group")
        return parser

    def owned(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--ids", required=True, metavar="1,2,3", help="the messages")
        parser.add_argument("--claims", default="", metavar="7,7,8", help="the claim of each message, as pull shows it")
        parser.add_argument("--consumer", default="", metavar="NAME", help="without claims: whose claims count")

    pull = add("pull", "claim messages", _pull)
    pull.add_argument("--max", type=int, default=10, metavar="N", help="messages at most (default 10)")
    pull.add_argument("--visibility", type=int, default=30, metavar="SECONDS", help="how long they are ours (30)")
    pull.add_argument("--consumer", default="", metavar="NAME", help="who claims them")
    pull.add_argument(
        "--wait-seconds", type=int, default=0, metavar="SECONDS", help="wait for the first message (default 0)"
    )
    owned(add("ack", "acknowledge messages: the group is done with them", _ack))
    extend = add("extend", "keep claims longer", _extend)
    owned(extend)
    extend.add_argument("--visibility", type=int, default=30, metavar="SECONDS", help="from now on (default 30)")
    nack = add("nack", "give messages back", _nack)
    owned(nack)
    nack.add_argument("--delay", type=int, default=0, metavar="SECONDS", help="nobody gets them before (default 0)")
    replay = add("replay", "hand out again what the group has met", _replay)
    replay.add_argument("--from-lsn", default="", metavar="LSN", help="from this commit on, such as 16/B374D848")
    replay.add_argument("--since", default="", metavar="TIME", help="published since, such as 2026-01-31T12:00:00Z")
    add("groups", "list the groups of a stream", _groups, group=None)
    add("lag", "show how far groups are behind", _lag, group=False)
    configure = add("configure", "make a group, or change how it consumes", _configure)
    add_switch(
        configure, "--ordered", "never hand out a message while an earlier one of its key is not done", default=None
    )
    configure.add_argument("--max-attempts", type=int, metavar="N", help="after so many claims it is dead; 0: never")
    dead = add("dead", "list messages that were given up", _dead)
    dead.add_argument("--max", type=int, default=100, metavar="N", help="messages at most (default 100)")
    redrive = add("redrive", "hand out dead messages again", _redrive)
    redrive.add_argument("--ids", default="", metavar="1,2,3", help="only these")
    add("delete-group", "forget a group: it keeps no message any more", _delete_group)


def _pull(client: Client, arguments: _Arguments, report: Report) -> int:
    from wallaby.v1 import stream_pb2

    answer = client.call(
        "Pull",
        stream_pb2.StreamPullRequest(
            stream=arguments.stream,
            consumer_group=arguments.group,
            max_messages=_positive(arguments.max, "-max"),
            visibility_timeout_seconds=_positive(arguments.visibility, "-visibility"),
            consumer_id=arguments.consumer,
            wait_seconds=_whole(arguments.wait_seconds, "-wait-seconds"),
        ),
        service=_SERVICE,
        more_seconds=arguments.wait_seconds,
    )
    return _show_messages(answer.messages, arguments, report, "Pulled {} messages:", "No messages available.")


def _ack(client: Client, arguments: _Arguments, report: Report) -> int:
    from wallaby.v1 import stream_pb2

    answer = client.call("Ack", stream_pb2.StreamAckRequest(**_owned(arguments)), service=_SERVICE)
    return _show_settled("acked", f"Acked {answer.acked} messages", answer.acked, answer.stale_ids, report)


def _extend(client: Client, arguments: _Arguments, report: Report) -> int:
    from wallaby.v1 import stream_pb2

    seconds = _positive(arguments.visibility, "-visibility")
    request = stream_pb2.StreamExtendRequest(**_owned(arguments), visibility_timeout_seconds=seconds)
    answer = client.call("Extend", request, service=_SERVICE)
    return _show_settled("extended", f"Extended {answer.extended} claims", answer.extended, answer.stale_ids, report)


def _nack(client: Client, arguments: _Arguments, report: Report) -> int:
    from wallaby.v1 import stream_pb2

    request = stream_pb2.StreamNackRequest(**_owned(arguments), delay_seconds=_whole(arguments.delay, "-delay"))
    answer = client.call("Nack", request, service=_SERVICE)
    line = f"Gave back {answer.returned} messages"
    return _show_settled("returned", line, answer.returned, answer.stale_ids, report)


def _replay(client: Client, arguments: _Arguments, report: Report) -> int:
    from wallaby.v1 import stream_pb2

    request = stream_pb2.StreamReplayRequest(
        stream=arguments.stream, consumer_group=arguments.group, from_lsn=arguments.from_lsn
    )
    if arguments.since:
        request.since.FromDatetime(_moment(arguments.since))
    reset = client.call("Replay", request, service=_SERVICE).reset
    value = {"stream": arguments.stream, "consumer_group": arguments.group, "reset": reset}
    report.show(value, [f"Reset {reset} deliveries for stream {arguments.stream} group {arguments.group}"])
    return EXIT_OK


def _groups(client: Client, arguments: _Arguments, report: Report) -> int:
    from wallaby.v1 import stream_pb2

    request = stream_pb2.StreamListGroupsRequest(stream=arguments.stream)
    answer = client.call("ListGroups", request, service=_SERVICE)
    groups = [_group(group) for group in answer.groups]
    header = ("GROUP", "ORDERED", "MAX ATTEMPTS", "PENDING", "CLAIMED", "AVAILABLE", "BLOCKED", "DEAD")
    names = ("consumer_group", "ordered", "max_attempts", "pending", "claimed", "available", "blocked", "dead")
    rows = [[_shown(group[name]) for name in names] for group in groups]
    lines = table(header, rows) if rows else ["No groups found."]
    report.show({"stream": arguments.stream, "count": len(groups), "groups": groups}, lines)
    return EXIT_OK


def _lag(client: Client, arguments: _Arguments, report: Report) -> int:
    from wallaby.v1 import stream_pb2

    request = stream_pb2.StreamGetLagRequest(stream=arguments.stream, consumer_group=arguments.group)
    answer = client.call("GetLag", request, service=_SERVICE)
    lags = [
        {
            "consumer_group": lag.consumer_group,
            "messages": lag.messages,
            "bytes": lag.bytes,
            "seconds": round(lag.seconds, 3),
            "oldest_at": lag.oldest_at.ToJsonString() if lag.HasField("oldest_at") else None,
        }
        for lag in answer.groups
    ]
    rows = [(lag["consumer_group"], lag["messages"], lag["bytes"], lag["seconds"]) for lag in lags]
    lines = table(("GROUP", "MESSAGES", "BYTES", "SECONDS"), rows) if rows else ["No groups found."]
    report.show({"stream": arguments.stream, "count": len(lags), "groups": lags}, lines)
    return EXIT_OK


def _configure(client: Client, arguments: _Arguments, report: Report) -> int:
    from wallaby.v1 import stream_pb2

    request = stream_pb2.StreamConfigureGroupRequest(stream=arguments.stream, consumer_group=arguments.group)
    if arguments.ordered is not None:
        request.ordered = arguments.ordered
    if arguments.max_attempts is not None:
        request.max_attempts = _whole(arguments.max_attempts, "-max-attempts")
    group = _group(client.call("ConfigureGroup", request, service=_SERVICE))
    order = "ordered by key" if group["ordered"] else "without order"
    attempts = f"{group['max_attempts']} attempts" if group["max_attempts"] else "any number of attempts"
    report.show(group, [f"Group {arguments.group} of stream {arguments.stream}: {order}, {attempts}"])
    return EXIT_OK


def _dead(client: Client, arguments: _Arguments, report: Report) -> int:
    from wallaby.v1 import stream_pb2

    request = stream_pb2.StreamListDeadMessagesRequest(
        stream=arguments.stream, consumer_group=arguments.group, page_size=_positive(arguments.max, "-max")
    )
    messages = client.call("ListDeadMessages", request, service=_SERVICE).messages
    return _show_messages(messages, arguments, report, "{} dead messages:", "No dead messages.")


def _redrive(client: Client, arguments: _Arguments, report: Report) -> int:
    from wallaby.v1 import stream_pb2

    request = stream_pb2.StreamRedriveRequest(
        stream=arguments.stream, consumer_group=arguments.group, ids=_numbers(arguments.ids, "-ids")
    )
    redriven = client.call("Redrive", request, service=_SERVICE).redriven
    report.show({"redriven": redriven}, [f"Redrove {redriven} messages"])
    return EXIT_OK


def _delete_group(client: Client, arguments: _Arguments, report: Report) -> int:
    from wallaby.v1 import stream_pb2

    request = stream_pb2.StreamDeleteGroupRequest(stream=arguments.stream, consumer_group=arguments.group)
    deleted = client.call("DeleteGroup", request, service=_SERVICE).deleted
    value = {"stream": arguments.stream, "consumer_group": arguments.group, "deleted": deleted}
    report.show(value, [f"Deleted group {arguments.group} of stream {arguments.stream}"])
    return EXIT_OK


def _show_messages(found: Sequence[Any], arguments: _Arguments, report: Report, some: str, none: str) -> int:
    value = {
        "stream": arguments.stream,
        "consumer_group": arguments.group,
        "count": len(found),
        "messages": [
            {
                "id": message.id,
                "namespace": message.namespace,
                "table": message.table,
                "lsn": message.lsn,
                "wire_format": message.wire_format,
                "payload_base64": base64.b64encode(message.payload).decode(),
                "operation": message.operation,
                "claim": message.claim,
                "attempts": message.attempts,
            }
            for message in found
        ],
    }
    lines = [some.format(len(found))] if found else [none]
    lines += [
        f"- id={message.id} table={message.table} lsn={message.lsn} bytes={len(message.payload)}" for message in found
    ]
    report.show(value, lines)
    return EXIT_OK


def _show_settled(name: str, line: str, done: int, stale: Sequence[int], report: Report) -> int:
    lines = [line]
    if stale:
        lines.append(f"Stale (not ours any more): {','.join(map(str, stale))}")
    report.show({name: done, "stale_ids": list(stale)}, lines)
    return EXIT_OK


def _group(group: Any) -> dict[str, Any]:
    names = ("consumer_group", "ordered", "max_attempts", "last_id", "cursor_id")
    return {name: getattr(group, name) for name in (*names, "pending", "claimed", "available", "blocked", "dead")}


def _owned(arguments: _Arguments) -> dict[str, Any]:
    ids = _numbers(arguments.ids, "-ids")
    if not ids:
        raise ConfigError("is required", field="-ids")
    return {
        "stream": arguments.stream,
        "consumer_group": arguments.group,
        "ids": ids,
        "claims": _numbers(arguments.claims, "-claims"),
        "consumer_id": arguments.consumer,
    }


def _numbers(text: str, field: str) -> list[int]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not all(word.isascii() and word.isdigit() and int(word) < 2**63 for word in words):
        raise ConfigError("must be numbers with commas between them", field=field)
    return [int(word) for word in words]


def _positive(value: int, field: str) -> int:
    if not 1 <= value < 2**31:
        raise ConfigError("must be a positive number", field=field)
    return value


def _whole(value: int, field: str) -> int:
    if not 0 <= value < 2**31:
        raise ConfigError("must be a whole number from 0 on", field=field)
    return value


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ConfigError("must be a time with zone such as 2026-01-31T12:00:00Z", field="-since")
    return moment.astimezone(UTC).replace(tzinfo=None)


def _shown(value: object) -> object:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
