"""plan, apply and diff against a real API: what differs is told, done once, and nothing else is touched."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.wallaby.api.running import Running
from tests.wallaby.cli.command import Wallaby, draining, parsed
from wallaby import cli
from wallaby.cli.wanted import read_wanted
from wallaby.errors import ConfigError, Superseded, WallabyError
from wallaby.lifecycle import Command, FlowState


def flow(name: str, **options: Any) -> dict[str, Any]:
    return {
        "name": name,
        "source": {"type": "postgres", "options": {"dsn": f"env:{name.upper()}_DSN", **options}},
        "destinations": [{"name": "lake", "type": "duckdb", "options": {"dsn": f"{name}.duckdb"}}],
    }


@pytest.fixture
def wallaby(running: Running) -> Wallaby:
    return Wallaby(running.address)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Two files with three flows."""
    place = tmp_path / "flows"
    (place / "more").mkdir(parents=True)
    (place / "a.yaml").write_text(yaml.safe_dump_all([flow("shop"), flow("billing")]))
    (place / "more" / "c.json").write_text(json.dumps({"flows": [flow("stock")]}))
    return place


def rewrite(directory: Path, *flows: dict[str, Any]) -> None:
    (directory / "a.yaml").write_text(yaml.safe_dump_all(flows))


def test_a_directory_is_planned_applied_and_then_equal(wallaby: Wallaby, running: Running, directory: Path) -> None:
    code, shown = wallaby.code("diff", "-f", str(directory))
    assert code == 2
    assert [line for line in shown.splitlines() if line.startswith("+")] == [
        f"+ create shop ({directory / 'a.yaml'}, flow 1)",
        f"+ create billing ({directory / 'a.yaml'}, flow 2)",
        f"+ create stock ({directory / 'more' / 'c.json'})",
    ]
    assert shown.endswith("Plan: 3 to create, 0 to update, 0 to delete, 0 unchanged.\n")
    assert "\x1b" not in shown
    assert wallaby("plan", "-f", str(directory)) == shown
    assert running.store.list_flows().flows == ()

    applied = wallaby("apply", "-f", str(directory))
    assert applied.startswith(shown)
    assert applied.splitlines()[-3:] == [
        f"Created flow {name} (state=FLOW_STATE_CREATED)" for name in ("shop", "billing", "stock")
    ]
    assert wallaby.code("diff", "-f", str(directory)) == (
        0,
        "Plan: 0 to create, 0 to update, 0 to delete, 3 unchanged.\n",
    )
    version = running.store.version()
    wallaby("apply", "-f", str(directory))
    assert running.store.version() == version


def test_only_what_differs_is_touched_and_a_flow_that_ran_runs_again(
    wallaby: Wallaby, running: Running, directory: Path
) -> None:
    wallaby("apply", "-f", str(directory), "-start")
    rewrite(directory, flow("shop") | {"parallelism": 2}, flow("billing"))
    shown = wallaby("plan", "-f", str(directory))
    assert "~ update shop" in shown
    assert "it runs: it will be drained, changed and resumed" in shown
    assert "    parallelism: 1 -> 2\n" in shown
    before = running.store.get_flow("billing")
    with draining(running):
        assert "Updated flow shop (state=FLOW_STATE_RUNNING)\n" in wallaby("apply", "-f", str(directory))
    record = running.store.get_flow("shop")
    assert (record.state, record.revision, record.spec.parallelism) == (FlowState.RUNNING, 2, 2)
    assert running.store.get_flow("billing") == before
    commands = [event.command for event in running.store.state_events("shop")]
    assert commands[:4] == [Command.RESUME, Command.UPDATE, Command.FINISH, Command.STOP]


def test_a_flow_that_does_not_run_is_changed_and_stays_as_it_is(
    wallaby: Wallaby, running: Running, directory: Path
) -> None:
    wallaby("apply", "-f", str(directory))
    rewrite(directory, flow("shop") | {"parallelism": 2}, flow("billing"))
    wallaby("apply", "-f", str(directory))
    assert running.store.get_flow("shop").state is FlowState.CREATED


