"""One connection to the bus a process: it reconnects for ever, and says so when it is closed."""

import asyncio
import contextlib
import logging
import re
import urllib.parse
from collections.abc import Callable
from typing import Any, Final

import nats
import nats.aio.client
import nats.errors
import nats.js

from streams import acks, credentials, subjects, topology

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10.0
REQUEST_TIMEOUT_S = 5.0
RECONNECT_WAIT_S = 0.25
PING_INTERVAL_S = 10
PENDING_BYTES_MAX = 16 * 1024 * 1024
"""What may wait in memory to be written while the broker is away; then publishing fails."""
READS_MAX: Final = 4
"""Batches of stored messages on their way here at once; see `replay.read`."""
NONE: Final = credentials.Credentials()
"""Of those who need none, or have them in the URL."""


class BrokerUnavailable(Exception):  # noqa: N818 (STYLE: errors say what is the matter)
    """No usable broker at the URL. The message says why and how to mend it."""


class _Client(nats.aio.client.Client):
    """The client, but that a header block which it cannot parse does not end its read loop."""

    def identify(self, public: str) -> None:
        """Tell the broker whose signature it gets: nats-py leaves that to the package `nkeys`."""
        self._public_nkey = public

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        try:
            parsed: dict[str, str] | None = await super()._process_headers(headers)
        # As of nats-py 2.16: a block of nothing but `NATS/1.0`, and a status line not in UTF-8.
        except (IndexError, UnicodeDecodeError) as error:
            log.warning("message with unreadable headers: %s", error)
            return None
        return parsed


class Connection:
    """A connected client and its JetStream context. Whoever called `connect` closes it."""

    def __init__(self) -> None:
        self.client = _Client()
        self.jetstream: nats.js.JetStreamContext
        self.acks = acks.Acks(self.client)
        self.closed = asyncio.Event()
        """Set when the connection is gone for good: the process should exit."""
        self.on_reconnect: list[Callable[[], None]] = []
        self.reads = asyncio.Semaphore(READS_MAX)
        """To be held by whoever asks for a batch of stored messages, until it is here."""

    async def close(self) -> None:
        """Flush what is written, then close. Safe to call twice."""
        if not self.client.is_closed:
            # A broker that is away cannot be flushed to; there is nothing else left to do.
            with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
                await self.client.flush(timeout=2)
            with contextlib.suppress(OSError):
                await self.client.close()


async def connect(
    url: str,
    *,
    name: str,
    role: str = "",
    proof: credentials.Credentials = NONE,
    timeout_s: float = CONNECT_TIMEOUT_S,
) -> Connection:
    """Connect as *name* to *url*: one, or those of a cluster with commas between.

    *role* is what it may do (ADR 0023): its inboxes are where nobody of another role may read.
    BrokerUnavailable after *timeout_s*, where there is no JetStream, or with bad credentials.
    """
    servers = _servers(url)
    shown = redacted(url)
    connection = Connection()
    try:
        identity = _identity(connection, proof)
    except credentials.BadCredentials as error:
        raise BrokerUnavailable(f"credentials for the broker: {error}") from error

    async def reconnected() -> None:
        for listener in connection.on_reconnect:
            listener()

    async def closed() -> None:
        connection.closed.set()

    last: list[Exception] = []
    refusals: list[Exception] = []

    async def failed(error: Exception) -> None:
        # The client reports every failed attempt of its endless reconnecting: say each once. The
        # first connection's failure is our caller's to tell.
        news = not last or str(last[0]) != str(error)
        if connection.client.is_connected or (news and hasattr(connection, "jetstream")):
            log.warning("broker connection: %s", str(error) or type(error).__name__)
        last[:] = [error]
        if "authorization" in str(error).lower():
            refusals[:] = [error]

    try:
        async with asyncio.timeout(timeout_s):
            await connection.client.connect(
                servers,
                name=name,
                inbox_prefix=subjects.inbox(role),
                **identity,
                max_reconnect_attempts=-1,
                reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]  # a float works
                ping_interval=PING_INTERVAL_S,
                max_outstanding_pings=2,
                pending_size=PENDING_BYTES_MAX,
                reconnected_cb=reconnected,
                closed_cb=closed,
                error_cb=failed,
            )
            connection.jetstream = connection.client.jetstream(timeout=REQUEST_TIMEOUT_S)
            await connection.jetstream.account_info()
            await connection.acks.open()
    except (TimeoutError, nats.errors.Error, OSError, ValueError) as error:
        await connection.client.close()
        reason = str(last[0] if last else error) or type(error).__name__
        raise _unusable(shown, refusals, reason) from error
    if connection.client.max_payload < topology.MESSAGE_BYTES_MAX:
        await connection.close()
        raise BrokerUnavailable(
            f"the broker at {shown} takes messages of {connection.client.max_payload} bytes; "
            f"set `max_payload: {topology.MESSAGE_BYTES_MAX}` or more in its configuration"
        )
    return connection


def _unusable(shown: str, refusals: list[Exception], reason: str) -> BrokerUnavailable:
    """What the caller is told of a broker, *shown* to have refused us, or that did not answer."""
    if refusals:
        return BrokerUnavailable(
            f"the broker at {shown} does not let us in ({refusals[0]}); check the user and the "
            "password in LOOPAI_NATS_URL, or LOOPAI_NATS_CREDS or LOOPAI_NATS_NKEY"
        )
    return BrokerUnavailable(
        f"no NATS broker with JetStream at {shown} ({reason}); "
        "start one (`loopai dev`, or `nats-server -js`) or set LOOPAI_NATS_URL"
    )


def redacted(url: str) -> str:
    """*url* without the names and passwords in it."""
    # Up to the last `@`: a password may hold what it should have escaped.
    return re.sub(r"^([a-z]+://)?.*@", r"\1***@", url, flags=re.DOTALL)


def _identity(connection: Connection, proof: credentials.Credentials) -> dict[str, Any]:
    """What the client is given to prove who it is. credentials.BadCredentials."""
    found: dict[str, Any] = {}  # Any: of several types, each its own parameter of nats-py
    if (context := proof.tls()) is not None:
        found["tls"] = context
    if (signer := proof.signer()) is None:
        return found
    found["signature_cb"] = signer.sign
    if signer.jwt is not None:
        token = signer.jwt.encode()
        found["user_jwt_cb"] = lambda: token
    else:
        connection.client.identify(signer.public)
    return found


def _servers(urls: str) -> list[str]:
    servers = [url.strip() for url in urls.split(",")]
    for url in servers:
        try:
            parsed = urllib.parse.urlsplit(url)
            usable = bool(parsed.hostname) and parsed.port != 0 and bool(parsed.scheme)
        except ValueError:
            usable = False
        if not usable:
            raise BrokerUnavailable(
                f"{redacted(url)!r} is no URL of a broker; expected nats://HOST:PORT, such as "
                "nats://127.0.0.1:4222 (LOOPAI_NATS_URL), or several with commas between"
            )
    return servers
