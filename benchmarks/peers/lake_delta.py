"""deltalake as its manual shows it: ``write_deltalake`` to append, ``merge`` to update."""

from __future__ import annotations

import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake
from lake_steps import task, timed


def main() -> None:
    """One task."""
    todo = task()
    where = str(todo.target / "narrow")
    rows = pq.ParquetFile(todo.rows)
    count = rows.metadata.num_rows
    if todo.task == "append":
        table = rows.read()
        timed(count, lambda: write_deltalake(where, table, mode="append"))
        return
    for i in range(rows.num_row_groups):
        write_deltalake(where, rows.read_row_group(i), mode="append")
    for path in todo.changes:
        changed = pq.read_table(path)

        def merge(changed: object = changed) -> None:
            merged = DeltaTable(where).merge(changed, "target.id = source.id", "source", "target")  # type: ignore[arg-type]
            merged.when_matched_update_all().when_not_matched_insert_all().execute()

        timed(changed.num_rows, merge)


if __name__ == "__main__":
    main()
