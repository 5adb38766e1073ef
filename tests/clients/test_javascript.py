"""The JavaScript client in Node, in Deno and in a browser, against a running stack."""

import asyncio
import importlib.util
import json
import os
import re
import shutil
import sys
from pathlib import Path

import httpx
import pytest
import uvicorn
from loopai_client import AsyncClient, Client
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from tests.system import System
from tests.wait import until

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients" / "javascript"
DENO = [sys.executable, "-m", "deno"]
NODE = shutil.which("node")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)

needs_node = pytest.mark.skipif(NODE is None, reason="no node here: apt-get install nodejs")
needs_deno = pytest.mark.skipif(
    importlib.util.find_spec("deno") is None, reason="no Deno here: pip install deno"
)


async def said(*command: str, **environment: str) -> str:
    """What *command* says, run in the client's folder; it must succeed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=CLIENT,
        env={**os.environ, "NO_COLOR": "1", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(150):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


@needs_node
@pytest.mark.parametrize("file", ["faults", "stack"])
async def test_it_works_in_node(system: System, file: str) -> None:
    """All tests of the client, by Node's own runner."""
    output = await said("node", "--test", f"test/{file}.test.js", LOOPAI_URL=url_of(system))
    assert re.search(r"# pass [1-9]", output)
    assert "# skipped 0" in output


@needs_deno
@pytest.mark.parametrize("file", ["faults", "stack"])
async def test_it_works_in_deno(system: System, file: str) -> None:
    """The same tests, with no right but to the network and to the environment."""
    command = (*DENO, "test", "--no-check", "--allow-net", "--allow-env")
    output = await said(*command, f"test/{file}.test.js", LOOPAI_URL=url_of(system))
    assert re.search(r"[1-9]\d* passed \| 0 failed", output)


@needs_deno
async def test_the_types_are_right() -> None:
    """What a user of TypeScript writes is checked, and what is wrong is found."""
    await said(*DENO, "check", "usage.ts")


@needs_node
async def test_the_package_holds_what_users_need_and_no_more() -> None:
    """The module, its types, the page about it and the license, which is that of the whole."""
    packed = json.loads(await said("npm", "pack", "--dry-run", "--json", "--silent"))
    files = {each["path"] for each in packed[0]["files"]}
    sources = {f"src/{path.name}" for path in (CLIENT / "src").iterdir()}
    assert files == {"package.json", "README.md", "LICENSE", *sources}
    license_text = (CLIENT.parents[1] / "LICENSE").read_bytes()
    assert (CLIENT / "LICENSE").read_bytes() == license_text


@needs_deno
async def test_both_clients_have_the_same_methods(tmp_path: Path) -> None:
    """What is `raise_for_error` there is `raiseForError` here; nothing is missing in either."""
    script = """
import * as module from "MODULE";
const shown = (found) => Object.getOwnPropertyNames(found);
const names = (found) => [...new Set([...shown(Object.getPrototypeOf(found)), ...shown(found)])];
const client = new module.Client({ url: "http://127.0.0.1:9" });
const table = { "": Object.keys(module) };
for (const name of names(client)) {
  table[name] = typeof client[name] === "object" ? names(client[name]) : null;
}
console.log(JSON.stringify(table));
"""
    path = tmp_path / "table.mjs"
    path.write_text(script.replace("MODULE", (CLIENT / "src" / "index.js").as_uri()))
    table = json.loads(await said(*DENO, "run", "--allow-all", str(path)))
    exported = set(table.pop(""))
    hidden = {"constructor", "transport"}
    found = {
        f"{name}.{method}" if method else name
        for name, methods in table.items()
        for method in (methods or [""])
        if name not in hidden and method not in hidden
    }
    with Client() as blocking:
        assert methods_of(blocking, {"close"}) == found
    async with AsyncClient() as awaited:
        assert methods_of(awaited, {"aclose"}) == found

    import loopai_client  # noqa: PLC0415 (all that it exports, which is the test's subject)

    ours = {camel(name) if name[0] != "_" else name for name in loopai_client.__all__}
    assert ours - exported == {"AsyncClient", "FieldError", "__version__"}
    assert exported - ours == {"raiseForError"}


def methods_of(client: object, hidden: set[str]) -> set[str]:
    """`tasks.create` and its like, in camelCase."""
    found = set()
    for name in dir(client):
        within = getattr(client, name)
        if name.startswith("_") or name in hidden:
            continue
        methods = [""] if callable(within) else [f".{each}" for each in dir(within)]
        found |= {camel(name) + camel(each) for each in methods if not each.startswith("._")}
    return found


def camel(name: str) -> str:
    return re.sub(r"(?<!^)_+([a-z])", lambda found: found[1].upper(), name)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")
async def test_it_works_in_a_browser(system: System, tmp_path: Path) -> None:
    """A page of the API's own origin executes, streams, and is told of errors."""
    await system.create()

    async def forward(request: Request) -> Response:
        target = f"/api/v1/{request.path_params['path']}?{request.url.query}"
        headers = {"content-type": "application/json"}
        body = await request.body()
        answer = await system.http.request(request.method, target, content=body, headers=headers)
        kind = answer.headers["content-type"]
        return Response(answer.content, answer.status_code, media_type=kind)

    page = (Path(__file__).parent / "page.html").read_text()
    routes = [
        Route("/", lambda _: Response(page, media_type="text/html")),
        Route("/api/v1/{path:path}", forward, methods=["GET", "POST"]),
        Mount("/src", StaticFiles(directory=CLIENT / "src")),
    ]
    config = uvicorn.Config(Starlette(routes=routes), port=0, log_level="warning", ws="none")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        shown = await said(
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={tmp_path / 'home'}",
            "--virtual-time-budget=30000",
            "--dump-dom",
            f"http://127.0.0.1:{port}/",
            HOME=str(tmp_path),
        )
    finally:
        server.should_exit = True
        await serving
    told = re.search(r'<pre id="said">(.*?)</pre>', shown, re.DOTALL)
    assert told is not None, shown
    assert told[1].split("\n") == [
        "executed PAGE",
        "0 success A",
        "1 success B",
        "2 rejected null",
        "NotFoundError TASK_NOT_FOUND",
        "verified false",
    ]


def url_of(system: System) -> str:
    url: httpx.URL = system.http.base_url
    return str(url)
