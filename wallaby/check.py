"""Is a flow fit to run? Everything that can be found out without changing anything."""

from __future__ import annotations

from dataclasses import replace

from wallaby.errors import ConfigError, WallabyError
from wallaby.flow import EndpointSpec, FlowSpec
from wallaby.postgres.catalog import Catalog
from wallaby.postgres.checks import check_source, tables_to_publish
from wallaby.schema import TableSchema
from wallaby.sink import Finding, Severity
from wallaby.transform.stage import Stage
from wallaby.transformed import make_sink, make_stage


def check_flow(flow: FlowSpec, *, own_application: str | None = None) -> list[Finding]:
    """Findings of the source and of every destination, the source's first. ``flow`` has its secrets resolved.

    Subjects begin with the field path of what they are about (``destinations[1]: table shop.orders``). A slot held by a
    connection whose application name begins with ``own_application`` is no finding.
    """
    options = flow.source_options()
    findings = check_source(
        dsn=options.login,
        slot=options.slot,
        publication=options.publication,
        publication_tables=options.publication_tables,
        publication_schemas=options.publication_schemas,
        create_slot=options.create_slot,
        ensure_publication=options.ensure_publication,
        syncs_publication=options.sync_publication,
        snapshot=options.snapshot,
        toast_fetch=options.toast_fetch,
        field="source.options",
        own_application=own_application,
        stream_options=options.needing_a_newer_server(),
        failover=options.failover,
    )
    tables = () if _is_unreadable(findings) else _published(flow)
    for i, destination in enumerate(flow.destinations):
        findings += _check_destination(destination, f"destinations[{i}]", tables)
    return findings


def check_names(flow: FlowSpec) -> list[Finding]:
    """Errors only: tables or columns that would be one in a destination. ``flow`` has its secrets resolved.

    A table may come to be while a flow runs. The lane that meets it stops, but knows no longer, when it starts again,
    whose the target is. A destination that cannot be asked, or a source, has other ways to say so.
    """
    found: list[Finding] = []
    stages = [_stage(destination) for destination in flow.destinations]
    tables = _published(flow) if any(stages) else ()
    for i, (destination, stage) in enumerate(zip(flow.destinations, stages, strict=True)):
        findings = stage.findings(tables) if stage else []
        collisions = [finding for finding in findings if finding.code == "transform-collision"]
        found += [_placed(finding, destination, f"destinations[{i}]") for finding in collisions]
    return found


def has_errors(findings: list[Finding]) -> bool:
    """The flow must not start."""
    return any(finding.severity is Severity.ERROR for finding in findings)


def is_misconfigured(findings: list[Finding]) -> bool:
    """An error lies in the flow file itself: nothing outside has to change."""
    return any(finding.code.endswith("-config") for finding in findings)


def _is_unreadable(findings: list[Finding]) -> bool:
    codes = {finding.code for finding in findings}
    return bool(codes & {"source-config", "source-unreachable", "source-refused"})


def _published(flow: FlowSpec) -> tuple[TableSchema, ...]:
    """What the flow will send: by the publication, and by what it is going to publish."""
    options = flow.source_options()
    catalog = Catalog(options.login, application_name="wallaby check")
    try:
        published = catalog.published_tables([options.publication])
        known = {schema.name for schema in published}
        coming = tables_to_publish(
            options.login,
            publication=options.publication,
            tables=options.publication_tables,
            schemas=options.publication_schemas,
            syncs=options.sync_publication,
        )
        return (*published, *catalog.tables([name for name in coming if name not in known]))
    except WallabyError:
        return ()  # the source's own findings say why
    finally:
        catalog.close()


def _stage(destination: EndpointSpec) -> Stage | None:
    try:
        return make_stage(destination.type, destination.options)
    except WallabyError:
        return None  # the lane says why


def _check_destination(destination: EndpointSpec, field: str, tables: tuple[TableSchema, ...]) -> list[Finding]:
    try:
        sink = make_sink(destination.type, destination.options, destination=destination.name)
        try:
            sink.open()
            return [_placed(finding, destination, field) for finding in sink.check(tables)]
        finally:
            sink.close()
    except WallabyError as error:
        is_config = isinstance(error, ConfigError)
        return [
            Finding(
                severity=Severity.ERROR,
                subject=_address(destination, field),
                message=error.message,
                advice=error.advice,
                code="destination-config" if is_config else "destination-unreachable",
            )
        ]


def _placed(finding: Finding, destination: EndpointSpec, field: str) -> Finding:
    """The finding of a sink, which does not know where in the flow it stands."""
    if finding.code in ("destination-unreachable", "destination-read-only", "unverified-server"):
        return replace(finding, subject=_address(destination, field))
    separator = "." if finding.subject.startswith("options.") else ": "
    return replace(finding, subject=f"{field}{separator}{finding.subject}")


def _address(destination: EndpointSpec, field: str) -> str:
    """The field that says where the destination is."""
    named = next((name for name in ("dsn", "path") if name in destination.options), None)
    return f"{field}.options.{named}" if named else field
