"""``wallaby-admin`` and ``wallaby-worker``: the Go WALlaby's commands under its names, for scripts that call them.

They take its flags (``-flow-id x``, ``-json=false``), print what it prints, and end as it ends: 0, or 1 for everything
that went wrong; usage goes to standard output.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

from wallaby.errors import ConfigError, WallabyError

EXIT_FAILED: Final = 1


class _GoParser(argparse.ArgumentParser):
    """Wrong usage is told on standard output and ends with 1."""

    def error(self, message: str) -> NoReturn:
        self.print_help(sys.stdout)
        print(f"{self.prog}: {message}", file=sys.stderr)
        raise SystemExit(EXIT_FAILED)


def admin(arguments: Sequence[str] | None = None) -> int:
    """``wallaby-admin``: the commands of ``wallaby`` that are clients."""
    from wallaby import cli

    parser = _GoParser(prog="wallaby-admin", description="Steer a running wallaby.")
    cli.register(parser.add_subparsers(dest="command", required=True, metavar="COMMAND"))
    parser.set_defaults(whole_parser=parser)
    return _ended(parser, arguments, cli.run)


def worker(arguments: Sequence[str] | None = None) -> int:
    """``wallaby-worker``: run one flow of the control store in this process."""
    parser = _GoParser(prog="wallaby-worker", description="Run one flow of the control store.")
    parser.add_argument("--config", metavar="FILE", help="accepted and ignored; settings are environment variables")
    parser.add_argument("--flow-id", metavar="FLOW", default="", help="the flow to run")
    parser.add_argument(
        "--max-empty-reads", type=int, default=0, metavar="N", help="above 0: stop at the source's present position"
    )
    parser.add_argument("--mode", default="cdc", help="cdc (default); backfill is refused: see snapshot restart")
    parser.add_argument("--start-lsn", metavar="LSN", default="", help="where a flow without a position begins")
    for name in ("--tables", "--schemas"):
        parser.add_argument(name, metavar="LIST", default="", help="belongs to -mode backfill; no effect")
    parser.add_argument("--partition-column", metavar="NAME", default="", help="belongs to -mode backfill; no effect")
    for name in ("--snapshot-workers", "--partition-count"):
        parser.add_argument(name, type=int, metavar="N", default=0, help="belongs to -mode backfill; no effect")
    parser.add_argument("--resolve-staging", action=argparse.BooleanOptionalAction, default=False, help="no effect")
    return _ended(parser, arguments, _run_stored)


def _run_stored(words: argparse.Namespace) -> int:
    if not words.flow_id:
        raise ConfigError("flow-id is required", field="-flow-id")
    if words.mode == "backfill":
        what = ", ".join(filter(None, (words.tables, words.schemas))) or "its tables"
        raise ConfigError(
            "a worker does not copy tables of a flow by themselves",
            field="-mode",
            advice=f"A new flow copies {what} first, see source.options.snapshot; `wallaby snapshot restart` copies"
            " everything again",
        )
    if words.mode != "cdc":
        raise ConfigError("must be cdc or backfill", field="-mode")
    if words.max_empty_reads < 0:
        raise ConfigError("must not be negative", field="-max-empty-reads")
    from cluster.run import run_stored

    return run_stored(words.flow_id, once=words.max_empty_reads > 0, start_lsn=words.start_lsn)


def _ended(parser: argparse.ArgumentParser, arguments: Sequence[str] | None, run: Callable[[Any], int]) -> int:
    from wallaby.cli.flags import long_flags

    try:
        words = parser.parse_args(long_flags(list(sys.argv[1:] if arguments is None else arguments)))
        return EXIT_FAILED if run(words) else 0
    except SystemExit as end:
        return EXIT_FAILED if end.code else 0
    except WallabyError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_FAILED


if __name__ == "__main__":
    name, *rest = sys.argv[1:]
    raise SystemExit({"admin": admin, "worker": worker}[name](rest))
