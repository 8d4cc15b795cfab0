"""Compiled kernels are cached per source file; what they inline from other files must not go stale.

numba throws a cached kernel away when the file it stands in changes, not when a file does whose functions it calls: a
process would go on running the old code after an upgrade. So every file of kernels names a digest of those it calls
into, in a comment; to change a callee changes the callers' files, and their cache with them.

``python -m tests.wallaby.pgtypes.test_compiled_cache`` writes the digests.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
IMPORT = re.compile(r"^from ((?:wallaby|sinks)\.[\w.]+) import", re.MULTILINE)
MARK = re.compile(r"^ *@(njit|kernel|called|inlined|expanded|intrinsic)\b", re.MULTILINE)
DIGEST = re.compile(r"^# Compiled in: .*\n", re.MULTILINE)


def _compiled() -> dict[str, Path]:
    """Module name to file, for every file that compiles something."""
    found = {}
    for path in sorted([*(ROOT / "wallaby").rglob("*.py"), *(ROOT / "sinks").rglob("*.py")]):
        if MARK.search(path.read_text(encoding="utf-8")):
            found[".".join(path.relative_to(ROOT).with_suffix("").parts)] = path
    return found


COMPILED = _compiled()


def _line(module: str) -> str:
    """The comment this module must have, in lines of three callees; empty when it calls into no other."""
    callees = [name for name in IMPORT.findall(COMPILED[module].read_text(encoding="utf-8")) if name in COMPILED]
    digests = [f"{name.rpartition('.')[2]} {_digest(name)}" for name in sorted(callees)]
    return "".join(f"# Compiled in: {', '.join(digests[i : i + 3])}\n" for i in range(0, len(digests), 3))


def _digest(module: str) -> str:
    text = DIGEST.sub("", COMPILED[module].read_text(encoding="utf-8"))
    return hashlib.sha256((text + _line(module)).encode()).hexdigest()[:8]


@pytest.mark.parametrize("module", COMPILED)
def test_kernels_name_the_state_of_what_they_compile_in(module: str) -> None:
    found = DIGEST.findall(COMPILED[module].read_text(encoding="utf-8"))
    assert "".join(found) == _line(module), "run: python -m tests.wallaby.pgtypes.test_compiled_cache"


@pytest.mark.parametrize("folder", ["wallaby", "sinks"])
def test_kernels_ask_for_a_cache_only_where_there_is_one(folder: str) -> None:
    """numba refuses to compile them anywhere else: nothing would run on a read-only file system."""
    asks = re.compile(r"\bcache *= *True\b")
    files = [*(ROOT / folder).rglob("*.py")]
    assert files
    assert [path.name for path in files if asks.search(path.read_text(encoding="utf-8"))] == []


def main() -> None:
    """Rewrite the comments, right before the ``mypy`` comment every such file has."""
    for module, path in COMPILED.items():
        line, text = _line(module), path.read_text(encoding="utf-8")
        if line and "".join(DIGEST.findall(text)) != line:
            before, mypy, after = DIGEST.sub("", text).partition("# mypy:")
            assert mypy, f"{path.name} has no mypy comment to stand before"
            path.write_text(f"{before}{line}{mypy}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
