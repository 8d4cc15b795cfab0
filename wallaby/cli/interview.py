"""``wallaby init``: looks at a source, asks what is to become of it, and writes a flow file with comments.

Every question has a flag. Without a terminal nothing is asked, and what is missing is an error. The database is only
read. A password is never written: where the connection string holds one, the file names an environment variable.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wallaby.cli.commands import add_command, add_json
from wallaby.cli.connection import add_switch
from wallaby.cli.source import add_iam, iam_of
from wallaby.cli.targets import KINDS, Answer
from wallaby.errors import CheckFailed, ConfigError
from wallaby.login import IAM_OPTIONS, IamDsn, RdsIam

if TYPE_CHECKING:
    from wallaby.cli.report import Report
    from wallaby.flow import FlowSpec
    from wallaby.postgres.survey import SurveyedTable

_UNITS: Final = ("bytes", "kB", "MB", "GB", "TB")


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = add_command(subparsers, "init", "look at a source and write a flow file for it", _init)
    parser.add_argument("--dsn", metavar="DSN", help="the source: a connection string, env:NAME or file:PATH")
    parser.add_argument("--name", metavar="NAME", help="the flow's name (default: the database's)")
    parser.add_argument(
        "--tables", metavar="LIST", help="schema.table or schema.*, separated by commas (default: all fit)"
    )
    parser.add_argument("--publication", metavar="NAME", help="use this publication, which exists")
    parser.add_argument("--to", metavar="TYPE", help=f"the destination's type: {', '.join(KINDS)} (default duckdb)")
    parser.add_argument("--target", metavar="PLACE", help="its file, directory, bucket or connection (env:NAME)")
    parser.add_argument("--catalog", metavar="PLACE", help="where a lake's catalog is (iceberg, ducklake; env:NAME)")
    parser.add_argument("--output", metavar="FLOW.yaml", help="where to write it (default: NAME.yaml)")
    add_iam(parser)
    add_switch(parser, "--force", "write over a file that exists")
    add_switch(parser, "--input", "ask for what the flags leave open", default=True)
    add_json(parser)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What is to be written."""

    name: str
    flow_id: str
    dsn: str
    """As the file has it."""
    iam: RdsIam | None
    publication: str
    """Empty: wallaby makes one of the flow's name."""
    chosen: tuple[SurveyedTable, ...]
    left_out: tuple[SurveyedTable, ...]
    kind: str
    place: Answer


def _init(arguments: argparse.Namespace, report: Report) -> int:
    from wallaby import secret
    from wallaby.flow import flow_id
    from wallaby.postgres.connect import session, validate_dsn

    ask = _Questions(is_asking=arguments.input and sys.stdin.isatty() and not report.is_json)
    given = ask(arguments.dsn, "--dsn", "Source (connection string, env:NAME or file:PATH)")
    text, iam = secret.resolve(given, field="--dsn"), iam_of(arguments)
    dsn = text if iam is None else IamDsn(text, iam)
    validate_dsn(dsn, "--dsn")
    with session(dsn, application_name="wallaby init", doing="look at the source") as connection:
        name = ask(arguments.name, "--name", "Name of the flow", connection.info.dbname)
        identifier = flow_id(name)
        if not identifier:
            raise ConfigError("has no letter or digit", field="--name")
        tables, publication = _survey(connection, arguments, ask, report)
    chosen, left_out = _choose(tables, arguments, ask) if not publication else (tables, [])
    kind = ask(arguments.to, "--to", f"Destination ({', '.join(KINDS)})", "duckdb")
    said = _place(kind, identifier, arguments, ask)
    answers = Answers(
        name=name,
        flow_id=identifier,
        dsn=_reference(given, f"{identifier}_dsn"),
        iam=iam,
        publication=publication,
        chosen=tuple(chosen),
        left_out=tuple(left_out),
        kind=kind,
        place=_written(said, identifier),
    )
    path = Path(arguments.output or f"{identifier}.yaml")
    spec = _write(path, answers, is_forced=arguments.force)
    return _tell(report, path, answers, spec, _ready(spec, {"dsn": text}, said, answers.place))


