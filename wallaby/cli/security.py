"""``wallaby token``, ``wallaby secret`` and ``wallaby audit``: who may do what, what nobody sees, who did it."""

from __future__ import annotations

import argparse
import getpass
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wallaby import secret
from wallaby.access import Role
from wallaby.cli.commands import add_client_command, add_group
from wallaby.cli.report import table
from wallaby.errors import ConfigError

if TYPE_CHECKING:
    from wallaby.cli.report import Report
    from wallaby.client import Client

EXIT_OK: Final = 0
_UNITS: Final = {"m": 60, "h": 3_600, "d": 86_400}
_Arguments = argparse.Namespace


def register(subparsers: Any) -> None:
    """Add ``token``, ``secret`` and ``audit`` with their commands."""
    token = add_group(subparsers, "token", "make, list and revoke bearer tokens")
    create = add_client_command(token, "create", "make a token; it is shown this once", _create_token)
    create.add_argument("name", metavar="NAME", help="who or what it is for")
    create.add_argument("--role", choices=[*Role], default=Role.VIEWER.value, help="what it may do (default viewer)")
    create.add_argument("--expires", metavar="TIME", default="", help="for example 12h or 90d (default: never)")
    add_client_command(token, "list", "list the tokens, without what is secret of them", _list_tokens)
    revoke = add_client_command(token, "revoke", "end a token at once and for good", _revoke_token)
    revoke.add_argument("name", metavar="NAME", help="name or id")

    secrets = add_group(subparsers, "secret", "keep secrets that flows refer to as secret:NAME")
    put = add_client_command(
        secrets, "set", "store a secret: typed in, from standard input, or from a file", _set_secret
    )
    put.add_argument("name", metavar="NAME")
    put.add_argument("--file", metavar="PATH", help="take the content of this file")
    add_client_command(secrets, "list", "list the secrets' names", _list_secrets)
    delete = add_client_command(secrets, "delete", "forget a secret", _delete_secret)
    delete.add_argument("name", metavar="NAME")
    add_client_command(secrets, "rotate", "encrypt every secret anew under the first key", _rotate_secrets)

    audit = add_client_command(subparsers, "audit", "show who called what, newest first", _show_calls)
    audit.add_argument("--limit", type=int, default=50, metavar="N", help="how many (default 50)")
    audit.add_argument("--principal", default="", metavar="WHO", help="for example token:ci")
    audit.add_argument("--flow-id", default="", metavar="FLOW", help="calls about this flow")


def _create_token(client: Client, arguments: _Arguments, report: Report) -> int:
    from wallaby.v1 import access_pb2

    request = access_pb2.CreateTokenRequest(
        name=arguments.name,
        role=access_pb2.Role.Value(f"ROLE_{arguments.role}".upper()),
        lifetime_seconds=_seconds(arguments.expires),
    )
    answer = client.call("CreateToken", request, service="TokenService")
    shown = _token(answer.token)
    print(f"Keep token {arguments.name} ({shown['role']}) now: it is not shown again", file=sys.stderr)
    report.show({**shown, "token": answer.bearer}, [answer.bearer])
    return EXIT_OK


def _list_tokens(client: Client, arguments: _Arguments, report: Report) -> int:
    from wallaby.v1 import access_pb2

    answer = client.call("ListTokens", access_pb2.ListTokensRequest(), service="TokenService")
    tokens = [_token(item) for item in answer.tokens]
    rows = [
        (t["id"], t["name"], t["role"], t["created_by"], t["expires_at"] or "never", t["revoked_at"]) for t in tokens
    ]
    header = ("ID", "NAME", "ROLE", "MADE BY", "EXPIRES", "REVOKED")
    report.show({"count": len(tokens), "tokens": tokens}, table(header, rows) if rows else ["No tokens found."])
    return EXIT_OK


def _revoke_token(client: Client, arguments: _Arguments, report: Report) -> int:
    from wallaby.v1 import access_pb2

    answer = client.call("RevokeToken", access_pb2.RevokeTokenRequest(name=arguments.name), service="TokenService")
    report.show(_token(answer.token), [f"Revoked token {answer.token.name}"])
    return EXIT_OK


def _set_secret(client: Client, arguments: _Arguments, report: Report) -> int:
    from wallaby.v1 import access_pb2

    request = access_pb2.PutSecretRequest(name=arguments.name, value=_value(arguments))
    answer = client.call("PutSecret", request, service="SecretService")
    name = answer.secret.name
    report.show(_secret(answer.secret), [f"Stored secret {name}; flows refer to it as secret:{name}"])
    return EXIT_OK