def test_flows_of_no_file_stay_unless_they_are_to_be_pruned(
    wallaby: Wallaby, running: Running, directory: Path
) -> None:
    wallaby("apply", "-f", str(directory), "-start")
    rewrite(directory, flow("shop"))
    shown = wallaby("plan", "-f", str(directory))
    assert "In no file, and left alone: billing\n" in shown
    assert wallaby.code("diff", "-f", str(directory))[0] == 0
    code, shown = wallaby.code("diff", "-f", str(directory), "-prune")
    assert code == 2
    assert "- delete billing\n" in shown
    with pytest.raises(ConfigError, match="--yes"):
        wallaby("apply", "-f", str(directory), "-prune")
    assert running.store.get_flow("billing").state is FlowState.RUNNING
    with draining(running):
        assert wallaby("apply", "-f", str(directory), "-prune", "-yes").endswith("Deleted flow billing\n")
    assert [record.id for record in running.store.list_flows().flows] == ["shop", "stock"]


def test_a_flow_may_take_the_slot_of_one_that_is_pruned(wallaby: Wallaby, running: Running, directory: Path) -> None:
    rewrite(directory, flow("shop"))
    wallaby("apply", "-f", str(directory))
    heir = flow("shop2", slot="wallaby_shop", dsn="env:SHOP_DSN")
    rewrite(directory, heir)
    with pytest.raises(ConfigError, match="reads from this slot"):
        wallaby("plan", "-f", str(directory))
    wallaby("apply", "-f", str(directory), "-prune", "-yes")
    assert [record.id for record in running.store.list_flows().flows] == ["shop2", "stock"]


def test_changes_that_lose_something_are_marked_and_need_a_yes(
    wallaby: Wallaby, running: Running, directory: Path
) -> None:
    wallaby("apply", "-f", str(directory))
    rewrite(directory, flow("shop", slot="another"), flow("billing"))
    shown = wallaby("plan", "-f", str(directory))
    assert "    source.options.slot: (none) -> another\n      ! the old slot keeps WAL" in shown
    assert shown.endswith("1 changes lose something.\n")
    with pytest.raises(ConfigError) as refused:
        wallaby("apply", "-f", str(directory))
    assert refused.value.where["field"] == "--yes"
    assert running.store.get_flow("shop").revision == 1
    wallaby("apply", "-f", str(directory), "-yes")
    assert running.store.get_flow("shop").spec.source.options["slot"] == "another"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "is_done"), [("yes\n", True), ("y\n", False), ("no\n", False), ("", False)])
def test_on_a_terminal_a_person_is_asked(
    wallaby: Wallaby,
    running: Running,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    is_done: bool,
) -> None:
    wallaby("apply", "-f", str(directory))
    rewrite(directory, flow("shop", slot="another"), flow("billing"))
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    if is_done:
        wallaby("apply", "-f", str(directory))
    else:
        with pytest.raises(WallabyError, match="nothing was changed"):
            wallaby("apply", "-f", str(directory))
    assert running.store.get_flow("shop").revision == (2 if is_done else 1)


def test_colours_are_for_terminals_only(running: Running, directory: Path) -> None:
    terminal = Terminal()
    cli.run(parsed("plan", "-f", str(directory), "-endpoint", running.address), terminal)
    assert "\x1b[32m+ create shop\x1b[0m" in terminal.getvalue()
    terminal = Terminal()
    cli.run(parsed("plan", "-f", str(directory), "-json", "-endpoint", running.address), terminal)
    assert "\x1b" not in terminal.getvalue()


