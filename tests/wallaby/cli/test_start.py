"""Commands of a client start light: they load neither Ray nor the data path, and work where Ray is not installed."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.cli import _parser
from tests.wallaby.api.running import Running

ROOT = Path(__file__).parents[3]

HEAVY = ("ray", "numba", "llvmlite", "pyarrow", "numpy", "duckdb", "rich")
OTHERS = ("wallaby.cli.interview", "wallaby.cli.publication", "wallaby.cli.security", "wallaby.cli.stream")
"""Parsers of other commands."""
FLOW = """
name: shop
source: {type: postgres, options: {dsn: "env:SHOP_DSN"}}
destinations: [{type: duckdb, options: {dsn: shop.duckdb}}]
"""

_PROGRAM = """
import json, sys
class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "ray":
            raise ModuleNotFoundError("No module named 'ray'", name="ray")
sys.meta_path.insert(0, NotInstalled())
from cluster.cli import main
code = main(sys.argv[1:])
loaded = {*sys.modules, *(name.partition(".")[0] for name in sys.modules)}
print(json.dumps({"code": code, "loaded": sorted(loaded)}), file=sys.stderr)
"""


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers right below this one."""
    found = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return found[0] if found else {}


def help_of(parser: argparse.ArgumentParser, words: tuple[str, ...]) -> str:
    """What the parser of this command says it takes."""
    for word in words:
        parser = commands_of(parser)[word]
    return parser.format_help()


ALL_COMMANDS = [
    (name, *below)
    for name, parser in commands_of(_parser()).items()
    for below in [(), *((n,) for n in commands_of(parser))]
]


def start(folder: Path, *words: str) -> tuple[int, set[str]]:
    """Exit code and loaded packages and modules of a command in a process of its own, where Ray is not installed."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PATH": "", "PYTHONPATH": str(ROOT), "SHOP_DSN": "postgresql://127.0.0.1:1/none"},
        check=True,
        timeout=120,
    )
    last = json.loads(done.stderr.splitlines()[-1])
    assert "Traceback" not in done.stderr
    return last["code"], set(last["loaded"])


@pytest.mark.parametrize(
    ("words", "unneeded"),
    [
        (("version",), (*HEAVY, *OTHERS, "grpc", "pydantic", "yaml", "psycopg")),
        (("completion", "bash"), (*HEAVY, "grpc", "pydantic", "yaml", "psycopg")),
        (("flow", "list"), (*HEAVY, *OTHERS, "wallaby.cli.wanted", "pydantic", "yaml", "psycopg")),
        (("flow", "create", "--file", "shop.yaml"), (*HEAVY, "psycopg")),
        (("flow", "start", "shop"), (*HEAVY, "pydantic", "yaml", "psycopg")),
        (("flow", "get", "shop"), (*HEAVY, "psycopg")),
        (("flow", "stop", "shop"), (*HEAVY, "pydantic", "yaml", "psycopg")),
        (("plan", "-f", "shop.yaml"), (*HEAVY, *OTHERS, "psycopg", "sqlite3", "wallaby.store")),
        (("diff", "-f", "shop.yaml"), (*HEAVY, *OTHERS, "psycopg", "sqlite3", "wallaby.store")),
        (("ddl", "list"), (*HEAVY, "pydantic", "yaml", "psycopg")),
        (("checkpoint", "list"), (*HEAVY, "pydantic", "yaml", "psycopg")),
        (("token", "list"), (*HEAVY, "pydantic", "yaml", "psycopg")),
        (("audit", "--limit", "9"), (*HEAVY, "pydantic", "yaml", "psycopg")),
        (("stream", "groups", "--stream", "orders"), (*HEAVY, "pydantic", "yaml", "psycopg")),
        (("validate", "shop.yaml"), ("ray", "grpc", "duckdb", "psycopg")),
        (("schema",), ("ray", "grpc", "duckdb")),
        (("slot", "list", "-dsn", "env:SHOP_DSN"), ("ray", "grpc", "numba", "duckdb", "rich")),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else None,
)
def test_a_command_loads_nothing_it_does_not_need(
    running: Running, tmp_path: Path, words: tuple[str, ...], unneeded: tuple[str, ...]
) -> None:
    (tmp_path / "shop.yaml").write_text(FLOW)
    is_client = words[0] not in ("version", "completion", "validate", "schema", "slot")
    if words[0] == "flow" and words[1] in ("get", "start", "stop"):
        assert start(tmp_path, "flow", "create", "--file", "shop.yaml", "--endpoint", running.address)[0] == 0
    code, loaded = start(tmp_path, *words, *(("--endpoint", running.address) if is_client else ()))
    assert code == {"diff": 2, "slot": 1, "stream": 1}.get(words[0], 0)
    assert loaded.isdisjoint(unneeded), loaded & set(unneeded)


@pytest.mark.parametrize("words", ALL_COMMANDS, ids=" ".join)
def test_a_line_is_read_alike_by_the_parser_of_its_command_and_by_that_of_all(words: tuple[str, ...]) -> None:
    assert help_of(_parser(words[0]), words) == help_of(_parser(), words)


def test_a_line_that_begins_with_no_command_is_read_by_the_parser_of_all() -> None:
    assert set(commands_of(_parser("--help"))) == set(commands_of(_parser("unheard-of"))) == set(commands_of(_parser()))
