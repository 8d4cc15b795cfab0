"""The watch over names: no shape of a table goes to any lane before it is known to give nothing away.

See `wallaby.transform.concealment` for the rule. It is kept here, at the source, because the source meets every table
of the stream, in order, while lanes divide them; and because what it learns is written to the control store before a
row of the shape is sent: what a destination was ever given, the next life knows the names of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from wallaby.flow import EndpointSpec
from wallaby.flow.transforms import TRANSFORM_NAMES, TransformOptions
from wallaby.schema import KnownNames, TableSchema
from wallaby.transform.concealment import Concealment


class NameWatch:
    """One epoch's. ``known`` are all names the control store has of the flow; ``remember`` adds to them.

    ``remember`` returns when the store has it: once per table, and again when one's names or columns change, or when
    the stream tells of one that was known from the catalog only.
    """

    def __init__(
        self,
        concealments: Sequence[Concealment],
        *,
        server: str = "",
        known: Iterable[KnownNames] = (),
        remember: Callable[[tuple[KnownNames, ...]], None],
    ) -> None:
        self._concealments = tuple(concealments)
        self._server = server
        self._known = {names.oid: names for names in known if names.server == server}
        self._remember = remember
        self._met: dict[int, TableSchema] = {}

    @property
    def is_idle(self) -> bool:
        """Nothing is hidden from anybody."""
        return not self._concealments

    def look(self, schemas: Iterable[TableSchema]) -> None:
        """Remember how the catalog calls those tables of which nothing is known: they may be renamed before they
        change, in a flow that began without rules or a table that was published since."""
        if self.is_idle:
            return
        seen = [KnownNames.of(schema, server=self._server) for schema in schemas if schema.oid not in self._known]
        if seen:
            news = tuple(replace(names, is_told=False) for names in seen)
            self._remember(news)
            self._known.update((names.oid, names) for names in news)

    def meet(self, schemas: Iterable[TableSchema]) -> None:
        """Take the shapes for known; `Refused` when one would give away what a destination is not to get."""
        if self.is_idle:
            return
        fresh = [schema for schema in schemas if self._met.get(schema.oid) is not schema]
        news = []
        for schema in fresh:
            before = self._known.get(schema.oid)
            if before is not None:
                for concealment in self._concealments:
                    concealment.require_kept(before, schema)
            now = KnownNames.of(schema, server=self._server, before=before)
            if now != before:
                news.append(now)
        if news:
            self._remember(tuple(news))
            self._known.update((names.oid, names) for names in news)
        self._met.update((schema.oid, schema) for schema in fresh)


def concealments(destinations: Iterable[EndpointSpec]) -> tuple[Concealment, ...]:
    """Those of the destinations that have any. A lane refuses options that are wrong; here they are `InvalidFlow`."""
    found = []
    for destination in destinations:
        own = {name: value for name, value in destination.options.items() if name in TRANSFORM_NAMES}
        found.append(Concealment.of(TransformOptions.parse(own), destination=destination.name))
    return tuple(concealment for concealment in found if not concealment.is_nothing)


__all__ = ["NameWatch", "concealments"]
