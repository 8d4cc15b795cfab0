"""The ``wallaby`` command. What needs no Ray lives in `wallaby.cli`; what launches things is here.

Exit codes: 0 done, 1 failed (the flow, a check, a connection), 2 the command line or the flow file is wrong, 130
Ctrl-C. ``wallaby diff`` alone ends with 2 when something differs, and with 1 for every failure, wrong usage included.
Nothing heavy is imported before the command is known.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final

from wallaby.errors import ConfigError, WallabyError

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130

_LAUNCHING: Final = frozenset({"run", "up", "check", "maintain", "demo"})
"""Commands of this module that report errors as findings; clients print a line."""
_OWN: Final = _LAUNCHING | {"version"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit code."""
    from wallaby import cli

    given = cli.long_flags(list(sys.argv[1:] if arguments is None else arguments))
    try:
        words = _parser(given[0] if given else None).parse_args(given)
    except SystemExit as end:
        return _usage_code(given, end)
    try:
        match words.command:
            case "run":
                from cluster.run import run

                return run(words)
            case "up":
                from cluster.run import up

                return up(words)
            case "check":
                from cluster.run import check

                return check(words)
            case "maintain":
                from cluster.maintain import maintain

                return maintain(words)
            case "demo":
                from cluster.demo.run import demo

                return demo(words)
            case "version":
                return _print_version(as_json=words.json)
            case _:
                return cli.run(words)
    except WallabyError as error:
        if words.command in _LAUNCHING:
            from cluster.findings import show_error

            show_error(error, as_json=words.json)
        else:
            print(f"wallaby: {error}", file=sys.stderr)
        is_usage = isinstance(error, ConfigError) and words.command != "diff"
        return EXIT_USAGE if is_usage else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `wallaby flow list | head`: nobody reads any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


def _usage_code(given: Sequence[str], end: SystemExit) -> int:
    """Of a command line that argparse refused (2), or answered itself (0, help)."""
    code = end.code if isinstance(end.code, int) else EXIT_FAILED
    return EXIT_FAILED if code == EXIT_USAGE and given and given[0] == "diff" else code


def _parser(command: str | None = None) -> argparse.ArgumentParser:
    """Reads a line that begins with ``command``; every line when it is None."""
    from wallaby import cli

    parser = argparse.ArgumentParser(
        prog="wallaby", description="PostgreSQL change data capture on Ray, in Arrow, exactly once."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run a flow from a file until Ctrl-C", description=_RUN)
    run.add_argument("flow", metavar="FLOW.yaml", help="a flow file, YAML or JSON")
    stop = run.add_mutually_exclusive_group()
    stop.add_argument("--once", action="store_true", help="stop at the WAL position current at the start")
    stop.add_argument("--until-lsn", metavar="LSN", help="stop once everything up to this LSN is durable")
    run.add_argument(
        "--resnapshot",
        action="store_true",
        help="drop the slot, empty the target tables wallaby made, and copy again: the way out of a lost slot",
    )
    run.add_argument("--no-check", action="store_true", help="start without looking at source and destinations first")
    _common(run)

    up = commands.add_parser("up", help="serve the gRPC API and run the flows it is given", description=_UP)
    _common(up)

    check = commands.add_parser("check", help="look at source and destinations of a flow; changes nothing")
    check.add_argument("flow", metavar="FLOW.yaml")
    check.add_argument("--json", action="store_true", help="machine-readable findings")

    care = commands.add_parser(
        "maintain", help="look after the lake tables of a flow once: compact, expire, clean", description=_MAINTAIN
    )
    care.add_argument("flow", metavar="FLOW.yaml")
    care.add_argument(
        "--table", action="append", metavar="SCHEMA.TABLE", help="this target alone; may be given several times"
    )
    care.add_argument("--dry-run", action="store_true", help="say what is due, and change nothing")
    care.add_argument("--json", action="store_true", help="one JSON line per table")

    demo = commands.add_parser("demo", help="the whole way on a shop of its own, proven equal by content hash")
    demo.add_argument("--chaos", action="store_true", help="kill a source, a sink and the coordinator on the way")
    demo.add_argument("--keep", action="store_true", help="stay up afterwards, until Ctrl-C")
    demo.add_argument("--seconds", type=float, default=15.0, help="how long the workload runs (default: 15)")
    demo.add_argument("--rows", type=int, default=20_000, help="customers in the shop at the start (default: 20000)")
    demo.add_argument("--seed", type=int, default=7, help="seed of shop and workload (default: 7)")
    demo.add_argument("--source", metavar="DSN", help="a PostgreSQL of yours to make the shop's database in")
    demo.add_argument("--directory", metavar="DIR", default="demo-data", help="where to put files (default: demo-data)")
    demo.add_argument("--json", action="store_true", help="progress and report as JSON lines")

    version = commands.add_parser("version", help="print the version")
    version.add_argument("--json", action="store_true")
    if command not in _OWN:
        cli.register(commands, command)
    parser.set_defaults(whole_parser=parser)
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="progress and final report as JSON lines")
    parser.add_argument("--state-dir", metavar="DIR", help="where the embedded control store lives")
    parser.add_argument("--listen", metavar="HOST:PORT", help="address of the gRPC API")
    parser.add_argument("--no-dashboard", action="store_true", help="do not start Ray's dashboard")


def _print_version(*, as_json: bool) -> int:
    from importlib import metadata

    try:
        version = metadata.version("wallaby")
    except metadata.PackageNotFoundError:
        version = "0+unpackaged"
    print(f'{{"version": "{version}"}}' if as_json else f"wallaby {version}")
    return EXIT_OK


_RUN = """Replicate continuously: copy the published tables once, then stream. Ctrl-C drains (everything read becomes
durable and is confirmed) and exits 0; the next run continues there. A second Ctrl-C ends at once, losing nothing."""

_UP = """Start Ray's actors and the API, and follow the flows' wanted states in the control store until Ctrl-C."""

_MAINTAIN = """One round over the tables of a flow's Iceberg and Delta destinations: small files become large ones, old
versions and files nobody knows go. Beside a running flow it does no harm: no lane waits for it, and it gives up where
one is faster."""


if __name__ == "__main__":
    raise SystemExit(main())
