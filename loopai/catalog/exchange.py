"""Program texts over the bus: what the store of one site lacks, those of the others have."""

import contextlib
from collections.abc import AsyncIterator
from typing import Final

import nats.errors
import structlog
from nats.aio.msg import Msg

from loopai.catalog.stores import store
from streams import subjects
from streams.connection import Connection

log = structlog.get_logger()

ANSWER_S: Final = 2.0
"""How long the others are waited for: who has the text sends it at once, who has not is silent."""


@contextlib.asynccontextmanager
async def served(connection: Connection, own: store.Texts, site: str) -> AsyncIterator[None]:
    """Give others the texts that *own* has, while inside. One process of *site* answers each."""

    async def asked(message: Msg) -> None:
        try:
            code = await own.get(message.subject.rpartition(".")[2])
        except store.StoreError:
            return
        with contextlib.suppress(nats.errors.Error):  # who asked may have gone
            await message.respond(code.encode())

    subscription = await connection.client.subscribe(subjects.PROGRAM_ALL, queue=site, cb=asked)
    try:
        yield
    finally:
        with contextlib.suppress(nats.errors.Error):  # the connection has ended before
            await subscription.unsubscribe()


class Exchanged:
    """The texts of a site's own store, and from other sites those that it lacks or has damaged."""

    def __init__(self, own: store.Texts, connection: Connection) -> None:
        self._own = own
        self._connection = connection

    async def put(self, code: str) -> str:
        return await self._own.put(code)

    async def get(self, digest: str) -> str:
        try:
            return await self._own.get(digest)
        except (store.Missing, store.DigestMismatch) as error:
            lacking = error
        code = await self._fetched(digest)
        if code is None:
            raise lacking
        log.info("program taken over from another site", digest=digest, reason=str(lacking))
        try:
            await self._own.put(code)
        except store.StoreError as error:
            log.warning("program not kept", digest=digest, reason=str(error))
        return code

    async def _fetched(self, digest: str) -> str | None:
        try:
            answer = await self._connection.client.request(
                subjects.program(digest), b"", timeout=ANSWER_S
            )
            code = answer.data.decode()
        except (nats.errors.Error, TimeoutError, UnicodeDecodeError):
            return None
        if store.digest(code) != digest:
            log.warning("another site sent something else", digest=digest)
            return None
        return code
