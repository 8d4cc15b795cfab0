"""Options every client command has: where the API is, and how to reach it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import Final

from wallaby.settings import ClientSettings

_OPTIONS: Final[Mapping[str, str]] = {
    "endpoint": "endpoint",
    "is_insecure": "insecure",
    "ca_file": "ca_file",
    "cert_file": "cert_file",
    "key_file": "key_file",
    "token": "token",
    "request_id": "request_id",
}


def add_connection(parser: argparse.ArgumentParser) -> None:
    """The options of the connection and of the output."""
    parser.add_argument("--endpoint", metavar="HOST:PORT", help="the API (default WALLABY_ENDPOINT or localhost:8080)")
    add_switch(parser, "--insecure", "connect without TLS (default on loopback), or with TLS", default=None)
    parser.add_argument("--ca-file", metavar="PEM", help="CA of the server's certificate (WALLABY_CA_FILE)")
    parser.add_argument("--cert-file", metavar="PEM", help="our certificate, if the server asks for one")
    parser.add_argument("--key-file", metavar="PEM", help="the key of -cert-file")
    parser.add_argument("--token", metavar="REFERENCE", help="file:PATH or env:NAME of a bearer token (WALLABY_TOKEN)")
    parser.add_argument("--request-id", metavar="ID", help="repeat a change safely: the same id takes effect once")
    add_switch(parser, "--json", "print JSON on one line")
    add_switch(parser, "--pretty", "print JSON, indented")


def add_switch(parser: argparse.ArgumentParser, name: str, help_text: str, *, default: bool | None = False) -> None:
    """``--name`` and ``--no-name``, with one dash ``-name=false``."""
    parser.add_argument(name, action=argparse.BooleanOptionalAction, default=default, help=help_text)


def connection(arguments: argparse.Namespace) -> ClientSettings:
    """The settings the options and the environment make. `ConfigError` when they contradict each other."""
    settings = ClientSettings.load(os.environ, {name: getattr(arguments, word) for name, word in _OPTIONS.items()})
    _ = settings.uses_tls
    return settings
