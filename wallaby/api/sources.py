"""SourceService: slots and publications of a flow's source, asked and changed with the secrets the server knows.

Each call opens one connection to the source, on a thread of a few, and closes it. What a change did lies in the
source's database: nothing is stored here, and a repeat does what is left to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import grpc

from wallaby.api.errors import answers_errors
from wallaby.api.stores import StoreThread
from wallaby.errors import CheckFailed, ConfigError
from wallaby.flow import FlowSpec, SourceOptions
from wallaby.flow.options import checked_identifier, checked_slot_name
from wallaby.flow.resolution import resolved_source, source_secrets
from wallaby.flow.tables import parse_table_pattern
from wallaby.postgres.operations import SourceOperations
from wallaby.postgres.slot import SlotFacts
from wallaby.settings import ApiLimits
from wallaby.store import SealedSecret, Store
from wallaby.v1 import source_pb2, source_pb2_grpc
from wallaby.vault import Vault

_APPLICATION: Final = "wallaby api"
_Result = TypeVar("_Result")
_Work = Callable[[SourceOperations, SourceOptions], _Result]


class SourceServicer(source_pb2_grpc.SourceServiceServicer):
    """See ``source.proto``."""

    def __init__(self, store: StoreThread, vault: Vault, limits: ApiLimits) -> None:
        self._store = store
        self._vault = vault
        self._limits = limits
        self._executor = ThreadPoolExecutor(limits.source_calls_max, thread_name_prefix="api-sources")

    def close(self) -> None:
        """Calls in flight end with their connections."""
        self._executor.shutdown(wait=False)

    @answers_errors
    async def ListSlots(self, request: source_pb2.ListSlotsRequest, context: Any) -> source_pb2.ListSlotsResponse:
        slots = await self._run(request.flow_id, lambda source, _: source.slots())
        return source_pb2.ListSlotsResponse(slots=map(_slot, slots))

    @answers_errors
    async def DropSlot(self, request: source_pb2.DropSlotRequest, context: Any) -> source_pb2.DropSlotResponse:
        _check(request.slot, "slot", checked_slot_name)

        def drop(source: SourceOperations, options: SourceOptions) -> str:
            name = request.slot or options.slot
            source.drop_slot(name)
            return name

        return source_pb2.DropSlotResponse(slot=await self._run(request.flow_id, drop))

    @answers_errors
    async def GetPublication(
        self, request: source_pb2.GetPublicationRequest, context: Any
    ) -> source_pb2.GetPublicationResponse:
        def read(source: SourceOperations, publication: str, _: SourceOptions) -> source_pb2.GetPublicationResponse:
            return source_pb2.GetPublicationResponse(publication=publication, tables=source.published(publication))

        return await self._publication(request, read)

    @answers_errors
    async def ListUnpublishedTables(
        self, request: source_pb2.ListUnpublishedTablesRequest, context: Any
    ) -> source_pb2.ListUnpublishedTablesResponse:
        schemas = self._names(request.schemas, "schemas", checked_identifier)

        def read(
            source: SourceOperations, publication: str, _: SourceOptions
        ) -> source_pb2.ListUnpublishedTablesResponse:
            found = source.unpublished(publication, schemas)
            return source_pb2.ListUnpublishedTablesResponse(publication=publication, tables=found)

        return await self._publication(request, read)

    @answers_errors
    async def AddPublicationTables(
        self, request: source_pb2.AddPublicationTablesRequest, context: Any
    ) -> source_pb2.AddPublicationTablesResponse:
        tables = self._names(request.tables, "tables", parse_table_pattern)

        def add(
            source: SourceOperations, publication: str, _: SourceOptions
        ) -> source_pb2.AddPublicationTablesResponse:
            added = source.add(publication, tables)
            return source_pb2.AddPublicationTablesResponse(publication=publication, added=added)

        return await self._publication(request, add)

    @answers_errors
    async def RemovePublicationTables(
        self, request: source_pb2.RemovePublicationTablesRequest, context: Any
    ) -> source_pb2.RemovePublicationTablesResponse:
        tables = self._names(request.tables, "tables", parse_table_pattern)

        def remove(
            source: SourceOperations, publication: str, _: SourceOptions
        ) -> source_pb2.RemovePublicationTablesResponse:
            removed = source.remove(publication, tables)
            return source_pb2.RemovePublicationTablesResponse(publication=publication, removed=removed)

        return await self._publication(request, remove)

    @answers_errors
    async def SyncPublication(
        self, request: source_pb2.SyncPublicationRequest, context: Any
    ) -> source_pb2.SyncPublicationResponse:
        is_named = bool(request.tables or request.schemas)
        tables = self._names(request.tables, "tables", parse_table_pattern, is_required=False)
        schemas = self._names(request.schemas, "schemas", checked_identifier, is_required=False)

        def sync(
            source: SourceOperations, publication: str, options: SourceOptions
        ) -> source_pb2.SyncPublicationResponse:
            wanted = (tables, schemas) if is_named else (options.publication_tables, options.publication_schemas)
            if not any(wanted):
                raise ConfigError("is required: the flow names no tables either", field="tables")
            added, removed = source.sync(publication, *wanted, is_dropping=request.drop)
            return source_pb2.SyncPublicationResponse(publication=publication, added=added, removed=removed)

        return await self._publication(request, sync)

    async def _publication(
        self, request: Any, work: Callable[[SourceOperations, str, SourceOptions], _Result]
    ) -> _Result:
        _check(request.publication, "publication", checked_identifier)
        return await self._run(
            request.flow_id, lambda source, options: work(source, request.publication or options.publication, options)
        )

    async def _run(self, flow_id: str, work: _Work[_Result]) -> _Result:
        """What ``work`` gives with the source of the flow, in a thread of our own."""
        if not flow_id:
            raise ConfigError("is required", field="flow_id")
        spec, sealed = await self._store.run(lambda store: _definition(store, flow_id))

        def call() -> _Result:
            # Here, and not in the store's one thread: what a reference leads to may be slow to read.
            options = self._options(spec, sealed)
            source = SourceOperations(
                options.login, application_name=_APPLICATION, statement_ms=self._limits.source_statement_ms
            )
            return work(source, options)

        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    def _options(self, spec: FlowSpec, sealed: Collection[SealedSecret]) -> SourceOptions:
        """The source's options with their secrets; `CheckFailed` when something of them is not here."""
        try:
            return resolved_source(spec, self._vault.open_all(sealed) if sealed else None)
        except ConfigError as error:
            # Not the caller's mistake.
            raise CheckFailed(
                f"the server cannot use the source's options: {error.where.get('field', '')} {error.message}",
                advice=error.advice,
                flow=spec.id,
            ) from None

    def _names(
        self, names: Collection[str], field: str, check: Callable[[str], object], *, is_required: bool = True
    ) -> list[str]:
        """The names, each checked."""
        if is_required and not names:
            raise ConfigError("is required", field=field)
        if len(names) > self._limits.source_names_max:
            raise ConfigError(f"takes at most {self._limits.source_names_max} names", field=field)
        for index, name in enumerate(names):
            if not name:
                raise ConfigError("must not be empty", field=f"{field}[{index}]")
            _check(name, f"{field}[{index}]", check)
        return list(names)


