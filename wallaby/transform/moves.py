"""What became of a table's columns when its shape changed: which were renamed, which dropped, which made again.

The stream names columns and gives their order; attribute numbers, where the catalog still knew them, tell a rename from
a drop and an add. PostgreSQL sends columns in the order of their numbers and never gives a number twice.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class KnownColumn:
    """A column as a destination has noted it, or as the source has it now. ``attnum`` is 0 where unknown."""

    name: str
    attnum: int
    type: str = ""
    """The destination's name of its type."""


def _exactly(name: str) -> str:
    return name


@dataclass(frozen=True, slots=True)
class Moves:
    """Done in this order: drops, then renames all at once (columns may swap names), then what is missing is added."""

    dropped: tuple[str, ...] = ()
    """Old names; a column made again under its name is among them."""
    renamed: tuple[tuple[str, str], ...] = ()
    """Old and new names."""
    unclear: tuple[tuple[str, str], ...] = ()
    """Old and new names of columns of one type, one gone and one come, where nobody can tell a rename."""

    def misfits(
        self, present: Container[str], *, keeps_dropped: bool, fold: Callable[[str], str] = _exactly
    ) -> list[str]:
        """Why a target with the columns ``present`` (folded) cannot follow, in words. Where it ``keeps_dropped``, as
        the past of a history has them, their names are not free."""
        found = [
            f"column {old} went as {new} came: renamed, or dropped and another added?"
            for old, new in self.unclear
            if fold(new) not in present
        ]
        if keeps_dropped:
            gone = {fold(old) for old, _ in self.renamed}
            found += [
                f"column {old} was renamed to {new}, the name of one that was dropped"
                for old, new in self.renamed
                if fold(new) in present and fold(new) not in gone
            ]
        return found


NO_MOVES: Final = Moves()


def column_moves(
    known: Sequence[KnownColumn], now: Sequence[KnownColumn], *, fold: Callable[[str], str] = _exactly
) -> Moves:
    """From ``known`` to ``now``, both in the source's order. ``fold`` gives names as the destination compares them.

    Columns of one number are the same; without a number, columns of one name are. What is left is settled by order: a
    column in front of an old one is old itself. Where that leaves a choice, it is ``unclear``.
    """
    number_of = {fold(column.name): column.attnum for column in now}
    # A name gets a lower number by swapping names only: else numbers that fall are not of the same table.
    falls = any(0 < number_of.get(fold(column.name), 0) < column.attnum for column in known)
    names, numbers = {fold(column.name) for column in known}, {column.attnum for column in known}
    is_swap = names == number_of.keys() and numbers == set(number_of.values())
    old = [replace(column, attnum=0) for column in known] if falls and not is_swap else list(known)
    origin = _same(old, now, fold)
    places = [origin[i] for i in sorted(origin)]
    if places != sorted(places):
        return _out_of_order(old, now, origin)
    unclear = _settle(old, now, origin)
    if unclear:
        return Moves(unclear=tuple(unclear))
    kept = set(origin.values())
    return Moves(
        tuple(column.name for at, column in enumerate(old) if at not in kept),
        tuple(
            (old[at].name, now[i].name) for i, at in sorted(origin.items()) if fold(old[at].name) != fold(now[i].name)
        ),
    )


def _same(old: Sequence[KnownColumn], now: Sequence[KnownColumn], fold: Callable[[str], str]) -> dict[int, int]:
    """Place in ``now`` → place in ``old`` of the same column, by number and else by name."""
    by_number = {column.attnum: at for at, column in enumerate(old) if column.attnum}
    by_name = {fold(column.name): at for at, column in enumerate(old)}
    origin = {i: by_number[column.attnum] for i, column in enumerate(now) if column.attnum in by_number}
    taken = set(origin.values())
    for i, column in enumerate(now):
        at = by_name.get(fold(column.name))
        if i not in origin and at is not None and at not in taken and not (column.attnum and old[at].attnum):
            origin[i] = at
    return origin


def _settle(old: Sequence[KnownColumn], now: Sequence[KnownColumn], origin: dict[int, int]) -> list[tuple[str, str]]:
    """Add to ``origin`` what order alone tells; returns the pairs that stay unclear."""
    unclear: list[tuple[str, str]] = []
    ends = [*sorted(origin.items()), (len(now), len(old))]
    i = at = 0
    for end_i, end_at in ends:
        came, went = range(i, end_i), range(at, end_at)
        types = [now[a].type == old[b].type for a, b in zip(came, went, strict=False)]
        if end_i < len(now) and came and len(came) == len(went) and all(types):
            origin.update(zip(came, went, strict=True))
        else:
            unclear += [
                (old[b].name, now[a].name)
                for b in went
                for a in came
                if old[b].type == now[a].type and not now[a].attnum
            ]
        i, at = end_i + 1, end_at + 1
    return unclear


def _out_of_order(old: Sequence[KnownColumn], now: Sequence[KnownColumn], origin: dict[int, int]) -> Moves:
    """Columns changed places: made again, if they cannot have swapped their names."""
    moved = [i for i, at in origin.items() if i < len(old) and at != i]
    if all(now[i].type == old[i].type for i in moved):
        return Moves(unclear=tuple((old[i].name, now[i].name) for i in moved))
    youngest, again = -1, []
    for _, at in sorted(origin.items()):
        if at < youngest:
            again.append(old[at].name)
        youngest = max(youngest, at)
    kept = set(origin.values())
    return Moves((*(column.name for at, column in enumerate(old) if at not in kept), *again))


def known_numbers(before: Mapping[str, int], moves: Moves) -> dict[str, int]:
    """Attribute numbers by name, as far as they are known, after ``moves``."""
    new_name = dict(moves.renamed)
    return {new_name.get(name, name): number for name, number in before.items() if name not in moves.dropped}


def rename_steps(renamed: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Single renames that do all of ``renamed``: by way of names nobody has where they depend on each other."""
    taken = {old for old, _ in renamed}
    if not any(new in taken for _, new in renamed):
        return list(renamed)
    away = [(old, f"wallaby_renamed_{i}") for i, (old, _) in enumerate(renamed)]
    home = [(f"wallaby_renamed_{i}", new) for i, (_, new) in enumerate(renamed)]
    return [*away, *home]


__all__ = ["NO_MOVES", "KnownColumn", "Moves", "column_moves", "known_numbers", "rename_steps"]
