"""Every actor's Ray options, in one table.

Source and sink never restart by themselves: a restarted one would have lost its state and carry an old epoch. The
supervisor sees the failure, takes a new epoch and makes new ones. The coordinator does restart: its methods are
idempotent and its state is the control store.

``num_cpus=0``: actors are long-lived and mostly wait; on a laptop with two cores, reserved cores would make the third
actor wait for ever without an error. Deployments that want Ray to place by load raise it through
``WALLABY_ACTOR_CPUS``. ``enable_task_events=False``: per-call events cost the head node memory without bound.
"""

from __future__ import annotations

from typing import Any, Final

NAMESPACE: Final = "wallaby"
RUN: Final = "run"
WRITE: Final = "write"
CONTROL: Final = "ctl"
SOURCE_GROUPS: Final = {RUN: 1, CONTROL: 2}
SINK_GROUPS: Final = {WRITE: 1, CONTROL: 2}
"""Threads per concurrency group. One writing thread keeps the order of calls; control answers while it works."""

CARE_MEMORY_BYTES: Final = 512 << 20
"""A compaction holds the rows of one new file, twice while it sorts them, and one old file."""


def coordinator_options(control: str) -> dict[str, Any]:
    """One per driver; ``control`` names the control store in the dashboard."""
    return {
        "name": f"coordinator/{control}",
        "namespace": NAMESPACE,
        "num_cpus": 0,
        "max_restarts": -1,
        "max_task_retries": -1,
        "max_concurrency": 1000,
        "enable_task_events": False,
    }


def source_options(flow: str, epoch: int, *, num_cpus: float = 0) -> dict[str, Any]:
    """One per slot and epoch."""
    return {
        "name": f"source/{flow}/{epoch}",
        "namespace": NAMESPACE,
        "num_cpus": num_cpus,
        "max_restarts": 0,
        "max_task_retries": 0,
        "enable_task_events": False,
    }


def care_options(flow: str, destination: str) -> dict[str, Any]:
    """One table's turn (`actors.care`). It has a core and memory of its own, and waits where there are none: unlike the
    actors it ends. Not retried: the next round comes by itself."""
    return {
        "name": f"care/{flow}/{destination}",
        "num_cpus": 1,
        "memory": CARE_MEMORY_BYTES,
        "max_retries": 0,
        "enable_task_events": False,
    }


def sink_options(flow: str, destination: str, index: int, epoch: int, *, num_cpus: float = 0) -> dict[str, Any]:
    """One per lane and epoch. One thread writes, in the order of the calls."""
    return {
        "name": f"sink/{flow}/{destination}/{index}/{epoch}",
        "namespace": NAMESPACE,
        "num_cpus": num_cpus,
        "max_restarts": 0,
        "max_task_retries": 0,
        "enable_task_events": False,
    }
