"""pyiceberg as its manual shows it: ``append``, and ``upsert`` by key."""

from __future__ import annotations

import pyarrow.parquet as pq
from lake_steps import task, timed
from pyiceberg.catalog import load_catalog


def main() -> None:
    """One task."""
    todo = task()
    uri, warehouse = f"sqlite:///{todo.target}/catalog.db", f"file://{todo.target}"
    catalog = load_catalog("bench", type="sql", uri=uri, warehouse=warehouse)
    catalog.create_namespace("public")
    rows = pq.ParquetFile(todo.rows)
    table = catalog.create_table("public.narrow", rows.schema_arrow)
    if todo.task == "append":
        every = rows.read()
        timed(every.num_rows, lambda: table.append(every))
        return
    for i in range(rows.num_row_groups):
        table.append(rows.read_row_group(i))
    for path in todo.changes:
        changed = pq.read_table(path)
        timed(changed.num_rows, lambda changed=changed: table.upsert(changed, join_cols=["id"]))  # type: ignore[misc]


if __name__ == "__main__":
    main()
