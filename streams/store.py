"""Typed KV: compare-and-set for what has one truth, and watch for who must hear of a change."""

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator
from typing import Generic, TypeVar

import msgspec
import nats.errors
import nats.js.api as js
import nats.js.errors
from nats.aio.msg import Msg

from streams import codec, messages, pull, topology
from streams.connection import Connection

M = TypeVar("M", bound=messages.Message)

log = logging.getLogger(__name__)

WATCH_SLOTS = 512
WATCH_GONE_S = 30.0
"""The broker forgets a watch that nobody has pulled from for so long."""


class Conflict(Exception):  # noqa: N818 (it says what is the matter)
    """Somebody else created or changed the key first."""


class StoreUnavailable(Exception):  # noqa: N818 (it says what is the matter)
    """The broker did not answer."""


class Entry(msgspec.Struct, Generic[M], frozen=True):
    value: M
    revision: int


class Change(msgspec.Struct, Generic[M], frozen=True):
    """A key was set, or deleted where `value` is None."""

    key: str
    value: M | None
    revision: int


class Bucket(Generic[M]):
    """The bucket of *spec*, read and written as messages of *codec*.

    Every method raises StoreUnavailable when the broker does not answer.
    """

    def __init__(
        self, connection: Connection, spec: topology.Bucket, value: codec.Codec[M]
    ) -> None:
        self._connection = connection
        self._spec = spec
        self._codec = value
        self._prefix = f"$KV.{spec.name}."

    async def get(self, key: str) -> Entry[M] | None:
        """The value of *key*, or None. codec.Undecodable when it is of another make."""
        try:
            message = await self._connection.jetstream.get_last_msg(
                self._spec.stream, self._prefix + key
            )
        except nats.js.errors.NotFoundError:
            return None
        except (nats.errors.Error, TimeoutError) as error:
            raise StoreUnavailable(f"{self._spec.name}: {error or type(error)}") from error
        if _is_deleted(message.headers):
            return None
        return Entry(self._codec.decode(message.data or b""), message.seq or 0)

    async def create(self, key: str, value: M) -> int:
        """Set *key* if it is not there; the revision. Conflict when it is."""
        try:
            return await self._set(key, value, 0)
        except Conflict:
            revision = await self._deleted_revision(key)
            if revision is None:
                raise
            return await self._set(key, value, revision)

    async def update(self, key: str, value: M, revision: int) -> int:
        """Set *key* if it still is at *revision*; the new revision. Conflict when it is not."""
        return await self._set(key, value, revision)

    async def put(self, key: str, value: M) -> int:
        """Set *key*, whatever it was; the revision."""
        return await self._publish(key, self._codec.encode(value), {})

    async def delete(self, key: str, revision: int | None = None) -> None:
        """Delete *key*, if it still is at *revision* where one is given (else Conflict)."""
        headers = {"KV-Operation": "DEL"}
        if revision is not None:
            headers[js.Header.EXPECTED_LAST_SUBJECT_SEQUENCE] = str(revision)
        await self._publish(key, b"", headers)

    async def last_revision(self) -> int:
        """The newest revision of the whole bucket: a reader that has seen it has seen all."""
        try:
            info = await self._connection.jetstream.stream_info(self._spec.stream)
        except (nats.errors.Error, TimeoutError) as error:
            raise StoreUnavailable(f"{self._spec.name}: {error or type(error)}") from error
        return info.state.last_seq

    async def watch(self, keys: str = ">") -> AsyncGenerator[Change[M] | None, None]:
        """Every key that matches as it is now, then None, then every change, for ever.

        Survives reconnects and a broker that forgot the watch: it goes on after the last revision
        seen. A value that cannot be decoded reads as deleted.
        """
        seen = 0
        caught_up = False
        opened = False
        while True:
            watching = pull.Pull(
                self._connection, self._spec.stream, name := _name(), slots=WATCH_SLOTS
            )
            pending = await self._watch_from(name, keys, seen, insist=opened)
            opened = True
            if pending == 0 and not caught_up:
                caught_up = True
                yield None
            await watching.start()
            expected = 1
            try:
                while True:
                    message = (await watching.next()).message
                    watching.release()
                    metadata = message.metadata
                    if metadata.sequence.consumer != expected:
                        break
                    expected += 1
                    seen = metadata.sequence.stream
                    change = self._change(message, seen)
                    yield change
                    if metadata.num_pending == 0 and not caught_up:
                        caught_up = True
                        yield None
            except pull.ConsumerGone:
                continue
            finally:
                await watching.stop()

    async def _watch_from(self, name: str, keys: str, seen: int, *, insist: bool) -> int:
        """Make the consumer behind a watch; how many messages it will deliver first.

        With *insist* it tries until the client is closed, else StoreUnavailable at the first error.
        """
        start = (
            {"deliver_policy": js.DeliverPolicy.BY_START_SEQUENCE, "opt_start_seq": seen + 1}
            if seen
            else {"deliver_policy": js.DeliverPolicy.LAST_PER_SUBJECT}
        )
        config = js.ConsumerConfig(
            name=name,
            filter_subject=self._prefix + keys,
            ack_policy=js.AckPolicy.NONE,
            inactive_threshold=WATCH_GONE_S,
            num_replicas=1,
            mem_storage=True,
            **start,
        )
        while True:
            try:
                info = await self._connection.jetstream.add_consumer(self._spec.stream, config)
            except (nats.errors.Error, TimeoutError) as error:
                if self._connection.client.is_closed or not insist:
                    raise StoreUnavailable(f"{self._spec.name}: {error or type(error)}") from error
                await asyncio.sleep(pull.GONE_WAIT_S)
            else:
                return info.num_pending or 0

    def _change(self, message: Msg, revision: int) -> Change[M]:
        key = message.subject.removeprefix(self._prefix)
        if _is_deleted(message.headers):
            return Change(key, None, revision)
        try:
            return Change(key, self._codec.decode(message.data), revision)
        except codec.Undecodable as error:
            log.warning("%s.%s is of another make: %s", self._spec.name, key, error)
            return Change(key, None, revision)

    async def _set(self, key: str, value: M, revision: int) -> int:
        return await self._publish(
            key,
            self._codec.encode(value),
            {js.Header.EXPECTED_LAST_SUBJECT_SEQUENCE: str(revision)},
        )

    async def _publish(self, key: str, payload: bytes, headers: dict[str, str]) -> int:
        try:
            stored = await self._connection.jetstream.publish(
                self._prefix + key, payload, headers=headers
            )
        except nats.js.errors.APIError as error:
            if error.err_code in (10071, 10164):  # wrong last sequence, in its two spellings
                raise Conflict(key) from error
            raise StoreUnavailable(f"{self._spec.name}: {error.description}") from error
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            raise StoreUnavailable(f"{self._spec.name}: {error or type(error)}") from error
        return stored.seq

    async def _deleted_revision(self, key: str) -> int | None:
        """The revision of the marker that *key* was deleted with; None when it was not."""
        try:
            message = await self._connection.jetstream.get_last_msg(
                self._spec.stream, self._prefix + key
            )
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError):
            return None
        return message.seq if _is_deleted(message.headers) else None


def _is_deleted(headers: dict[str, str] | None) -> bool:
    """A delete marker of a client, or one that the broker placed when the key ran out."""
    return headers is not None and ("KV-Operation" in headers or "Nats-Marker-Reason" in headers)


def _name() -> str:
    return f"watch-{uuid.uuid4().hex}"
