"""The HTTP API as the commands use it: answers as Structs, problems as one readable Failure."""

import os
from collections.abc import AsyncGenerator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar
from urllib.parse import quote

import msgspec

from loopai.cli import failure
from loopai.errors import FieldError
from streams import messages

if TYPE_CHECKING:
    import httpx

NULL: Final = msgspec.Raw(b"null")
ANSWER_S_MAX: Final = 60.0
"""How long an answer may take beyond what the request itself asks to wait."""
PORT_MAX: Final = 65_535
KEY_VARIABLE: Final = "LOOPAI_API_KEY"
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

Answer = TypeVar("Answer")


class Problem(msgspec.Struct, frozen=True):
    """A problem document (RFC 9457), as far as a person at a terminal needs it."""

    title: str = ""
    detail: str = ""
    code: str = ""
    errors: tuple[FieldError, ...] = ()


class TaskList(msgspec.Struct, frozen=True):
    tasks: tuple[messages.TaskHead, ...]


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of execute. `output` is `null` where the program gave none."""

    id: str
    status: str
    output: msgspec.Raw = NULL
    error: messages.ExecutionError | None = None
    stdout: str = ""


class BatchItem(msgspec.Struct, frozen=True):
    id: str
    input: msgspec.Raw


class BatchResult(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    execution_id: str | None
    """None: it was refused before it became an execution."""
    status: str
    output: msgspec.Raw = NULL
    error_message: str | None = None


class Batch(msgspec.Struct, frozen=True):
    results: tuple[BatchResult, ...]


class Api:
    """One keep-alive connection to the API at *url*. Use it as `async with`.

    Without a *key* it uses that of the environment, if there is one.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        import httpx  # noqa: PLC0415 (a tenth of a second, which `loopai --help` need not wait)

        self._url = url
        base = parsed(url)
        headers = credentials(key)
        try:
            # No proxy leads to this machine, and one that is set for others must not be asked.
            self._client = httpx.AsyncClient(
                base_url=base,
                headers=headers,
                timeout=ANSWER_S_MAX,
                trust_env=base.host not in LOOPBACK,
            )
        except (ImportError, OSError, ValueError) as error:
            raise failure.Failure(
                f"the proxy or the certificates set in the environment cannot be used: {error}"
            ) from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def get(self, path: str, *, wait_s: float | None = None) -> bytes:
        return await self._send("GET", path, wait_s=wait_s)

    async def post(
        self, path: str, body: bytes, *, wait_s: float | None = None, answer_s: float = 0.0
    ) -> bytes:
        """*answer_s*: how much longer the answer may take, where the request does not say it."""
        return await self._send("POST", path, body, wait_s=wait_s, answer_s=answer_s)

    async def delete(
        self, path: str, *, wait_s: float | None = None, revision: int | None = None
    ) -> bytes:
        return await self._send("DELETE", path, wait_s=wait_s, revision=revision)

    async def put(self, path: str, body: bytes) -> bytes:
        return await self._send("PUT", path, body)

    async def patch(self, path: str, body: bytes, *, revision: int | None = None) -> bytes:
        """*revision*: refuse it where the resource has another by now."""
        return await self._send("PATCH", path, body, revision=revision)

    async def lines(self, path: str, headers: Mapping[str, str]) -> AsyncGenerator[str, None]:
        """The lines of an answer that goes on, as they come; where it breaks off, they end."""
        import httpx  # noqa: PLC0415 (see above)

        begun = False
        try:
            async with self._client.stream("GET", path, headers=headers) as answer:
                begun = True
                if answer.is_error:
                    raise failure.Failure(explain(answer.status_code, await answer.aread()))
                async for line in answer.aiter_lines():
                    yield line
        except httpx.HTTPError as error:
            if not begun:
                raise self._unanswered(error, f"GET {path}") from error

    async def _send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        wait_s: float | None = None,
        answer_s: float = 0.0,
        revision: int | None = None,
    ) -> bytes:
        import httpx  # noqa: PLC0415 (see above)

        headers = {"Content-Type": "application/json"} if body is not None else {}
        if revision is not None:
            headers["If-Match"] = f'"{revision}"'
        try:
            answer = await self._client.request(
                method,
                path,
                content=body,
                headers=headers,
                params={"wait": f"{wait_s:g}"} if wait_s is not None else None,
                timeout=ANSWER_S_MAX + (wait_s or 0) + answer_s,
            )
        except httpx.HTTPError as error:
            raise self._unanswered(error, f"{method} {path}") from error
        if answer.is_error:
            raise failure.Failure(explain(answer.status_code, answer.content))
        return answer.content

    def _unanswered(self, error: "httpx.HTTPError", what: str) -> failure.Failure:
        import httpx  # noqa: PLC0415 (see above)

        if isinstance(error, (httpx.ConnectError, httpx.UnsupportedProtocol)):
            return nobody(self._url)
        reason = str(error) or type(error).__name__
        return failure.Failure(f"{self._url} did not answer {what}: {reason}")


def parsed(url: str) -> "httpx.URL":
    """*url* as that of an API. Failure."""
    import httpx  # noqa: PLC0415 (see above)

    try:
        base = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise failure.Failure(f"{url!r} is not a URL: {error}") from error
    if base.scheme not in {"http", "https"} or not base.host or (base.port or 0) > PORT_MAX:
        raise failure.Failure(f"{url!r} is not a URL such as http://127.0.0.1:8080")
    return base


def nobody(url: str) -> failure.Failure:
    return failure.Failure(f"no Loopai at {url}; start one with `loopai dev` or set LOOPAI_URL")


def task_path(task: str, *more: str | int) -> str:
    """The path of *task*, a name or an id of any spelling, and of what lies below it."""
    return "/".join(["/api/v1/tasks", segment(task), *map(str, more)])


def segment(text: str) -> str:
    """*text* as one segment of a path. Failure when it cannot be one: nothing has such a name."""
    if not text or "/" in text:
        raise failure.Failure(f"{text!r} is neither a name nor an id")
    # A client takes the segments "." and ".." for steps; as an escape they are a name. What a shell
    # hands over need not be UTF-8.
    return quote(os.fsencode(text), safe="") if text.strip(".") else text.replace(".", "%2E")


def decode(body: bytes, kind: type[Answer]) -> Answer:
    """*body* as *kind*; Failure when it is anything else, as from another server at the URL."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise failure.Failure(f"the server's answer is not Loopai's: {error}") from error


def credentials(key: str | None = None) -> dict[str, str]:
    """Headers that say who asks, with *key* or that of the environment.

    Failure when it cannot be one, without a word of it.
    """
    key = key or os.environ.get(KEY_VARIABLE, "")
    if not key:
        return {}
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise failure.Failure(f"{KEY_VARIABLE} is no key: it has a blank, or more than ASCII")
    return {"Authorization": f"Bearer {key}"}


def explain(status: int, body: bytes) -> str:
    """What the problem document in *body* says, for a person."""
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except msgspec.DecodeError:
        problem = Problem()
    if not problem.code:
        return f"the server answered {status}, and not as Loopai does"
    if problem.code == "UNAUTHENTICATED":
        return (
            f"{problem.code}: this Loopai asks who you are; set {KEY_VARIABLE} to a key that is "
            "valid (`loopai key create --bus` makes one where you have the bus)"
        )
    detail = problem.detail or problem.title
    found = [f"{each.path or 'the body'}: {each.message}" for each in problem.errors]
    # The first is often the detail itself.
    return "\n  ".join([f"{problem.code}: {detail}", *(each for each in found if each != detail)])
