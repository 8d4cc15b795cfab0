"""The examples of docs/destinations run as they are written: a real source, the page's flow file, and its readers.

Of the page only what differs from machine to machine is replaced: a store's address and keys, INSTALL over the network,
and an LSN.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.request import Request, urlopen

import boto3
import duckdb
import psycopg
import pytest
import yaml
from azure.core.credentials import AzureNamedKeyCredential
from azure.storage.blob import BlobServiceClient
from deltalake import DeltaTable

from tests.docs.test_docs import EXAMPLES, FENCE, ROOT
from tests.emulators import AZURE_ACCOUNT, AZURE_KEY, azure_emulator, gcs_emulator
from tests.integration.epoch import Epoch, Ledger, real_sink
from tests.s3 import s3_server
from wallaby.check import check_flow
from wallaby.flow import FlowSpec
from wallaby.flow.resolution import resolved
from wallaby.postgres.slot import drop_slot
from wallaby.settings import Limits
from wallaby.testing.postgres import ScratchDatabase

KEYS: Final = {"access_key": "testing", "secret_key": "testing"}
REGION: Final = "eu-central-1"
FOLDERS: Final = ("data", "data/lake", "data/parquet")
"""What the pages ask for beforehand."""
TARGETS: Final = ("azure", "duckdb", "ducklake", "gcs", "iceberg", "parquet", "pgstream", "postgres", "s3")
"""What the examples are called by that run here."""
ROWS: Final = [(1, "fr", "new"), (3, "de", "c"), (4, "pl", "d")]
"""The source's orders at the end."""
_PACKAGES: Final = {"sqlite": "sqlite_scanner", "postgres": "postgres_scanner"}
_LIMITS: Final = Limits(checkpoint_interval_ms=1, idle_checkpoint_interval_ms=20)


def blocks(page: str, language: str) -> list[str]:
    """The page's fenced blocks of a language."""
    text = (ROOT / "docs" / "destinations" / f"{page}.md").read_text(encoding="utf-8")
    return [match[3] for match in FENCE.finditer(text) if match[2] == language]


@dataclass
class Shop:
    """The source of the pages, and flows that run from it in this process."""

    database: ScratchDatabase
    s3: Callable[[], str]
    stores: ExitStack
    """Emulators that run until the test ends."""
    slots: set[str] = field(default_factory=set)

    def run(self, text: str, **more: Any) -> FlowSpec:
        """Copy and stream what happens at the source meanwhile; ``more`` options of the destination."""
        mapping = yaml.safe_load(text)
        for destination in mapping["destinations"]:
            destination["options"] |= self._of_store(destination["type"], destination["options"]) | more
        flow = resolved(FlowSpec.from_mapping(mapping))
        self.slots.add(flow.source_options().slot)
        assert [one for one in check_flow(flow) if one.code != "destination-insecure"] == []
        self.database.execute(
            "TRUNCATE shop.orders",
            "INSERT INTO shop.orders VALUES (1, 'fr', 'a', 'eu', '2026-01-01 12:00Z'), (2, 'us', 'b', 'us', NULL),"
            " (3, 'de', 'c', 'eu', '2026-01-02 12:00Z')",
        )
        ledger = Ledger()
        for number, change in enumerate(("", *_CHANGES), start=1):
            if change:
                self.database.execute(change)
            Epoch(flow, ledger, number, sink=real_sink, limits=_LIMITS, commits_at_once=True, once=True).join()
        return flow

    def _of_store(self, kind: str, options: dict[str, Any]) -> dict[str, Any]:
        match kind:
            case "azure":
                endpoint = self.stores.enter_context(azure_emulator())
                credential = AzureNamedKeyCredential(AZURE_ACCOUNT, AZURE_KEY)
                with BlobServiceClient(endpoint, credential=credential) as azure:
                    azure.create_container(options["container"])
                return {"account": AZURE_ACCOUNT, "account_key": AZURE_KEY, "endpoint": endpoint}
            case "gcs":
                endpoint = self.stores.enter_context(gcs_emulator())
                made = {"name": options["bucket"]}
                headers = {"Content-Type": "application/json"}
                request = Request(f"{endpoint}/storage/v1/b?project=shop", json.dumps(made).encode(), headers)
                with urlopen(request) as answer:
                    assert answer.status == 200
                return {"endpoint": endpoint}
            case _:
                return self._of_bucket(options)

    def _of_bucket(self, options: dict[str, Any]) -> dict[str, Any]:
        bucket = options.get("bucket") or next(
            (str(value).removeprefix("s3://").split("/")[0] for value in options.values() if "s3://" in str(value)), ""
        )
        if not bucket:
            return {}
        endpoint = self.s3()
        made = {"endpoint_url": endpoint, "region_name": "eu-central-1"}
        with closing(
            boto3.client("s3", aws_access_key_id="testing", aws_secret_access_key="testing", **made)
        ) as client:
            client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        return {"endpoint": endpoint, "force_path_style": True, **KEYS}


