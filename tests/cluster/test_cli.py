"""The ``wallaby`` command as a shell sees it: where errors go, and with which code it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.cli import main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("version",), 0),
        (("-h",), 0),
        (("flow", "list", "-h"), 0),
        ((), 2),
        (("nonsense",), 2),
        (("plan",), 2),
        (("plan", "-f", "x.yaml", "-nonsense"), 2),
        (("validate", "missing.yaml"), 2),
        (("plan", "-f", "missing.yaml"), 2),
        (("flow", "get", "-endpoint", "127.0.0.1:1"), 2),
        (("flow", "list", "-endpoint", "127.0.0.1:1"), 1),
        (("diff",), 1),
        (("diff", "-f", "x.yaml", "-nonsense"), 1),
        (("diff", "-f", "missing.yaml"), 1),
        (("diff", "-h"), 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_every_end_has_its_code_and_errors_go_to_standard_error(
    words: tuple[str, ...], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(list(words)) == code
    captured = capsys.readouterr()
    assert (captured.err == "") == (code == 0)
    assert (captured.out == "") == (code != 0)


def test_the_version_is_one_line_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("wallaby ")
    assert main(["version", "-json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"version": said.split()[1]}


def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        def isatty(self) -> bool:
            raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", Interrupted())
    assert main(["init"]) == 130


def test_who_reads_no_further_gets_no_traceback() -> None:
    """`wallaby schema | head -1`, with more output than a pipe holds."""
    command = f"{sys.executable} -m cluster.cli schema | head -c 10"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr == ""
    assert done.stdout.startswith("{")