def _list_secrets(client: Client, arguments: _Arguments, report: Report) -> int:
    from wallaby.v1 import access_pb2

    answer = client.call("ListSecrets", access_pb2.ListSecretsRequest(), service="SecretService")
    secrets = [_secret(item) for item in answer.secrets]
    rows = [(item["name"], item["updated_at"], item["updated_by"], item["key_id"]) for item in secrets]
    lines = table(("NAME", "UPDATED", "BY", "KEY"), rows) if rows else ["No secrets found."]
    report.show({"count": len(secrets), "secrets": secrets}, lines)
    return EXIT_OK


def _delete_secret(client: Client, arguments: _Arguments, report: Report) -> int:
    from wallaby.v1 import access_pb2

    answer = client.call("DeleteSecret", access_pb2.DeleteSecretRequest(name=arguments.name), service="SecretService")
    report.show({"name": arguments.name, "deleted": answer.deleted}, [f"Deleted secret {arguments.name}"])
    return EXIT_OK


def _rotate_secrets(client: Client, arguments: _Arguments, report: Report) -> int:
    from wallaby.v1 import access_pb2

    answer = client.call("RotateSecrets", access_pb2.RotateSecretsRequest(), service="SecretService")
    report.show({"rotated": answer.rotated}, [f"Encrypted {answer.rotated} secrets anew"])
    return EXIT_OK


def _show_calls(client: Client, arguments: _Arguments, report: Report) -> int:
    calls = list(_calls(client, arguments))
    rows = [(c["at"], c["principal"], c["method"].rpartition("/")[2], c["flow_id"], c["code"]) for c in calls]
    lines = table(("TIME", "WHO", "CALL", "FLOW", "OUTCOME"), rows) if rows else ["No calls found."]
    report.show({"count": len(calls), "calls": calls}, lines)
    return EXIT_OK


def _calls(client: Client, arguments: _Arguments) -> Iterator[dict[str, Any]]:
    from wallaby.v1 import access_pb2

    left, token = arguments.limit, ""
    while left > 0:
        request = access_pb2.ListCallsRequest(
            page_size=min(left, 1_000), page_token=token, principal=arguments.principal, flow_id=arguments.flow_id
        )
        answer = client.call("ListCalls", request, service="AuditService")
        for item in answer.calls:
            yield {
                "id": item.id,
                "at": _time(item, "at"),
                "principal": item.principal,
                "role": _role(item.role),
                **{name: getattr(item, name) for name in ("kind", "method", "flow_id", "code", "request_id")},
            }
        left, token = left - len(answer.calls), answer.next_page_token
        if not token:
            return


def _value(arguments: _Arguments) -> str:
    """The secret: of the file, of standard input, or typed in unseen. One line break at its end is dropped."""
    if not arguments.file and sys.stdin.isatty():
        return getpass.getpass(f"Value of secret {arguments.name}: ")
    try:
        if arguments.file:
            with Path(arguments.file).open("rb") as stream:
                content = stream.read(secret.BYTES_MAX + 3)
        else:
            content = sys.stdin.buffer.read(secret.BYTES_MAX + 3)
        return content.decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror or type(error).__name__}", field="-file", file=arguments.file
        ) from None
    except UnicodeDecodeError:
        raise ConfigError("the secret is not UTF-8 text", field="-file" if arguments.file else None) from None


def _seconds(text: str) -> int:
    if not text:
        return 0
    match = re.fullmatch(r"([1-9]\d{0,6})([mhd])", text.strip(), re.ASCII)
    if match is None:
        raise ConfigError("must be a time such as 30m, 12h or 90d", field="-expires")
    return int(match[1]) * _UNITS[match[2]]


def _token(message: Any) -> dict[str, Any]:
    return {
        "id": message.id,
        "name": message.name,
        "role": _role(message.role),
        "created_at": _time(message, "created_at"),
        "created_by": message.created_by,
        "expires_at": _time(message, "expires_at"),
        "revoked_at": _time(message, "revoked_at"),
    }


def _secret(message: Any) -> dict[str, Any]:
    return {
        "name": message.name,
        "updated_at": _time(message, "updated_at"),
        "updated_by": message.updated_by,
        "key_id": message.key_id,
    }


def _role(number: int) -> str:
    from wallaby.v1 import access_pb2

    value = access_pb2.Role.DESCRIPTOR.values_by_number.get(number)
    return value.name.removeprefix("ROLE_").lower() if value and number else ""


def _time(message: Any, name: str) -> str:
    return str(getattr(message, name).ToJsonString()) if message.HasField(name) else ""
