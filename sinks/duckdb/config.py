"""Options of a DuckDB destination."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Self

from pydantic import Field, field_validator

from wallaby.errors import ConfigError
from wallaby.flow import HistoryOptions, TypeOptions, Unrepresentable
from wallaby.flow.size import ByteSize
from wallaby.sink import Capabilities, WriteMode

_BLOCK_SIZES: Final = frozenset(1 << power for power in range(14, 19))
_MEMORY: Final = re.compile(r"([\d.]+) ?([kmgt])(i?)b")
_STAGING: Final = "changes are read where they lie in memory, and become visible with their commit"
CAPABILITIES: Final = Capabilities(
    modes=frozenset(WriteMode),
    atomic_position=True,
    keyed_upsert=True,
    whole_transactions=True,
    truncate=True,
    parallel_lanes=False,
    exact_outliers=False,
)
"""One process writes a DuckDB file, hence no parallel lanes. Infinite dates are exact, NaN numerics are not."""


class EngineOptions(HistoryOptions, TypeOptions):
    """How much DuckDB may use, wherever it keeps its tables."""

    without_effect: ClassVar[Mapping[str, str]] = {
        **HistoryOptions.without_effect,
        "staging_schema": _STAGING,
        "staging_table": _STAGING,
        "staging_suffix": _STAGING,
    }

    memory_limit: str = Field(default="1GB", pattern=r"^\d+(\.\d+)? ?[kKmMgGtT][iI]?[bB]$")
    """DuckDB's own limit. Beyond it DuckDB spills beside the file; large transactions need no more."""
    threads: int = Field(default=2, ge=1, le=256)
    """DuckDB's threads. Two: a lane is one stream, and the source runs on the same machine more often than not."""

    @property
    def memory_bytes(self) -> int:
        """`memory_limit` as a number."""
        number, power, binary = _MEMORY.fullmatch(self.memory_limit.lower()).groups()  # type: ignore[union-attr]  # checked
        return int(float(number) * (1024 if binary else 1000) ** ("kmgt".index(power) + 1))

    @property
    def keeps_outliers(self) -> bool:
        """True when the log has a column for values no DuckDB type holds."""
        return self.write_mode is WriteMode.APPEND and self.unrepresentable is Unrepresentable.TEXT


class DuckDBOptions(EngineOptions):
    """Where the database file is and how much DuckDB may use."""

    secret_fields: ClassVar[frozenset[str]] = frozenset()

    dsn: str = Field(min_length=1)
    """The database file; it is created when missing, its folder is not. ``path`` means the same."""
    block_size: ByteSize = 256 << 10
    """Of a new file: 16KiB to 256KiB, a power of two; small for hundreds of tables, for each column of a table that is
    written takes a block or two of memory, and of the file. The default is DuckDB's."""

    @field_validator("block_size")
    @classmethod
    def _is_a_block_size(cls, size: int) -> int:
        if size not in _BLOCK_SIZES:
            raise ValueError("must be 16KiB, 32KiB, 64KiB, 128KiB or 256KiB")
        return size

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> Self:
        """As `OptionsModel.parse`; ``path`` is read where ``dsn`` is absent."""
        given = dict(options)
        path = given.pop("path", None)
        if path and not given.get("dsn"):
            given["dsn"] = path
        return super().parse(given)

    @classmethod
    def option_names(cls) -> tuple[str, ...]:
        return tuple(sorted((*super().option_names(), "path")))


def read_options(options: Mapping[str, Any]) -> DuckDBOptions:
    """Validated options; `ConfigError` with the field's path otherwise."""
    read = DuckDBOptions.parse(options)
    read.require_mode(CAPABILITIES)
    if read.dsn.startswith((":memory:", "md:", "motherduck:")):
        raise ConfigError("must be a file: the position record lives in it", advice="Name a path", field="dsn")
    require_a_place_for_text(read)
    return read


def require_a_place_for_text(read: EngineOptions) -> None:
    """`ConfigError` for a mirror that shall keep outliers as text."""
    if read.write_mode is not WriteMode.APPEND and read.unrepresentable is Unrepresentable.TEXT:
        raise ConfigError(
            f"text needs a column of its own, which a {read.write_mode.value} does not have",
            advice="Use write_mode append, or unrepresentable refuse or null",
            field="unrepresentable",
        )


__all__ = ["CAPABILITIES", "DuckDBOptions", "EngineOptions", "read_options", "require_a_place_for_text"]
