"""The guard before every method: who calls, may it, how often, and a record of it.

One interceptor of the server. In order: the caller, its rate, its role by the method's rule (a method without one is
refused), the request, room in the audit log; then the method runs, and its outcome is recorded. A caller that is not
let in is answered before its request is received, so it can neither have it parsed nor hold a place by not sending it.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from wallaby.api.access import RULES, Rule
from wallaby.api.audit import AuditTrail
from wallaby.api.authentication import Authenticator
from wallaby.api.call import CURRENT, Call, Principal
from wallaby.api.errors import abort, as_ours, code_of
from wallaby.api.rates import Rates
from wallaby.errors import ConfigError, PermissionDenied, TooManyCalls, Unauthenticated, WallabyError
from wallaby.settings import ApiLimits
from wallaby.store import CallKind, CallRecord, RequestKey

_Inner = Callable[[Any, Any], Any]
_Parse = Callable[[bytes], Any]
_Read = Callable[[], Awaitable[Any]]
_Receive = Callable[[Any], Awaitable[Any]]

REQUEST_ID_KEY: Final = "wallaby-request-id"
"""Metadata of a call: what makes a repeat the same request."""

_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_SLOWED_MAX: Final = 1_000
_FLOW_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)


class Guard(grpc.aio.ServerInterceptor):
    """Lets calls in, or not."""

    def __init__(
        self,
        authenticator: Authenticator,
        trail: AuditTrail,
        limits: ApiLimits,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._authenticator = authenticator
        self._trail = trail
        self._now = now
        self._monotonic = monotonic
        self._rates = Rates(per_s=limits.calls_per_s, burst=limits.calls_burst, callers_max=limits.callers_max)
        self._failures = Rates(per_s=limits.failures_per_s, burst=limits.failures_burst, callers_max=limits.callers_max)
        self._slowed: set[str] = set()
        """Callers over their rate, whose refusals are recorded once only."""

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """The method's handler behind the guard."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        path = str(handler_call_details.method)
        rule = RULES.get(path)
        if rule is not None and rule.role is None:
            return handler
        return _guarded(handler, _Door(self, path, rule))

    async def admit(self, path: str, rule: Rule | None, read: _Read, context: Any) -> tuple[Call, Any]:
        """The call, let in, and its request; our error otherwise, which is recorded unless the caller is over its rate.

        ``read`` receives and parses the request. For whoever is let in, call `record`.
        """
        metadata = _grouped(context.invocation_metadata())
        address = _address(context.peer())
        principal: Principal | None = None
        try:
            principal = await self._identify(metadata, context, address)
            self._require_permission(path, rule, principal)
            request = await read()
            call = _call(path, rule, principal, metadata, request)
            self._trail.require_room()
        except TooManyCalls as error:
            name = principal.name if principal else address
            if name not in self._slowed:
                if len(self._slowed) >= _SLOWED_MAX:
                    self._slowed.clear()
                self._slowed.add(name)
                await self._refusal(path, principal, address, error)
            raise
        except WallabyError as error:
            await self._refusal(path, principal, address, error)
            raise
        self._slowed.discard(principal.name)
        self.expect()
        return call, request

    def expect(self) -> None:
        """One more `record` will come."""
        self._trail.expect()

    async def record(self, call: Call, rule: Rule, request: Any, answer: Any, code: grpc.StatusCode) -> None:
        """Note a call's outcome."""
        kind = CallKind.CHANGE if rule.is_change else CallKind.READ
        record = CallRecord(
            at=self._now(),
            principal=call.principal.name,
            role=call.principal.role,
            kind=kind,
            method=call.method,
            flow_id=_flow_id(request) or _flow_id(answer),
            code=code.name,
            request_id=call.request_id,
        )
        await self._trail.add(record, is_awaited=rule.is_change, is_expected=True)

    async def _identify(self, metadata: Mapping[str, list[str]], context: Any, address: str) -> Principal:
        # Failures of one caller never stop another with the same address: whoever has a valid token is let in.
        try:
            return await self._authenticator.identify(metadata.get("authorization", []), context.auth_context())
        except Unauthenticated:
            if self._failures.take(address, self._monotonic()):
                raise
            raise TooManyCalls("too many calls from this address were not let in", advice="Wait a minute") from None

    def _require_permission(self, path: str, rule: Rule | None, principal: Principal) -> None:
        if not self._rates.take(principal.name, self._monotonic()):
            raise TooManyCalls("too many calls", advice="Call more slowly")
        if rule is None or rule.role is None:
            raise PermissionDenied("no role may make this call", method=path.removeprefix("/"))
        if not principal.role.covers(rule.role):
            raise PermissionDenied(
                f"{principal.name} has the role {principal.role}, the call needs {rule.role}",
                advice="Ask an admin for a token of that role",
                method=path.removeprefix("/"),
            )

    async def _refusal(self, path: str, principal: Principal | None, address: str, error: WallabyError) -> None:
        if not self._trail.has_room:
            return
        record = CallRecord(
            at=self._now(),
            principal=principal.name if principal else address,
            role=principal.role if principal else None,
            kind=CallKind.REFUSED,
            method=path.removeprefix("/"),
            code=code_of(error).name,
        )
        await self._trail.add(record, is_awaited=False)


