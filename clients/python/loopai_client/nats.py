"""Loopai without HTTP: `pip install loopai-client[nats]`. On the bus, docs/reference/bus.md."""

import asyncio
import secrets
import time
import uuid
from typing import Any, Final, Literal, Self

import msgspec
import nats
import nats.errors
from nats.aio.client import Client as Connection

from loopai_client import errors, models, requests, retries

URL: Final = "nats://127.0.0.1:4222"
TIMEOUT_MS: Final = 30_000
"""What Loopai takes for `timeout_ms` where none is given."""
SPARE_S: Final = 5.0
"""How much longer than an execution may take its answer is waited for."""
STORED_S: Final = 10.0
"""How long storing one message may take."""
PUBLISHES_MAX: Final = 5
"""A publish without an acknowledgement is sent again, under its id: it is stored once."""

Lane = Literal["interactive", "bulk"]


class NatsClient:
    """Publishes and calls over NATS. Open it with `connect`, and use it in an `async with`."""

    def __init__(self, connection: Connection, tenant: str) -> None:
        self._connection = connection
        self._tenant = tenant

    @classmethod
    async def connect(
        cls, url: str = URL, *, tenant: str = "default", inbox_prefix: str = "_INBOX"
    ) -> Self:
        """*url* may have a user and a password. A secured bus asks for an *inbox_prefix*."""
        connection = await nats.connect(url, inbox_prefix=inbox_prefix.encode())
        return cls(connection, tenant)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._connection.close()

    async def publish(
        self,
        task: str,
        input: Any,  # noqa: A002 (the API's word)
        *,
        version: int | None = None,
        timeout_ms: int | None = None,
        routing_key: str | None = None,
        lane: Lane = "interactive",
        reply_to: str | None = None,
    ) -> str:
        """Queue an execution durably and return its id, which RECORDS and the HTTP API know it by.

        ApiError with BACKLOG_FULL where the queue is full; ConnectionFailed where nothing says
        that it is stored.
        """
        execution_id = _new_id()
        fields = requests.given(version=version, timeout_ms=timeout_ms, routing_key=routing_key)
        headers = {"Content-Type": requests.JSON, "Nats-Msg-Id": execution_id}
        if reply_to is not None:
            headers["Loopai-Reply-To"] = reply_to
        await self._store(
            f"loopai.v1.execute.{lane}.{_token(self._tenant)}.{_token(task)}",
            msgspec.json.encode({"id": execution_id, "input": input, **fields}),
            headers,
        )
        return execution_id

    async def execute(
        self,
        task: str,
        input: Any,  # noqa: A002 (the API's word)
        *,
        version: int | None = None,
        timeout_ms: int | None = None,
        routing_key: str | None = None,
        lane: Lane = "interactive",
    ) -> models.Execution:
        """Queue an execution durably and wait for its answer. DeadlineExceeded."""
        inbox = self._connection.new_inbox()
        # Before the publish: an answer that nobody hears is not kept.
        answers = await self._connection.subscribe(inbox)
        try:
            execution_id = await self.publish(
                task,
                input,
                version=version,
                timeout_ms=timeout_ms,
                routing_key=routing_key,
                lane=lane,
                reply_to=inbox,
            )
            try:
                answer = await answers.next_msg(timeout=_patience_s(timeout_ms))
            except nats.errors.TimeoutError as error:
                raise errors.DeadlineExceeded(f"no answer of execution {execution_id}") from error
        finally:
            await answers.unsubscribe()
        return msgspec.json.decode(answer.data, type=models.Execution)

    async def call(
        self,
        task: str,
        input: Any,  # noqa: A002 (the API's word)
        *,
        version: int | None = None,
        timeout_ms: int | None = None,
        routing_key: str | None = None,
        force_validation: bool | None = None,
    ) -> models.Execution:
        """Ask a gateway for the result. It has no idempotency key, so it is asked once."""
        fields = requests.given(
            version=version,
            timeout_ms=timeout_ms,
            routing_key=routing_key,
            force_validation=force_validation,
        )
        subject = f"loopai.v1.call.{_token(self._tenant)}.{_token(task)}"
        payload = msgspec.json.encode({"input": input, **fields})
        try:
            answer = await self._connection.request(
                subject, payload, timeout=_patience_s(timeout_ms)
            )
        except nats.errors.NoRespondersError as error:
            raise errors.ConnectionFailed("no gateway is there to answer calls") from error
        except nats.errors.TimeoutError as error:
            raise errors.DeadlineExceeded(f"no answer to a call of {task}") from error
        headers = answer.headers or {}
        if (status := headers.get("Nats-Service-Error-Code")) is not None:
            again = retries.retry_after_s(headers.get("Retry-After"))
            raise errors.of(int(status), answer.data, again)
        return msgspec.json.decode(answer.data, type=models.Execution)

    async def _store(self, subject: str, payload: bytes, headers: dict[str, str]) -> None:
        attempts = retries.Attempts(PUBLISHES_MAX, STORED_S)
        while True:
            try:
                return await self._publish(subject, payload, headers, attempts.remaining_s)
            except errors.LoopaiError as error:
                pause_s = attempts.pause_s(error)
            await asyncio.sleep(pause_s)

    async def _publish(
        self, subject: str, payload: bytes, headers: dict[str, str], within_s: float
    ) -> None:
        # The answer of JetStream is read here: its client would hide which error it was.
        try:
            answer = await self._connection.request(
                subject, payload, timeout=within_s, headers=headers
            )
        except (nats.errors.Error, OSError) as error:
            text = str(error) or type(error).__name__
            raise errors.ConnectionFailed(f"not acknowledged: {text}") from error
        told = msgspec.json.decode(answer.data, type=_Acknowledgement)
        if told.error is not None:
            full = told.error.code == 503  # noqa: PLR2004 (JetStream's, of a full stream)
            kind = errors.UnavailableError if full else errors.ServerError
            code = "BACKLOG_FULL" if full else "UNAVAILABLE"
            raise kind(told.error.code, code, told.error.description)


class _Refusal(msgspec.Struct, frozen=True):
    code: int = 0
    description: str = ""


class _Acknowledgement(msgspec.Struct, frozen=True):
    error: _Refusal | None = None


def _token(name: str) -> str:
    """*name* as one token of a subject. ValueError where it cannot be one."""
    if not name or any(each.isspace() or each in "*>" for each in name):
        raise ValueError(f"{name!r} is no name: letters, digits, `.`, `_` and `-`")
    return name.replace(".", "%2E")


def _patience_s(timeout_ms: int | None) -> float:
    return (timeout_ms or TIMEOUT_MS) / 1000 + SPARE_S


def _new_id() -> str:
    """A UUIDv7 (RFC 9562): its time says where in the log the record is."""
    number = time.time_ns() // 1_000_000 << 80 | secrets.randbits(80)
    number = number & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62
    return str(uuid.UUID(int=number))