_CHANGES: Final = (
    "UPDATE shop.orders SET note = 'new' WHERE id = 1; DELETE FROM shop.orders WHERE id = 2",
    "INSERT INTO shop.orders VALUES (4, 'pl', 'd', 'eu', '2026-02-01 12:00Z')",
)


@pytest.fixture
def shop(database: ScratchDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    database.execute(
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.orders (id bigint PRIMARY KEY, country text NOT NULL, note text, region text,"
        " created timestamptz)",
        "CREATE TABLE shop.order_lines (order_id bigint, line int, sku text, PRIMARY KEY (order_id, line))",
    )
    monkeypatch.setenv("SHOP_DSN", database.dsn)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    for folder in FOLDERS:
        Path(folder).mkdir()
    stores = ExitStack()

    def s3() -> str:
        address: str = stores.enter_context(s3_server())
        # What the process's other servers keep is the same.
        with urlopen(Request(f"{address}/moto-api/reset", method="POST")) as answer:
            assert answer.status == 200
        return address

    with stores:
        made = Shop(database, s3, stores)
        yield made
    for slot in made.slots & set(database.slots()):
        drop_slot(database.dsn, slot)


def by_duckdb(*statements: str) -> list[tuple[Any, ...]]:
    """What the last of them answers; INSTALL takes the package's file in place of the network."""
    folder = Path("extensions")
    config = {"extension_directory": str(folder), "autoinstall_known_extensions": "false"}
    with duckdb.connect(config=config) as connection:
        answer: list[tuple[Any, ...]] = []
        for statement in re.split(r";\s*", " ; ".join(statements).rstrip(" ;\n")):
            if match := re.fullmatch(r"\s*INSTALL (\w+)\s*", statement):
                statement = f"INSTALL '{_extension(match[1])}'"
            if statement.strip():
                rows = connection.execute(statement).to_arrow_table()
                answer = [tuple(row.values()) for row in rows.to_pylist()]
    return answer


def _extension(name: str) -> Path:
    package = find_spec(f"duckdb_extension_{_PACKAGES.get(name, name)}")
    assert package is not None, name
    [folder] = package.submodule_search_locations or ()
    [file] = Path(folder).rglob("*.duckdb_extension")
    return file


def test_the_examples_of_delta_run(shop: Shop) -> None:
    local, remote, _ = blocks("delta", "yaml")
    shop.run(local, change_data_feed="true")
    [sql] = blocks("delta", "sql")
    assert by_duckdb(sql) == [(3,)]
    reading, _, feed = blocks("delta", "python")
    exec(compile(reading, "delta.md", "exec"), {})
    said: dict[str, Any] = {}
    exec(compile(feed.replace("starting_version=12", "starting_version=1"), "delta.md", "exec"), said)
    kinds = set(said["changes"]["_change_type"].to_pylist())
    assert {"insert", "delete", "update_preimage", "update_postimage"} >= kinds > {"insert"}
    shop.run(remote)


def test_the_example_of_deletion_vectors_runs(shop: Shop) -> None:
    _, _, flow = blocks("delta", "yaml")
    shop.run(flow)
    assert DeltaTable("data/lake/shop/orders").protocol().reader_features == ["deletionVectors"]
    [sql] = blocks("delta", "sql")
    assert by_duckdb(sql) == [(3,)]
    _, reading, _ = blocks("delta", "python")
    exec(compile(reading, "delta.md", "exec"), {})


def test_the_examples_of_duckdb_run(shop: Shop) -> None:
    [flow] = blocks("duckdb", "yaml")
    shop.run(flow)
    with duckdb.connect("data/lake.duckdb") as connection:
        assert connection.execute("SELECT id, country, note FROM shop.orders ORDER BY id").fetchall() == ROWS


def test_the_examples_of_ducklake_run(
    shop: Shop, target_database: ScratchDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_DSN", target_database.dsn)
    local, remote = blocks("ducklake", "yaml")
    shop.run(local)
    attach, *_ = blocks("ducklake", "sql")
    assert by_duckdb(attach) == [(3,)]
    attach = attach.replace("SELECT count(*)", "SELECT id, country, note")
    assert sorted(by_duckdb(attach)) == ROWS
    [(newest,)] = by_duckdb(attach, "SELECT max(snapshot_id) FROM lake.snapshots()")
    feed = f"SELECT change_type FROM ducklake_table_changes('lake', 'shop', 'orders', 0, {newest})"
    assert {kind for (kind,) in by_duckdb(attach, feed)} == {"insert", "delete"}
    shop.run(remote)


def test_the_examples_of_files_run(shop: Shop) -> None:
    [flow] = blocks("files", "yaml")
    shop.run(flow)
    [sql] = blocks("files", "sql")
    assert len(by_duckdb(sql)) == 6
    [reading] = blocks("files", "python")
    said: dict[str, Any] = {}
    exec(compile(reading, "files.md", "exec"), said)
    assert said["log"]["__op"].to_pylist() == ["r", "r", "r", "u", "d", "i"]


def test_the_examples_of_iceberg_run(shop: Shop) -> None:
    local, *_ = blocks("iceberg", "yaml")
    shop.run(local)
    [(now,)] = shop.database.fetch("SELECT pg_current_wal_lsn()::text")
    [reading] = blocks("iceberg", "python")
    said: dict[str, Any] = {}
    exec(compile(reading.replace("0/1A2B3C8", str(now)), "iceberg.md", "exec"), said)
    rows = said["rows"].select(["id", "country", "note"]).to_pylist()
    assert sorted(tuple(row.values()) for row in rows) == ROWS
    scan = f"SELECT id, country, note FROM iceberg_scan('{said['orders'].metadata_location}')"
    assert sorted(by_duckdb("INSTALL avro; LOAD avro; INSTALL iceberg; LOAD iceberg", scan)) == ROWS
    said["catalog"].close()
    with pytest.raises(LookupError):
        exec(compile(reading.replace("0/1A2B3C8", "0/1"), "iceberg.md", "exec"), said)
    said["catalog"].close()


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("azure", ("account", "account_key", "endpoint")),
        ("gcs", ("endpoint",)),
        ("s3", ("endpoint", "force_path_style", *KEYS)),
    ],
)
def test_the_examples_of_logs_in_stores_run(page: str, names: tuple[str, ...], shop: Shop) -> None:
    [flow] = blocks(page, "yaml")
    [destination] = shop.run(flow).destinations
    [reading] = blocks(page, "python")
    added = {name: destination.options[name] for name in names}
    said: dict[str, Any] = {}
    exec(
        compile(re.sub(r"read_options\(({.*})\)", rf"read_options(\1 | {added})", reading), f"{page}.md", "exec"), said
    )
    assert said["orders"]()["__op"].to_pylist() == ["r", "r", "r", "u", "d", "i"]


@pytest.mark.parametrize("page", ["postgres", "pgstream"])
def test_the_flows_into_postgresql_run(
    page: str, shop: Shop, target_database: ScratchDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_DSN", target_database.dsn)
    [flow] = blocks(page, "yaml")
    shop.run(flow)
    if page == "postgres":
        with psycopg.connect(target_database.dsn) as connection:
            assert connection.execute("SELECT id, country, note FROM shop.orders ORDER BY id").fetchall() == ROWS


def runnable(example: Path) -> bool:
    """A flow from a real source into destinations a test has."""
    return example.name.startswith("postgres_to_") and example.stem.removeprefix("postgres_to_") in TARGETS


@pytest.mark.parametrize("example", [*filter(runnable, EXAMPLES)], ids=lambda example: example.stem)
def test_the_flow_files_of_the_examples_run(
    example: Path, shop: Shop, target_database: ScratchDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_DSN", target_database.dsn)
    shop.run(example.read_text(encoding="utf-8"))
