"""The snippets of docs/how-to/clients.md run as they stand."""

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.system import System

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "clients.md").read_text()
NODE = shutil.which("node")


def snippets(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


async def run(*command: str, system: System, folder: Path = ROOT) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={
            **os.environ,
            "LOOPAI_URL": str(system.http.base_url),
            "PYTHONPATH": str(ROOT / "clients" / "python"),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_the_snippets_in_python_run_as_they_stand(system: System) -> None:
    """In the order of the page: the first makes the task that the others call."""
    said = ""
    for snippet in snippets("python"):
        text = snippet.replace("nats://127.0.0.1:4222", system.broker.url)
        said += await run(sys.executable, "-c", text, system=system)
    assert said.count("login") >= 3
    assert "fitting" in said or "evaluating" in said or "held-out" in said


@pytest.mark.skipif(NODE is None, reason="no node here: apt-get install nodejs")
async def test_the_snippets_in_javascript_run_as_they_stand(system: System, tmp_path: Path) -> None:
    """With the package where npm would put it."""
    code = "def run(input):\n    return 'login' if 'log' in input['text'] else 'delivery'\n"
    await system.create("tickets", code, input_schema={"type": "object"})
    installed = tmp_path / "node_modules" / "@loopai"
    installed.mkdir(parents=True)
    (installed / "client").symlink_to(ROOT / "clients" / "javascript")
    for number, snippet in enumerate(snippets("javascript")):
        file = tmp_path / f"{number}.mjs"
        file.write_text(snippet)
        assert "login" in await run("node", str(file), system=system, folder=tmp_path)
