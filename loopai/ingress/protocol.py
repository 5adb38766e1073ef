"""The hot path through HTTP: an execution that waits for its result, from bytes to bytes.

uvicorn's protocol parses it; instead of an ASGI application in a task of its own, callbacks take
the body to the bus and the record back to the socket, in one write. Whatever is not plain (a
header or a query that asks for more, a body that is refused, something that memory does not know)
goes the general way, through Starlette, which does all of it and says what is wrong (ADR 0014).
"""

import re
import time
from typing import Any, Final, cast

from starlette.requests import Request
from starlette.types import Scope
from uvicorn.protocols.http import httptools_impl

from loopai import errors, views
from loopai.ingress import (
    app,
    bodies,
    execute,
    identity,
    patience,
    problems,
    rates,
    services,
)
from streams.messages import ExecutionRecord

ROUTE: Final = "execute.execute"
"""What the metrics call it, whichever way a request takes."""
_PATH: Final = re.compile(rb"/api/v1/tasks/([A-Za-z0-9._-]+)/execute")
_STATUS: Final = httptools_impl.STATUS_LINE
_PLAIN: Final[dict[bytes, frozenset[bytes]]] = {
    b"accept": frozenset({b"*/*", b"application/json", b"application/json, text/plain, */*"}),
    b"content-encoding": frozenset(),
    b"content-type": frozenset({b"application/json", b"application/json; charset=utf-8"}),
    b"idempotency-key": frozenset(),
    b"origin": frozenset(),
    b"prefer": frozenset(),
    b"x-api-version": frozenset({b"1"}),
}
"""Headers that the general way looks at, and the values of each that ask for nothing special."""
_JSON: Final = b"content-type: application/json\r\n%s: %s\r\n" % app.API_VERSION


class _Unread:
    """For uvicorn, which wakes whoever waits for the body or the end of a request: nobody here."""

    def set(self) -> None:
        pass


class Call:
    """One execution on its way, a `dispatch.Waiter`; to uvicorn it looks like a request's cycle."""

    __slots__ = (
        "_protocol",
        "body",
        "disconnected",
        "execution_id",
        "keep_alive",
        "parent",
        "response_complete",
        "scope",
        "started",
        "task",
        "tenant",
    )
    message_event: Final = _Unread()

    def __init__(self, protocol: "Protocol", scope: Scope, task: str, parent: str) -> None:
        self._protocol = protocol
        self.scope = scope
        self.tenant = identity.of_scope(scope).tenant
        self.task = task
        self.parent = parent
        self.body: bytes | bytearray = b""
        self.execution_id = ""
        self.started = time.perf_counter()
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = True

    def stored(self) -> None:
        """Its record will come, or its time runs out."""

    def take(self, record: ExecutionRecord) -> None:
        body = bodies.encode(views.execution(record))
        self._protocol.answer(self, 200, b"%scontent-length: %d\r\n" % (_JSON, len(body)), body)

    def refused(self, error: errors.ApiError) -> None:
        self.failed(error)
        self._protocol.park()

    def failed(self, error: Exception) -> None:
        translated = problems.translate(error)
        self.scope["loopai.trace_id"] = problems.parent_trace_id(self.parent)
        answer = problems.response(Request(self.scope), translated)
        headers = [*answer.raw_headers, app.API_VERSION]
        head = b"".join(b"%s: %s\r\n" % header for header in headers)
        self._protocol.answer(self, answer.status_code, head, bytes(answer.body))


class Protocol(patience.Patient):
    """One client's connection; *shared* is closed by whoever made it. The rest is uvicorn's."""

    def __init__(self, shared: services.Services, **given: Any) -> None:  # any: uvicorn's own
        super().__init__(shared, **given)
        self._shared = shared
        self._call: Call | None = None
        """The request that is being read, if it may go the short way."""

    def on_headers_complete(self) -> None:
        self.head_is_here()
        if self.passes_over:
            return
        self._call = self._plain()
        if self._call is None:
            super().on_headers_complete()

    @property
    def holds_body(self) -> bool:
        return self._call is not None

    def on_body(self, body: bytes) -> None:
        self.got += len(body)
        call = self._call
        if call is None:
            super().on_body(body)
            return
        if not call.body:
            call.body = body
        else:
            # In place: copied again for each of a million chunks, it would keep a core for minutes.
            if isinstance(call.body, bytes):
                call.body = bytearray(call.body)
            call.body += body
        if len(call.body) > self._shared.settings.body_bytes_max:
            self._go_the_general_way(call)

    def on_message_complete(self) -> None:
        self.all_is_here()
        if self.passes_over:
            return
        call = self._call
        if call is not None:
            if execute.begin(self._shared, call):
                self._call, self.cycle = None, call  # type: ignore[assignment]  # looks like one
                self._answering = None if call.response_complete else call
                return
            self._go_the_general_way(call)
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        call = self._answering
        if isinstance(call, Call) and not call.response_complete:
            self._shared.dispatcher.forget(call.execution_id)
            self._count(call, problems.CLIENT_CLOSED_REQUEST)
        super().connection_lost(exc)

    def answer(self, call: Call, status: int, head: bytes, body: bytes) -> None:
        """Write the whole response at once: uvicorn's two writes are two system calls."""
        if call.disconnected:
            return
        parts = [_STATUS[status]]
        parts += [b"%s: %s\r\n" % header for header in self.server_state.default_headers]
        if rates.SCOPE_KEY in call.scope:
            parts += [b"%s: %s\r\n" % header for header in rates.headers(call.scope)]
        parts.append(head)
        if not call.keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"\r\n")
        parts.append(body)
        self.transport.write(b"".join(parts))
        call.response_complete = True
        if not call.keep_alive:
            self.transport.close()
        self.on_response_complete()
        self._count(call, status)

    def park(self) -> None:
        """Read no more of this connection until there is room."""
        if not self.transport.is_closing():
            self.flow.pause_reading()
            self._shared.dispatcher.parking.park(self)

    def leave_parking(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def _plain(self) -> Call | None:
        """The call whose headers these are; None where it asks for what is not done here."""
        path = _PATH.fullmatch(self.url)
        parser = self.parser
        if (
            path is None
            or parser.get_method() != b"POST"
            or parser.get_http_version() != "1.1"
            or not parser.should_keep_alive()
            or parser.should_upgrade()
            or self.expect_100_continue
            # The one before is not answered yet, or its answer not read.
            or (self.cycle is not None and not self.cycle.response_complete)
            or self.flow.write_paused
        ):
            return None
        scope = cast("Scope", self.scope)
        parent = ""
        for name, value in self.headers:
            plain = _PLAIN.get(name)
            if plain is not None and value not in plain:
                return None
            if name == b"traceparent":
                parent = value.decode("latin-1")
            elif name == b"content-length" and int(value) > self._shared.settings.body_bytes_max:
                return None  # refused there before it is sent
        if self._shared.callers is not None:
            caller = self._shared.callers.plain(self.headers)
            if caller is None or "execute" not in caller.scopes:
                return None
            scope[identity.SCOPE_KEY] = caller
        return Call(self, scope, path[1].decode("ascii"), parent)

    def _go_the_general_way(self, call: Call) -> None:
        self._call = None
        super().on_headers_complete()
        super().on_body(bytes(call.body))

    def _count(self, call: Call, status: int) -> None:
        seconds = time.perf_counter() - call.started
        self._shared.metrics.answered(ROUTE, "POST", status, seconds)
