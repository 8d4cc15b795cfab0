"""Checks and refusals: what is wrong is found before the start, said with advice, and nothing is made by looking."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from sinks.delta import FACTORY
from sinks.delta.errors import Conflict, Doing, translate
from sinks.delta.sink import DeltaSink
from tests.sinks.lane import TestLane
from wallaby.errors import ConfigError, OutcomeUnknown, Refused, Transient
from wallaby.sink import Guarantee
from wallaby.testing.changes import insert, table
from wallaby.testing.contract.hooks import windows_of
from wallaby.window import LaneId

LANE = LaneId("shop", "copy")
ORDERS = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])
MakeSink = Callable[..., DeltaSink]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"path": "gs://bucket/lake"}, "path"),
        ({"path": "s3:///lake"}, "path"),
        ({"path": "lake", "region": "eu-central-1"}, "region"),
        ({"path": "lake", "force_path_style": True}, "force_path_style"),
        ({"path": "s3://bucket", "access_key": "a"}, "secret_key"),
        ({"path": "s3://bucket", "secret_key": "b"}, "access_key"),
        ({"path": "lake", "unrepresentable": "text"}, "unrepresentable"),
        ({"path": "lake", "target_file_size": "32"}, "target_file_size"),
        ({"path": "lake", "retention": "1m"}, "retention"),
        ({}, "path"),
    ],
)
def test_wrong_options_are_refused_by_name(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FACTORY.describe(options)
    assert caught.value.where["field"].endswith(field), caught.value.where
    assert caught.value.advice or field in ("retention", "target_file_size", "path")


def test_it_claims_exactly_once_per_table_and_not_whole_transactions() -> None:
    claims = FACTORY.describe({"path": "lake"})
    assert claims.guarantee is Guarantee.EXACTLY_ONCE
    assert not claims.whole_transactions


def test_a_missing_directory_is_found_and_not_made(tmp_path: Path, make_sink: MakeSink) -> None:
    sink = make_sink(path=str(tmp_path / "absent"))
    [finding] = sink.check((ORDERS,))
    assert (finding.code, bool(finding.advice)) == ("missing-folder", True)
    for call in (lambda: sink.ensure_table(ORDERS), lambda: sink.recover(LANE, 1)):
        with pytest.raises(Transient, match="does not exist"):
            call()
    assert not (tmp_path / "absent").exists()


def test_looking_makes_nothing(make_sink: MakeSink, root: Path) -> None:
    assert make_sink().check((ORDERS,)) == []
    assert list(root.iterdir()) == []


def test_a_file_where_the_directory_should_be_is_found(tmp_path: Path, make_sink: MakeSink) -> None:
    (tmp_path / "file").touch()
    assert [finding.code for finding in make_sink(path=str(tmp_path / "file")).check()] == ["not-a-directory"]


def test_a_directory_that_cannot_be_written_is_found(
    root: Path, make_sink: MakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write everywhere: what the system says of the directory is replaced."""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != root)
    [finding] = make_sink().check((ORDERS,))
    assert (finding.code, bool(finding.advice)) == ("read-only", True)
    assert list(root.iterdir()) == []


def test_records_of_a_newer_wallaby_are_refused(make_sink: MakeSink, root: Path) -> None:
    make_sink().recover(LANE, 1)
    DeltaTable(str(root / "_wallaby" / "lanes")).alter.set_table_properties(
        {"wallaby.format": "2"}, raise_if_not_exists=False
    )
    assert [finding.code for finding in make_sink().check()] == ["format-version"]
    with pytest.raises(Refused, match="format 2"):
        make_sink().recover(LANE, 2)


def test_the_history_of_a_table_says_which_changes_each_version_holds(make_sink: MakeSink, root: Path) -> None:
    lane = TestLane(make_sink(), LANE)
    [window] = windows_of([(ORDERS, insert(1, "a"))])
    lane.apply(window)
    newest = DeltaTable(str(root / "public" / "orders")).history(1)[0]
    assert newest["wallaby.upto"] == str(window.upto)
    assert newest["wallaby.lane"] == str(LANE)


def test_errors_of_the_engine_are_told_apart_and_never_quoted() -> None:
    from deltalake.exceptions import CommitFailedError, DeltaError

    secret = "id = 'anna@example.org'"
    for error, doing, expected in (
        (CommitFailedError(secret), Doing.COMMIT, Conflict),
        (DeltaError(f"{secret} No space left on device"), Doing.COMMIT, Transient),
        (DeltaError(f"{secret} NoSuchBucket"), Doing.OPEN, Transient),
        (DeltaError(f"{secret} 403 Forbidden"), Doing.OPEN, Transient),
        (DeltaError(secret), Doing.COMMIT, OutcomeUnknown),
        (DeltaError(secret), Doing.WORK, Transient),
        (Exception(secret), Doing.WORK, Transient),
    ):
        ours = translate(error, doing, table=ORDERS.name)
        assert type(ours) is expected, error
        assert "anna" not in str(ours)


def test_a_missing_package_is_named_with_what_to_install() -> None:
    program = (
        "import sys; sys.modules['deltalake'] = None\n"
        "from sinks.delta import FACTORY\n"
        "from wallaby.errors import MissingExtra\n"
        "try: FACTORY.create({'path': 'lake'}, destination='lake')\n"
        "except MissingExtra as error: print(error.advice)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == 'Run: pip install "wallaby[delta]"'
