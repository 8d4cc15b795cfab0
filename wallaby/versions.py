"""The columns a history table has beside the source's: when a version of a row held, what began and what ended it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionColumns:
    """What the columns are called in the target; each is called after its field unless told otherwise.

    The exact order of versions is that of (``valid_from_lsn``, ``valid_from_ordinal``), copied rows first.
    """

    valid_from: str = "valid_from"
    """Commit time of the change that began the version; of a copied row, the time of the snapshot."""
    valid_to: str = "valid_to"
    """Commit time of the change that ended it; null while it holds."""
    is_current: str = "is_current"
    """True while it holds."""
    opened_by: str = "opened_by"
    """``r`` copied, ``i`` inserted, ``u`` updated."""
    closed_by: str = "closed_by"
    """``u`` the next version followed, ``d`` deleted or moved to another key, ``t`` TRUNCATE; null while it holds.
    Where a row came although one was there, ``i`` or ``r``: a source does not send that of its own accord."""
    valid_from_lsn: str = "valid_from_lsn"
    """Where the commit record of that change's transaction starts; of a copied row, the LSN of the snapshot."""
    valid_from_ordinal: str = "valid_from_ordinal"
    """Place of that change inside its transaction; 0 of a copied row."""
    valid_to_lsn: str = "valid_to_lsn"
    valid_to_ordinal: str = "valid_to_ordinal"

    @classmethod
    def of(cls, names: Mapping[str, str]) -> VersionColumns:
        """The given names in place of the usual ones. ValueError for a field there is not, or a name given twice."""
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(names) - set(known)):
            raise ValueError(f"{unknown[0]} is no column of a history; there are {', '.join(known)}")
        columns = cls(**names)
        taken: dict[str, str] = {}
        for field in known:
            name = getattr(columns, field)
            if not 1 <= len(name.encode("utf-8", "surrogatepass")) <= NAME_BYTES_MAX or "\0" in name:
                raise ValueError(f"the name of {field} must have 1 to {NAME_BYTES_MAX} bytes, without NUL")
            if (other := taken.setdefault(name.lower(), field)) != field:
                raise ValueError(f"{other} and {field} have the same name")
        return columns

    @property
    def names(self) -> tuple[str, ...]:
        """The target's names, in the order the columns have there."""
        return tuple(getattr(self, field.name) for field in fields(self))

    @property
    def closing(self) -> tuple[str, ...]:
        """The names of what is set when a version ends, without ``is_current``, in the order of `names`."""
        return (self.valid_to, self.closed_by, self.valid_to_lsn, self.valid_to_ordinal)


NAME_BYTES_MAX: Final = 63
"""PostgreSQL's limit, kept everywhere so that a flow can change its destination."""

__all__ = ["NAME_BYTES_MAX", "VersionColumns"]
