"""The bounds of what a client sends: how much, and how long it may take; and what breaks them.

uvicorn has none of them: a head or a trailer without end would fill the memory, and who sends a
byte now and then would hold a connection for ever.
"""

import asyncio
import enum
from typing import Any, Final, cast

import httptools
from starlette.requests import Request
from starlette.types import Scope
from uvicorn.protocols.http import httptools_impl

from loopai import errors
from loopai.ingress import app, bodies, problems, services

HEAD_BYTES_MAX: Final = 32 * 1024
"""Request line and headers: as much as nginx takes with its four lines of 8 KiB."""
READ_BYTES: Final = 256 * 1024
"""What uvloop reads at once: a head that is not whole may have come behind other requests."""
CODING_BYTES: Final = 8
"""Around each byte of a body: chunks of one byte have five more, and some room."""
LINGER_S: Final = 5.0
"""How long what still comes is dropped behind an answer: to close at once would take it away from
who has not read it yet (RFC 9112, section 9.6)."""


class Coming(enum.Enum):
    """Of what a part has come and the rest is to come."""

    NOTHING = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()


class Patient(httptools_impl.HttpToolsProtocol):
    """uvicorn's protocol within bounds. Bodies that handlers read have theirs in `bodies`."""

    def __init__(self, shared: services.Services, **given: Any) -> None:  # any: uvicorn's own
        super().__init__(**given)
        self._shared = shared
        self._coming = Coming.NOTHING
        self._piece = self._fed = self.got = 0
        """Bytes of what is being parsed; of the head or body before it; of the body itself."""
        self._due: float | None = None
        """When patience with what is coming ends, by the loop's clock."""
        self._watch: asyncio.TimerHandle | None = None
        self._wrong: errors.ApiError | None = None
        """What a callback of the parser found."""
        self._refused = False
        """Whether the last answer is given: what still comes is dropped."""
        self._answering: Any = None  # any: a cycle of uvicorn's, or what looks like one
        """The request whose answer is next; `cycle` is the one that came last."""

    @property
    def passes_over(self) -> bool:
        """Whether the request asks for a protocol that is not spoken here.

        It is then answered as if it did not (RFC 9110, section 7.8). Java's client asks for HTTP/2
        with the first request of each connection.
        """
        return (
            self.parser.should_upgrade()
            and not self._should_upgrade()
            and any(name == b"upgrade" for name, _ in self.headers)
        )

    @property
    def holds_body(self) -> bool:
        """Whether the body is read here, and by no handler."""
        return False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's
        super().connection_made(transport)
        self._expect(self._shared.settings.receive_s)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._piece = len(data)
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            elif self.passes_over:
                self._parse_without_upgrade(data[upgrade.args[0] :])
                return
        if self._coming is Coming.NOTHING and not self._refused:
            self._due = None
        elif not self._refused:
            self._more_is_to_come()

    def handle_websocket_upgrade(self) -> None:
        self._coming = Coming.NOTHING
        super().handle_websocket_upgrade()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._coming = Coming.HEAD
        self._fed, self.got, self._due = 0, 0, None

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if not self.pipeline:
            self._answering = self.cycle

    def head_is_here(self) -> None:
        """To be called with the headers complete. Ends the parsing where they are too large."""
        if self._fed + self._piece > HEAD_BYTES_MAX and self._head_bytes() > HEAD_BYTES_MAX:
            self._wrong = _head_too_large()
            raise self._wrong
        self._coming = Coming.BODY
        self._fed, self._due = 0, None

    def all_is_here(self) -> None:
        """To be called with the message complete."""
        self._coming = Coming.NOTHING

    def on_response_complete(self) -> None:
        self._answering = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()
        if self._coming is Coming.BODY:
            self._expect(LINGER_S)

    def send_400_response(self, msg: str) -> None:
        """uvicorn's, for what it cannot parse: *msg* says no more than that."""
        self._refuse(self._wrong or errors.ApiError("MALFORMED_REQUEST", msg))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if self._answering is not None:
            # uvicorn tells the one that came last.
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)

    def _parse_without_upgrade(self, rest: bytes) -> None:
        """Begin the request again, which the parser takes to end with its head."""
        line = b"%s %s HTTP/%s\r\n" % (
            self.parser.get_method(),
            self.url,
            self.parser.get_http_version().encode(),
        )
        fields = [b"%s: %s\r\n" % each for each in self.headers if each[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"%s%s\r\n%s" % (line, b"".join(fields), rest))

    def _more_is_to_come(self) -> None:
        """What has begun is not all here yet: see that it has an end, in bytes and in time."""
        self._fed += self._piece
        if self._coming is Coming.HEAD:
            if self._fed > HEAD_BYTES_MAX + READ_BYTES:
                self._refuse(_head_too_large())
            elif self._due is None:
                self._expect(self._shared.settings.receive_s)
        elif self._fed > HEAD_BYTES_MAX + READ_BYTES + CODING_BYTES * self.got:
            # Trailers without an end, or a chunk's extensions: nothing that anybody reads.
            self._refuse(_head_too_large())
        elif self._due is None and self.holds_body:
            self._expect(self._shared.settings.receive_s)

    def _expect(self, seconds: float) -> None:
        """Be patient for *seconds*; one timer a connection looks now and then."""
        self._due = self.loop.time() + seconds
        if self._watch is not None and seconds < self._shared.settings.receive_s:
            self._watch.cancel()
            self._watch = None
        if self._watch is None:
            self._watch = self.loop.call_at(self._due, self._look)

    def _look(self) -> None:
        self._watch = None
        if self._due is None or self.transport.is_closing():
            return
        if self.holds_body and self._coming is Coming.BODY:
            # As `bodies.read` has it of the general way; `_due` is that of an empty body.
            due = self._due + self.got / bodies.BYTES_A_SECOND
        else:
            due = self._due
        if self.loop.time() < due:
            self._watch = self.loop.call_at(due, self._look)
        else:
            self._due = None
            self._late()

    def _late(self) -> None:
        answered = self.cycle is None or self.cycle.response_complete
        if self._refused or (answered and self._coming is Coming.NOTHING):
            self.transport.close()
        elif self.holds_body or (answered and self._coming is Coming.HEAD):
            self._refuse(bodies.too_slow(self._shared.settings.receive_s))
        elif answered:
            self.transport.close()
        elif self._coming is Coming.HEAD:
            # Behind one that is being answered, which is not to be taken from its caller.
            self._expect(self._shared.settings.receive_s)

    def _refuse(self, error: errors.ApiError) -> None:
        """Answer with *error*, the last word on this connection; what comes is dropped."""
        self._refused = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            is_its_own = self._coming is Coming.BODY and not self.pipeline
            if not is_its_own or getattr(cycle, "response_started", True):
                self.transport.close()
                return
            cycle.disconnected = True
            cycle.message_event.set()
        request = Request(cast("Scope", self.scope or {"type": "http", "headers": []}))
        answer = problems.response(request, error)
        headers = [*self.server_state.default_headers, *answer.raw_headers, app.API_VERSION]
        head = b"".join(
            b"%s: %s\r\n" % each for each in headers if each[0].lower() != b"connection"
        )
        self.transport.write(
            b"%s%sconnection: close\r\n\r\n%s"
            % (httptools_impl.STATUS_LINE[answer.status_code], head, bytes(answer.body))
        )
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._unset_keepalive_if_required()
        self._expect(LINGER_S)
        self._shared.metrics.answered("none", "other", error.status, 0.0)

    def _head_bytes(self) -> int:
        """Of the request that is being parsed, as it was written but for optional spaces."""
        lines = sum(len(name) + len(value) + len(": \r\n") for name, value in self.headers)
        return len(self.url) + lines


def _head_too_large() -> errors.ApiError:
    return errors.ApiError(
        "HEADERS_TOO_LARGE",
        f"request line and headers have more than {HEAD_BYTES_MAX} bytes",
        limit_bytes=HEAD_BYTES_MAX,
    )
