"""A disk that is full in the middle of a commit: said with advice, nothing half-written is seen, and it goes on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def unshare() -> list[str]:
    """The command that lets a process mount a disk of its own."""
    words = ["unshare", "-rm"]
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed, which lets a test mount a disk of its own")
    if subprocess.run([*words, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let a test mount a disk of its own")
    return words


@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize(
    "kind", ["delta", "delta-vectors", "duckdb", "ducklake", "ducklake-catalog", "files", "iceberg"]
)
def test_a_full_disk_is_said_nothing_of_the_commit_is_seen_and_it_succeeds_when_there_is_space(
    kind: str, unshare: list[str], tmp_path: Path
) -> None:
    words = [*unshare, sys.executable, "-m", "tests.sinks.full_disk", kind, str(tmp_path)]
    done = subprocess.run(words, cwd=_ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["told"]["message"] == "there is no space left"
    assert found["told"]["advice"]
    assert (found["before"], found["during"], found["after"]) == ([1], [1], 3_999)
