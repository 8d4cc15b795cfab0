"""docs/a-day.md is a transcript: every command in it runs, in its order, and says what the page says it says."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from cluster.cli import main
from tests.docs.test_docs import FENCE, ROOT
from tests.wallaby.api.running import Running
from tests.wallaby.cli.command import draining
from wallaby.lsn import START, Lsn, Position
from wallaby.testing.postgres import ScratchDatabase

PAGE = ROOT / "docs" / "a-day.md"
SERVED = ("flow", "plan", "apply", "diff", "ddl", "checkpoint", "publication")


def transcript() -> list[tuple[str, list[str]]]:
    """Every command of the page with the lines it prints."""
    found: list[tuple[str, list[str]]] = []
    for match in FENCE.finditer(PAGE.read_text(encoding="utf-8")):
        for line in match[3].splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def matches(expected: list[str], printed: str) -> bool:
    """``…`` stands for any text, also over several lines; how wide columns are is not compared."""
    pattern = ".*?".join(map(re.escape, _narrow("\n".join(expected)).split("…")))
    return re.fullmatch(pattern, _narrow(printed.rstrip("\n")), re.DOTALL) is not None


def _narrow(text: str) -> str:
    return re.sub(" +", " ", text)


def run(command: str, address: str) -> str:
    """What a command prints, on either stream."""
    words = shlex.split(command)
    if words[0] != "wallaby":
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
        return done.stdout
    is_served = words[1] in SERVED or "--flow-id" in words
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        main([*words[1:], *(("--endpoint", address) if is_served else ())])
    return output.getvalue()


@pytest.fixture
def shop(database: ScratchDatabase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ScratchDatabase:
    database.execute(
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.orders (id int PRIMARY KEY, note text)",
        "CREATE TABLE shop.log (note text)",
    )
    monkeypatch.setenv("SHOP_DSN", database.dsn)
    monkeypatch.chdir(tmp_path)
    return database


def start_as_the_driver_does(running: Running, shop: ScratchDatabase) -> None:
    """What a first run leaves behind on the source and in the store."""
    shop.execute(
        "CREATE PUBLICATION wallaby_shop FOR TABLE shop.orders",
        "SELECT pg_create_logical_replication_slot('wallaby_shop', 'pgoutput')",
    )
    [(lsn,)] = shop.fetch("SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = 'wallaby_shop'")
    running.store.begin_epoch("shop")
    position = Position(Lsn.parse(lsn))
    running.store.commit_checkpoint("shop", epoch=1, after=START, upto=position, lanes={"shop/duckdb/0": position})


def test_the_day_is_as_the_page_tells_it(
    running: Running, shop: ScratchDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    commands = transcript()
    assert len(commands) >= 20
    try:
        with draining(running):
            for command, expected in commands:
                printed = run(command, running.address)
                assert matches(expected, printed), f"$ {command}\n{printed}\nbut the page says\n" + "\n".join(expected)
                if command == "wallaby apply -f flows --start":
                    start_as_the_driver_does(running, shop)
        assert shop.slots() == []
    finally:
        for slot in shop.slots():
            shop.execute(f"SELECT pg_drop_replication_slot('{slot}')")
