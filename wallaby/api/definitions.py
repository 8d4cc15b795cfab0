"""Definitions of flows as messages, each made once and not again for every look."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from wallaby.api.conversion import message_from_spec, show_record
from wallaby.v1 import types_pb2

if TYPE_CHECKING:
    from wallaby.flow import FlowSpec
    from wallaby.store import FlowRecord

KEPT_MAX: Final = 1_024
"""Flows whose message is kept; the one that was not looked at longest is made anew."""
BYTES_MAX: Final = 64 << 10
"""Of a message that is kept."""


class Definitions:
    """Messages of stored flows. One event loop."""

    def __init__(self, kept_max: int = KEPT_MAX) -> None:
        self._kept_max = kept_max
        self._kept: OrderedDict[str, tuple[FlowSpec, types_pb2.Flow]] = OrderedDict()

    def message(self, record: FlowRecord) -> types_pb2.Flow:
        """As `message_from_record`; the message is the caller's own."""
        kept = self._kept.get(record.id)
        # The store hands out the same object for the same stored text, so any change of a definition is another one.
        if kept is None or kept[0] is not record.spec:
            made = message_from_spec(record.spec)
            if made.ByteSize() > BYTES_MAX:
                return show_record(made, record)
            kept = self._kept[record.id] = record.spec, made
            if len(self._kept) > self._kept_max:
                self._kept.popitem(last=False)
        self._kept.move_to_end(record.id)
        message = types_pb2.Flow()
        message.CopyFrom(kept[1])
        return show_record(message, record)