class _Questions:
    """Flags first, then the terminal, then the default."""

    def __init__(self, *, is_asking: bool) -> None:
        self._is_asking = is_asking

    def __call__(self, given: str | None, flag: str, question: str, default: str = "") -> str:
        if given:
            return given
        if self._is_asking:
            shown = f" [{default}]" if default else ""
            print(f"{question}{shown}: ", end="", file=sys.stderr, flush=True)
            answer = sys.stdin.readline().strip()
            if answer:
                return answer
        if not default:
            raise ConfigError("is required", field=flag)
        return default


def _survey(connection: Any, arguments: argparse.Namespace, ask: _Questions, report: Report) -> tuple[list[Any], str]:
    """The tables to choose from; with a publication that exists, those it sends."""
    from wallaby.cli.report import table
    from wallaby.postgres.publication import require_publication
    from wallaby.postgres.survey import publications, survey

    tables = survey(connection)
    if not tables:
        raise CheckFailed("the database has no tables", advice="Name another database")
    rows = [(item.name, _size(item.bytes), item.rows, ", ".join(item.key) or "-", _fitness(item)) for item in tables]
    if not report.is_json:
        print("\n".join(table(("TABLE", "SIZE", "ROWS", "KEY", "REPLICATION"), rows)), file=sys.stderr)
    existing = publications(connection)
    if existing and not arguments.publication and not report.is_json:
        print(f"Publications: {', '.join(existing)} (use one with --publication)", file=sys.stderr)
    if not arguments.publication:
        return tables, ""
    sent = set(require_publication(connection, arguments.publication).tables)
    return [item for item in tables if item.name in sent], arguments.publication


def _choose(
    tables: Sequence[SurveyedTable], arguments: argparse.Namespace, ask: _Questions
) -> tuple[list[SurveyedTable], list[SurveyedTable]]:
    from wallaby.flow.tables import parse_table_pattern, split_list

    text = ask(
        arguments.tables, "--tables", "Tables (schema.table or schema.*, separated by commas)", "all that are fit"
    )
    if text == "all that are fit":
        fit = [item for item in tables if item.is_fit]
        if not fit:
            raise CheckFailed("no table has a key", advice=f"For example: {tables[0].remedy}")
        return fit, [item for item in tables if not item.is_fit]
    try:
        patterns = [parse_table_pattern(item) for item in split_list(text)]
    except ValueError as error:
        raise ConfigError(str(error), field="--tables") from None
    for pattern in patterns:
        if not any(pattern.matches(item.name) for item in tables):
            raise ConfigError(f"{pattern} matches no table", field="--tables", advice="Names are case-sensitive")
    chosen = [item for item in tables if any(pattern.matches(item.name) for pattern in patterns)]
    named = [pattern for pattern in patterns if pattern.name is not None]
    # What was named is taken; what a whole schema brings along is taken when it is fit.
    taken = [item for item in chosen if item.is_fit or any(pattern.matches(item.name) for pattern in named)]
    if not taken:
        raise CheckFailed("none of the tables has a key", advice=f"For example: {chosen[0].remedy}")
    return taken, [item for item in chosen if item not in taken]


def _place(kind: str, identifier: str, arguments: argparse.Namespace, ask: _Questions) -> Answer:
    """Where the destination is, as it was said."""
    from wallaby.endpoints import TYPE_ALIASES, sink_factory

    sink_factory(kind)
    known = KINDS.get(TYPE_ALIASES.get(kind, kind))
    if arguments.catalog and (known is None or not known.catalog_question):
        raise ConfigError(f"a destination of type {kind} has no catalog", field="--catalog", advice="Leave it out")
    if known is None:
        return Answer(target=arguments.target or "")
    target = ask(arguments.target, "--target", known.question, known.default.format(identifier))
    if not known.catalog_question:
        return Answer(target=target)
    catalog = ask(arguments.catalog, "--catalog", known.catalog_question, known.catalog_default.format(identifier))
    return Answer(target=target, catalog=catalog)


