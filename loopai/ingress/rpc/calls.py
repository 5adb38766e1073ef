"""Execute and Generate: one message in, one message out."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog
from google.protobuf import message as protobuf
from starlette.types import Scope

from loopai import errors, views
from loopai.ingress import execute, identity, problems, protocol, rates, services
from loopai.ingress.rpc import inward, loopai_pb2, messages, status
from streams.messages import ExecutionRecord

log = structlog.get_logger()

OK: Final = 200
_PLAIN_TASK: Final = re.compile(r"[A-Za-z0-9._-]+")
_VERSION: Final = b"x-api-version"

M = TypeVar("M", bound=protobuf.Message)
Made = TypeVar("Made")


class Calls:
    def __init__(self, shared: services.Services, inside: inward.Inside) -> None:
        self._shared = shared
        self._inside = inside

    async def execute(self, payload: bytes, context: inward.Context) -> bytes:
        return await answered(context, lambda: self._execute(payload, context))

    async def generate(self, payload: bytes, context: inward.Context) -> bytes:
        return await answered(context, lambda: self._generate(payload, context))

    async def _execute(self, payload: bytes, context: inward.Context) -> bytes:
        asked = parsed(loopai_pb2.ExecuteRequest, payload)
        given = inward.headers(context)
        body = self._body(asked, context)
        call = self._plain(asked, given, body)
        if call is not None and execute.begin(self._shared, call):
            return await self._awaited(call, context)
        scope = inward.scope(
            "POST",
            f"/api/v1/tasks/{inward.named('ExecuteRequest', 'task', asked.task)}/execute",
            given,
            query={"wait": asked.wait_s if asked.HasField("wait_s") else None},
            body=body,
            key=asked.idempotency_key if asked.HasField("idempotency_key") else None,
        )
        answer = await self._inside.ask(scope, body)
        found = messages.answered_execution(answer.require_ok())
        context.set_trailing_metadata(inward.told(answer.headers))
        return found

    async def _generate(self, payload: bytes, context: inward.Context) -> bytes:
        asked = parsed(loopai_pb2.GenerateRequest, payload)
        names = ("engine", "seed", "activate")
        body = b"{%b}" % inward.fields((name, _given(asked, name)) for name in names)[1:]
        scope = inward.scope(
            "POST",
            f"/api/v1/tasks/{inward.named('GenerateRequest', 'task', asked.task)}/generate",
            inward.headers(context),
            query={"wait": _given(asked, "wait_s")},
            body=body,
            key=asked.idempotency_key if asked.HasField("idempotency_key") else None,
        )
        answer = await self._inside.ask(scope, body)
        found = messages.operation(answer.require_ok())
        context.set_trailing_metadata(inward.told(answer.headers))
        return found

    def _body(self, asked: loopai_pb2.ExecuteRequest, context: inward.Context) -> bytes:
        """The body that HTTP would have, to the byte as our clients write it.

        So a key that is used over both is one request.
        """
        names = ("version", "timeout_ms", "routing_key", "force_validation")
        known = {name: getattr(asked, name) for name in names if asked.HasField(name)}
        if "timeout_ms" not in known and not asked.HasField("idempotency_key"):
            left_s = context.time_remaining()
            if left_s is not None:
                most_ms = self._shared.settings.timeout_ms
                known["timeout_ms"] = max(1, min(int(left_s * 1000), most_ms))
                known = {name: known[name] for name in names if name in known}
        told = inward.fields(known.items()) if known else b""
        return b'{"input":%b%b}' % (inward.document("input", asked.input), told)

    def _plain(
        self, asked: loopai_pb2.ExecuteRequest, given: inward.RawHeaders, body: bytes
    ) -> "_Call | None":
        """The call where it can go the short way (ADR 0014)."""
        if (
            asked.HasField("wait_s")
            or asked.HasField("idempotency_key")
            or _PLAIN_TASK.fullmatch(asked.task) is None
            or len(body) > self._shared.settings.body_bytes_max
        ):
            return None
        parent = ""
        for name, value in given:
            if name == _VERSION:
                return None
            if name == b"traceparent":
                parent = value.decode("latin-1")
        scope: Scope = {}
        if self._shared.callers is not None:
            caller = self._shared.callers.plain(given)
            if caller is None or "execute" not in caller.scopes:
                return None
            scope[identity.SCOPE_KEY] = caller
        return _Call(scope, asked.task, body, parent)

    async def _awaited(self, call: "_Call", context: inward.Context) -> bytes:
        code = problems.CLIENT_CLOSED_REQUEST
        try:
            record = await call.ended
            code = OK
            return messages.execution(views.execution(record))
        except errors.ApiError as error:
            code = error.status
            raise status.of_error(error, problems.parent_trace_id(call.parent)) from error
        finally:
            if not call.ended.done() or call.ended.cancelled():
                self._shared.dispatcher.forget(call.execution_id)
            if rates.SCOPE_KEY in call.scope:
                context.set_trailing_metadata(inward.told(rates.headers(call.scope)))
            seconds = time.perf_counter() - call.started
            self._shared.metrics.answered(protocol.ROUTE, "POST", code, seconds)


class _Call:
    """An execute.Call that is awaited by its `ended`."""

    __slots__ = ("body", "ended", "execution_id", "parent", "scope", "started", "task", "tenant")

    def __init__(self, scope: Scope, task: str, body: bytes, parent: str) -> None:
        self.scope = scope
        self.tenant = identity.of_scope(scope).tenant
        self.task = task
        self.body: bytes | bytearray = body
        self.parent = parent
        self.execution_id = ""
        self.started = time.perf_counter()
        self.ended: asyncio.Future[ExecutionRecord] = asyncio.get_running_loop().create_future()

    def stored(self) -> None:
        """Its record will come, or its time runs out."""

    def take(self, record: ExecutionRecord) -> None:
        if not self.ended.done():
            self.ended.set_result(record)

    def failed(self, error: Exception) -> None:
        if not self.ended.done():
            self.ended.set_exception(problems.translate(error))

    def refused(self, error: errors.ApiError) -> None:
        self.failed(error)


def parsed(kind: type[M], payload: bytes) -> M:
    """*payload* as a message of this *kind*. INVALID_REQUEST."""
    try:
        return kind.FromString(payload)
    except protobuf.DecodeError as error:
        name = kind.DESCRIPTOR.full_name
        raise inward.invalid("", f"the message is no {name}") from error


async def answered(context: inward.Context, make: Callable[[], Awaitable[Made]]) -> Made:
    """What *make* gives; its errors end the call with their status."""
    try:
        return await make()
    except status.Refused as refusal:
        told = refusal
    except Exception as error:
        trace_id = inward.trace_id(inward.headers(context))
        translated = problems.translate(error)
        if translated.code == "INTERNAL":
            log.exception("unexpected error", trace_id=trace_id)
        told = status.of_error(translated, trace_id)
    return await context.abort(
        told.code, told.detail, (*context.trailing_metadata(), *told.metadata)
    )


def _given(asked: loopai_pb2.GenerateRequest, name: str) -> object:
    return getattr(asked, name) if asked.HasField(name) else None
