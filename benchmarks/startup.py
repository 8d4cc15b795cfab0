"""How long does a process take until it can decode?

A fresh Python imports the decoder: once with an empty directory for compiled kernels (what the first process after an
installation or upgrade pays, unless ``python -m wallaby.pgtypes.warm`` ran before), then with a full one. ``imports``
is the part of NumPy, pyarrow and numba, which are there in any case. Wanted: 0.3 s for ours with a full cache.
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
from typing import Final

from benchmarks.measure import Line, main

_WANTED_S: Final = 0.3
_TIMEOUT_S: Final = 600
_CHILD: Final = """
import json, time
import numpy, pyarrow, pyarrow.compute, numba
imports = time.process_time()
import wallaby.pgoutput.decoder
print(json.dumps({"imports": imports, "ours": time.process_time() - imports}))
"""


def measure(words: argparse.Namespace) -> Iterator[Line]:
    """One first start, then ``--runs`` later ones."""
    with tempfile.TemporaryDirectory() as cache:
        yield _line("first, compiles", [_start(cache)])
        yield _line("later, loads", [_start(cache) for _ in range(words.runs)])


def _start(cache: str) -> Mapping[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD],
        env={**os.environ, "NUMBA_CACHE_DIR": cache},
        stdout=subprocess.PIPE,
        timeout=_TIMEOUT_S,
        check=True,
    )
    found: Mapping[str, float] = json.loads(done.stdout)
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
