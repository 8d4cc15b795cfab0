"""``python -m benchmarks.served DIRECTORY [STREAM_DSN]``: the API over a SQLite store there, nobody running flows.

Serves the streams of that database, if one is named. Prints its address, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import sys

from wallaby.api.server import serve
from wallaby.settings import Settings
from wallaby.status import FlowStatus
from wallaby.store.opening import open_sqlite


class _Nobody:
    async def changed(self, flow_id: str) -> None:
        return

    async def run_once(self, flow_id: str) -> bool:
        return False

    async def status(self, flow_id: str) -> FlowStatus | None:
        return None


async def _serve(directory: str, stream_dsn: str = "") -> None:
    store = open_sqlite(directory)
    server = await serve(store, _Nobody(), Settings(grpc_listen="127.0.0.1:0", stream_dsn=stream_dsn))
    print(server.address, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)
    store.close()


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:]))
