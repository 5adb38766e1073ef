"""The JavaScript client in a page of another origin than the API's, in a real browser."""

import contextlib
import json
import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from loopai.embedded.broker import Broker
from streams.connection import Connection
from tests.clients.test_javascript import CHROMIUM, CLIENT, said
from tests.integration.ingress.asking import key_for
from tests.serving import served
from tests.system import System
from workers import executor, recorder

PAGE = """\
<!doctype html>
<pre id="said"></pre>
<script type="module">
  import { Client } from "./src/index.js";
  const loopai = new Client({ ...GIVEN, maxRetries: 0 });
  const said = [];
  try {
    said.push(`executed ${(await loopai.execute("upper", "page")).output}`);
    const replayed = await loopai.execute("upper", "once", { idempotencyKey: "k" });
    said.push(`kept ${replayed.output}`);
    const items = [{ input: "a" }, { input: "b" }];
    for await (const result of loopai.batch.stream("upper", items, { window: 2 })) {
      said.push(`${result.id} ${result.output}`);
    }
    await loopai.tasks.get("nothing").catch((error) => said.push(`${error.name} ${error.code}`));
    await new Client({ ...GIVEN, apiKey: "lpk_wrong", maxRetries: 0 })
      .tasks.get("upper").catch((error) => said.push(error.code));
    const answer = await fetch(`${GIVEN.url}/api/v1/tasks/upper`,
      { headers: { "X-Api-Key": GIVEN.apiKey } });
    said.push(`etag ${answer.headers.get("etag") !== null}`);
    said.push(`version ${answer.headers.get("x-api-version")}`);
  } catch (error) {
    said.push(`failed ${error.name}`);
  }
  document.getElementById("said").textContent = said.join("\\n");
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")
async def test_a_page_calls_the_api_of_another_origin_with_a_key(
    broker: Broker, bus: Connection, tmp_path: Path
) -> None:
    """All that it sends and reads passes the browser's checks; a page of a third origin fails."""
    given: dict[str, str] = {}

    def page(_: Request) -> Response:
        return Response(PAGE.replace("GIVEN", json.dumps(given)), media_type="text/html")

    pages = Starlette(
        routes=[Route("/", page), Mount("/src", StaticFiles(directory=CLIENT / "src"))]
    )
    async with contextlib.AsyncExitStack() as stack:
        friend = await stack.enter_async_context(served(pages))
        stranger = await stack.enter_async_context(served(pages))
        fields = {"auth": "required", "cors_origins": friend}
        pools = (executor, recorder)
        system = await System.started(stack, broker, bus, tmp_path / "data", pools, **fields)
        _, headers = await key_for(system, "admin")
        system.http.headers.update(headers)
        await system.create()
        key = headers["Authorization"].removeprefix("Bearer ")
        given.update(url=str(system.http.base_url), apiKey=key)
        assert await shown(friend, tmp_path) == [
            "executed PAGE",
            "kept ONCE",
            "0 A",
            "1 B",
            "NotFoundError TASK_NOT_FOUND",
            "UNAUTHENTICATED",
            "etag true",
            "version 1",
        ]
        (failed,) = await shown(stranger, tmp_path)
        assert failed.startswith("failed ")


async def shown(url: str, folder: Path) -> list[str]:
    """What the page at *url* has written when it is done."""
    text = await said(
        str(CHROMIUM),
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        f"--user-data-dir={folder / 'home'}",
        "--virtual-time-budget=30000",
        "--dump-dom",
        f"{url}/",
        HOME=str(folder),
    )
    told = re.search(r'<pre id="said">(.*?)</pre>', text, re.DOTALL)
    assert told is not None, text
    return told[1].split("\n")
