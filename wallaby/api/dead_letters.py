"""DeadLetterService: changes set aside, listed, shown, and decided on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

import grpc

from wallaby.api.control import FlowControl
from wallaby.api.conversion import message_from_letter
from wallaby.api.errors import answers_errors
from wallaby.api.stores import StoreThread
from wallaby.errors import ConfigError, IllegalMove
from wallaby.flow import parse_table_pattern
from wallaby.letter import unpack
from wallaby.letter_box import content_of
from wallaby.schema import TableName
from wallaby.store import LetterDecision, LetterFilter, LetterRecord, LetterState
from wallaby.v1 import dead_letter_pb2, dead_letter_pb2_grpc
from wallaby.vault import Vault
from wallaby.window import Barrier

_IDS_MAX = 10_000
_Answer = TypeVar("_Answer", bound=Any)


class DeadLetterServicer(dead_letter_pb2_grpc.DeadLetterServiceServicer):
    """Decisions are wishes in the store: the flow's lanes carry them out. Each may be sent again."""

    def __init__(self, store: StoreThread, control: FlowControl, vault: Vault) -> None:
        self._store = store
        self._control = control
        self._vault = vault

    @answers_errors
    async def ListDeadLetters(
        self, request: dead_letter_pb2.ListDeadLettersRequest, context: Any
    ) -> dead_letter_pb2.ListDeadLettersResponse:
        chosen = _filter(request, state=_state(request.state))
        page = await self._store.run(lambda store: store.list_letters(chosen, request.page_size, request.page_token))
        return dead_letter_pb2.ListDeadLettersResponse(
            letters=map(message_from_letter, page.letters), next_page_token=page.next_page_token
        )

    @answers_errors
    async def GetDeadLetter(
        self, request: dead_letter_pb2.GetDeadLetterRequest, context: Any
    ) -> dead_letter_pb2.GetDeadLetterResponse:
        return dead_letter_pb2.GetDeadLetterResponse(letter=message_from_letter(await self._letter(request.id)))

    @answers_errors
    async def GetDeadLetterPayload(
        self, request: dead_letter_pb2.GetDeadLetterPayloadRequest, context: Any
    ) -> dead_letter_pb2.GetDeadLetterPayloadResponse:
        record = await self._letter(request.id)
        if record.sealed is None:
            raise IllegalMove("the rows of the letter are not kept", letter=record.id)
        arrow = await asyncio.to_thread(_arrow, self._vault, record)
        return dead_letter_pb2.GetDeadLetterPayloadResponse(letter=message_from_letter(record), arrow=arrow)

    @answers_errors
    async def ReplayDeadLetters(
        self, request: dead_letter_pb2.ReplayDeadLettersRequest, context: Any
    ) -> dead_letter_pb2.ReplayDeadLettersResponse:
        return await self._decide(dead_letter_pb2.ReplayDeadLettersResponse, request, LetterDecision.REPLAY)

    @answers_errors
    async def DiscardDeadLetters(
        self, request: dead_letter_pb2.DiscardDeadLettersRequest, context: Any
    ) -> dead_letter_pb2.DiscardDeadLettersResponse:
        return await self._decide(dead_letter_pb2.DiscardDeadLettersResponse, request, LetterDecision.DISCARD)

    async def _letter(self, letter_id: int) -> LetterRecord:
        if letter_id <= 0:
            raise ConfigError("is required", field="id")
        return await self._store.run(lambda store: store.get_letter(letter_id))

    async def _decide(self, kind: type[_Answer], request: Any, decision: LetterDecision) -> _Answer:
        ids, chosen = _selection(request.selection)
        answer = await self._store.change(
            kind,
            lambda store: kind(
                letters=map(message_from_letter, store.decide_letters(decision, ids=ids, chosen=chosen))
            ),
        )
        for flow_id in sorted({letter.flow_id for letter in answer.letters}):
            await self._control.changed(flow_id)
        return answer


def _selection(selection: dead_letter_pb2.DeadLetterSelection) -> tuple[Sequence[int], LetterFilter | None]:
    if len(selection.ids) > _IDS_MAX:
        raise ConfigError(f"must be at most {_IDS_MAX}", field="selection.ids")
    chosen = _filter(selection, prefix="selection.")
    if selection.ids:
        if chosen != LetterFilter():
            raise ConfigError("come with nothing else", field="selection.ids", advice="Give ids, or a flow")
        return list(selection.ids), None
    if not chosen.flow_id:
        raise ConfigError("is required without ids", field="selection.flow_id")
    return (), chosen


def _filter(request: Any, *, prefix: str = "", state: LetterState | None = None) -> LetterFilter:
    for name in ("flow_id", "destination"):
        if "\0" in getattr(request, name):
            raise ConfigError("must be text without NUL", field=f"{prefix}{name}")
    return LetterFilter(request.flow_id, request.destination, _table(request.table, f"{prefix}table"), state)


def _table(text: str, field: str) -> TableName | None:
    if not text:
        return None
    try:
        pattern = parse_table_pattern(text)
    except ValueError as error:
        raise ConfigError(str(error), field=field) from None
    if pattern.name is None:
        raise ConfigError("must be one table", field=field)
    return TableName(pattern.schema, pattern.name)


def _state(text: str) -> LetterState | None:
    if text in ("", "all"):
        return None
    try:
        return LetterState(text)
    except ValueError:
        raise ConfigError(f"must be one of {', '.join(LetterState)} or all", field="state") from None


def _arrow(vault: Vault, record: LetterRecord) -> bytes:
    content = unpack(content_of(vault, record))
    return b"" if isinstance(content, Barrier) else bytes(content.data.to_pybytes())


def register(server: grpc.aio.Server, store: StoreThread, control: FlowControl, vault: Vault) -> None:
    """Add the service to a server."""
    servicer = DeadLetterServicer(store, control, vault)
    dead_letter_pb2_grpc.add_DeadLetterServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]  # generated
