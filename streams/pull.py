"""One long-lived inbox that keeps a pull consumer's messages coming; `fetch()` is known to stall.

A pull request asks for as many messages as there are free slots; the next one is sent when half of
what was asked for has come. Idle heartbeats prove that the request is alive on the broker; two
missed ones, or a reconnect, drop the inbox with whatever was outstanding and start afresh.
"""

import asyncio
import json
import logging
import time
from typing import Final, NamedTuple

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from streams import ending, topology
from streams.connection import Connection

log = logging.getLogger(__name__)

EXPIRES_S: Final = 30.0
"""How long the broker keeps one pull request."""
HEARTBEAT_S: Final = 2.0
"""How often the broker says that it still has it."""
SILENCE_S: Final = 2 * HEARTBEAT_S
"""Silence after which the request is taken for lost."""
ASLEEP_S: Final = topology.ACK_WAIT_S / 2
"""A loop that did not turn for so long was stopped: what it holds may be somebody else's by now."""
if ASLEEP_S < 2 * HEARTBEAT_S:
    raise topology.TopologyError("a loop that waits for a heartbeat must not count as asleep")
GONE_WAIT_S: Final = 0.5
"""How long to wait before asking for a consumer that was not there."""


class ConsumerGone(Exception):  # noqa: N818 (it says what is the matter)
    """The broker does not have this consumer, or JetStream is away; `next` may be called again."""


class Pulled(NamedTuple):
    message: Msg
    waking: int
    """How often the loop had been asleep when the message came; see `Pull.is_current`."""


class Pull:
    """Messages of one pull consumer, at most *slots* in hand at a time.

    `next` gives the next message; `release` frees its slot when it is done with. Start with
    `start`, end with `stop`.
    """

    def __init__(self, connection: Connection, stream: str, consumer: str, *, slots: int) -> None:
        self._connection = connection
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._consumer = consumer
        self._slots = slots
        self._in_hand = 0
        self._outstanding = 0
        self._last_heard = 0.0
        self._queue: asyncio.Queue[Pulled | ConsumerGone] = asyncio.Queue()
        self._wake = asyncio.Event()
        self._restart = False
        self._waking = 0
        self._turned = time.monotonic()
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._connection.on_reconnect.append(self._reconnected)
        await self._open_inbox()
        self._task = asyncio.create_task(self._keep_asking(), name=f"pull {self._consumer}")

    async def next(self) -> Pulled:
        """The next message. ConsumerGone each time that the broker says it has no such consumer."""
        pulled = await self._queue.get()
        if isinstance(pulled, ConsumerGone):
            raise pulled
        return pulled

    def is_current(self, pulled: Pulled) -> bool:
        """Whether this process was awake all the time since *pulled* came.

        Messages also wait in the socket of a stopped process: no clock of ours tells for how long.
        """
        if pulled.waking != self._waking:
            return False
        # Once stopped, nothing can come any more while we sleep.
        return self._task is None or time.monotonic() - self._turned < ASLEEP_S

    def release(self) -> None:
        """Say that one message is done with, so that another may come."""
        self._in_hand -= 1
        self._wake.set()

    async def stop(self) -> list[Msg]:
        """Ask for nothing more; the messages that came and were not taken with `next`."""
        if self._task is None:
            return []
        self._connection.on_reconnect.remove(self._reconnected)
        self._turn()
        await ending.end(self._task)
        self._task = None
        await self._close_inbox()
        left = [self._queue.get_nowait() for _ in range(self._queue.qsize())]
        return [pulled.message for pulled in left if isinstance(pulled, Pulled)]

    def _reconnected(self) -> None:
        self._restart = True
        self._wake.set()

    async def _open_inbox(self) -> None:
        self._inbox = self._connection.client.new_inbox()
        waking = self._waking

        async def received(message: Msg) -> None:
            self._received(Pulled(message, waking))

        self._subscription = await self._connection.client.subscribe(
            self._inbox, cb=received, pending_msgs_limit=0, pending_bytes_limit=0
        )
        self._outstanding = 0
        self._last_heard = time.monotonic()

    async def _close_inbox(self) -> None:
        if self._subscription is not None and not self._connection.client.is_closed:
            await self._subscription.unsubscribe()
        self._subscription = None

    async def _keep_asking(self) -> None:
        while True:
            self._turn()
            # While the broker is away the client buffers a new inbox but not its end: the broker
            # would deliver to inboxes that nobody reads. The reconnect starts afresh.
            if self._connection.client.is_connected:
                await self._ask_afresh()
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    def _turn(self) -> None:
        """Notice when the loop has been asleep since the last turn."""
        now = time.monotonic()
        if now - self._turned > ASLEEP_S:
            log.warning("pull %s: asleep for %.1f s", self._consumer, now - self._turned)
            self._waking += 1
            self._restart = True
        self._turned = now

    async def _ask_afresh(self) -> None:
        """Ask, with a new inbox where the old one's requests may be lost."""
        silent = self._outstanding and time.monotonic() - self._last_heard > SILENCE_S
        if self._restart or silent:
            self._restart = False
            await self._close_inbox()
            await self._open_inbox()
        try:
            await self._ask()
        except nats.errors.Error as error:
            log.warning("pull %s: %s", self._consumer, error)

    async def _ask(self) -> None:
        free = self._slots - self._in_hand - self._outstanding
        if free <= 0 or self._outstanding > self._slots // 2:
            return
        request = {
            "batch": free,
            "expires": int(EXPIRES_S * 1e9),
            "idle_heartbeat": int(HEARTBEAT_S * 1e9),
        }
        if self._outstanding == 0:
            self._last_heard = time.monotonic()
        self._outstanding += free
        await self._connection.client.publish(
            self._subject, json.dumps(request).encode(), reply=self._inbox
        )

    def _received(self, pulled: Pulled) -> None:
        message = pulled.message
        self._last_heard = time.monotonic()
        status = message.headers.get("Status") if message.headers else None
        if status is None or message.reply:
            self._outstanding -= 1
            self._in_hand += 1
            self._queue.put_nowait(pulled)
            self._wake.set()
        elif status != "100":
            self._ended(status, message.headers or {})

    def _ended(self, status: str, headers: dict[str, str]) -> None:
        """A pull request is over: 408 expired, 409 for a reason, 503 nobody there to serve it."""
        deleted = status == "409" and "consumer deleted" in headers.get("Description", "").lower()
        if deleted or status == "503":
            self._outstanding = 0
            self._queue.put_nowait(ConsumerGone(self._consumer))
            asyncio.get_running_loop().call_later(GONE_WAIT_S, self._wake.set)
            return
        unserved = int(headers.get("Nats-Pending-Messages", self._outstanding))
        self._outstanding = max(0, self._outstanding - unserved)
        self._wake.set()
