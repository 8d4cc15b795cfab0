"""wallaby as a Ray job: the command of the documentation, drained by ``ray job stop``, readable in the dashboard."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from cluster.run import _settings, _warn_of_loss
from cluster.view import PlainLines
from tests.cluster.conftest import ROOT, START_S, STEP_S, Command, RayHost
from tests.cluster.test_run import contents, drop_slots, flow
from tests.cluster.test_up import awaited
from wallaby.testing.postgres import ScratchDatabase


def documented() -> list[str]:
    """The words of the command in the page on operation."""
    page = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    [command] = re.findall(r"^ray job submit (?:.*\\\n)*.*$", page, re.MULTILINE)
    return shlex.split(command.replace("\\\n", " "))


@pytest.fixture
def prepared(database: ScratchDatabase, target_database: ScratchDatabase) -> Iterator[None]:
    database.execute(
        "CREATE TABLE orders (id int PRIMARY KEY, note text)",
        "INSERT INTO orders SELECT g, 'first' FROM generate_series(1, 300) AS g",
    )
    yield
    drop_slots(database)


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("prepared")
def test_the_documented_job_streams_shows_its_actors_and_drains_when_it_is_stopped(
    ray_host: RayHost, database: ScratchDatabase, target_database: ScratchDatabase, tmp_path: Path
) -> None:
    file = tmp_path / "flow.yaml"
    given = flow(database.name)
    given["destinations"] = given["destinations"][:1]
    file.write_text(yaml.safe_dump(given))
    dashboard = f"http://{ray_host.dashboard}"
    words = documented()
    place = words.index("--runtime-env-json") + 1
    variables = json.loads(words[place])
    assert int(variables["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"]) >= 30
    variables["env_vars"] |= {
        "WALLABY_STATE_DIR": str(tmp_path / "state"),
        "WALLABY_GRPC_LISTEN": "127.0.0.1:0",
        "FROM_DSN": database.dsn,
        "TO_DSN": target_database.dsn,
    }
    words[place] = json.dumps(variables)
    words[words.index("flow.yaml")] = str(file)
    end = words.index("--")
    words[end:end] = [f"--address={dashboard}", "--no-wait", f"--submission-id={database.name}"]
    ray(ray_host, *words[1:])

    follow = ["ray", "job", "logs", "--follow", f"--address={dashboard}", database.name]
    logs = Command.start(follow, environment=ray_host.environment, folder=tmp_path)
    try:
        logs.until("streaming", START_S)
        shown = {
            actor["name"]: actor["repr_name"] for actor in actors(dashboard) if f"/{database.name}/" in actor["name"]
        }
        assert shown == {
            f"source/{database.name}/1": f"Source[wallaby_{database.name} epoch 1]",
            f"sink/{database.name}/copy/0/1": f"Sink[{database.name}/copy/0 epoch 1]",
        }
        assert [actor for actor in actors(dashboard) if actor["repr_name"].startswith("Coordinator[")]
        database.execute("UPDATE orders SET note = 'second' WHERE id <= 200")
        ray(ray_host, "job", "stop", f"--address={dashboard}", database.name)
        logs.wait()
    finally:
        logs.end()
    assert any("draining" in line for line in logs.lines)
    assert not any("warning: the control store" in line for line in logs.lines)
    assert contents(target_database) == contents(database), "the stop drained"
    awaited(lambda: database.fetch("SELECT 1 FROM pg_replication_slots WHERE NOT active"), "the slot to be free")
    assert (tmp_path / "state").is_dir()


def ray(host: RayHost, *words: str) -> str:
    done = subprocess.run(
        ["ray", *words],
        env=dict(host.environment),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=STEP_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def actors(dashboard: str) -> list[dict[str, Any]]:
    """The living actors as the dashboard lists them."""
    query = f"{dashboard}/api/v0/actors?detail=1&limit=1000&filter_keys=state&filter_predicates=%3D&filter_values=ALIVE"
    with urllib.request.urlopen(query, timeout=STEP_S) as answer:
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]["result"]
    return found


def test_a_job_whose_checkpoint_would_go_with_it_is_warned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WALLABY_STATE_DIR", raising=False)
    monkeypatch.delenv("WALLABY_POSTGRES_DSN", raising=False)
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    plain: Any = SimpleNamespace(state_dir=None, listen=None)
    assert said(plain) == ""
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"metadata": {"job_submission_id": "raysubmit_1"}}))
    assert "WALLABY_POSTGRES_DSN" in said(plain)
    monkeypatch.setenv("WALLABY_STATE_DIR", str(tmp_path.parent / "elsewhere"))
    assert said(plain) == ""
    monkeypatch.delenv("WALLABY_STATE_DIR")
    monkeypatch.setenv("WALLABY_POSTGRES_DSN", "env:STORE_DSN")
    assert said(plain) == ""


def said(words: Any) -> str:
    output = io.StringIO()
    _warn_of_loss(PlainLines(output), _settings(words))
    return output.getvalue()
