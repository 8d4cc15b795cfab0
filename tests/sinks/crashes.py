"""Killing `tests.sinks.crashing_writer` again and again until its history is written, and what a log says then."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from wallaby.schema import TableSchema
from wallaby.transform.state import derive_state

_ROOT = Path(__file__).parents[2]


def write_and_die(kind: str, options: Mapping[str, Any], seed: int, deaths: Iterable[str]) -> int:
    """Run one writer after the other, each under the next epoch and with the next death; the last one lives.

    Returns how many were killed on the way (a writer may finish before its death).
    """
    killed = 0
    epoch = 0
    for epoch, death in enumerate([*deaths, "never"], 1):
        arguments = [kind, json.dumps(options), str(seed), str(epoch), death]
        done = subprocess.run(
            [sys.executable, "-m", "tests.sinks.crashing_writer", *arguments],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode <= 0, done.stderr
        killed += done.returncode < 0
    assert done.returncode == 0, done.stderr
    return killed


def state_of(schema: TableSchema, log: pa.Table) -> pa.Table:
    """The rows the log stands for, as `derive_state` has them; every change must be in it once."""
    places = log.select(["__commit_lsn", "__ordinal", "__op"])
    assert len(places.group_by(places.column_names).aggregate([])) == len(places), "a change is there twice"
    return derive_state(schema, log)
