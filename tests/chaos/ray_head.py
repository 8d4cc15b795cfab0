"""A local Ray cluster in a process of its own, which also tells who its actors are.

``python -m tests.chaos.ray_head DIRECTORY`` prints a JSON line with the address once the cluster stands. For every line
it reads it prints the living actors, ``{name: process id}``; at the end of its input it takes the cluster down.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import ray
from ray._private import state

from actors.options import NAMESPACE

_OBJECT_STORE_BYTES: Final = 256 << 20


def main(directory: str) -> None:
    """Start, answer, end."""
    context = ray.init(
        address="local",
        namespace=NAMESPACE,
        include_dashboard=False,
        num_cpus=4,
        object_store_memory=_OBJECT_STORE_BYTES,
        log_to_driver=False,
        configure_logging=False,
        _temp_dir=directory,
    )
    _say({"address": context.address_info["gcs_address"]})
    for _ in sys.stdin:
        _say(_living())
    ray.shutdown()


def _living() -> dict[str, int]:
    # The public way to list actors needs the dashboard; this asks the cluster's table itself.
    actors = state.actors().values()
    return {actor["Name"]: actor["Pid"] for actor in actors if actor["State"] == "ALIVE" and actor["Pid"]}


def _say(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
