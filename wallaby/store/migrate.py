"""Migrations of the control store: numbered, checksummed, forward only, applied under a lock in one transaction."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources

from wallaby.errors import CheckFailed
from wallaby.store.edge import Dialect, Edge


@dataclass(frozen=True, slots=True)
class Migration:
    """One file ``NNNN_name.sql``."""

    number: int
    name: str
    script: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, line ends normalised."""
        return hashlib.sha256("\n".join(self.script.splitlines()).encode()).hexdigest()


def migrations(dialect: Dialect) -> tuple[Migration, ...]:
    """All migrations of a dialect, numbered 1, 2, 3 … without a gap."""
    found = []
    for entry in (resources.files("wallaby.store") / "migrations" / dialect).iterdir():
        match = re.fullmatch(r"(\d{4})_(\w+)\.sql", entry.name)
        if match:
            found.append(Migration(int(match[1]), match[2], entry.read_text(encoding="utf-8")))
    found.sort(key=lambda migration: migration.number)
    assert [m.number for m in found] == list(range(1, len(found) + 1)), "migrations must be numbered without a gap"
    return tuple(found)


def migrate(edge: Edge, known: tuple[Migration, ...] | None = None) -> int:
    """Bring the store to the newest schema; the number of migrations applied (0: it was there already).

    Safe when several processes start at once. `CheckFailed` when the store was written by a newer wallaby, or when a
    migration that it has applied was changed afterwards.
    """
    known = migrations(edge.dialect) if known is None else known
    with edge.migration_lock() as transaction:
        rows = transaction.execute("SELECT number, checksum FROM wallaby.schema_migrations ORDER BY number")
        applied = {int(number): str(checksum) for number, checksum in rows}
        _check(applied, known)
        missing = [migration for migration in known if migration.number not in applied]
        for migration in missing:
            transaction.run_script(migration.script)
            transaction.execute(
                "INSERT INTO wallaby.schema_migrations (number, name, checksum, applied_at)"
                " VALUES (%s, %s, %s, CURRENT_TIMESTAMP)",
                (migration.number, migration.name, migration.checksum),
            )
    return len(missing)


def _check(applied: dict[int, str], known: tuple[Migration, ...]) -> None:
    if applied and max(applied) > len(known):
        raise CheckFailed(
            f"the control store has schema {max(applied)}, this wallaby knows up to {len(known)}",
            advice="Upgrade wallaby, or use another store",
        )
    for migration in known:
        checksum = applied.get(migration.number)
        if checksum is not None and checksum != migration.checksum:
            raise CheckFailed(
                f"migration {migration.number:04d}_{migration.name} differs from the one the control store has applied",
                advice="Use the wallaby release that wrote the store, or a newer one",
            )
