"""What the lakehouse destinations cost, beside other ways to keep such tables: ``python -m benchmarks.lake``.

Every subject is a script that gets the same Parquet files and runs in a process of its own; what it wrote is read back
by somebody else and compared with what it was given by content hash, or its figures do not count.
"""
