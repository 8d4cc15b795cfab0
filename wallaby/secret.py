"""References to secrets, and keeping secrets out of everything that is stored or shown.

An option value ``env:NAME``, ``file:PATH`` or ``secret:NAME`` stands for the content of that environment variable, file
or secret of the control store. References are stored and shown as they are; they are resolved in the process that runs
the flow, as late as possible. A URL such as ``file:///data`` is not a reference.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from wallaby.errors import ConfigError

HIDDEN: Final = "****"
"""What is shown in place of a secret."""

BYTES_MAX: Final = 64 << 10
"""The largest secret."""
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)
"""Names of secrets in the control store."""

_STORED: Final = "secret:"
_SENSITIVE_NAME: Final = re.compile(
    r"passw|passphrase|passwd|^pwd$|secret|token|credential|private_key|access_key|api_?key|account_key|authorization"
    r"|sas_|^key$|encryption_key",
    re.IGNORECASE,
)
_RULES: Final = frozenset({"where", "computed_columns", "mask_columns", "rename_columns", "rename_tables"})
"""Options of destinations that hold names and expressions: ``users.token = hash`` tells no token."""
_SENSITIVE_HEADER: Final = re.compile(r"authorization|token|cookie|secret|api-?key", re.IGNORECASE)
_KEYWORD: Final = re.compile(r"(\w+)(\s*=\s*)('(?:[^'\\]|\\.)*'?|(?:[^\s\\']|\\.)(?:[^\s\\]|\\.)*)", re.DOTALL)


def is_reference(value: object) -> bool:
    """True for ``env:NAME``, ``file:PATH`` and ``secret:NAME`` (but not ``file://…``, which is a URL)."""
    if not isinstance(value, str):
        return False
    if value.startswith(_STORED):
        return stored_name(value) is not None
    return value.startswith("env:") or (value.startswith("file:") and not value.startswith("file://"))


def stored_name(value: object) -> str | None:
    """The NAME of ``secret:NAME``; None for anything else."""
    if not isinstance(value, str) or not value.startswith(_STORED):
        return None
    name = value.removeprefix(_STORED)
    return name if NAME.fullmatch(name) else None


def resolve(value: str, *, field: str | None = None, stored: Mapping[str, str] | None = None) -> str:
    """The secret behind a reference; any other text is returned as it is.

    ``stored`` are the secrets of the control store the caller has opened. `ConfigError` names the field and the
    variable, file or secret, never a content. A file's last line break is dropped.
    """
    if not is_reference(value):
        return value
    kind, _, name = value.partition(":")
    match kind:
        case "env":
            return _from_environment(name, field)
        case "file":
            return _from_file(name, field)
        case _:
            return _from_store(name, field, stored)


def _from_store(name: str, field: str | None, stored: Mapping[str, str] | None) -> str:
    if stored is None:
        raise ConfigError(
            "a secret of the control store cannot stand here",
            field=field,
            advice="Write env:NAME or file:PATH; secret:NAME is for a PostgreSQL's dsn, passwords, tokens and keys",
        )
    if name not in stored:
        raise ConfigError(
            f"there is no secret {name} in the control store", field=field, advice=f"wallaby secret set {name}"
        )
    return stored[name]


def _from_environment(name: str, field: str | None) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ConfigError("the text after env: is not the name of an environment variable", field=field)
    content = os.environ.get(name)
    if content is None:
        raise ConfigError(
            f"environment variable {name} is not set", field=field, advice="Set it in the process that runs the flow"
        )
    return content


def _from_file(name: str, field: str | None) -> str:
    try:
        with Path(name).expanduser().open("rb") as stream:
            content = stream.read(BYTES_MAX + 1)
        if len(content) > BYTES_MAX:
            raise ConfigError(f"secret file {name} is larger than {BYTES_MAX} bytes", field=field)
        return content.decode().removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"secret file {name!r} cannot be read ({type(error).__name__})",
            field=field,
            advice="Check path and permissions for the user that runs the flow",
        ) from None


