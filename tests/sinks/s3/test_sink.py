"""Checking a bucket, what lies in it, and two writers in each other's way."""

from __future__ import annotations

import hashlib
import socket
from typing import Any
from urllib.request import Request, urlopen

import pytest

from sinks.files.manifests import EMPTY, Kind, ManifestLog, next_entry
from sinks.s3 import FACTORY
from sinks.s3.bucket import ObjectStore, object_store
from sinks.s3.config import read_options
from sinks.s3.reader import committed_files, read_log
from tests.sinks.lane import TestLane
from tests.sinks.s3.conftest import KEYS, keys_of
from wallaby.errors import ConfigError, Refused, Superseded, Transient
from wallaby.testing.changes import Stream, insert, table
from wallaby.window import LaneId, Window

LANE = LaneId("shop", "copy")
ORDERS = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])


def one_window(note: str = "a") -> Window:
    stream = Stream()
    stream.transaction([(ORDERS, insert(1, note))])
    [window] = stream.windows()
    return window


def test_a_manifest_names_what_the_object_is(place: dict[str, Any], client: Any) -> None:
    TestLane(FACTORY.create(place, destination="copy"), LANE).apply(one_window())
    [file] = committed_files(place)
    content = client.get_object(Bucket=place["bucket"], Key=f"some/log/{file.path}")["Body"].read()
    assert (file.rows, file.bytes, file.sha256) == (1, len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.must_not_fail(20)
def test_of_two_manifests_of_one_number_the_first_stays(place: dict[str, Any]) -> None:
    log, other = (ManifestLog(ObjectStore(object_store(read_options(place))), LANE) for _ in range(2))
    first = next_entry(EMPTY, Kind.COMMIT, epoch=1)
    assert log.append(first)
    assert not other.append(next_entry(EMPTY, Kind.FENCE, epoch=2))
    assert other.last() == first


def test_a_manifest_whose_answer_was_lost_is_not_taken_for_another_writers(place: dict[str, Any]) -> None:
    store = ObjectStore(object_store(read_options(place)))
    assert store.create("x.json", "mine")
    assert store.create("x.json", "mine")
    assert not store.create("x.json", "another's")


@pytest.mark.must_not_fail(20)
def test_a_zombie_neither_commits_nor_changes_the_objects_of_its_successor(place: dict[str, Any]) -> None:
    window = one_window()
    zombie = TestLane(FACTORY.create(place, destination="copy"), LANE, 1)
    zombie.write(window)
    TestLane(FACTORY.create(place, destination="copy"), LANE, 2).apply(window)
    with pytest.raises(Superseded):
        zombie.writer.commit(zombie.token(window.upto, 1))
    [file] = committed_files(place)
    assert read_log(place, "public", "orders").num_rows == file.rows == 1


def test_a_large_object_is_uploaded_in_parts_and_comes_back(place: dict[str, Any], client: Any) -> None:
    content = "".join(hashlib.sha512(str(number).encode()).hexdigest() for number in range(160_000))
    options = {**place, "compression": "none"}
    TestLane(FACTORY.create(options, destination="copy"), LANE).apply(one_window(content))
    [file] = committed_files(place)
    assert "-" in client.head_object(Bucket=place["bucket"], Key=f"some/log/{file.path}")["ETag"]
    assert read_log(place, "public", "orders").column("note").to_pylist() == [content]


def test_a_table_copied_again_leaves_the_objects_of_others(place: dict[str, Any], client: Any) -> None:
    sink = FACTORY.create(place, destination="copy")
    TestLane(sink, LANE).apply(one_window())
    TestLane(sink, LaneId("shop", "copy", 1, 2)).apply(one_window())
    sink.reset_table(ORDERS.name, LANE, 1)
    assert len(committed_files(place)) == 1
    assert len([key for key in keys_of(client, place) if key.startswith("public/")]) == 1


def test_a_missing_bucket_is_found_and_said(place: dict[str, Any]) -> None:
    sink = FACTORY.create({**place, "bucket": "absent"}, destination="copy")
    with pytest.raises(Transient, match="bucket does not exist") as caught:
        sink.recover(LANE, 1)
    assert caught.value.advice
    [finding] = sink.check((ORDERS,))
    assert (finding.message, bool(finding.advice)) == ("the bucket does not exist", True)


def test_wrong_keys_are_found_and_not_shown(place: dict[str, Any], s3_endpoint: str) -> None:
    def reset_auth(requests: str) -> None:
        headers = {"Content-Type": "text/plain"}
        with urlopen(Request(f"{s3_endpoint}/moto-api/reset-auth", data=requests.encode(), headers=headers)) as answer:
            assert answer.status == 200

    sink = FACTORY.create({**place, "access_key": "nobody", "secret_key": "hunter2"}, destination="copy")
    reset_auth("0")
    try:
        [finding] = sink.check((ORDERS,))
    finally:
        reset_auth("inf")
    assert (finding.message, bool(finding.advice)) == ("the store refuses access", True)
    assert "hunter2" not in f"{finding}{sink!r}"


def test_a_store_that_does_not_answer_is_found() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        [finding] = FACTORY.create({"bucket": "log", "endpoint": address, **KEYS}, destination="copy").check()
    assert finding.code == "destination-unreachable"
    assert finding.advice


def test_a_layout_of_another_version_is_refused(place: dict[str, Any]) -> None:
    ObjectStore(object_store(read_options(place))).create("_wallaby/format.json", '{"version": 99}')
    sink = FACTORY.create(place, destination="copy")
    with pytest.raises(Refused, match="format 99"):
        sink.recover(LANE, 1)
    assert [finding.code for finding in sink.check()] == ["format-version"]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "bucket"),
        ({"bucket": "s3://x"}, "bucket"),
        ({"bucket": "x", "write_mode": "target"}, "write_mode"),
        ({"bucket": "x", "access_key": "a"}, "secret_key"),
        ({"bucket": "x", "session_token": "a"}, "session_token"),
        ({"bucket": "x", "fsync": True}, "fsync"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        FACTORY.describe(options)
    assert wrong.value.where["field"] == field
