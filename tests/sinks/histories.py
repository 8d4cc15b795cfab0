"""A short life of some rows, which tests of histories tell of."""

from __future__ import annotations

from wallaby.testing.changes import Stream, delete, insert, update
from wallaby.testing.contract.hooks import PARCELS


def a_life() -> Stream:
    """Three transactions on `PARCELS`: rows come; one changes, one goes, one moves; one changes again, one is back."""
    stream = Stream()
    stream.transaction([(PARCELS, insert(n, f"note {n}", n)) for n in range(6)])
    stream.transaction([(PARCELS, update(1, "b", 10)), (PARCELS, delete(2)), (PARCELS, update(9, "moved", 3, old=[3]))])
    stream.transaction([(PARCELS, update(1, None, 11, unchanged=["note"])), (PARCELS, insert(2, "again", 2))])
    return stream