def test_json_says_the_same(wallaby: Wallaby, running: Running, directory: Path) -> None:
    wallaby("apply", "-f", str(directory))
    rewrite(directory, flow("shop", slot="another"))
    plan = json.loads(wallaby("plan", "-f", str(directory), "-json"))
    assert {name: plan[name] for name in ("create", "update", "delete", "unchanged", "destructive")} == {
        "create": 0,
        "update": 1,
        "delete": 0,
        "unchanged": 1,
        "destructive": 1,
    }
    assert plan["unmanaged"] == ["billing"]
    [shop, stock] = plan["flows"]
    assert (shop["id"], shop["action"], shop["state"], shop["revision"]) == ("shop", "update", "created", 1)
    [change] = shop["changes"]
    assert (change["field"], change["before"], change["after"]) == ("source.options.slot", None, "another")
    assert change["destructive"].startswith("the old slot")
    assert (stock["action"], stock["changes"]) == ("none", [])
    done = json.loads(wallaby("apply", "-f", str(directory), "-json", "-yes"))
    assert done["applied"] == [{"id": "shop", "action": "update", "state": "FLOW_STATE_CREATED"}]


def test_everything_wrong_with_the_files_is_said_at_once(directory: Path) -> None:
    rewrite(directory, flow("shop") | {"sorce": {}}, flow("billing") | {"parallelism": 99}, flow("stock"))
    with pytest.raises(ConfigError) as refused:
        Wallaby("127.0.0.1:1")("plan", "-f", str(directory))
    text = str(refused.value)
    assert f"{directory / 'a.yaml'}, flow 1: sorce: is not a known key. Did you mean 'source'?" in text
    assert f"{directory / 'a.yaml'}, flow 2: parallelism" in text
    assert f"flow stock is in {directory / 'a.yaml'}, flow 3 already" in text


def test_two_files_never_share_a_slot(directory: Path) -> None:
    rewrite(directory, flow("shop"), flow("thief", dsn="env:SHOP_DSN", slot="wallaby_shop"))
    with pytest.raises(ConfigError, match="reads from the same slot"):
        read_wanted([str(directory)])


def test_wrong_options_are_the_servers_to_name_with_their_files(wallaby: Wallaby, directory: Path) -> None:
    rewrite(directory, flow("shop", snapsot="never"), flow("billing", slot="NOT A SLOT"))
    with pytest.raises(ConfigError) as refused:
        wallaby("plan", "-f", str(directory))
    assert f"{directory / 'a.yaml'}, flow 1: " in str(refused.value)
    assert "Did you mean 'snapshot'?" in str(refused.value)
    assert f"{directory / 'a.yaml'}, flow 2: " in str(refused.value)


@pytest.mark.must_not_fail(24)
def test_no_plan_shows_a_secret(wallaby: Wallaby, directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rewrite(directory, flow("shop", dsn="postgresql://me:hunter2@db/x"))
    for command in ("plan", "apply", "diff"):
        with pytest.raises(ConfigError) as refused:
            wallaby(command, "-f", str(directory))
        assert "hunter2" not in str(refused.value)
    captured = capfd.readouterr()
    assert "hunter2" not in captured.out + captured.err


def test_what_somebody_else_changed_meanwhile_is_not_overwritten(
    wallaby: Wallaby, running: Running, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one is faster between the question and the answer, and the flow that was drained runs again."""
    wallaby("apply", "-f", str(directory), "-start")
    rewrite(directory, flow("shop", slot="another"), flow("billing"))

    class Slow(Terminal):
        def readline(self, *_: Any) -> str:
            running.store.move_flow("shop", Command.STOP)
            running.store.move_flow("shop", Command.FINISH)
            spec = running.store.get_flow("shop").spec
            running.store.update_flow("shop", spec.model_copy(update={"parallelism": 3}))
            running.store.move_flow("shop", Command.RESUME)
            return "yes\n"

    monkeypatch.setattr("sys.stdin", Slow())
    with draining(running), pytest.raises(Superseded, match="changed meanwhile"):
        wallaby("apply", "-f", str(directory))
    record = running.store.get_flow("shop")
    assert (record.spec.parallelism, record.spec.source.options.get("slot"), record.state) == (
        *(3, None, FlowState.RUNNING),
    )


def test_variables_and_values_of_a_terminal_are_shown_harmlessly(
    wallaby: Wallaby, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TITLE", "a\x1b[31mb" + "x" * 150)
    rewrite(directory, {"variables": ["TITLE"], **flow("shop"), "id": "shop", "name": "${env:TITLE}"})
    shown = wallaby("plan", "-f", str(directory))
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) < 150 + len(str(directory))