def _written(said: Answer, identifier: str) -> Answer:
    """The same as the file may hold it: without a password."""
    from wallaby import secret

    return Answer(
        target=_reference(said.target, f"{identifier}_target_dsn"),
        catalog=_reference(said.catalog, f"{identifier}_catalog"),
        is_rest=secret.resolve(said.catalog, field="--catalog").startswith(("http://", "https://")),
    )


def _reference(dsn: str, name: str) -> str:
    """A connection string as the file may hold it."""
    from wallaby import secret

    if secret.is_reference(dsn) or secret.redact_dsn(dsn) == dsn:
        return dsn
    return f"env:{re.sub('[^A-Za-z0-9]', '_', name).upper()}"


def _write(path: Path, answers: Answers, *, is_forced: bool) -> FlowSpec:
    """Write the file whole or not at all, and read it back as anybody would."""
    import yaml

    from wallaby.flow import FlowSpec

    text = flow_text(answers, path.name)
    spec = FlowSpec.from_mapping(yaml.safe_load(text))
    try:
        with path.open("w" if is_forced else "x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise ConfigError(
            "the file exists", field="--output", file=path, advice="Name another, or add --force"
        ) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"the file cannot be written: {reason}", field="--output", file=path) from None
    return spec


def flow_text(answers: Answers, file: str) -> str:
    """The flow file."""
    from wallaby.endpoints import TYPE_ALIASES
    from wallaby.flow import default_slot

    slot = default_slot(answers.flow_id)
    lines = [
        f"# A flow of wallaby. `wallaby check {file}` looks at it, `wallaby run {file}` runs it.",
        "# `wallaby schema` prints what an editor needs to complete and check this file.",
        f"id: {_scalar(answers.flow_id)}",
        f"name: {_scalar(answers.name)}",
        "",
        "source:",
        "  type: postgres",
        "  options:",
        "    # The role needs REPLICATION and SELECT on the tables.",
        f"    dsn: {_scalar(answers.dsn)}",
        *_login(answers.iam),
        "    # Made at the first start. While the flow is stopped it keeps WAL on the source.",
        f"    slot: {slot}",
    ]
    if answers.publication:
        lines += [
            "    # It exists, and decides which tables are replicated:",
            *(f"    #   {_comment(item)}" for item in answers.chosen),
            f"    publication: {_scalar(answers.publication)}",
            "    ensure_publication: false",
        ]
    else:
        lines += [
            "    # Made at the first start, for these tables.",
            f"    publication: {slot}",
            "    publication_tables:",
            *(f"      - {_scalar(_pattern(item))}  # {_facts(item)}" for item in answers.chosen),
        ]
    if answers.left_out:
        lines.append(
            "      # Left out, because nothing identifies their rows. Run the statement, then list them above:"
        )
        lines += [f"      #   {_comment(item)}  {_printable(item.remedy)}" for item in answers.left_out]
    lines += [
        "    # initial: copy the rows that exist, then stream; never: stream only.",
        "    snapshot: initial",
        "",
        "destinations:",
        f"  - name: {_scalar(answers.kind)}",
        f"    type: {_scalar(answers.kind)}",
    ]
    known = KINDS.get(TYPE_ALIASES.get(answers.kind, answers.kind))
    if known is not None:
        lines += ["    options:", *(f"      {line}" for line in known.lines(answers.place, _scalar))]
    lines += [
        "",
        "config:",
        "  # hold_slot: a flow that failed for good loses nothing; drop_slot: it relieves the source.",
        "  failure_mode: hold_slot",
        "",
    ]
    return "\n".join(lines)


