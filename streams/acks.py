"""The broker's word on publishes, many at a time, through one inbox.

nats-py's own `publish` of JetStream wraps each word into a nested future and a dataclass: it takes
65 µs of processor time in place of 40, of four at a time 37 in place of 21.
"""

import asyncio
from typing import Final

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg


class Refusal(msgspec.Struct, frozen=True):
    """Why the broker did not store a message (JetStream's ApiError)."""

    code: int = 0
    """As in HTTP; 503 covers every way of being full."""
    err_code: int = 0
    description: str = ""


class Ack(msgspec.Struct, frozen=True):
    """The broker's word on one publish."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: Refusal | None = None


NO_STREAM: Final = Ack(error=Refusal(code=404, description="no stream captures the subject"))

_decoder = msgspec.json.Decoder(Ack)


class Acks:
    """Publishes on the connection of *client*, after `open`; one for each connection."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = ""
        self._number = 0
        self._waiting: dict[str, asyncio.Future[Ack]] = {}

    async def open(self) -> None:
        """Be ready to hear the broker's words; once, when *client* is connected."""
        inbox = self._client.new_inbox()
        await self._client.subscribe(
            f"{inbox}.*", cb=self._received, pending_msgs_limit=0, pending_bytes_limit=0
        )
        self._inbox = inbox

    async def publish(
        self, subject: str, payload: bytes, headers: dict[str, str], *, timeout_s: float
    ) -> Ack:
        """Publish and wait for the broker's word; TimeoutError, nats.errors.Error.

        What is published in some order is sent in that order. A message that no stream captures
        gets NO_STREAM.
        """
        self._number += 1
        reply = f"{self._inbox}.{self._number}"
        loop = asyncio.get_running_loop()
        word: asyncio.Future[Ack] = loop.create_future()
        self._waiting[reply] = word
        timer = loop.call_later(timeout_s, _give_up, word)
        try:
            await self._client.publish(subject, payload, reply=reply, headers=headers)
            return await word
        finally:
            timer.cancel()
            del self._waiting[reply]

    async def _received(self, message: Msg) -> None:
        word = self._waiting.get(message.subject)
        if word is None or word.done():
            return
        if message.headers and message.headers.get("Status") == "503":
            word.set_result(NO_STREAM)
            return
        try:
            word.set_result(_decoder.decode(message.data))
        except msgspec.DecodeError as error:
            word.set_exception(error)


def _give_up(word: asyncio.Future[Ack]) -> None:
    if not word.done():
        word.set_exception(TimeoutError("the broker did not answer"))
