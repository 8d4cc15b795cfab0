"""Is a flow fit to run? Everything that can be found out without changing anything."""

from __future__ import annotations

from wallaby.endpoints import sink_factory
from wallaby.errors import WallabyError
from wallaby.flow import EndpointSpec, FlowSpec
from wallaby.postgres.catalog import Catalog
from wallaby.postgres.checks import check_source
from wallaby.postgres.connect import connect
from wallaby.postgres.publication import read_publication
from wallaby.schema import TableSchema
from wallaby.sink import Finding, Severity


def check_flow(flow: FlowSpec) -> list[Finding]:
    """Findings of the source and of every destination, the source's first. ``flow`` has its secrets resolved."""
    options = flow.source_options()
    findings = check_source(
        dsn=options.dsn,
        slot=options.slot,
        publication=options.publication,
        publication_tables=options.publication_tables,
        publication_schemas=options.publication_schemas,
        create_slot=options.create_slot,
        ensure_publication=options.ensure_publication,
        snapshot=options.snapshot,
        field="source.options",
    )
    is_reachable = not any(finding.code == "source-unreachable" for finding in findings)
    tables = _published(flow) if is_reachable else ()
    for i, destination in enumerate(flow.destinations):
        findings += _check_destination(destination, f"destinations[{i}]", tables)
    return findings


def has_errors(findings: list[Finding]) -> bool:
    """The flow must not start."""
    return any(finding.severity is Severity.ERROR for finding in findings)


def _published(flow: FlowSpec) -> tuple[TableSchema, ...]:
    options = flow.source_options()
    try:
        with connect(options.dsn, application_name="wallaby:check") as connection:
            if read_publication(connection, options.publication) is None:
                return ()
        catalog = Catalog(options.dsn, application_name="wallaby:check")
        try:
            return tuple(catalog.published_tables([options.publication]))
        finally:
            catalog.close()
    except WallabyError:
        return ()  # the source's own findings say why


def _check_destination(destination: EndpointSpec, field: str, tables: tuple[TableSchema, ...]) -> list[Finding]:
    try:
        sink = sink_factory(destination.type).create(destination.options, destination=destination.name)
        try:
            sink.open()
            return sink.check(tables)
        finally:
            sink.close()
    except WallabyError as error:
        return [
            Finding(
                severity=Severity.ERROR,
                subject=error.where.get("field", field),
                message=error.message,
                advice=error.advice,
                code="destination-unreachable",
            )
        ]
