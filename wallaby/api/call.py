"""Who calls, as the guard found out and the servicers may ask."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from wallaby.access import Role
from wallaby.store import RequestKey


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller. ``name`` is ``token:NAME``, ``certificate:NAME`` or ``local``."""

    name: str
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call that was let in."""

    principal: Principal
    method: str
    request_id: str = ""
    request: RequestKey | None = None
    """Set for a call that changes something and brought a request id: it takes effect once only."""


CURRENT: Final[ContextVar[Call | None]] = ContextVar("wallaby_call", default=None)
"""The call whose servicer method runs; None where no guard stands."""


def caller() -> str:
    """The name of who calls, for records."""
    call = CURRENT.get()
    return call.principal.name if call else "local"
