"""Compiled kernels are kept where there is a directory for them, and work where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

_READ_A_NUMBER = """
import numpy
from wallaby.pgtypes import compiled, figures
print(compiled.cache_path(), figures.figures_at(numpy.frombuffer(b"0" * 16 + b"1234", numpy.uint8), 16, 20))
"""


def _python(*words: str, **variables: str) -> str:
    run = subprocess.run(
        [sys.executable, *words], env={**os.environ, **variables}, capture_output=True, text=True, timeout=900
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_kernels_are_kept_in_the_directory_that_is_named(tmp_path: Path) -> None:
    path, number = _python("-c", _READ_A_NUMBER, NUMBA_CACHE_DIR=str(tmp_path)).split()
    assert number == "1234"
    assert Path(path).parent == tmp_path
    assert list(Path(path).glob("figures.figures_at*.nbc"))


@pytest.mark.skipif(not hasattr(numba.config, "CACHE_LOCATOR_CLASSES"), reason="this numba cannot be told to keep none")
def test_kernels_work_where_nothing_can_be_kept() -> None:
    """As with a read-only installation and no home: numba then refuses to compile what asks for its cache."""
    only_notebooks = {"NUMBA_CACHE_LOCATOR_CLASSES": "IPythonCacheLocator"}
    assert _python("-c", _READ_A_NUMBER, **only_notebooks) == "None 1234"


def test_warm_says_where_the_kernels_are() -> None:
    assert _python("-m", "wallaby.pgtypes.warm").startswith("kernels ready after ")
