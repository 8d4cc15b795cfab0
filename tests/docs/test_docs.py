"""The documentation is true: links lead somewhere, flow files are valid, commands and options exist."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from pathlib import Path

import jsonschema
import pytest
import yaml

from cluster.cli import _parser as cli_parser
from sinks.azure.config import AzureOptions
from sinks.delta.config import DeltaOptions
from sinks.duckdb.config import DuckDBOptions
from sinks.ducklake.config import DuckLakeOptions
from sinks.files.config import FilesOptions
from sinks.gcs.config import GcsOptions
from sinks.iceberg.config import IcebergOptions
from sinks.pgstream.config import PgstreamOptions
from sinks.postgres.config import PostgresDestinationOptions
from sinks.s3.config import S3Options
from wallaby.cli import long_flags
from wallaby.flow import FlowSpec
from wallaby.flow.file import read_flow_documents
from wallaby.flow.options import DestinationOptions, SourceOptions
from wallaby.flow.spec import FlowConfig
from wallaby.flow.transforms import TransformOptions

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
EXAMPLES = sorted((ROOT / "examples" / "flows").iterdir())
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
SECRETS = ("SHOP_DSN", "WAREHOUSE_DSN")
OWN_OPTIONS: dict[str, type[DestinationOptions]] = {
    "postgres": PostgresDestinationOptions,
    "duckdb": DuckDBOptions,
    "ducklake": DuckLakeOptions,
    "pgstream": PgstreamOptions,
    "delta": DeltaOptions,
    "iceberg": IcebergOptions,
    "files": FilesOptions,
    "s3": S3Options,
    "gcs": GcsOptions,
    "azure": AzureOptions,
}
"""Options of each type of destination; its page has those that others lack."""


def blocks(language: str) -> list[tuple[str, str]]:
    """(where, text) of every fenced block of a language."""
    found = []
    for page in PAGES:
        for number, match in enumerate(FENCE.finditer(page.read_text(encoding="utf-8"))):
            if match[2] == language:
                text = "\n".join(line.removeprefix(match[1]) for line in match[3].splitlines())
                found.append((f"{page.relative_to(ROOT)}#{number}", text))
    return found


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "postgresql://wallaby@127.0.0.1/shop")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize(("where", "text"), blocks("yaml"), ids=[where for where, _ in blocks("yaml")])
def test_flow_files_in_the_pages_are_valid(
    where: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGION", "eu")
    (tmp_path / "flow.yaml").write_text(text, encoding="utf-8")
    schema = json.loads((ROOT / "docs" / "flow.schema.json").read_text(encoding="utf-8"))
    for document in yaml.safe_load_all(text):
        jsonschema.Draft202012Validator(schema).validate(document)
    for flow in read_flow_documents(tmp_path / "flow.yaml"):
        FlowSpec.from_mapping(flow.mapping)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_example_flow_files_are_valid(example: Path) -> None:
    assert FlowSpec.from_file(example).lanes()


def test_there_are_examples_and_commands_to_check() -> None:
    assert len(EXAMPLES) >= 5
    assert len(blocks("yaml")) >= 4
    assert len(blocks("console")) >= 4


@pytest.mark.parametrize(("where", "text"), blocks("console"), ids=[where for where, _ in blocks("console")])
def test_commands_in_the_pages_exist(where: str, text: str) -> None:
    for line in text.splitlines():
        if line.startswith("$ wallaby "):
            parse(shlex.split(line.removeprefix("$ wallaby "), comments=True))


def parse(words: list[str]) -> argparse.Namespace:
    """What the command line makes of it; an unknown command or option fails the test."""
    try:
        return cli_parser().parse_args(long_flags(words))
    except SystemExit:
        raise AssertionError(f"not a valid command: wallaby {shlex.join(words)}") from None


def test_every_command_is_documented() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    [commands] = [action for action in cli_parser()._actions if isinstance(action, argparse._SubParsersAction)]
    missing = [name for name in commands.choices if name != "version" and f"wallaby {name}" not in text]
    assert missing == []


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("flow-files.md", FlowSpec.model_fields.keys()),
        ("flow-files.md", FlowConfig.model_fields.keys()),
        ("flow-files.md", SourceOptions.option_names()),
        ("flow-files.md", set(DestinationOptions.option_names()) - set(TransformOptions.option_names())),
        ("transforms.md", TransformOptions.option_names()),
        *(
            (f"destinations/{kind}.md", set(options.option_names()) - set(DestinationOptions.option_names()))
            for kind, options in OWN_OPTIONS.items()
        ),
    ],
    ids=["flow", "config", "source", "destination", "transforms", *OWN_OPTIONS],
)
def test_every_option_is_documented(page: str, names: list[str]) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert [name for name in names if f"`{name}`" not in text] == []


def test_python_in_the_pages_compiles() -> None:
    for where, text in blocks("python"):
        compile(text, where, "exec")


def test_what_is_called_tested_has_a_test() -> None:
    page = (ROOT / "docs" / "must-not-fail.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| .* \| ([^|]+) \|$", page, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 26))
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    marks = re.findall(r"must_not_fail\(([\d, ]+)\)", sources)
    covered = {int(number) for mark in marks for number in mark.split(",")}
    said = {int(number) for number, state in rows if not state.startswith("not yet")}
    assert said - covered == set()


def test_make_targets_in_the_pages_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"`make ([a-z-]+)", text)) | set(re.findall(r"^make ([a-z-]+)", text, re.MULTILINE))
    assert {"demo", "test"} <= named
    assert named - targets == set()


def test_the_pages_name_no_machine_and_no_package_index() -> None:
    forbidden = re.compile(r"/root\b|/work/|/tmp/|pypi\.org|index-url|localhost:\d+/simple")
    for page in [*PAGES, ROOT / "Makefile", ROOT / ".ci" / "run", *EXAMPLES]:
        assert not forbidden.search(page.read_text(encoding="utf-8")), page.name
