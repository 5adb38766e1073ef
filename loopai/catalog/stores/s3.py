"""Program texts in a bucket of S3, or of what speaks its protocol. Needs `loopai[s3]`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final, Self

import aioboto3
import aiohttp
from botocore import exceptions
from botocore.config import Config

from loopai.catalog.stores import location, store
from streams.messages import ProgramArtifact

CONNECT_S_MAX: Final = 2.0
READ_S_MAX: Final = 5.0
ATTEMPTS_MAX: Final = 3
CALL_S_MAX: Final = 8.0
"""Of one call with all its attempts: an endpoint that accepts and never answers would take 16 s."""
BROKEN_OFF_S: Final = 0.1
"""Before an answer that broke off is asked for again."""
CONNECTIONS_MAX: Final = 32
CHUNK_BYTES: Final = 256 * 1024
_NO_SUCH: Final = ("NoSuchKey", "404", "NotFound")
_FAILURES: Final = (
    exceptions.BotoCoreError,
    exceptions.ClientError,
    aiohttp.ClientError,
    OSError,
    TimeoutError,
)


class S3Store:
    """Texts below a prefix of a bucket, by one client that is opened once."""

    def __init__(
        self, place: location.Bucket, client: Any, closing: contextlib.AsyncExitStack
    ) -> None:
        # Any: aioboto3 makes its clients at run time, without types.
        self.url = place.url
        self._bucket = place.bucket
        self._prefix = f"{place.prefix}/" if place.prefix else ""
        self._client = client
        self._closing = closing

    @classmethod
    async def connected(cls, place: location.Bucket) -> Self:
        """A store whose bucket answers. StoreError."""
        styles = {None: "auto", True: "path", False: "virtual"}
        config = Config(
            connect_timeout=CONNECT_S_MAX,
            read_timeout=READ_S_MAX,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS_MAX},
            max_pool_connections=CONNECTIONS_MAX,
            s3={"addressing_style": styles[place.path_style]},
            # Not every endpoint knows these newer checksums; ours is that of the text.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        closing = contextlib.AsyncExitStack()
        try:
            client = await closing.enter_async_context(
                aioboto3.Session().client(
                    "s3", endpoint_url=place.endpoint, region_name=place.region, config=config
                )
            )
            made = cls(place, client, closing)
            await made._check()
        except (exceptions.BotoCoreError, ValueError) as error:
            await closing.aclose()
            raise store.StoreError(str(error)) from error
        except BaseException:
            await closing.aclose()
            raise
        return made

    async def put(self, code: str) -> str:
        text = store.encoded(code)
        name = store.digest(code)
        # Read rather than asked for: what is there and damaged is to be replaced.
        with contextlib.suppress(store.Missing):
            if store.matches(await self._read(store.by_digest(name)), name):
                return name
        await self._write(store.by_digest(name), text)
        return name

    async def get(self, digest: str) -> str:
        key = store.by_digest(digest)
        return store.verified(await self._read(key), digest, self._named(key))

    async def shelve(self, tenant: str, task: str, artifact: ProgramArtifact) -> None:
        shelf = f"{store.shelf(tenant, task)}/{store.version_name(artifact.version)}"
        text = (await self.get(artifact.digest)).encode()
        # The metadata last: where they are, the program is.
        await self._put_where_other(f"{shelf}/{store.program_name(artifact)}", text)
        await self._put_where_other(f"{shelf}/metadata.json", store.metadata(artifact))

    async def shown(self, tenant: str, task: str, version: int) -> ProgramArtifact | None:
        folder = f"{store.shelf(tenant, task)}/{store.version_name(version)}"
        with contextlib.suppress(store.Missing):
            return store.described(await self._read(f"{folder}/metadata.json"))
        return None

    async def point(self, tenant: str, task: str, version: int | None) -> None:
        key = f"{store.shelf(tenant, task)}/active"
        if version is not None:
            await self._write(key, f"{store.version_name(version)}\n".encode())
            return
        async with self._asked("write", key):
            await self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)

    async def close(self) -> None:
        await self._closing.aclose()

    async def _check(self) -> None:
        try:
            async with asyncio.timeout(CALL_S_MAX):
                await self._client.head_bucket(Bucket=self._bucket)
        except _FAILURES as error:
            status = _status(error)
            if status == 404:  # noqa: PLR2004
                raise store.StoreError(f"there is no bucket {self._bucket!r}") from error
            if status in (400, 401, 403):
                raise store.StoreError(
                    f"refused ({status}): AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not "
                    "those of somebody who may list the bucket (s3:ListBucket)"
                ) from error
            raise store.StoreError(_reason(error)) from error

    async def _put_where_other(self, key: str, content: bytes) -> None:
        with contextlib.suppress(store.Missing):
            if await self._read(key) == content:
                return
        await self._write(key, content)

    async def _write(self, key: str, content: bytes) -> None:
        async with self._asked("write", key):
            await self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=content)

    async def _read(self, key: str) -> bytes:
        async with self._asked("read", key):
            for _ in range(ATTEMPTS_MAX - 1):
                # The client tries again where there is no answer, not where one breaks off.
                with contextlib.suppress(aiohttp.ClientPayloadError):
                    return await self._whole(key)
                await asyncio.sleep(BROKEN_OFF_S)
            return await self._whole(key)

    async def _whole(self, key: str) -> bytes:
        answer = await self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
        body = answer["Body"]
        async with body:
            found = bytearray()
            # Of an object that is too large no more than shows that it is not the right one.
            while len(found) <= store.TEXT_BYTES_MAX and (part := await body.read(CHUNK_BYTES)):
                found += part
            return bytes(found)

    @contextlib.asynccontextmanager
    async def _asked(self, what: str, key: str) -> AsyncIterator[None]:
        """A call of the endpoint, in time, whose failure is a StoreError."""
        try:
            async with asyncio.timeout(CALL_S_MAX):
                yield
        except _FAILURES as error:
            kind = store.Missing if _code(error) in _NO_SUCH else store.StoreError
            raise kind(f"cannot {what} {self._named(key)}: {_reason(error)}") from error

    def _named(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{key}"


def _code(error: Exception) -> str:
    return str(_answered(error).get("Error", {}).get("Code", ""))


def _status(error: Exception) -> int:
    return int(_answered(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _answered(error: Exception) -> dict[str, Any]:  # Any: what the endpoint said, as it said it
    found = error.response if isinstance(error, exceptions.ClientError) else {}
    return dict(found)


def _reason(error: Exception) -> str:
    if isinstance(error, exceptions.NoCredentialsError):
        return "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
    if isinstance(error, exceptions.ClientError):
        return f"the endpoint answered {_status(error)} {_code(error)}"
    if isinstance(error, TimeoutError):
        return f"no answer within {CALL_S_MAX:g} s"
    return str(error) or type(error).__name__
