"""Names that a shell offers where somebody presses Tab: asked of the API, if it answers at once."""

import asyncio
import contextlib
import os
from typing import Final

import typer

from loopai.cli import failure

URL_DEFAULT: Final = "http://127.0.0.1:8080"
ANSWER_S_MAX: Final = 1.0
"""A person is typing: later than this no name is better than one."""


def task_names(context: typer.Context, incomplete: str) -> list[str]:
    """Names of tasks that begin with *incomplete*; none, and nothing said, where nobody tells."""
    url = context.params.get("url") or os.environ.get("LOOPAI_URL") or URL_DEFAULT
    key = context.find_root().params.get("api_key")
    with contextlib.suppress(failure.Failure, TimeoutError):
        return [name for name in asyncio.run(_names(url, key)) if name.startswith(incomplete)]
    return []


async def _names(url: str, key: str | None) -> list[str]:
    from loopai.cli import api  # noqa: PLC0415 (`options` imports this module, for every command)

    async with asyncio.timeout(ANSWER_S_MAX), api.Api(url, key) as client:
        return [
            task.name for task in api.decode(await client.get("/api/v1/tasks"), api.TaskList).tasks
        ]
