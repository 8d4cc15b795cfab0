"""Names of the source's tables over SQL: statements that run inside a transaction of the store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from wallaby.schema import KnownNames, TableName
from wallaby.store.edge import Read, Transaction

_BATCH_MAX: Final = 500
"""Tables per statement."""


def write_names(transaction: Transaction, flow_id: str, names: Sequence[KnownNames]) -> None:
    """Insert or replace, in statements of a bounded size."""
    for start in range(0, len(names), _BATCH_MAX):
        batch = names[start : start + _BATCH_MAX]
        transaction.execute(
            "INSERT INTO wallaby.source_names (flow_id, table_oid, server, names)"
            f" VALUES {', '.join(['(%s, %s, %s, %s)'] * len(batch))}"
            " ON CONFLICT (flow_id, table_oid) DO UPDATE SET server = excluded.server, names = excluded.names",
            [value for item in batch for value in (flow_id, item.oid, item.server, _dump(item))],
        )


def read_names(read: Read, flow_id: str) -> tuple[KnownNames, ...]:
    """In order of the tables' oids."""
    rows = read(
        "SELECT table_oid, server, names FROM wallaby.source_names WHERE flow_id = %s ORDER BY table_oid", (flow_id,)
    )
    return tuple(_load(int(oid), server, text) for oid, server, text in rows)


def forget_names(transaction: Transaction, flow_id: str) -> None:
    """With the flow."""
    transaction.execute("DELETE FROM wallaby.source_names WHERE flow_id = %s", (flow_id,))


def _dump(item: KnownNames) -> str:
    return json.dumps([item.name.schema, item.name.name, item.columns, item.is_told])


def _load(oid: int, server: str, text: str) -> KnownNames:
    schema, name, columns, is_told = json.loads(text)
    return KnownNames(
        oid, server, TableName(schema, name), tuple((column, number) for column, number in columns), is_told
    )
