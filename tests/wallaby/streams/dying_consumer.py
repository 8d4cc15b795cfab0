"""A consumer that acknowledges ten messages, claims ten more, says so and waits to be killed (``python -m``)."""

from __future__ import annotations

import sys

from wallaby.streams import Claim, Streams


def main() -> None:
    dsn, stream, group = sys.argv[1:]
    streams = Streams(dsn)
    first = streams.pull(stream, group, max_messages=10, consumer="dying")
    acked = streams.ack(stream, group, Claim(tuple(d.id for d in first), tuple(d.claim for d in first)))
    second = streams.pull(stream, group, max_messages=10, consumer="dying", visibility_s=3600)
    print(f"{acked.done} acknowledged, {len(second)} claimed", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