def resolve_options(
    options: Mapping[str, Any], *, field: str = "options", stored: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """A copy of ``options`` with every reference replaced by its content; call it where the flow runs.

    `ConfigError` as well for a secret that was hidden when the definition was stored: it is known nowhere any more.
    """
    for name in hidden_secrets(options):
        raise ConfigError(
            "the secret here was not stored",
            field=f"{field}.{name}",
            advice="Run the flow from its file, or write env:NAME, file:PATH or secret:NAME into it",
        )
    return {
        name: resolve(value, field=f"{field}.{name}", stored=stored) if isinstance(value, str) else value
        for name, value in options.items()
    }


def is_sensitive_name(name: str) -> bool:
    """True when an option of this name holds a secret by its name alone: passwords, tokens, keys of accounts."""
    return _SENSITIVE_NAME.search(name) is not None


def literal_secrets(options: Mapping[str, Any]) -> Iterator[str]:
    """Names of the options that hold a secret in clear: a password inside a DSN, or a value under a telling name."""
    for name, value in options.items():
        if value not in (None, "") and not is_reference(value) and redact_option(name, value) != value:
            yield name


def hidden_secrets(options: Mapping[str, Any]) -> Iterator[str]:
    """Names of the options in which `redact` has hidden a secret."""
    for name, value in options.items():
        if not isinstance(value, str) or HIDDEN not in value:
            continue
        if is_sensitive_name(name) or redact_dsn(value.replace(HIDDEN, "x")) != value.replace(HIDDEN, "x"):
            yield name


def redact(value: Any) -> Any:
    """A copy of a flow mapping (or any JSON value) with every secret hidden; references stay readable."""
    match value:
        case Mapping():
            return {name: redact_option(str(name), item) for name, item in value.items()}
        case list() | tuple():
            return [redact(item) for item in value]
        case str():
            return redact_dsn(value)
        case _:
            return value


def redact_option(name: str, value: Any) -> Any:
    """``value`` as it may be shown under ``name``."""
    if name in _RULES:
        return value
    if isinstance(value, Mapping | list | tuple):
        return HIDDEN if _SENSITIVE_NAME.search(name) and value else redact(value)
    if value in (None, "") or is_reference(value) or isinstance(value, bool):
        return value
    if _SENSITIVE_NAME.search(name):
        return HIDDEN
    if not isinstance(value, str):
        return value
    if name.lower().endswith("headers") and _SENSITIVE_HEADER.search(value):
        return HIDDEN
    return redact_dsn(value)


def redact_dsn(text: str) -> str:
    """A DSN (URI, ``key=value`` or ``user:password@host``) with its passwords hidden; other text unchanged."""
    if is_reference(text):
        return text
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text)
    if scheme:
        return scheme[0] + _redact_uri(text[scheme.end() :])
    bare = re.match(r"([^:/@\s=]+):([^@\s]+)@", text)
    if bare:
        return f"{bare[1]}:{HIDDEN}@{_redact_query(text[bare.end() :])}"
    return _redact_query(_KEYWORD.sub(_hide_keyword, text) if "=" in text else text)


def _redact_uri(rest: str) -> str:
    # The last @ before the query ends the user part even where a password holds an unescaped slash or at sign.
    query_at = rest.find("?")
    head, query = (rest, "") if query_at < 0 else (rest[:query_at], rest[query_at:])
    authority = re.split(r"[/#]", head, maxsplit=1)[0]
    if "@" in head and ":" in authority:
        user, _, tail = head.partition(":")
        if "@" not in user:
            head = f"{user}:{HIDDEN}@{tail.rpartition('@')[2]}"
    elif "@" in query and ":" in authority and not re.match(r"[^:]*:\d+$", authority):
        # A question mark inside the password: nothing here can be trusted to be harmless.
        return f"{authority.partition(':')[0]}:{HIDDEN}@{query.rpartition('@')[2]}"
    return head + _redact_query(query)


def _redact_query(text: str) -> str:
    if "?" not in text:
        return text
    head, _, query = text.partition("?")
    parts = re.split(r"([&;])", query)
    return head + "?" + "".join(_hide_parameter(part) for part in parts)


def _hide_parameter(part: str) -> str:
    name, equals, value = part.partition("=")
    return f"{name}={HIDDEN}" if equals and value and _SENSITIVE_NAME.search(unquote(name)) else part


def _hide_keyword(match: re.Match[str]) -> str:
    return f"{match[1]}{match[2]}{HIDDEN}" if _SENSITIVE_NAME.search(match[1]) else match[0]