def _login(iam: RdsIam | None) -> list[str]:
    if iam is None:
        return []
    named = {f"aws_{name}": value for name in IAM_OPTIONS if (value := getattr(iam, name))}
    return [
        "    # In place of a password: a token, signed with the AWS credentials of the process that runs the flow.",
        "    aws_rds_iam: true",
        *(f"    {name}: {_scalar(value)}" for name, value in named.items()),
    ]


def _ready(spec: FlowSpec, source: dict[str, str], said: Answer, written: Answer) -> FlowSpec:
    """The flow with the connections that were given: the variables the file names may not be set yet.

    Without its destination, when that names another variable that is not set here.
    """
    from wallaby import secret

    given = {written.target: said.target, written.catalog: said.catalog}
    [destination] = spec.destinations
    options = {
        name: given.get(value, value) if isinstance(value, str) else value
        for name, value in destination.options.items()
    }
    try:
        looked_up = [destination.model_copy(update={"options": secret.resolve_options(options)})]
    except ConfigError:
        looked_up = []
    looked_at = spec.source.model_copy(update={"options": {**spec.source.options, **source}})
    return spec.model_copy(update={"source": looked_at, "destinations": tuple(looked_up)})


def _tell(report: Report, path: Path, answers: Answers, spec: FlowSpec, ready: FlowSpec) -> int:
    """What was written, what stands in the way, and what comes next; 1 when something does."""
    from wallaby.check import check_flow, has_errors

    findings = check_flow(ready)
    written = [value for endpoint in (spec.source, *spec.destinations) for value in endpoint.options.values()]
    names = sorted({value for value in written if isinstance(value, str) and value.startswith("env:")})
    lines = [f"Wrote {path}: {len(answers.chosen)} tables to {answers.kind}"]
    if answers.left_out:
        lines.append(f"Left out, without a key: {', '.join(str(item.name) for item in answers.left_out)}")
    for finding in findings:
        lines.append(f"{finding.severity}: {finding.subject}: {finding.message}. {finding.advice}".rstrip())
    if not ready.destinations:
        lines.append("The destination was not looked at: not all it needs is set here.")
    lines += [f"Set {name.removeprefix('env:')} where it runs." for name in names]
    lines.append(f"Next: wallaby check {path}, then wallaby run {path}")
    value = {
        "file": str(path),
        "id": answers.flow_id,
        "tables": [str(item.name) for item in answers.chosen],
        "left_out": [str(item.name) for item in answers.left_out],
        "variables": [name.removeprefix("env:") for name in names],
        "findings": [
            {name: str(getattr(item, name)) for name in ("severity", "subject", "message", "advice", "code")}
            for item in findings
        ],
    }
    report.show(value, lines)
    return 1 if has_errors(findings) else 0


def _pattern(item: SurveyedTable) -> str:
    from wallaby.flow.tables import TablePattern

    return str(TablePattern(item.name.schema, item.name.name))


def _scalar(text: str) -> str:
    """Text as YAML reads it back, plain where that is safe."""
    import yaml

    if re.fullmatch(r"[A-Za-z_./][A-Za-z0-9_./:@=-]*", text) and yaml.safe_load(text) == text:
        return text
    return str(yaml.safe_dump(text, allow_unicode=True, default_style='"', width=10**9)).strip()


def _comment(item: SurveyedTable) -> str:
    return f"{_printable(str(item.name))}: {_facts(item)}"


def _facts(item: SurveyedTable) -> str:
    key = f"key {_printable(', '.join(item.key))}" if item.key else "no key"
    return f"{_size(item.bytes)}, about {item.rows} rows, {key}"


def _fitness(item: SurveyedTable) -> str:
    words = "identity full" if item.identity == "f" else "fit" if item.is_fit else "needs a key"
    return words + ("" if item.is_owned else ", not owned")


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def _size(count: int) -> str:
    size, unit = float(count), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if size >= 10 or unit == 0 else f"{size:.1f} {_UNITS[unit]}"
