"""How long does a process take until it can decode?

A fresh Python imports the decoder: with the object file of all kernels (``python -m wallaby.pgtypes.warm`` made it, and
what that takes with an empty directory is the first line), and without it, with numba's own cache. ``imports`` is the
part of NumPy and pyarrow, which are there in any case. Wanted: 0.3 s for ours.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.measure import Line, main

_WANTED_S: Final = 0.3
_TIMEOUT_S: Final = 600
_CHILD: Final = """
import json, os
import numpy, pyarrow, pyarrow.compute
imports = sum(os.times()[:4])
%s
print(json.dumps({"imports": imports, "ours": sum(os.times()[:4]) - imports}))
"""
"""Of the process and its children: the compiler is one."""
_DECODE: Final = "import wallaby.pgoutput.decoder"
_WARM: Final = "import wallaby.pgtypes.warm; wallaby.pgtypes.warm.main()"


def measure(words: argparse.Namespace) -> Iterator[Line]:
    """The command that compiles once, then ``--runs`` starts with the object file and as many without."""
    with tempfile.TemporaryDirectory() as cache:
        yield _line("compile everything", [_start(cache, _WARM)])
        yield _line("start with the object file", [_start(cache, _DECODE) for _ in range(words.runs)])
        for path in Path(cache).glob("*.kernels"):
            path.unlink()
        _start(cache, _DECODE)  # fills numba's cache
        yield _line("start with numba's cache", [_start(cache, _DECODE) for _ in range(words.runs)])


def _start(cache: str, work: str) -> Mapping[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD % work],
        env={**os.environ, "NUMBA_CACHE_DIR": cache},
        stdout=subprocess.PIPE,
        timeout=_TIMEOUT_S,
        check=True,
    )
    found: Mapping[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _line(subject: str, starts: Sequence[Mapping[str, float]]) -> Line:
    ours = [start["ours"] for start in starts]
    imports = statistics.median(start["imports"] for start in starts)
    median = statistics.median(ours)
    return Line(
        name="start of a decoding process",
        subject=subject,
        rows_per_s=0.0,
        rows_per_cpu_s=0.0,
        ratio=None,
        spread=(max(ours) - min(ours)) / median,
        runs=len(starts),
        note=f"CPU s: ours {median:.2f} (best {min(ours):.2f}, wanted {_WANTED_S}), imports {imports:.2f}",
        extra={"cpu_s": median, "best_cpu_s": min(ours), "imports_cpu_s": imports, "wanted_s": _WANTED_S},
    )


if __name__ == "__main__":
    raise SystemExit(main(measure, __doc__))
