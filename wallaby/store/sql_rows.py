"""What the parts of the SQL store share: the fence by epoch, the count of changes, and values as rows have them."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Any

from wallaby.errors import ConfigError, Fenced, Refused
from wallaby.lsn import START
from wallaby.store.edge import Transaction
from wallaby.store.port import REASON_CHARACTERS_MAX


def hold(transaction: Transaction, flow_id: str, epoch: int | None) -> None:
    """Lock the flow's checkpoint row, make it when missing, and check that ``epoch`` is still the newest."""
    transaction.execute(
        "INSERT INTO wallaby.checkpoints (flow_id, epoch, position, lanes) VALUES (%s, 0, %s, '{}')"
        " ON CONFLICT (flow_id) DO NOTHING",
        (flow_id, str(START)),
    )
    rows = transaction.execute("SELECT epoch FROM wallaby.checkpoints WHERE flow_id = %s FOR UPDATE", (flow_id,))
    if epoch is not None and epoch != rows[0][0]:
        refuse_epoch(flow_id, mine=epoch, stored=int(rows[0][0]))


def refuse_epoch(flow_id: str, *, mine: int, stored: int) -> None:
    """Raise `Fenced` or `Refused`: the stored epoch is not ours."""
    if stored > mine:
        raise Fenced(f"epoch {mine} is over, epoch {stored} runs the flow now", flow=flow_id)
    raise Refused(
        f"the control store knows epoch {stored}, this run has epoch {mine}: the store was set back",
        advice="Restore the newest state of the control store before the flow is started again",
        flow=flow_id,
    )


def count_change(transaction: Transaction) -> None:
    """One more change; locks the row that counts them until the transaction ends."""
    transaction.execute("UPDATE wallaby.changes SET version = version + 1 WHERE id = 1")


def storable_text(text: str, characters_max: int | None = REASON_CHARACTERS_MAX) -> str:
    """``text`` as both databases keep it, cut at ``characters_max``."""
    # PostgreSQL's text holds neither NUL nor lone surrogates.
    return text[:characters_max].replace("\0", " ").encode("utf-8", "replace").decode()


def time_of(value: Any) -> datetime:
    """A stored time, in UTC."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment.astimezone(UTC)


def token_for(place: str) -> str:
    """The token of the page after ``place``."""
    return base64.urlsafe_b64encode(place.encode()).decode()


def after_token(token: str) -> str:
    """The place a page token names; `ConfigError` for text that is none."""
    try:
        return base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        raise foreign_token() from None


def foreign_token() -> ConfigError:
    """The error of a token that no page gave."""
    return ConfigError("is not a token of an earlier page", field="page_token", advice="Begin with an empty token")
