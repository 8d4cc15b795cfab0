"""The kernels index only what is theirs: compiled without checks for speed, they are compiled with them here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[3]
_TESTS = ("test_decoder.py", "test_malformed.py", "test_copy_decoder.py", "test_unfinished.py")


@pytest.mark.timeout(900)
@pytest.mark.must_not_fail(13)
@pytest.mark.skipif("NUMBA_BOUNDSCHECK" in os.environ, reason="this process checks them already")
def test_the_decoders_pass_their_tests_with_every_index_checked() -> None:
    """In a process and with a cache of its own: the first run compiles for half a minute. `make bounds` runs more."""
    folder = Path(__file__).parent
    environment = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(_ROOT / ".pytest_cache" / "bounds")}
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "600", "-k", "not megabytes"]
    words += [str(folder / name) for name in _TESTS]
    done = subprocess.run(
        [sys.executable, *words], cwd=_ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
