"""What wallaby writes and compacts, read by Iceberg's reference implementation in Java.

It runs where a JDK and Maven are, and Maven's own folder holds the libraries: the test fetches nothing. Once, with a
network: ``mvn -f tests/sinks/iceberg/java/pom.xml dependency:build-classpath``.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from sinks.iceberg import FACTORY
from sinks.iceberg.sink import IcebergSink
from tests.sinks.iceberg.conftest import LANE
from tests.sinks.iceberg.lake import Lake
from tests.sinks.lane import TestLane
from wallaby.care import Chore, take_turn
from wallaby.testing.changes import delete, insert, table, update
from wallaby.testing.contract.hooks import windows_of

JAVA = Path(__file__).parent / "java"
ORDERS = table(
    "public.orders", {"id": "int8", "note": "text", "total": "numeric(12,2)", "at": "timestamptz"}, key=["id"]
)
AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@pytest.fixture(scope="module")
def classpath(tmp_path_factory: pytest.TempPathFactory) -> str:
    for tool in ("java", "javac", "mvn"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: Iceberg's Java reader is not run")
    file = tmp_path_factory.mktemp("java") / "classpath"
    words = ["mvn", "-q", "-B", "-o", "-f", str(JAVA / "pom.xml"), "dependency:build-classpath"]
    done = subprocess.run([*words, f"-Dmdep.outputFile={file}"], capture_output=True, timeout=300, check=False)
    if done.returncode or not file.exists():
        pytest.skip("Maven's folder lacks Iceberg's libraries: fetch them as tests/sinks/iceberg/test_java.py says")
    return file.read_text()


@pytest.fixture
def by_java(classpath: str, lake: Lake) -> Callable[[], list[dict[str, str]]]:
    def read() -> list[dict[str, str]]:
        place = lake.catalog.load_table(("public", "orders")).metadata_location
        words = ["java", "-Xmx256m", "-cp", classpath, str(JAVA / "Reader.java"), place]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return [dict(cell.split("=", 1) for cell in line.split("\t")) for line in done.stdout.splitlines()]

    return read


@pytest.mark.must_not_fail(25)
@pytest.mark.timeout(900)
@pytest.mark.long
@pytest.mark.parametrize(
    ("partition_by", "strategy"),
    [("", "copy-on-write"), ("id:bucket[2]", "position-deletes")],
    ids=["plain-copy-on-write", "partitioned-position-deletes"],
)
def test_the_reference_reader_sees_the_same_rows_before_and_after_a_compaction(
    partition_by: str,
    strategy: str,
    lake: Lake,
    make_sink: Callable[..., IcebergSink],
    by_java: Callable[[], list[dict[str, str]]],
) -> None:
    lane = TestLane(make_sink(mirror_strategy=strategy, partition_by=partition_by), LANE)
    lane.apply_all(
        windows_of(
            *[[(ORDERS, insert(10 * n + m, "a", Decimal("1.50"), AT)) for m in range(4)] for n in range(4)],
            [
                (ORDERS, update(1, "b", Decimal("2.25"), AT)),
                (ORDERS, delete(2)),
                (ORDERS, update(13, None, None, None)),
            ],
        )
    )
    known = {"note": "a", "total": "1.50", "at": "2026-01-02T03:04:05.678901Z"}
    rows = {str(10 * n + m): known for n in range(4) for m in range(4)} | {
        "1": known | {"note": "b", "total": "2.25"},
        "13": {"note": "null", "total": "null", "at": "null"},
    }
    del rows["2"]

    def seen() -> dict[str, dict[str, str]]:
        return {row.pop("id"): row for row in by_java()}

    assert seen() == rows
    keeper = FACTORY.keeper(lake.options(compact_files=2), flow=LANE.flow, destination=LANE.destination)
    turn = take_turn(keeper, ORDERS.name, now=datetime.now(UTC))
    keeper.close()
    assert turn is not None
    assert Chore.COMPACT in turn.done
    assert seen() == rows
