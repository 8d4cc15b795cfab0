"""An Iceberg REST catalog for tests: the few calls a writer makes, over another catalog, on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from botocore.awsrequest import AWSRequest
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, NoSuchNamespaceError, NoSuchTableError
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import CommitTableRequest, Table
from pyiceberg.table.sorting import SortOrder


@contextmanager
def rest_catalog(catalog: Catalog, *, admits: Callable[[AWSRequest], bool] = lambda request: True) -> Iterator[str]:
    """Serve ``catalog``; gives the address. One call at a time, as one database would. Calls that are not admitted are
    forbidden."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Silent."""

        def do_GET(self) -> None:
            self._answer("GET")

        def do_HEAD(self) -> None:
            self._answer("HEAD")

        def do_POST(self) -> None:
            self._answer("POST")

        def _answer(self, method: str) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = f"http://{self.headers['Host']}{self.path}"
            asked = AWSRequest(method=method, url=url, data=body, headers=dict(self.headers))
            with lock:
                if not admits(asked):
                    status, content = _error(403, "ForbiddenException", "not admitted")
                else:
                    status, content = _call(catalog, method, self.path, body)
            data = json.dumps(content).encode() if status != 204 else b""
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if method != "HEAD":
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _call(catalog: Catalog, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
    parts = [unquote(part) for part in urlsplit(path).path.split("/") if part][1:]
    try:
        match method, parts:
            case "GET", ["config"]:
                return 200, {"defaults": {}, "overrides": {}}
            case "POST", ["namespaces"]:
                asked = json.loads(body)
                catalog.create_namespace(tuple(asked["namespace"]))
                return 200, {"namespace": asked["namespace"], "properties": {}}
            case (("GET" | "HEAD"), ["namespaces", namespace]):
                if not catalog.namespace_exists((namespace,)):
                    raise NoSuchNamespaceError(namespace)
                return (204, {}) if method == "HEAD" else (200, {"namespace": [namespace], "properties": {}})
            case "POST", ["namespaces", namespace, "tables"]:
                return 200, _loaded(_create(catalog, namespace, json.loads(body)))
            case (("GET" | "HEAD"), ["namespaces", namespace, "tables", table]):
                return 200, _loaded(catalog.load_table((namespace, table)))
            case "POST", ["namespaces", namespace, "tables", table]:
                request = CommitTableRequest.model_validate_json(body)
                answer = catalog.commit_table(
                    catalog.load_table((namespace, table)), request.requirements, request.updates
                )
                return 200, json.loads(answer.model_dump_json(by_alias=True))
            case _:
                return _error(404, "NotFoundException", path)
    except (NoSuchNamespaceError, NoSuchTableError) as error:
        return _error(404, type(error).__name__, str(error))
    except CommitFailedException as error:
        return _error(409, "CommitFailedException", str(error))


def _create(catalog: Catalog, namespace: str, asked: dict[str, Any]) -> Table:
    return catalog.create_table(
        (namespace, asked["name"]),
        Schema.model_validate(asked["schema"]),
        partition_spec=PartitionSpec.model_validate(asked["partition-spec"]),
        sort_order=SortOrder.model_validate(asked["write-order"]),
        properties=asked["properties"],
    )


def _loaded(table: Table) -> dict[str, Any]:
    metadata = json.loads(table.metadata.model_dump_json(by_alias=True))
    return {"metadata-location": table.metadata_location, "metadata": metadata, "config": {}}


def _error(status: int, kind: str, message: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"message": message, "type": kind, "code": status}}
