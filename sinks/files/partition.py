"""What a log may be partitioned by: columns and buckets of time, ``region`` and ``__committed_at:hour``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sinks.files.layout import encode_name


class TimeUnit(StrEnum):
    """How wide a bucket of time is, in UTC."""

    YEAR = "year"
    MONTH = "month"
    DAY = "day"
    HOUR = "hour"


@dataclass(frozen=True, slots=True)
class Partition:
    """A column of the log, and for times the bucket's width."""

    column: str
    unit: TimeUnit | None = None

    @classmethod
    def parse(cls, text: str) -> Partition:
        """``column`` or ``column:unit``. ValueError for anything else."""
        column, colon, unit = text.rpartition(":") if ":" in text else (text, "", "")
        if not column.strip():
            raise ValueError("must name a column, or column:unit")
        if not colon:
            return cls(column.strip())
        try:
            return cls(column.strip(), TimeUnit(unit.strip().lower()))
        except ValueError:
            raise ValueError(f"must have year, month, day or hour after the colon: {column.strip()}:day") from None

    @property
    def label(self) -> str:
        """What stands before ``=`` in the folder's name."""
        return encode_name(self.column if self.unit is None else f"{self.column}_{self.unit}")


__all__ = ["Partition", "TimeUnit"]
