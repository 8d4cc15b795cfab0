"""``wallaby init`` on a real source: the file it writes is valid, fit, commented, and holds no secret."""

from __future__ import annotations

import io
import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from psycopg.conninfo import make_conninfo

from tests.rds import REGION, RdsDoor, aws, door, iam_user
from tests.wallaby.cli.command import Wallaby
from wallaby.check import check_flow, has_errors
from wallaby.cli.interview import Answers, flow_text
from wallaby.cli.targets import KINDS, Answer
from wallaby.endpoints import known_types
from wallaby.errors import CheckFailed, ConfigError, NotFound
from wallaby.flow import FlowSpec
from wallaby.flow.json_schema import flow_schema
from wallaby.flow.resolution import resolved
from wallaby.testing.postgres import ScratchDatabase

__all__ = ["aws", "door", "iam_user"]


@pytest.fixture
def source(database: ScratchDatabase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ScratchDatabase:
    database.execute(
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.orders (id int, line int, note text, PRIMARY KEY (id, line))",
        "INSERT INTO shop.orders SELECT g, 1, repeat('x', 500) FROM generate_series(1, 200) AS g",
        "ANALYZE shop.orders",
        "CREATE TABLE shop.log (note text)",
        "CREATE TABLE shop.everything (note text)",
        "ALTER TABLE shop.everything REPLICA IDENTITY FULL",
        "CREATE TABLE parts (id int PRIMARY KEY, at int) PARTITION BY RANGE (id)",
        "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (1000)",
        "CREATE TABLE \"Odd, 'Name'\" (id int PRIMARY KEY)",
    )
    monkeypatch.setenv("SOURCE_DSN", database.dsn)
    monkeypatch.chdir(tmp_path)
    return database


def test_the_file_is_valid_fit_and_says_what_was_found(source: ScratchDatabase) -> None:
    shown = Wallaby()("init", "-dsn", "env:SOURCE_DSN", "-name", "My Shop")
    assert "Wrote my_shop.yaml: 4 tables to duckdb\n" in shown
    assert "Left out, without a key: shop.log\n" in shown
    assert "Set SOURCE_DSN where it runs.\n" in shown
    text = Path("my_shop.yaml").read_text(encoding="utf-8")
    mapping = yaml.safe_load(text)
    jsonschema.Draft202012Validator(flow_schema()).validate(mapping)
    flow = FlowSpec.from_file("my_shop.yaml")
    options = flow.source_options()
    assert options.publication_tables == ("public.\"Odd, 'Name'\"", "public.parts", "shop.everything", "shop.orders")
    assert (options.dsn, options.slot, options.publication) == (
        *("env:SOURCE_DSN", "wallaby_my_shop", "wallaby_my_shop"),
    )
    assert not has_errors(check_flow(resolved(flow)))
    assert "about 200 rows, key id, line" in text
    assert 'ALTER TABLE "shop"."log" REPLICA IDENTITY FULL;' in text
    assert source.slots() == []
    assert source.fetch("SELECT pubname FROM pg_publication") == []


def test_what_was_left_out_comes_in_when_the_statement_was_run(source: ScratchDatabase) -> None:
    source.execute('ALTER TABLE "shop"."log" REPLICA IDENTITY FULL;')
    Wallaby()("init", "-dsn", "env:SOURCE_DSN", "-name", "shop", "-tables", "shop.*")
    assert FlowSpec.from_file("shop.yaml").source_options().publication_tables == (
        *("shop.everything", "shop.log", "shop.orders"),
    )


def test_a_table_of_the_same_name_in_another_schema_is_not_taken_for_the_named_one(source: ScratchDatabase) -> None:
    source.execute("CREATE SCHEMA other", "CREATE TABLE other.log (id int PRIMARY KEY)")
    Wallaby()("init", "-dsn", "env:SOURCE_DSN", "-name", "shop", "-tables", "other.log,shop.*")
    assert "shop.log" not in FlowSpec.from_file("shop.yaml").source_options().publication_tables


def test_a_table_that_is_named_is_taken_and_what_it_lacks_is_said(source: ScratchDatabase) -> None:
    code, shown = Wallaby().code("init", "-dsn", "env:SOURCE_DSN", "-name", "shop", "-tables", "shop.log,shop.orders")
    assert code == 1
    assert "error: table shop.log" in shown
    assert "REPLICA IDENTITY" in shown
    assert Path("shop.yaml").exists()


def test_a_publication_that_exists_decides_the_tables(source: ScratchDatabase) -> None:
    source.execute("CREATE PUBLICATION mine FOR TABLE shop.orders")
    Path("out").mkdir()
    Wallaby()(
        "init", "-dsn", "env:SOURCE_DSN", "-name", "shop", "-publication", "mine", "-to", "files", "-target", "out"
    )
    options = FlowSpec.from_file("shop.yaml").source_options()
    assert (options.publication, options.publication_tables, options.ensure_publication) == ("mine", (), False)
    with pytest.raises(NotFound):
        Wallaby()("init", "-dsn", "env:SOURCE_DSN", "-publication", "nope", "-output", "x.yaml")


@pytest.mark.must_not_fail(24)
def test_a_password_becomes_the_name_of_a_variable(
    source: ScratchDatabase, target_database: ScratchDatabase, capfd: pytest.CaptureFixture[str]
) -> None:
    dsn, target = (make_conninfo(each.dsn, password="hunter2") for each in (source, target_database))
    shown = Wallaby()("init", "-dsn", dsn, "-name", "shop", "-to", "postgres", "-target", target)
    assert "Set SHOP_DSN where it runs.\nSet SHOP_TARGET_DSN where it runs.\n" in shown
    flow = FlowSpec.from_file("shop.yaml")
    assert flow.source.options["dsn"] == "env:SHOP_DSN"
    assert flow.destinations[0].options["dsn"] == "env:SHOP_TARGET_DSN"
    captured = capfd.readouterr()
    assert "hunter2" not in shown + Path("shop.yaml").read_text() + captured.out + captured.err


def test_what_is_offered_is_there_and_sorted() -> None:
    assert [*KINDS] == [kind for kind in known_types() if kind != "blackhole"]


@pytest.mark.parametrize(
    ("kind", "target", "places"),
    [
        ("duckdb", "", {"dsn": "shop.duckdb"}),
        ("files", "", {"path": "shop-files", "format": "parquet"}),
        ("delta", "", {"path": "shop-lake"}),
        ("ducklake", "", {"catalog": "sqlite:shop-catalog.sqlite", "data_path": "shop-lake"}),
        ("iceberg", "", {"catalog_uri": "sqlite:///shop-catalog.db", "warehouse": "shop-lake"}),
    ],
)
def test_a_place_that_needs_nobody_else_is_offered_and_fit(
    kind: str, target: str, places: dict[str, str], source: ScratchDatabase
) -> None:
    for folder in ("shop-files", "shop-lake"):
        Path(folder).mkdir()
    shown = Wallaby()("init", "-dsn", "env:SOURCE_DSN", "-name", "shop", "-to", kind)
    assert f"Wrote shop.yaml: 4 tables to {kind}\n" in shown
    flow = FlowSpec.from_file("shop.yaml")
    assert places.items() <= flow.destinations[0].options.items()
    assert check_flow(resolved(flow)) == []
    assert f"  {kind}: exactly once" in Wallaby()("validate", "shop.yaml")


@pytest.mark.parametrize(
    ("kind", "place", "written"),
    [
        ("s3", Answer(target="s3://lake/a/b"), {"bucket": "lake", "prefix": "a/b"}),
        ("s3", Answer(target="lake"), {"bucket": "lake"}),
        ("gcs", Answer(target="gs://lake/a/b"), {"bucket": "lake", "prefix": "a/b"}),
        ("gcs", Answer(target="lake/"), {"bucket": "lake"}),
        ("azure", Answer(target="az://shops/lake/"), {"account": "shops", "container": "lake"}),
        ("azure", Answer(target="shops/lake/a/b"), {"account": "shops", "container": "lake", "prefix": "a/b"}),
        ("delta", Answer(target="s3://lake/a"), {"path": "s3://lake/a"}),
        ("iceberg", Answer(target="s3://lake/a", catalog="env:CATALOG"), {"catalog_type": "sql"}),
        ("iceberg", Answer(target="shop", catalog="https://catalog", is_rest=True), {"catalog_type": "rest"}),
        (
            "ducklake",
            Answer(target="s3://lake", catalog="postgres:dbname=a"),
            {"access_key": "env:AWS_ACCESS_KEY_ID"},
        ),
        ("pgstream", Answer(target="env:EVENTS"), {"dsn": "env:EVENTS"}),
    ],
)
def test_files_for_buckets_and_servers_are_valid(kind: str, place: Answer, written: dict[str, str]) -> None:
    answers = Answers(
        name="shop",
        flow_id="shop",
        dsn="env:SOURCE_DSN",
        iam=None,
        publication="mine",
        chosen=(),
        left_out=(),
        kind=kind,
        place=place,
    )
    mapping = yaml.safe_load(flow_text(answers, "shop.yaml"))
    jsonschema.Draft202012Validator(flow_schema()).validate(mapping)
    options = FlowSpec.from_mapping(mapping).destinations[0].options
    assert written.items() <= options.items()
    commented = flow_text(answers, "shop.yaml").replace("      # access_key", "      access_key")
    commented = commented.replace("      # secret_key", "      secret_key").replace("# region", "region")
    for name in ("credentials", "account_key"):
        commented = commented.replace(f"      # {name}", f"      {name}")
    assert FlowSpec.from_mapping(yaml.safe_load(commented)), "what the comments offer is valid, too"


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("s3", "s3://"),
        ("s3", "gs://lake/a"),
        ("s3", "https://lake.s3.amazonaws.com/a"),
        ("gcs", "gs:///"),
        ("gcs", "s3://lake"),
        ("azure", "shops"),
        ("azure", "shops/"),
        ("azure", "shops//a"),
        ("azure", "https://shops.blob.core.windows.net/lake"),
    ],
)
def test_what_names_no_bucket_is_told_before_a_file_is_written(kind: str, target: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        KINDS[kind].lines(Answer(target=target), str)
    assert wrong.value.where["field"] == "--target"
    assert wrong.value.advice.startswith("Write ")


def test_a_bucket_whose_keys_are_not_set_here_is_not_looked_at(
    source: ScratchDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    shown = Wallaby()("init", "-dsn", "env:SOURCE_DSN", "-name", "shop", "-to", "ducklake", "-target", "s3://lake/a")
    assert "The destination was not looked at" in shown
    assert "Set AWS_ACCESS_KEY_ID where it runs.\nSet AWS_SECRET_ACCESS_KEY where it runs.\n" in shown


@pytest.mark.must_not_fail(24)
def test_a_password_of_a_catalog_becomes_the_name_of_a_variable(
    source: ScratchDatabase, target_database: ScratchDatabase, capfd: pytest.CaptureFixture[str]
) -> None:
    catalog = f"postgres:{make_conninfo(target_database.dsn, password='hunter2')}"
    words = ("-name", "shop", "-to", "ducklake", "-target", str(Path("data").absolute()), "-catalog", catalog)
    shown = Wallaby()("init", "-dsn", "env:SOURCE_DSN", *words)
    assert "Set SHOP_CATALOG where it runs.\n" in shown
    assert FlowSpec.from_file("shop.yaml").destinations[0].options["catalog"] == "env:SHOP_CATALOG"
    captured = capfd.readouterr()
    assert "hunter2" not in shown + Path("shop.yaml").read_text() + captured.out + captured.err


def test_a_source_behind_iam_is_looked_at_and_the_file_logs_in_as_we_did(
    source: ScratchDatabase, door: RdsDoor, iam_user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RDS_DSN", door.dsn(iam_user, source.name))
    Wallaby()("init", "-dsn", "env:RDS_DSN", "-name", "shop", "-aws-region", REGION)
    options = FlowSpec.from_file("shop.yaml").source_options()
    assert (options.aws_rds_iam, options.aws_region, options.aws_profile) == (True, REGION, "")
    assert len(door.logins) >= 2, "the look, and the check of the file"
    Wallaby()("init", "-dsn", "env:SOURCE_DSN", "-name", "plain")
    assert "aws_" not in Path("plain.yaml").read_text(encoding="utf-8")


def test_a_file_that_exists_is_only_replaced_when_asked(source: ScratchDatabase) -> None:
    Path("shop.yaml").write_text("dear to somebody")
    with pytest.raises(ConfigError, match="the file exists"):
        Wallaby()("init", "-dsn", "env:SOURCE_DSN", "-name", "shop")
    assert Path("shop.yaml").read_text() == "dear to somebody"
    Wallaby()("init", "-dsn", "env:SOURCE_DSN", "-name", "shop", "-force")
    assert FlowSpec.from_file("shop.yaml").id == "shop"


def test_machines_get_json_and_are_asked_nothing(source: ScratchDatabase, capfd: pytest.CaptureFixture[str]) -> None:
    value = json.loads(Wallaby()("init", "-dsn", "env:SOURCE_DSN", "-name", "shop", "-json"))
    assert (value["file"], value["left_out"], value["variables"]) == ("shop.yaml", ["shop.log"], ["SOURCE_DSN"])
    assert capfd.readouterr().err == ""


def test_a_person_is_asked_and_the_defaults_are_offered(
    source: ScratchDatabase, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal("env:SOURCE_DSN\nshop\nshop.orders\n\n\n"))
    Wallaby()("init")
    asked = capfd.readouterr().err
    for question in ("Source (", f"Name of the flow [{source.name}]", "Tables (", "[duckdb]", "[shop.duckdb]"):
        assert question in asked
    assert "shop.orders" in asked
    flow = FlowSpec.from_file("shop.yaml")
    assert flow.source_options().publication_tables == ("shop.orders",)


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ((), "is required"),
        (("-dsn", "env:SOURCE_DSN", "-tables", "shop.nothing"), "matches no table"),
        (("-dsn", "env:SOURCE_DSN", "-tables", "a b"), "must be a table"),
        (("-dsn", "env:SOURCE_DSN", "-name", "!!"), "no letter or digit"),
        (("-dsn", "env:SOURCE_DSN", "-to", "duckbd"), "Did you mean 'duckdb'"),
        (("-dsn", "env:SOURCE_DSN", "-to", "postgres"), "is required"),
        (("-dsn", "env:SOURCE_DSN", "-to", "s3"), "is required"),
        (("-dsn", "env:SOURCE_DSN", "-to", "delta", "-catalog", "sqlite:x"), "has no catalog"),
        (("-dsn", "env:SOURCE_DSN", "-output", "nowhere/flow.yaml"), "cannot be written"),
    ],
)
def test_wrong_answers_are_config_errors(source: ScratchDatabase, words: tuple[str, ...], rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        Wallaby()("init", *words)


def test_a_database_without_a_table_that_is_fit_is_refused(database: ScratchDatabase, tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="no tables"):
        Wallaby()("init", "-dsn", database.dsn, "-output", str(tmp_path / "a.yaml"))
    database.execute("CREATE TABLE log (note text)")
    with pytest.raises(CheckFailed, match="REPLICA IDENTITY FULL"):
        Wallaby()("init", "-dsn", database.dsn, "-output", str(tmp_path / "a.yaml"))
    assert not (tmp_path / "a.yaml").exists()
