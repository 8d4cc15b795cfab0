"""buf over the contracts: style, and that nothing clients rely on breaks."""

from __future__ import annotations

import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def buf() -> str:
    """The program of the package buf-bin, wherever its environment keeps programs."""
    [program] = [file for file in metadata.files("buf-bin") or () if file.stem == "buf" and "bin" in file.parts]
    return str(Path(str(program.locate())).resolve())


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


def test_nothing_of_the_first_contract_is_broken(buf: str, tmp_path: Path) -> None:
    """`make proto-breaking` compares with the last commit; many small steps may still lead away from the beginning."""
    first = git("log", "--diff-filter=A", "--format=%H", "--reverse", "--", "proto/wallaby").decode().split()[:1]
    if not first or git("rev-parse", "--is-shallow-repository").strip() == b"true":
        pytest.skip("the history of proto/ is not here")
    archive = subprocess.run(
        ("git", "archive", first[0], "proto"), cwd=ROOT, capture_output=True, check=True, timeout=60
    )
    subprocess.run(("tar", "-x", "-C", str(tmp_path)), input=archive.stdout, check=True, timeout=60)
    done = run(buf, "breaking", str(ROOT / "proto"), "--against", str(tmp_path / "proto"))
    assert done.returncode == 0, done.stdout + done.stderr


def git(*words: str) -> bytes:
    """What git says here; nothing where there is no repository."""
    if shutil.which("git") is None:
        return b""
    return subprocess.run(("git", *words), cwd=ROOT, capture_output=True, check=False, timeout=60).stdout
