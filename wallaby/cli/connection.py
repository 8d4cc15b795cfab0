"""Options every client command has: where the API is, and how to reach it."""

from __future__ import annotations

import argparse

from wallaby.errors import ConfigError

DEFAULT_ENDPOINT = "localhost:8080"


def add_connection(parser: argparse.ArgumentParser) -> None:
    """The options of the connection and of the output."""
    parser.add_argument("--endpoint", metavar="HOST:PORT", help=f"the API (default {DEFAULT_ENDPOINT})")
    add_switch(parser, "--insecure", "connect without TLS", default=True)
    add_switch(parser, "--json", "print JSON on one line")
    add_switch(parser, "--pretty", "print JSON, indented")


def add_switch(parser: argparse.ArgumentParser, name: str, help_text: str, *, default: bool | None = False) -> None:
    """``--name`` and ``--no-name``, with one dash ``-name=false``."""
    parser.add_argument(name, action=argparse.BooleanOptionalAction, default=default, help=help_text)


def connection(arguments: argparse.Namespace) -> str:
    """The endpoint the options name."""
    if not arguments.insecure:
        raise ConfigError("TLS is not supported yet", field="-insecure", advice="Use an SSH tunnel or a proxy with TLS")
    return str(arguments.endpoint or DEFAULT_ENDPOINT)
