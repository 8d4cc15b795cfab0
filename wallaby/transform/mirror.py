"""What a window of changes does to a mirror of its table: per-key compaction in columns.

A mirror does not care for the way, only for where each row ends. `plan` folds the changes of one table and schema
version, in stream order, into sets a destination can apply with a handful of set-based statements.

With a key (`MirrorPlan`) a sink applies, in this order, all in the transaction of the commit:

1. moved patches (``patch.moves``): read the missing columns from the target at ``patch.origin`` *before any write*, fill
   them in (`complete` does it in Arrow), and treat the result as upserts;
2. ``deletes``, by key;
3. unmoved patches: ``UPDATE`` of the columns not in ``patch.missing``, by key;
4. ``upserts``: insert, or replace the whole row of that key.

Equal rows are the identity of a table with replica identity full and no key (`MultisetPlan`): delete ``__count`` copies
of each row of ``deletes``, then insert ``__count`` copies of each row of ``inserts``. A table with neither can only grow
(`InsertPlan`).

Row tables hold every column of ``after`` in order, with the field types and metadata of the change layout, and one more
column, the last: ``__outliers`` (`wallaby.window.OUTLIER_TYPE`, column indexes of the row itself, null when none). Address
it by position: a source column may have the same name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from wallaby.schema import TableSchema

OUTLIERS: Final = "__outliers"
"""Name of the last column of row tables (before ``__count`` in a `MultisetPlan`)."""
COUNT: Final = "__count"
"""Name of the last column of a `MultisetPlan`'s tables: int64, at least 1."""


@dataclass(frozen=True, slots=True)
class Patch:
    """Updated rows for which PostgreSQL did not send the same columns (unchanged TOAST) and the window holds no value.

    The values are in the destination, in the row whose key before the window was ``origin``.
    """

    missing: tuple[int, ...]
    """Indexes into ``schema.columns``, ascending; never key columns."""
    rows: pa.Table
    """All columns, the missing ones null, and ``__outliers``."""
    origin: pa.Table
    """The key columns each row had in the destination before the window; as many rows as ``rows``."""
    moves: bool
    """True when every row's ``origin`` differs from its key in ``rows``; False when each is the same."""


@dataclass(frozen=True, slots=True)
class MirrorPlan:
    """The net effect of a window on a table with a key. No key is in two of upserts, patches' rows, and deletes."""

    schema: TableSchema
    upserts: pa.Table
    """Complete rows: all columns, then ``__outliers``."""
    deletes: pa.Table
    """Key columns: keys that may exist in the destination and must not afterwards."""
    patches: tuple[Patch, ...]


@dataclass(frozen=True, slots=True)
class MultisetPlan:
    """The net effect on a table whose rows are their own identity: all columns, ``__outliers``, ``__count``.

    Rows equal in every column (nulls and outliers equal) are one entry. No row is in both tables.
    """

    schema: TableSchema
    inserts: pa.Table
    deletes: pa.Table


@dataclass(frozen=True, slots=True)
class InsertPlan:
    """New rows of a table without any identity: all columns, then ``__outliers``."""

    schema: TableSchema
    rows: pa.Table


Plan = MirrorPlan | MultisetPlan | InsertPlan


def plan(schema: TableSchema, changes: pa.Table) -> Plan:
    """The net effect of ``changes`` (change layout, stream order, one schema version) as the schema's identity demands.

    `MirrorPlan` with a key, `MultisetPlan` for replica identity full without one, `InsertPlan` otherwise. `Refused` when
    the changes cannot be mirrored: a key value outside its Arrow type, or an update or delete without an identity.
    """
    raise NotImplementedError


def plan_mirror(schema: TableSchema, changes: pa.Table) -> MirrorPlan:
    """Per key, where the window leaves it; as if the changes had been applied one by one. See `plan`."""
    raise NotImplementedError


def plan_multiset(schema: TableSchema, changes: pa.Table) -> MultisetPlan:
    """Per distinct row, how many copies come or go. See `plan`."""
    raise NotImplementedError


def plan_inserts(schema: TableSchema, changes: pa.Table) -> pa.Table:
    """The inserted and copied rows with ``__outliers``; `Refused` when ``changes`` holds an update or delete."""
    raise NotImplementedError


def complete(schema: TableSchema, patch: Patch, found: pa.Table) -> pa.Table:
    """The patch's rows with the missing columns filled: rows for step 4 of `MirrorPlan`.

    ``found`` is what the target holds at ``patch.origin``: the key columns and the missing columns by name, in any row
    order, with the row types of the plan, optionally ``__outliers``. `Refused` when a row of ``origin`` is not found: the
    target lost rows.
    """
    raise NotImplementedError
