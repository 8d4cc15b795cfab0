"""buf over the contracts, where `make proto-lint` has installed it: style, and that nothing clients rely on breaks."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
INSTALLED = ROOT / "build" / "buf" / "node_modules" / ".bin" / "buf"


@pytest.fixture
def buf() -> str:
    found = str(INSTALLED) if INSTALLED.exists() else shutil.which("buf")
    if found is None:
        pytest.skip("buf is not installed: `make proto-lint` fetches it with npm")
    return found


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)


def test_the_contracts_are_in_style(buf: str) -> None:
    done = run(buf, "lint", str(ROOT / "proto"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_renumbered_field_and_a_lost_call_are_noticed(buf: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    same = run(buf, "breaking", str(tmp_path / "proto"), "--against", str(ROOT / "proto"))
    assert same.returncode == 0, same.stdout + same.stderr
    flow = tmp_path / "proto" / "wallaby" / "v1" / "flow.proto"
    text = flow.read_text(encoding="utf-8")
    broken = text.replace("bool start_immediately = 2;", "bool start_immediately = 3;").replace(
        "  rpc DeleteFlow(DeleteFlowRequest) returns (DeleteFlowResponse);\n", ""
    )
    assert broken != text
    flow.write_text(broken, encoding="utf-8")
    done = run(buf, "breaking", str(tmp_path / "proto"), "--against", str(ROOT / "proto"))
    assert done.returncode != 0
    assert "start_immediately" in done.stdout
    assert "DeleteFlow" in done.stdout
