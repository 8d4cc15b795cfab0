"""``wallaby publication list|add|remove|sync|scrape``: which tables a source publishes, by the server, or from here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from wallaby.cli.commands import add_command, add_group, connected
from wallaby.cli.connection import add_switch
from wallaby.cli.source import Source, add_source, source_of
from wallaby.errors import ConfigError
from wallaby.lifecycle import FlowState

if TYPE_CHECKING:
    from wallaby.cli.report import Report

_NOT_COPIED = (
    "Rows the added tables hold already are not copied. `wallaby snapshot restart FLOW` copies every table of the flow"
    " anew; a flow of their own copies these alone."
)


def register(subparsers: Any) -> None:
    """Add ``publication`` and its commands."""
    commands = add_group(subparsers, "publication", "show and change the tables a source publishes")

    def add(name: str, help_text: str, handler: Any) -> argparse.ArgumentParser:
        parser = add_command(commands, name, help_text, handler)
        parser.add_argument("--publication", metavar="NAME", help="the publication (default: the flow's)")
        add_source(parser)
        return parser

    add("list", "the tables a publication sends", _list)
    for name, help_text, handler in (
        ("add", "publish more tables", _add),
        ("remove", "publish tables no more", _remove),
    ):
        parser = add(name, help_text, handler)
        parser.add_argument("--tables", required=True, metavar="LIST", help="schema.table, separated by commas")
    sync = add("sync", "bring a publication in line with what its flow wants", _sync)
    sync.add_argument("--tables", metavar="LIST", help="the wanted tables (default: the flow's)")
    sync.add_argument("--schemas", metavar="LIST", help="schemas whose tables are wanted (default: the flow's)")
    sync.add_argument("--mode", choices=("add", "sync"), default="add", help="add: only add (default); sync: drop too")
    add_switch(sync, "--pause", "drain the flow first", default=True)
    add_switch(sync, "--resume", "resume it afterwards, if it ran", default=True)
    add_switch(sync, "--snapshot", "refused: single tables of a flow are not copied")
    scrape = add("scrape", "find tables that are not published", _scrape)
    scrape.add_argument("--schemas", required=True, metavar="LIST", help="where to look")
    add_switch(scrape, "--apply", "publish them")


def _list(arguments: argparse.Namespace, report: Report) -> int:
    with _source(arguments) as source:
        tables = source.operations.published(source.publication)
    lines = [f"Publication {source.publication} tables:", *(f"- {table}" for table in tables)]
    value = {"publication": source.publication, "count": len(tables), "tables": tables}
    report.show(value, lines if tables else ["No tables in publication."])
    return 0


def _add(arguments: argparse.Namespace, report: Report) -> int:
    tables = _names(arguments.tables, "-tables")
    with _source(arguments) as source:
        added = source.operations.add(source.publication, tables)
    _show_changed(
        report, source, added=len(added), line=f"Added {len(added)} tables to publication {source.publication}"
    )
    return 0


def _remove(arguments: argparse.Namespace, report: Report) -> int:
    tables = _names(arguments.tables, "-tables")
    with _source(arguments) as source:
        removed = source.operations.remove(source.publication, tables)
    line = f"Removed {len(removed)} tables from publication {source.publication}"
    _show_changed(report, source, removed=len(removed), line=line)
    return 0


def _sync(arguments: argparse.Namespace, report: Report) -> int:
    from wallaby.cli.flow import await_drained

    if not arguments.flow_id:
        raise ConfigError("flow-id is required", field="-flow-id")
    if arguments.snapshot:
        raise ConfigError("cannot copy single tables of a flow", field="-snapshot", advice=_NOT_COPIED)
    with _source(arguments) as source, connected(arguments) as client:
        tables, schemas = _wanted(arguments, source)
        ran = arguments.pause and client.get_flow(arguments.flow_id).state is FlowState.RUNNING
        if ran:
            client.stop_flow(arguments.flow_id)
            await_drained(client, arguments.flow_id)
        try:
            added, removed = source.operations.sync(
                source.publication, tables, schemas, is_dropping=arguments.mode == "sync"
            )
        finally:
            if ran and arguments.resume:
                client.resume_flow(arguments.flow_id)
    line = f"Synced publication {source.publication} (added={len(added)} removed={len(removed)})"
    _show_changed(report, source, added=len(added), removed=len(removed), line=line)
    return 0


def _scrape(arguments: argparse.Namespace, report: Report) -> int:
    schemas = _names(arguments.schemas, "-schemas")
    with _source(arguments) as source:
        found = source.operations.unpublished(source.publication, schemas)
        if found and arguments.apply:
            source.operations.add(source.publication, found)
    lines = [f"- {table}" for table in found] or ["No new tables found."]
    if found and arguments.apply:
        lines = [f"Added {len(found)} tables to publication {source.publication}"]
    value = {"publication": source.publication, "count": len(found), "tables": found}
    report.show(value | {"applied": bool(found) and arguments.apply}, lines)
    if found and arguments.apply:
        print(_NOT_COPIED, file=sys.stderr)
    return 0


@contextmanager
def _source(arguments: argparse.Namespace) -> Iterator[Source]:
    with source_of(arguments) as source:
        if not source.publication:
            raise ConfigError("publication is required", field="-publication")
        yield source


def _names(text: str, field: str) -> list[str]:
    from wallaby.flow.tables import parse_table_pattern, split_list

    names = list(split_list(text))
    if not names:
        raise ConfigError("names nothing", field=field)
    for name in names:
        try:
            parse_table_pattern(name if field == "-tables" else f"{name}.*")
        except ValueError as error:
            raise ConfigError(str(error), field=field) from None
    return names


def _wanted(arguments: argparse.Namespace, source: Source) -> tuple[list[str], list[str]]:
    """As the Go tool looks for them: the flags, then the flow."""
    if arguments.tables:
        return _names(arguments.tables, "-tables"), []
    if arguments.schemas:
        return [], _names(arguments.schemas, "-schemas")
    options = source.options
    assert options is not None, "sync names a flow"
    if not options.publication_tables and not options.publication_schemas:
        raise ConfigError("neither the flags nor the flow name tables", field="-tables")
    return list(options.publication_tables), list(options.publication_schemas)


def _show_changed(report: Report, source: Source, *, line: str, added: int = 0, removed: int = 0) -> None:
    report.show({"publication": source.publication, "added": added, "removed": removed}, [line])
    if added:
        print(_NOT_COPIED, file=sys.stderr)
