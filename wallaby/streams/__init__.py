"""Streams in PostgreSQL: messages in commit order, pulled and acknowledged by groups of consumers.

The picture. A stream is a log of messages numbered 1, 2, 3 … without gaps. Publishers of one stream take turns by the
lock on its row in ``streams``, from the moment they take numbers to their commit; so a reader that sees a number sees
all lower ones, and a group can keep *one* number, its cursor, for everything it has met. Each message it has met has
a row in ``stream_deliveries``: ``claimed`` by a consumer until a moment, ``available`` again, ``acked``, ``dead`` after
too many attempts, or ``blocked`` behind an earlier message of its key. Pulls of one group take turns by the lock on the
group's row; acknowledgements do not wait for them, except in ordered groups.

The rules:

* a message belongs to one consumer of a group at a time; a claim has a number, and only it can acknowledge, extend or
  give back. What runs out is claimed by the next pull under another number.
* in an ordered group at most one message of a key is out, and it is the first of that key not finished. A TRUNCATE
  comes alone: after everything before it is finished, before anything behind it.
* nothing a group has not finished is removed, unless the stream's policy says so in so many words.

The surprising fact: a statement that waited for a lock still reads everything else as of its start (READ COMMITTED;
section 13.2.1 of the PostgreSQL manual). Where that matters the lock is a statement of its own, sent in the same round
trip, and the statement behind it has a snapshot of its own.

What we dislike: publishers of one stream commit one after the other, so a stream is as fast as its disk flushes;
several streams are not. And LISTEN needs a session, so behind PgBouncer in transaction mode waiting pulls fall back to
looking once a second.
"""

from wallaby.streams.model import (
    Ack,
    Claim,
    Delivery,
    GroupOptions,
    GroupStatus,
    Retention,
)
from wallaby.streams.streams import Streams

__all__ = ["Ack", "Claim", "Delivery", "GroupOptions", "GroupStatus", "Retention", "Streams"]
