"""Attaching to Ray: the cluster named by RAY_ADDRESS, or one of our own on this machine."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from actors.options import NAMESPACE
from wallaby.errors import CheckFailed, ConfigError, MissingExtra

_OBJECT_STORE_BYTES: Final = 512 << 20
_PACKAGES: Final = ("wallaby", "actors", "sinks", "cluster")


@dataclass(frozen=True, slots=True)
class RayRuntime:
    """What we are attached to. ``dashboard`` is ``host:port``, empty when there is none."""

    dashboard: str
    is_ours: bool


@contextmanager
def attached(*, dashboard: bool = True) -> Iterator[RayRuntime]:
    """Attach for the block. Actors we own end with it; a local cluster we started ends too."""
    _quieten()
    ray = _import_ray()
    require_one_home()
    options: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "configure_logging": False}
    is_ours = not os.environ.get("RAY_ADDRESS")
    if is_ours:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Ray runs workers at niceness 15, fit for batch jobs; ours hold replication slots and must keep up.
        os.environ.setdefault("RAY_worker_niceness", "0")
        options |= {
            "address": "local",
            "include_dashboard": dashboard,
            "dashboard_host": "127.0.0.1",
            "object_store_memory": _OBJECT_STORE_BYTES,
            "num_cpus": max(4, os.cpu_count() or 1),
        }
    try:
        context = ray.init(**options)
    except Exception as error:
        what = "start on this machine" if is_ours else "be reached at RAY_ADDRESS"
        raise CheckFailed(
            f"Ray cannot {what} ({type(error).__name__})",
            advice="Look at memory, disk and the newest session folder under Ray's temporary directory"
            if is_ours
            else "Check that the cluster runs, that its Ray and Python versions are these, and RAY_AUTH_MODE",
        ) from error
    try:
        yield RayRuntime(context.dashboard_url or "", is_ours)
    finally:
        ray.shutdown()


def job_id() -> str:
    """The submission id when this process was started by ``ray job submit``, else empty."""
    try:
        config = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
        return str(config["metadata"]["job_submission_id"])
    except (ValueError, KeyError, TypeError):
        return ""


def _quieten() -> None:
    """Ray's notices and the workers' last words belong into its logs, not between the lines of our output.

    What fails reaches the user as an error of ours; the session's log folder has the details.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    logger = logging.getLogger("ray")
    logger.setLevel(logging.ERROR)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def require_one_home() -> None:
    """The four packages come from one folder: half of one version and half of another must not run together."""
    from importlib.util import find_spec
    from pathlib import Path

    homes = {
        str(Path(spec.origin).resolve().parent.parent)
        for name in _PACKAGES
        if (spec := find_spec(name)) is not None and spec.origin is not None
    }
    if len(homes) > 1:
        raise ConfigError(
            f"the packages {', '.join(_PACKAGES)} come from different folders",
            advice="Remove the older installation, or start from a folder that holds none or all of them",
            folders=" and ".join(sorted(homes)),
        )


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingExtra(
            "Ray is not installed", advice='Install it with: pip install "wallaby[ray]"', extra="ray"
        ) from error
    return ray
