"""DDLService: captured schema changes, listed and decided."""

from __future__ import annotations

from typing import Any, TypeVar

import grpc

from wallaby.api.conversion import message_from_ddl
from wallaby.api.errors import answers_errors
from wallaby.api.stores import StoreThread
from wallaby.ddl.approval import DdlStatus, Decision
from wallaby.errors import ConfigError
from wallaby.store import DdlPage
from wallaby.v1 import ddl_pb2, ddl_pb2_grpc

_EVERY = ("", "all")
_Answer = TypeVar("_Answer", bound=Any)


class DdlServicer(ddl_pb2_grpc.DDLServiceServicer):
    """Every decision may be sent again after a lost answer."""

    def __init__(self, store: StoreThread) -> None:
        self._store = store

    @answers_errors
    async def ListPendingDDL(
        self, request: ddl_pb2.ListPendingDDLRequest, context: Any
    ) -> ddl_pb2.ListPendingDDLResponse:
        page = await self._list(request, DdlStatus.PENDING)
        return ddl_pb2.ListPendingDDLResponse(
            events=map(message_from_ddl, page.events), next_page_token=page.next_page_token
        )

    @answers_errors
    async def ListDDL(self, request: ddl_pb2.ListDDLRequest, context: Any) -> ddl_pb2.ListDDLResponse:
        page = await self._list(request, None if request.status in _EVERY else _status(request.status))
        return ddl_pb2.ListDDLResponse(events=map(message_from_ddl, page.events), next_page_token=page.next_page_token)

    @answers_errors
    async def ApproveDDL(self, request: ddl_pb2.ApproveDDLRequest, context: Any) -> ddl_pb2.ApproveDDLResponse:
        return await self._decide(ddl_pb2.ApproveDDLResponse, request.id, Decision.APPROVE)

    @answers_errors
    async def RejectDDL(self, request: ddl_pb2.RejectDDLRequest, context: Any) -> ddl_pb2.RejectDDLResponse:
        return await self._decide(ddl_pb2.RejectDDLResponse, request.id, Decision.REJECT)

    @answers_errors
    async def MarkDDLApplied(
        self, request: ddl_pb2.MarkDDLAppliedRequest, context: Any
    ) -> ddl_pb2.MarkDDLAppliedResponse:
        return await self._decide(ddl_pb2.MarkDDLAppliedResponse, request.id, Decision.MARK_APPLIED)

    async def _list(self, request: Any, status: DdlStatus | None) -> DdlPage:
        return await self._store.run(
            lambda store: store.list_ddl(
                status=status,
                flow_id=request.flow_id,
                page_size=request.page_size,
                page_token=request.page_token,
            )
        )

    async def _decide(self, answer: type[_Answer], event_id: int, decision: Decision) -> _Answer:
        if event_id <= 0:
            raise ConfigError("is required", field="id")
        return await self._store.change(
            answer, lambda store: answer(event=message_from_ddl(store.decide_ddl(event_id, decision)))
        )


def _status(text: str) -> DdlStatus:
    try:
        return DdlStatus(text)
    except ValueError:
        raise ConfigError(f"must be one of {', '.join(DdlStatus)} or all", field="status") from None


def register(server: grpc.aio.Server, store: StoreThread) -> None:
    """Add the service to a server."""
    ddl_pb2_grpc.add_DDLServiceServicer_to_server(DdlServicer(store), server)  # type: ignore[no-untyped-call]  # generated
