"""What every test may ask for: a PostgreSQL server, fresh databases; and the tally of must-not-fail items."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.poison import NEGATIVE, poisoned
from tests.scratch import in_memory, use_memory
from wallaby.postgres.embedded import EmbeddedServer
from wallaby.testing.postgres import ScratchDatabase, scratch_database, server_for_tests

# gRPC's handlers start threads inside every process that is forked off one that uses it; between fork and exec, where a
# server's process changes its user, that ends it now and then. Set before anything imports grpc.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

# Before anything asks for a temporary folder; processes that run a part of the tests inherit it.
use_memory(os.environ, in_memory())

ACCIDENTS = 25
"""Entries of the list of accidents that must never happen."""


@pytest.fixture(scope="session", autouse=True)
def _memory_is_poisoned() -> Iterator[None]:
    """What a test reads before it is written is never by luck what it should be."""
    with poisoned(NEGATIVE):
        yield


@pytest.fixture(scope="session")
def postgres_major() -> int:
    """The major version under test: WALLABY_TEST_MAJOR, or 18."""
    return int(os.environ.get("WALLABY_TEST_MAJOR", "18"))


@pytest.fixture(scope="session")
def postgres_server(postgres_major: int) -> Iterator[EmbeddedServer]:
    """One running server for the whole session. Tests that stop or kill a server start their own."""
    with server_for_tests(postgres_major) as server:
        yield server


@pytest.fixture
def database(postgres_server: EmbeddedServer) -> Iterator[ScratchDatabase]:
    """A fresh source database; replication slots left behind fail the test."""
    with scratch_database(postgres_server) as scratch:
        yield scratch


@pytest.fixture
def target_database(postgres_server: EmbeddedServer) -> Iterator[ScratchDatabase]:
    """A second fresh database on the same server, as a destination."""
    with scratch_database(postgres_server) as scratch:
        yield scratch


_covered: set[int] = set()
_WORKER_KEY = "must_not_fail"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Note which accidents the collected tests guard; and begin with the slow ones, so that no process ends alone.

    Those that need Ray come first and one after the other: one process takes them all, with one Ray, which ends when
    they are done. Then those that ask for more time than others.
    """
    items.sort(key=_turn)
    for item in items:
        for marker in item.iter_markers("must_not_fail"):
            _covered.update(int(number) for number in marker.args)


def _turn(item: pytest.Item) -> int:
    """Tests of the lowest number run first; of one number, in the random order they have."""
    if "ray_host" in getattr(item, "fixturenames", ()):
        return 0
    if item.get_closest_marker("ray") is not None:
        return 1
    return 2 if item.get_closest_marker("timeout") is not None else 3


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process that runs a part of the tests tells the one that prints the summary."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_WORKER_KEY] = sorted(_covered)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Such a process ended."""
    _covered.update(getattr(node, "workeroutput", {}).get(_WORKER_KEY, ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many accidents are covered, and which are not."""
    missing = sorted(set(range(1, ACCIDENTS + 1)) - _covered)
    tail = f" (missing: {', '.join(map(str, missing))})" if missing and _covered else ""
    terminalreporter.write_line(f"must-not-fail: {len(_covered)} of {ACCIDENTS} covered{tail}")