def _definition(store: Store, flow_id: str) -> tuple[FlowSpec, list[SealedSecret]]:
    """The flow, and the secrets its source refers to, as they are stored."""
    spec = store.get_flow(flow_id).spec
    names = source_secrets(spec)
    return spec, [item for item in store.list_secrets() if item.name in names] if names else []


def _check(name: str, field: str, check: Callable[[str], object]) -> None:
    """`ConfigError` with the field when a name that is given breaks its rule."""
    if not name:
        return
    try:
        check(name)
    except ValueError as error:
        raise ConfigError(str(error), field=field) from None


def _slot(slot: SlotFacts) -> source_pb2.ReplicationSlot:
    return source_pb2.ReplicationSlot(
        name=slot.name,
        plugin=slot.plugin or "",
        active=slot.active,
        wal_status=slot.wal_status or "",
        lost=slot.invalidation or "",
        restart_lsn="" if slot.restart_lsn is None else str(slot.restart_lsn),
        confirmed_flush_lsn="" if slot.confirmed_flush is None else str(slot.confirmed_flush),
        kept_bytes=slot.kept_bytes,
        safe_wal_bytes=slot.safe_wal_bytes,
    )


def register(server: grpc.aio.Server, store: StoreThread, vault: Vault, limits: ApiLimits) -> SourceServicer:
    """Add the service to a server; close what is returned with it."""
    servicer = SourceServicer(store, vault, limits)
    source_pb2_grpc.add_SourceServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]  # generated
    return servicer
