"""/swagger in a real browser that reaches nothing but the ingress."""

import asyncio
import os
import re
import shutil
from pathlib import Path

import pytest

from loopai.ingress.describe import document
from tests.system import System

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)


async def _browsed(system: System, home: Path, *options: str) -> tuple[str, str]:
    """The page as chromium has it once it is at rest, and what it has to say of it."""
    assert CHROMIUM is not None
    process = await asyncio.create_subprocess_exec(
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--enable-logging=stderr",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        f"--user-data-dir={home}",
        "--virtual-time-budget=30000",
        *options,
        f"{system.http.base_url}/swagger",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "HOME": str(home)},
    )
    async with asyncio.timeout(120):
        page, said = await process.communicate()
    return page.decode(), said.decode()


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")
async def test_the_page_shows_every_operation_without_internet(
    front: System, tmp_path: Path
) -> None:
    """It renders all of /openapi.json, and its policy has nothing to object to."""
    page, said = await _browsed(front, tmp_path / "home", "--dump-dom")
    for each in document.OPERATIONS:
        assert each.summary in page, said
    shown = re.findall(r'class="opblock-summary-method"[^>]*>(\w+)<', page)
    assert len(shown) == len(document.OPERATIONS)
    assert "Unable to render" not in page
    assert "Content Security Policy" not in said
    assert "Uncaught" not in said


async def test_the_page_loads_its_own_files_only(front: System) -> None:
    """What it names is served here, with types that are not guessed, under a strict policy."""
    answer = await front.http.get("/swagger")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script[^>]*>[^<]", answer.text)
    named = re.findall(r'(?:src|href)="([^"]+)"', answer.text)
    assert len(named) >= 6
    for each in named:
        assert not each.startswith(("http", "/"))
        file = await front.http.get(f"/{each}")
        assert file.status_code == 200, each
        assert file.headers["x-content-type-options"] == "nosniff"
    for path in ("index.html", "..%2Fdocument.py", "%2Fetc%2Fpasswd", "swagger-ui.js.map"):
        assert (await front.http.get(f"/swagger/{path}")).status_code == 404