class _Door:
    """The guard at one method."""

    def __init__(self, guard: Guard, path: str, rule: Rule | None) -> None:
        self._guard = guard
        self._path = path
        self._rule = rule

    async def enter(self, read: _Read, context: Any) -> tuple[Call, Any]:
        try:
            return await self._guard.admit(self._path, self._rule, read, context)
        except Exception as error:  # noqa: BLE001 gRPC would send the text of any other exception to the client
            failure = as_ours(error, self._path)
        return await abort(context, failure)

    def expect(self) -> None:
        self._guard.expect()

    async def leave(self, call: Call, request: Any, answer: Any, context: Any, *, is_done: bool) -> None:
        assert self._rule is not None, "let in without a rule"
        code = context.code()
        if not isinstance(code, grpc.StatusCode) or (code is grpc.StatusCode.OK and not is_done):
            code = grpc.StatusCode.OK if is_done else grpc.StatusCode.CANCELLED
        await self._guard.record(call, self._rule, request, answer, code)


def _guarded(handler: Any, door: _Door) -> Any:
    """A handler like the given one, with the guard before it.

    It takes every request as a stream of bytes, on the wire there is no difference, and receives a single one itself.
    """
    match handler.request_streaming, handler.response_streaming:
        case False, False:
            inner = handler.unary_unary
        case False, True:
            inner = handler.unary_stream
        case True, False:
            inner = handler.stream_unary
        case _:
            inner = handler.stream_stream
    streams = handler.response_streaming
    make = grpc.stream_stream_rpc_method_handler if streams else grpc.stream_unary_rpc_method_handler
    wrap = _generating if inspect.isasyncgenfunction(inner) else _answering
    if handler.request_streaming:
        return make(wrap(inner, _all, door), handler.request_deserializer, handler.response_serializer)
    return make(wrap(inner, _single(handler.request_deserializer), door), None, handler.response_serializer)


def _single(parse: _Parse) -> _Receive:
    async def receive(stream: Any) -> Any:
        async for content in stream:
            try:
                return parse(content)
            except DecodeError:
                break
        raise ConfigError("the request is not a message of this method, or holds text that is not UTF-8")

    return receive


async def _all(stream: Any) -> Any:
    return stream


def _answering(inner: _Inner, receive: _Receive, door: _Door) -> _Inner:
    async def behaviour(stream: Any, context: Any) -> Any:
        call, request = await door.enter(lambda: receive(stream), context)
        CURRENT.set(call)
        answer, is_done = None, False
        try:
            answer = await inner(request, context)
            is_done = True
            return answer
        finally:
            await door.leave(call, request, answer, context, is_done=is_done)

    return behaviour


def _generating(inner: _Inner, receive: _Receive, door: _Door) -> _Inner:
    async def behaviour(stream: Any, context: Any) -> Any:
        call, request = await door.enter(lambda: receive(stream), context)
        CURRENT.set(call)
        # A watch may last for days, so it is recorded when it begins, and again only when it fails.
        await door.leave(call, request, None, context, is_done=True)
        try:
            async with aclosing(inner(request, context)) as answers:
                async for answer in answers:
                    yield answer
        except Exception:
            door.expect()
            await door.leave(call, request, None, context, is_done=False)
            raise

    return behaviour


def _call(path: str, rule: Rule | None, principal: Principal, metadata: Mapping[str, list[str]], request: Any) -> Call:
    assert rule is not None, "let in without a rule"
    method, request_id, key = path.removeprefix("/"), _request_id(metadata), None
    if request_id and rule.is_change and rule.keeps_answer:
        digest = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
        key = RequestKey(principal=principal.name, request_id=request_id, method=method, digest=digest)
    return Call(principal=principal, method=method, request_id=request_id, request=key)


def _grouped(metadata: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in metadata or ():
        if isinstance(value, str):
            found.setdefault(key, []).append(value)
    return found


def _request_id(metadata: Mapping[str, list[str]]) -> str:
    given = metadata.get(REQUEST_ID_KEY, [])
    if len(given) > 1 or (given and not _REQUEST_ID.fullmatch(given[0])):
        raise ConfigError("must be one word of 1 to 128 printable characters", field=REQUEST_ID_KEY)
    return given[0] if given else ""


def _address(peer: str) -> str:
    """``ipv4:10.0.0.1:4711`` without the port; ``unix:`` as it is."""
    return peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer[:100]


def _flow_id(message: Any) -> str:
    """The flow a request or answer is about, if it names one that could exist."""
    for names in (("flow_id",), ("flow", "id"), ("id",)):
        value = message
        for name in names:
            value = getattr(value, name, None)
        if isinstance(value, str) and _FLOW_ID.fullmatch(value):
            return value
    return ""
