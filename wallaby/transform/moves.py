"""What became of a table's columns when its shape changed: which were renamed, which dropped, which made again.

The stream names columns and gives their order; attribute numbers, where the catalog still knew them, tell a rename from
a drop and an add. PostgreSQL sends columns in the order of their numbers and never gives a number twice.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Final

from wallaby.versions import NAME_BYTES_MAX


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
    """Done in this order: drops (or, in a history, what is put ``aside``), then renames all at once (columns may swap
    names), then what is missing is added."""

    dropped: tuple[str, ...] = ()
    """Old names; a column made again under its name is among them."""
    renamed: tuple[tuple[str, str], ...] = ()
    """Old and new names."""
    unclear: tuple[tuple[str, str], ...] = ()
    """Old and new names of columns of one type, one gone and one come, where nobody can tell a rename."""
    aside: tuple[tuple[str, str], ...] = ()
    """Old and new names, renamed before everything else: columns `keeping` does not drop, whose names are needed."""

    def misfits(self, present: Container[str], *, fold: Callable[[str], str] = _exactly) -> list[str]:
        """Why a target with the columns ``present`` (folded) cannot follow, in words."""
        return [
            f"column {old} went as {new} came: renamed, or dropped and another added?"
            for old, new in self.unclear
            if fold(new) not in present
        ]

    def keeping(
        self,
        present: Iterable[str],
        *,
        owned: Iterable[str],
        wanted: Sequence[str],
        others: Iterable[str] = (),
        fold: Callable[[str], str] = _exactly,
    ) -> Moves:
        """The moves in a history, where a column the source dropped stays with its past: out of the way of another one
        that has its name now, be it added or renamed.

        ``present`` are the target's columns, ``owned`` those of them the source had, ``wanted`` those it has now,
        ``others`` further names that are taken in the target. A history that never noted what is the source's (nothing
        is ``owned``) keeps its columns as they are.
        """
        by_name = {fold(name): name for name in present}
        leaving, coming = ({fold(pair[i]) for pair in self.renamed} for i in (0, 1))
        goes_on = {fold(name) for name in owned}
        if not goes_on:
            return self
        goes_on -= leaving.union(map(fold, self.dropped))
        taken = by_name.keys() | set(map(fold, wanted)) | set(map(fold, others))
        aside: list[tuple[str, str]] = []
        for name in wanted:
            key = fold(name)
            if key in by_name and key not in leaving and (key in coming or key not in goes_on):
                new = next(word for word in _names_aside(by_name[key]) if fold(word) not in taken)
                taken.add(fold(new))
                aside.append((by_name[key], new))
        return replace(self, aside=tuple(aside))


def _names_aside(name: str) -> Iterator[str]:
    """Names for a column of this name that the source dropped, the best first; none is longer than PostgreSQL's are."""
    for number in count(1):
        suffix = "_dropped" if number == 1 else f"_dropped_{number}"
        room = NAME_BYTES_MAX - len(suffix)
        yield name.encode()[:room].decode(errors="ignore") + suffix


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
        may_be = [
            now[a].type == old[b].type and not (now[a].attnum and old[b].attnum)
            for a, b in zip(came, went, strict=False)
        ]
        if end_i < len(now) and came and len(came) == len(went) and all(may_be):
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
